"""What the publisher shows: a file of requests, killed in the middle and run again; a watch whose
command fails every third time. Counted from outside: models by Vertex AI, outcomes by what was
printed and by the journal.

    make show-publisher COUNT=1000          # against the local Pub/Sub, then Google's emulator
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stores
from emulators import PUBSUB, EmulatorMissingError
from local_cloud.pubsub import PubSub
from local_cloud.stack import LOCATION, SOURCE_MODEL, TARGET_PROJECT, Stack

SETTINGS = {
    "POLL_SECONDS": "0.2",
    "FOLLOW_SECONDS": "30",
    "STARTS_PER_MINUTE": "6000",
    "READS_PER_MINUTE": "60000",
    "REQUESTS_PER_MINUTE": "100000",
}
MODEL_COPY = Path(sys.executable).with_name("model-copy")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Stands in the stack for its own Pub/Sub: somebody else's is running there."""

    address: str
    rest_url: str = ""

    async def start(self, **_: object) -> None:
        """It runs already."""

    async def stop(self) -> None:
        """It goes on."""

    def exports(self, *, project: str) -> dict[str, str]:
        """What aims clients at it."""
        return {"PUBSUB_EMULATOR_HOST": self.address, "GOOGLE_CLOUD_PROJECT": project}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What was counted."""

    models: int
    outcomes: int
    outcomes_twice: int
    runs: int
    told_by_the_killed: int
    summary: str
    seconds: float


@asynccontextmanager
async def running_stack(folder: Path, emulator: str = "") -> AsyncIterator[Stack]:
    """A local cloud and a worker; with Google's emulator as its Pub/Sub where one is given."""
    # As much as is used of it.
    pubsub: Any = Elsewhere(emulator) if emulator else PubSub()
    stack = Stack(
        folder=folder,
        copy_seconds=0.5,
        tick_seconds=0.5,
        backoff_seconds=1,
        settings={**SETTINGS, **stores.settings()},
        pubsub=pubsub,
        kept_days=7 if emulator else 31,
    )
    async with stack:
        yield stack


async def killed_and_run_again(stack: Stack, count: int, folder: Path, *, kills: int = 1) -> Shown:
    """Publish ``count`` rows and wait; kill that ``kills`` times, then let it finish."""
    file, journal = folder / "nightly.csv", folder / "journal.jsonl"
    rows = "".join(f"{SOURCE_MODEL},show-{n}\n" for n in range(count))
    file.write_text(f"source_model_id,destination_model_id\n{rows}")
    words = ["publish", "--from-file", str(file), "--wait", "--resume", "--output", "json"]
    words += ["--journal", str(journal)]
    began_at = time.monotonic()
    partial: list[str] = []
    for kill in range(kills):
        command = await start(stack, folder, words)
        enough = count * (kill + 1) // (kills + 1)
        partial += await killed_after(command, enough)
    command = await start(stack, folder, words)
    output, errors = await command.communicate()
    assert command.returncode == 0, errors.decode()

    told = Counter(json.loads(line)["request_id"] for line in output.splitlines())
    written = Counter(tuple(entry["ended"]) for entry in entries(journal) if "ended" in entry)
    assert set(told) == {request_id for _, request_id, _ in written}
    return Shown(
        models=count_models(stack, count),
        outcomes=len(told),
        outcomes_twice=sum(n > 1 for n in [*told.values(), *written.values()]),
        runs=kills + 1,
        told_by_the_killed=len(partial),
        summary=errors.decode().splitlines()[-1],
        seconds=time.monotonic() - began_at,
    )


def entries(journal: Path) -> Iterator[Mapping[str, Any]]:
    """Read the lines of a journal; one that a kill has cut short says nothing.

    A busy machine makes that likely: the kernel stops a write of several pages at a kill.
    """
    for line in journal.read_text().splitlines():
        with suppress(ValueError):
            yield json.loads(line)


async def killed_after(command: asyncio.subprocess.Process, outcomes: int) -> list[str]:
    """Kill it once it has told so many, or a moment later; what it told."""
    assert command.stdout is not None
    lines: list[str] = []
    while len(lines) < outcomes and (line := await command.stdout.readline()):
        lines.append(line.decode())
    command.send_signal(signal.SIGKILL)
    rest, _ = await command.communicate()
    return lines + rest.decode().splitlines()


def count_models(stack: Stack, count: int) -> int:
    """How many of the models are there, each with exactly one version."""
    parent = f"projects/{TARGET_PROJECT}/locations/{LOCATION}/models"
    return sum(len(stack.vertex.versions(f"{parent}/show-{n}")) == 1 for n in range(count))


async def watched(stack: Stack, count: int, folder: Path) -> tuple[int, int, int]:
    """Handle ``count`` events by a command that fails every third time.

    Returns how many were handled, how many of those twice, and how often the command ran.
    """
    handled, calls, script = folder / "handled", folder / "calls", folder / "handle.sh"
    script.write_text(
        f"echo >> {calls}\n[ $(($(wc -l < {calls}) % 3)) -ne 0 ] || exit 1\ncat >> {handled}\n"
    )
    words = ["watch", "--count", str(count), "--tag", "watched", "--exec", f"sh {script}"]
    watch = await start(stack, folder, words)
    assert watch.stderr is not None
    async for line in watch.stderr:
        if line.startswith(b"watching"):
            break
    file = folder / "watched.csv"
    rows = "".join(f"{SOURCE_MODEL},watched-{n},watched\n" for n in range(count))
    file.write_text(f"source_model_id,destination_model_id,reply_tag\n{rows}")
    publish = await start(stack, folder, ["publish", "--from-file", str(file)])
    await publish.communicate()
    await watch.communicate()
    assert watch.returncode == 0
    events = Counter(json.loads(line)["event_id"] for line in handled.read_text().splitlines())
    return len(events), sum(n > 1 for n in events.values()), len(calls.read_text().splitlines())


async def start(stack: Stack, folder: Path, words: Sequence[str]) -> asyncio.subprocess.Process:
    """Start the command as a machine outside would: it knows the broker's address, and no more."""
    exports = stack.exports()
    known = {name: exports[name] for name in exports if name.startswith(("PUBSUB_", "MODEL_COPY_"))}
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **known}
    return await asyncio.create_subprocess_exec(
        MODEL_COPY, *words, env=env, stdout=PIPE, stderr=PIPE, limit=2**20
    )


async def show(count: int, name: str, emulator: str = "") -> bool:
    """Show both on one broker; False where something was lost or done twice."""
    with tempfile.TemporaryDirectory(prefix="show-publisher-") as made:
        folder = Path(made)
        async with running_stack(folder / "cloud", emulator) as stack:
            kills = random.randint(1, 3)
            shown = await killed_and_run_again(stack, count, folder, kills=kills)
            events, twice, calls = await watched(stack, max(30, count // 20), folder)
    print(f"\n{name}")
    print(f"  {count:,} requests from a file, killed {kills} times and run again: {shown.summary}")
    print(f"  models             {shown.models:,}")
    print(f"  outcomes           {shown.outcomes:,}, twice {shown.outcomes_twice}")
    print(f"  told by the killed {shown.told_by_the_killed:,} of them")
    print(f"  in all             {shown.seconds:.1f} s")
    print(f"  events handled     {events:,}, twice {twice}, by {calls:,} runs of the command")
    return (shown.models, shown.outcomes, shown.outcomes_twice, twice) == (count, count, 0, 0)


def main() -> int:
    """Show it on both brokers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    good = asyncio.run(show(count, "the local Pub/Sub"))
    with tempfile.TemporaryDirectory(prefix="show-emulator-") as folder:
        try:
            with PUBSUB.running(Path(folder)) as address:
                good = asyncio.run(show(count, "Google's Pub/Sub emulator", address)) and good
        except EmulatorMissingError as error:
            print(f"\nnot shown: {error}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
