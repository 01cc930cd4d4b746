"""A drill with real processes: ``make restore-drill COUNT=40 SEED=1``.

Worker and api run on SQLite, requests come, one in ten answers of CopyModel is lost. A backup is
made in the middle, more requests come, everything is killed, the backup is restored, and what
was asked for since the backup is published again, as a person does who seeks a subscription
back. Then the store moves to Firestore's emulator with copies in flight, and back again. In the
end it is counted from outside, in Vertex AI's own registry and on the reply topic.

Exit code 1: a request made a second model, or was not told. 3: a part was not run.
"""

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from google.pubsub_v1.types import PubsubMessage, Subscription

from chaos.run import SETTINGS, pull
from chaos.verdict import Message
from emulators import FIRESTORE, EmulatorMissingError
from local_cloud.stack import LOCATION, SOURCE_PROJECT, TARGET_PROJECT, Stack
from local_cloud.topics import REPLIES, REQUESTS, subscription_path, topic_path

SOURCES = [f"70{number:02}" for number in range(4)]
PARENT = f"projects/{TARGET_PROJECT}/locations/{LOCATION}/models/parent"
NOT_RUN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as it is published, again too."""

    request_id: str
    data: dict[str, str]
    made_at: datetime

    @property
    def message(self) -> PubsubMessage:
        return PubsubMessage(
            data=json.dumps(self.data).encode(),
            attributes={
                "ce-specversion": "1.0",
                "ce-id": self.request_id,
                "ce-source": "//drill",
                "ce-type": "dev.modelcopier.copy.requested.v1",
                "ce-time": self.made_at.isoformat(),
                "content-type": "application/json",
            },
        )

    @property
    def model(self) -> str:
        """What it makes, or adds a version to."""
        model_id = self.data.get("destination_model_id", "parent")
        return f"projects/{TARGET_PROJECT}/locations/{LOCATION}/models/{model_id}"


@dataclass(kw_only=True)
class Drill:
    """One run. ``count``: requests in each of its parts."""

    count: int
    seed: int
    with_firestore: bool = True
    # Trust the backup, as if nothing had happened since: what the drill must find.
    trusting: bool = False
    patience_seconds: float = 900.0
    requests: dict[str, Request] = field(default_factory=dict)
    replies: list[Message] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    not_run: str = ""  # why a part was not

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._over = asyncio.Event()

    async def run(self) -> dict[str, list[str]]:
        """Live through it and return what does not hold."""
        async with AsyncExitStack() as entered:
            folder = Path(entered.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
            self.stack = Stack(
                folder=folder / "run",
                with_api=True,
                tick_seconds=1,
                backoff_seconds=1,
                settings=dict(SETTINGS),
                vertex_knobs={
                    "copy_seconds": [0.5, 3.0], "seed": self.seed, "lost_answers": 0.1,
                },
            )  # fmt: skip
            await entered.enter_async_context(self.stack)
            for source in SOURCES:
                self.stack.vertex.add_model(
                    f"projects/{SOURCE_PROJECT}/locations/{LOCATION}/models/{source}"
                )
            self.stack.vertex.add_model(PARENT)
            await self._subscribe()
            collecting = asyncio.create_task(self._collect())
            await self._restore_a_backup(folder)
            try:
                if self.with_firestore:
                    await self._move(entered, folder)
            except EmulatorMissingError as error:
                self.not_run = f"SQLite to Firestore and back was not run: {error}"
            self._over.set()
            await collecting
            return self._judge()

    # The parts

    async def _restore_a_backup(self, folder: Path) -> None:
        file, store = folder / "backup.db", self.stack.folder / "jobs.db"
        first = await self._publish("before")
        await self._until_told(first, len(first) // 3)
        told = await self._command("backup", f"sqlite:///{store}", file)
        self._note("backup", "unfinished in it", told["unfinished"])
        since = await self._publish("since")
        await self._until_told([*first, *since], len(first) + len(since) // 3)
        self._note("backup", "told between it and the kill", self._told(since))
        await self.stack.worker.kill()
        await self.stack.api.kill()
        await self._command("restore", file, f"sqlite:///{store}", "--force")
        if self.trusting:
            self._trust(file, store)
        await self._start()
        for request in since:
            await self._send(request)
        after = await self._publish("after")
        await self._until_told([*first, *since, *after])

    def _trust(self, file: Path, store: Path) -> None:
        store.write_bytes(file.read_bytes())
        with closing(sqlite3.connect(store)) as there, there:
            there.execute("DELETE FROM meta WHERE name = 'restored'")
            there.execute(
                "UPDATE meta SET value = ? WHERE name = 'inode'", (str(store.stat().st_ino),)
            )

    async def _move(self, entered: AsyncExitStack, folder: Path) -> None:
        (folder / "emulator").mkdir()
        address = entered.enter_context(FIRESTORE.running(folder / "emulator"))
        os.environ["FIRESTORE_EMULATOR_HOST"] = address
        entered.callback(os.environ.pop, "FIRESTORE_EMULATOR_HOST")
        there = "firestore://drill/jobs"
        back = f"sqlite:///{self.stack.folder / 'back.db'}"
        for source, target in ((self.stack.env["STORE"], there), (there, back)):
            name = "to " + target.partition(":")[0]
            flying = await self._publish(name.replace(" ", "-"))
            await self._until_told(flying, len(flying) // 3)
            await self.stack.worker.stop()
            await self.stack.api.stop()
            left = [*self.stack.folder.glob("*.db-wal")]
            assert not left, f"not folded in: {left}"
            export = folder / f"{name}.jsonl"
            await self._command("export", source, export)
            told = await self._command("import", export, target)
            self._note(name, "jobs moved", told["jobs"])
            self._note(name, "not told yet", len(flying) - self._told(flying))
            await self._start({"STORE": target, "FIRESTORE_EMULATOR_HOST": address})
            await self._until_told(flying)

    async def _start(self, settings: dict[str, str] | None = None) -> None:
        self.stack.settings = {**self.stack.settings, **(settings or {})}
        await self.stack.worker.start(self.stack.env)
        await self.stack.api.start(self.stack.env)
        await self.stack.tick()

    async def _command(self, *arguments: object) -> dict[str, Any]:
        """As an operator does."""
        ended = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "model_copier.store_admin", *map(str, arguments),
            "--output", "json", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await ended.communicate()
        assert ended.returncode == 0, out.decode()
        told: dict[str, Any] = json.loads(out)
        return told

    # Requests and replies

    async def _publish(self, name: str) -> list[Request]:
        """Half new versions of one model, half models of their own, over some seconds."""
        made = []
        for number in range(self.count):
            to = (
                {"destination_parent_model": "parent"}
                if number % 2
                else {"destination_model_id": f"own-{name}-{number}"}
            )
            request = Request(
                request_id=f"{name}-{number}",
                data={"source_model_id": self._random.choice(SOURCES), **to},
                made_at=datetime.now(UTC),
            )
            self.requests[request.request_id] = request
            made.append(request)
            await self._send(request)
            await asyncio.sleep(min(0.1, 3 / self.count))
        return made

    async def _send(self, request: Request) -> None:
        assert self.stack.topics is not None
        await self.stack.topics.publisher.publish(
            topic=topic_path(REQUESTS), messages=[request.message], timeout=20
        )

    async def _subscribe(self) -> None:
        assert self.stack.topics is not None
        await self.stack.topics.subscriber.create_subscription(
            request=Subscription(
                name=subscription_path("drill"), topic=topic_path(REPLIES), ack_deadline_seconds=60
            )
        )

    async def _collect(self) -> None:
        assert self.stack.topics is not None
        while not self._over.is_set():
            self.replies += await pull(self.stack.topics, "drill")

    def _outcomes(self) -> dict[str, list[dict[str, Any]]]:
        """By request, each outcome once."""
        seen: set[str] = set()
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for reply in self.replies:
            if reply.attributes["ce-id"] not in seen:
                seen.add(reply.attributes["ce-id"])
                found[reply.attributes["request_id"]].append(json.loads(reply.data))
        return found

    def _told(self, requests: Sequence[Request]) -> int:
        outcomes = self._outcomes()
        return sum(request.request_id in outcomes for request in requests)

    async def _until_told(self, requests: Sequence[Request], count: int | None = None) -> None:
        wanted, until = count or len(requests), time.monotonic() + self.patience_seconds
        while self._told(requests) < wanted and time.monotonic() < until:  # noqa: ASYNC110  Pub/Sub
            await asyncio.sleep(0.05)

    def _note(self, part: str, what: str, fact: object) -> None:
        self.facts[f"{part}: {what}"] = fact
        print(f"{part}: {what}: {fact}", file=sys.stderr)

    # The verdict

    def _judge(self) -> dict[str, list[str]]:
        """By what can be seen from outside: the store might tell itself a story."""
        outcomes = self._outcomes()
        wanted = Counter(request.model for request in self.requests.values())
        second = []
        for model, count in wanted.items():
            made = len(self.stack.vertex.versions(model)) - (model == PARENT)
            if made != count:
                second.append(f"{count} requests made {made} versions of {model}")
        untold, failed, contents = [], [], defaultdict(set)
        claimed: dict[tuple[str, str], set[str]] = defaultdict(set)
        for request_id in self.requests:
            if request_id not in outcomes:
                untold.append(f"{request_id} was not told")
                continue
            newest = max(outcomes[request_id], key=lambda each: int(each["run"]))
            if newest["outcome"] != "succeeded":
                failed.append(f"{request_id}: {newest['outcome']}: {newest['error']}")
            else:
                claimed[newest["resource_name"], newest["version"]].add(request_id)
        for reply in self.replies:
            contents[reply.attributes["ce-id"]].add(reply.data)
        told_twice = [
            f"{names} were told of {of}" for of, names in claimed.items() if len(names) > 1
        ]
        self.facts |= {
            "requests": len(self.requests),
            "CopyModel calls": len(self.stack.vertex.copy_calls),
            "  of those, answers lost": sum(
                bool(call.operation) and call.answer == "UNAVAILABLE"
                for call in self.stack.vertex.copy_calls
            ),
            "models and versions made": sum(
                len(self.stack.vertex.versions(model)) - (model == PARENT) for model in wanted
            ),
            "told by more than one outcome": sum(len(each) > 1 for each in outcomes.values()),
            "  of these, of another version then": sum(
                len({(each["resource_name"], each["version"]) for each in told}) > 1
                for told in outcomes.values()
            ),
        }
        return {
            "no second model": second,
            "every request told": untold,
            "every request succeeded": failed,
            "no version told to two": told_twice,
            "one content for each event id": [
                f"{event} has {len(found)} contents"
                for event, found in contents.items()
                if len(found) > 1
            ],
        }

    def table(self) -> str:
        return "\n".join(f"{name:44} {fact!s:>10}" for name, fact in self.facts.items())


async def _until_told_to_go(drill: Drill) -> dict[str, list[str]]:
    task = asyncio.ensure_future(drill.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Restore a backup and move the store, for real.")
    parser.add_argument("--count", type=int, default=40, help="requests in each of five parts")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    drill = Drill(count=asked.count, seed=asked.seed)
    found = asyncio.run(_until_told_to_go(drill))
    print(drill.table())
    for rule, violated in found.items():
        print(f"{rule:44} {'holds' if not violated else f'{len(violated)} violations':>10}")
        print(*(f"    {violation}\n" for violation in violated[:10]), sep="", end="")
    if drill.not_run:
        print(drill.not_run)
    if any(found.values()):
        return 1
    return NOT_RUN if drill.not_run else 0


if __name__ == "__main__":
    sys.exit(main())
