"""The sessions that a README shows, typed again: what was printed then, and what is printed now.

A block ``console`` holds commands after ``$`` with what they print; a block such as ``csv
nightly.csv`` is that file. Ids, times and the like differ each time and are compared by their form;
progress lines, which depend on how long a copy takes, are not compared.

    PYTHONPATH=tests python tests/readme_session.py      # write the outputs anew; read the diff
"""

import asyncio
import os
import re
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from command_line import connected
from local_cloud.stack import Stack
from local_cloud.topics import PROJECT, REPLIES, subscription_path, topic_path
from show_publisher import running_stack

README = Path(__file__).parents[1] / "publisher" / "README.md"
BIN = Path(sys.executable).parent
WATCHED = "replies-for-us"

_BLOCK = re.compile(r"```(console|csv (?P<file>\S+))\n(?P<text>.*?)```", re.DOTALL)
_VARYING = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b(message|msg) \d+"), "message <n>"),
    (re.compile(r"\b\d+\.\d( s\b)"), "<t>\\1"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[0-9:.]+Z"), "<time>"),
)


@dataclass(frozen=True, slots=True)
class Typed:
    """One command and what was printed."""

    command: str
    printed: str

    def comparable(self) -> list[str]:
        """The lines as far as they are the same each time; copies end in any order."""
        text = self.printed
        for pattern, stand_in in _VARYING:
            text = pattern.sub(stand_in, text)
        lines = [line.rstrip() for line in text.splitlines() if not _is_progress(line)]
        return sorted(lines) if any("requests: " in line for line in lines) else lines


def _is_progress(line: str) -> bool:
    # With the seconds so far at its end: no line of a status has them.
    return bool(re.match(r"(waiting|copying|accepted|publishing) +(.* )?\d+ s$", line))


def sessions(text: str) -> Iterator[Typed | tuple[str, str]]:
    """The commands and the files of a README, in their order."""
    for block in _BLOCK.finditer(text):
        if block["file"]:
            yield block["file"], block["text"]
            continue
        for part in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield Typed(command, printed.rstrip("\n"))


async def type_again(stack: Stack, folder: Path, text: str) -> list[tuple[Typed, Typed]]:
    """Run every command; what stands in the README, and what is printed now."""
    async with connected(stack.pubsub.address) as outside:
        await outside.subscriber.create_subscription(
            name=subscription_path(WATCHED), topic=topic_path(REPLIES)
        )
    env = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PUBSUB_EMULATOR_HOST": stack.pubsub.address,
        "MODEL_COPY_PROJECT": PROJECT,
    }
    pairs = []
    for each in sessions(text):
        if isinstance(each, tuple):
            (folder / each[0]).write_text(each[1])
            continue
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", each.command), cwd=folder, env=env, stdout=PIPE, stderr=STDOUT
        )
        output, _ = await process.communicate()
        printed = output.decode().replace(str(folder), "/home/ubuntu").rstrip("\n")
        printed = printed.replace(stack.pubsub.address, "127.0.0.1:8085")
        pairs.append((each, Typed(each.command, printed)))
    return pairs


async def write() -> None:
    """Put what is printed now into the README."""
    text = README.read_text()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running_stack(folder / "cloud") as stack:
            pairs = await type_again(stack, folder, text)
    for before, now in pairs:
        old = f"$ {before.command}\n" + (f"{before.printed}\n" if before.printed else "")
        assert text.count(old) >= 1, old
        text = text.replace(
            old, f"$ {now.command}\n" + (f"{now.printed}\n" if now.printed else ""), 1
        )
    README.write_text(text)


if __name__ == "__main__":
    asyncio.run(write())
