"""The commands of the runbook for dead letters, typed against failed requests of three kinds.

PYTHONPATH=tests python tests/runbook_session.py      # write the outputs anew; read the diff
"""

import asyncio
import os
import re
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Sequence
from pathlib import Path

from local_cloud.stack import SOURCE_MODEL, Stack
from local_cloud.topics import PROJECT
from readme_session import BIN, Typed, sessions
from show_dead_letters import ask, running, told

RUNBOOK = Path(__file__).parents[1] / "docs" / "runbook-dead-letters.md"
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z"), "TIME"),
    (re.compile(r"\b\d+(\.\d)? ?[smhd]\b"), "SPAN"),
    (re.compile(r"\bSPAN \(copy SPAN, overhead SPAN\)"), "SPAN"),
    (re.compile(r"(?m)^letter +\d+"), "letter N"),
)


def comparable(text: str) -> list[list[str]]:
    """The words of each line, as far as they are the same each time; outcomes come in any order."""
    for pattern, stand_in in _VARYING:
        text = pattern.sub(stand_in, text)
    return sorted(line.split() for line in text.splitlines())


async def failed(stack: Stack) -> Sequence[str]:
    """Ask for what cannot succeed; the ids."""
    source, target = "source_model_id", "destination_model_id"
    wrong = {f"wrong-source-{n}": {source: "1", target: f"repaired-{n}"} for n in range(2)}
    refused = {"no-role-0": {source: SOURCE_MODEL, target: "replayed-0"}}
    misspelt = {"misspelt-0": {"source_model": "1", target: "dropped-0"}}
    stack.vertex.faults.copy_fails(times=1)
    await ask(stack, wrong | refused | misspelt)
    return [*wrong, *refused]


async def type_again(folder: Path) -> list[tuple[Typed, Typed]]:
    """Run every command; what stands in the runbook, and what is printed now."""
    pairs = []
    async with running(folder) as (stack, replies):
        names = await failed(stack)
        await told(replies, names, "failed")
        await told(replies, ["misspelt-0"], "rejected")
        env = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(folder),
            "PUBSUB_EMULATOR_HOST": stack.pubsub.address,
            "MODEL_COPY_PROJECT": PROJECT,
        }
        for each in sessions(RUNBOOK.read_text()):
            assert isinstance(each, Typed)
            process = await asyncio.create_subprocess_exec(
                *("bash", "-c", f"{each.command} --quiet 0.2"),
                cwd=folder,
                env=env,
                stdout=PIPE,
                stderr=STDOUT,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0, output.decode()
            pairs.append((each, Typed(each.command, output.decode().rstrip("\n"))))
    return pairs


def write() -> None:
    """Put what is printed now into the runbook."""
    with tempfile.TemporaryDirectory() as name:
        pairs = asyncio.run(type_again(Path(name)))
    blocks = iter(pairs)
    text = RUNBOOK.read_text()

    def typed(block: re.Match[str]) -> str:
        commands = [line for line in block[1].splitlines() if line.startswith("$ ")]
        shown = [next(blocks)[1] for _ in commands]
        lines = "".join(f"$ {each.command}\n{each.printed}\n" for each in shown)
        return f"```console\n{lines}```"

    RUNBOOK.write_text(re.sub(r"```console\n(.*?)```", typed, text, flags=re.DOTALL))


if __name__ == "__main__":
    write()
