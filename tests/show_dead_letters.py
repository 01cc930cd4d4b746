"""What can be done with dead letters, counted from outside: models by Vertex AI, outcomes by a
subscription of our own, letters by a pull that settles none.

    make show-dead-letters      # a night: fifty requests fail for three reasons
    make show-replays           # a replay of 500 letters, killed ten times; two at the same time
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from google.pubsub_v1.types import PubsubMessage

import stores
from inbox import Inbox
from local_cloud.stack import LOCATION, SOURCE_MODEL, SOURCE_PROJECT, TARGET_PROJECT, Stack
from local_cloud.topics import REPLIES, REQUESTS, topic_path
from show_publisher import SETTINGS, start

DEADLINE_SECONDS = 120.0
ONE_MACHINE = {"MAX_SKEW_SECONDS": "1", "VISIBILITY_SECONDS": "2"}
QUIET = "0.2"
LATE_MODEL = "4242"  # is not there while its copies are asked for first
TYPE = "dev.modelcopier.copy.requested.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How things stand after a step of the night."""

    what: str
    letters: Counter[str]
    models: int
    in_backup: int

    @property
    def accounted(self) -> int:
        return self.letters.total() + self.models + self.in_backup


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What came of the replays of ``asked`` letters, seen from outside."""

    asked: int
    models: int  # with exactly one version
    copies: int  # that Vertex AI was asked for
    succeeded: int  # requests whose success was told
    outcomes: int  # different ones: a failure and a success for each
    letters: int  # left
    kills: int
    by_the_killed: int  # of the replays
    published: int  # replays, also of what was published before
    seconds: float

    @property
    def good(self) -> bool:
        once = {self.models, self.copies, self.succeeded, self.outcomes // 2}
        return once == {self.asked} and self.outcomes % 2 == 0 and self.letters == 0


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Stack, Inbox]]:
    """A local cloud, a worker, and somebody who reads every reply."""
    stack = Stack(
        folder=folder / "cloud",
        copy_seconds=0.3,
        tick_seconds=0.5,
        backoff_seconds=1,
        settings={**SETTINGS, **ONE_MACHINE, **stores.settings()},
    )
    async with stack:
        replies = await Inbox.open(stack.pubsub.address, topic_path(REPLIES), "outside")
        try:
            yield stack, replies
        finally:
            await replies.close()


async def dead_letters(stack: Stack, folder: Path, *words: str) -> tuple[int, str, str]:
    """Run the command; its exit code and what it printed."""
    command = await start(stack, folder, ["dead-letters", *words, "--quiet", QUIET, "--lease", "1"])
    output, errors = await command.communicate()
    assert command.returncode is not None
    assert b"Traceback" not in errors, errors.decode()
    return command.returncode, output.decode(), errors.decode()


async def ask(stack: Stack, contents: dict[str, dict[str, str]]) -> None:
    """Publish requests by their ids, with whatever content: the command would refuse some."""
    assert stack.topics is not None
    messages = [
        PubsubMessage(
            data=json.dumps(content).encode(),
            attributes={
                "ce-specversion": "1.0",
                "ce-id": name,
                "ce-source": "//show",
                "ce-type": TYPE,
            },
        )
        for name, content in contents.items()
    ]
    await stack.topics.publisher.publish(topic=topic_path(REQUESTS), messages=messages)


async def told(replies: Inbox, names: Sequence[str], outcome: str) -> None:
    """Wait until this outcome was told of all of them."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while set(names) - {
            message.attributes["request_id"]
            for message in replies.messages
            if message.attributes["outcome"] == outcome
        }:
            await replies._pull(2)


# A night


async def night(folder: Path, *, each: int) -> list[Step]:
    """Fail for three reasons, and put each right in its own way."""
    wrong = {
        f"wrong-source-{n}": {"source_model_id": "1", "destination_model_id": f"repaired-{n}"}
        for n in range(each)
    }
    refused = {
        f"no-role-{n}": {"source_model_id": SOURCE_MODEL, "destination_model_id": f"replayed-{n}"}
        for n in range(each)
    }
    unreadable = {
        f"misspelt-{n}": {"source_model": "1", "destination_model_id": f"dropped-{n}"}
        for n in range(each // 2)
    }
    steps: list[Step] = []
    backup = folder / "letters.jsonl"
    async with running(folder) as (stack, replies):

        async def step(what: str) -> None:
            _, counted, _ = await dead_letters(
                stack, folder, "list", "--summary", "--output", "json"
            )
            models = sum(
                _versions(stack, content["destination_model_id"]) == 1
                for content in (wrong | refused | unreadable).values()
            )
            kept = len(backup.read_bytes().splitlines()) if backup.exists() else 0
            restored = backup.with_name(f"{backup.name}.restored")
            back = restored.read_text().count('"restored"') if restored.exists() else 0
            letters = Counter[str](json.loads(counted))
            steps.append(Step(what=what, letters=letters, models=models, in_backup=kept - back))

        stack.vertex.faults.copy_fails(times=each)
        await ask(stack, wrong | refused | unreadable)
        await told(replies, [*wrong, *refused], "failed")
        await told(replies, list(unreadable), "rejected")
        await step("they fail")
        shown = (await dead_letters(stack, folder, "show", "misspelt-0"))[1]
        assert "source_model" in shown
        await step("list, show")

        set_source = f"source_model_id={SOURCE_MODEL}"
        mend = ["replay", "--code", "NOT_FOUND", "--set", set_source, "--yes", "--wait"]
        code, _, errors = await dead_letters(stack, folder, *mend)
        assert code == 0, errors
        await step(f"replay NOT_FOUND --set {set_source}")

        again = ["replay", "--code", "PERMISSION_DENIED", "--yes", "--wait"]
        code, _, errors = await dead_letters(stack, folder, *again)
        assert code == 0, errors
        await step("replay PERMISSION_DENIED")

        drop = ["drop", "--code", "INVALID_ARGUMENT", "--backup", str(backup), "--yes"]
        assert (await dead_letters(stack, folder, *drop))[0] == 0
        await step("drop INVALID_ARGUMENT --backup")

        assert (await dead_letters(stack, folder, "restore", str(backup)))[0] == 0
        await step("restore")
    return steps


# Replays


async def replays(
    folder: Path, *, count: int, kills: int, at_once: int = 1, quiet: float = 1.5
) -> Counts:
    """Let ``count`` requests fail, mend the cause, replay; killed so often, or several at once."""
    names = [f"show-{n}" for n in range(count)]
    async with running(folder) as (stack, replies):
        contents = {
            name: {"source_model_id": LATE_MODEL, "destination_model_id": name} for name in names
        }
        for first in range(0, count, 500):
            await ask(stack, {name: contents[name] for name in names[first : first + 500]})
        await told(replies, names, "failed")
        parent = f"projects/{SOURCE_PROJECT}/locations/{LOCATION}/models"
        stack.vertex.add_model(f"{parent}/{LATE_MODEL}", display_name="late")
        requests = await Inbox.open(stack.pubsub.address, topic_path(REQUESTS), "requests")
        began_at = time.monotonic()
        rate = ["--rate", str(max(10, count // 8))]
        for _ in range(kills):
            await killed(stack, folder, ["replay", "--yes", *rate])
        by_the_killed = len(await requests.drain()) if kills else 0
        words = ["replay", "--yes", "--quiet", str(quiet), "--lease", "1"]
        running_now = [await start(stack, folder, ["dead-letters", *words]) for _ in range(at_once)]
        for command in running_now:
            _, errors = await command.communicate()
            assert b"Traceback" not in errors, errors.decode()
        # Killed while all were settled and none was left, the last run has nothing to do.
        await told(replies, names, "succeeded")
        await replies.drain(seconds=0.5)
        left = json.loads(
            (await dead_letters(stack, folder, "list", "--summary", "--output", "json"))[1]
        )
        published = await requests.drain()
        await requests.close()
        outcomes = {
            message.attributes["ce-id"]: message.attributes["outcome"]
            for message in replies.messages
        }
        return Counts(
            asked=count,
            models=sum(_versions(stack, name) == 1 for name in names),
            copies=len(stack.vertex.copy_calls),
            succeeded=Counter(outcomes.values())["succeeded"],
            outcomes=len(outcomes),
            letters=sum(left.values()),
            kills=kills,
            by_the_killed=by_the_killed,
            published=len(published),
            seconds=time.monotonic() - began_at,
        )


async def killed(stack: Stack, folder: Path, words: Sequence[str]) -> None:
    """Run it once there is a letter to be seen, and kill it at some moment."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        # Twice, for the leases of the one before run out meanwhile; or all are settled.
        if not await stack.letters():
            await stack.letters()
    command = await start(stack, folder, ["dead-letters", *words, "--quiet", "0.3", "--lease", "1"])
    with suppress(TimeoutError):
        await asyncio.wait_for(command.wait(), random.uniform(0.5, 1.5))
    with suppress(ProcessLookupError):
        command.send_signal(signal.SIGKILL)
    await command.communicate()


def _versions(stack: Stack, model: str) -> int:
    parent = f"projects/{TARGET_PROJECT}/locations/{LOCATION}/models"
    return len(stack.vertex.versions(f"{parent}/{model}"))


async def show_night() -> bool:
    with tempfile.TemporaryDirectory(prefix="show-letters-") as made:
        steps = await night(Path(made), each=20)
    print(f"{'':60}  letters  models  in the backup  accounted for")
    for step in steps:
        print(
            f"{step.what:60}  {step.letters.total():7}  {step.models:6}  {step.in_backup:13}"
            f"  {step.accounted:13}  {dict(step.letters)}"
        )
    return {step.accounted for step in steps} == {50}


async def show_replays(count: int) -> bool:
    good = True
    for name, options in (
        ("killed ten times, then run once", {"kills": 10, "quiet": 11}),
        ("two at the same time", {"kills": 0, "at_once": 2}),
    ):
        with tempfile.TemporaryDirectory(prefix="show-replays-") as made:
            counts = await replays(Path(made), count=count, **options)
        print(
            f"\n{name}: {counts.asked:,} letters, {counts.published:,} replays published,"
            f" {counts.by_the_killed:,} of them by the killed"
        )
        print(f"  models with one version   {counts.models:,}")
        print(f"  copies asked of Vertex AI {counts.copies:,}")
        print(f"  successes told            {counts.succeeded:,}")
        print(f"  different outcomes        {counts.outcomes:,}: a failure and a success each")
        print(f"  letters left              {counts.letters:,}")
        print(f"  in all                    {counts.seconds:.1f} s")
        good = good and counts.good
    return good


def main() -> int:
    """Show one of both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=["night", "replays"])
    parser.add_argument("--count", type=int, default=500)
    given = parser.parse_args()
    work = show_night() if given.which == "night" else show_replays(given.count)
    return 0 if asyncio.run(work) else 1


if __name__ == "__main__":
    sys.exit(main())
