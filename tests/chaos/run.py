"""Chaos with real processes: ``make chaos REQUESTS=1000 SEED=1``, with ``PUBSUB=google`` or
``STORE=firestore`` over Google's emulators.

Two workers share one store, behind a front like Cloud Run's; about once a second one of
them is killed, or stopped for longer than its lease, and a fresh one stands ready in the place
of one that was killed. Pub/Sub duplicates, delays, reorders
and loses acknowledgements; one in twenty CopyModel calls is taken and answered UNAVAILABLE,
some copies fail. Every letter is replayed twice. In the end the invariants are judged from
outside. Exit code 1: one of them does not hold, or not everything was told in time.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from google.api_core.exceptions import GoogleAPICallError
from google.pubsub_v1.types import PubsubMessage, Subscription

from chaos.front import Front
from chaos.verdict import Evidence, Message, violations
from chaos.work import PARENTS, SOURCES, Ask, asks, cancel_of
from chaos.workers import Workers
from emulators import FIRESTORE, PUBSUB, EmulatorMissingError
from local_cloud.process import ROOT
from local_cloud.pubsub import Faults, PubSub, Rates
from local_cloud.stack import LOCATION, SOURCE_PROJECT, TARGET_PROJECT
from local_cloud.topics import (
    DEAD_LETTERS,
    REPLIES,
    REQUESTS,
    Topics,
    subscription_path,
    topic_path,
)
from local_cloud.vertex import Vertex
from model.mutants import MUTANTS

# Short, so that a run takes minutes; what the engine promises depends on their order alone.
SETTINGS = {
    "CALL_TIMEOUT_SECONDS": "1",
    "MAX_SKEW_SECONDS": "0.25",
    "VISIBILITY_SECONDS": "3",
    "POLL_SECONDS": "0.3",
    "FOLLOW_SECONDS": "3",
    "STARTS_PER_MINUTE": "6000",
    "READS_PER_MINUTE": "60000",
    "REQUESTS_PER_MINUTE": "100000",
}
LEASE_SECONDS = 1 + 3 * 0.25
STOPPED_SECONDS = LEASE_SECONDS + 0.5
KILLS = 0.55  # of the blows; the others are stops
TICK_SECONDS = 1.0
SILENCE_SECONDS = 60.0  # in the calm; no wait of the engine is longer in this run
PULL_MOST = 500
# Names of attributes that a replay leaves out.
LETTER_MARKS = ("dead_letter_", "CloudPubSub", "goog", "outcome_id", "attempts")


T = TypeVar("T")


@dataclass(kw_only=True)
class Chaos:
    """One run."""

    requests: int
    seed: int
    broker: str = "local"
    store: str = "sqlite"
    mutant: str = ""
    every_seconds: float = 1.0  # between two blows, on average
    patience_seconds: float = 1200.0
    seen: Evidence = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    _calm: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.seen = Evidence(asks=[*asks(self.requests, self.seed)])
        self._random = Random(self.seed)
        self._replays: dict[str, tuple[bytes, dict[str, str]]] = {}
        # Of what was published for a request, or for a letter by its outcome id.
        self._message_ids: defaultdict[str, set[str]] = defaultdict(set)

    async def run(self) -> dict[str, list[str]]:
        """Live through it and return what does not hold."""
        started = time.monotonic()
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
            pubsub = PubSub(faults=Faults(self._rates()))
            address = await self._start_broker(stack, folder, pubsub)
            vertex = await self._start_vertex(stack)
            env = self._env(address, vertex) | self._start_store(stack, folder)
            workers = Workers(folder, self._engine(folder), env)
            stack.push_async_callback(workers.stop)
            two = await asyncio.gather(workers.another(), workers.another())
            front = Front([worker.port for worker in two], seed=self.seed)
            await front.start()
            stack.push_async_callback(front.stop)
            topics = Topics(address=address)
            stack.push_async_callback(topics.close)
            await topics.create(
                worker_url=front.url,
                backoff_seconds=1,
                longest_backoff_seconds=10,
                # The emulator leases a hundred messages, pushes two at a time, and forgets what
                # it could not push before their leases end.
                ack_deadline_seconds=10 if self.broker == "local" else 600,
                forwards=self.broker == "local",
                kept_days=31 if self.broker == "local" else 7,
            )
            await self._subscribe(topics)
            async with asyncio.TaskGroup() as tasks:
                for story in (
                    self._publish(topics, tasks),
                    self._tick(topics),
                    self._collect(topics, "chaos-replies", self.seen.replies),
                    self._replay(topics),
                    self._strike(workers, front, tasks),
                    self._end(started),
                    *([self._publish_again(topics, workers)] if self.broker == "google" else []),
                ):
                    tasks.create_task(story)
            self.counts["connections"] = front.connections
            self.counts["seconds"] = round(time.monotonic() - started)
            if self.broker == "local":
                self._count_pushes(pubsub.counters())
            await self._read_log(vertex)
        found = violations(self.seen)
        if not self.seen.is_whole():
            found["told"].append(f"not everything was told within {self.patience_seconds:g} s")
        return found

    # The world

    def _rates(self) -> Rates:
        return Rates(duplicate=0.05, delay=0.05, reorder=0.05, drop_response=0.02, seed=self.seed)

    async def _start_broker(self, stack: AsyncExitStack, folder: Path, pubsub: PubSub) -> str:
        if self.broker == "local":
            await stack.enter_async_context(pubsub)
            return pubsub.address
        return stack.enter_context(PUBSUB.running(folder))

    def _start_store(self, stack: AsyncExitStack, folder: Path) -> dict[str, str]:
        if self.store == "sqlite":
            return {"STORE": f"sqlite:///{folder / 'jobs.db'}"}
        emulator = stack.enter_context(FIRESTORE.running(folder))
        return {"STORE": "firestore://chaos/jobs", "FIRESTORE_EMULATOR_HOST": emulator}

    async def _start_vertex(self, stack: AsyncExitStack) -> Vertex:
        vertex = Vertex(
            copy_seconds=[0.5, 3.0],
            seed=self.seed,
            lost_answers=0.05,
            failures=[
                {"code": "PERMISSION_DENIED", "share": 0.04},
                {"code": "INTERNAL", "share": 0.03},
            ],
        )
        for name in (*SOURCES, *PARENTS):
            vertex.add_model(name)
        return await stack.enter_async_context(vertex)

    def _engine(self, folder: Path) -> Path:
        """The service, or a mutant of it beside a copy of ``main.py``."""
        if not self.mutant:
            return ROOT / "main.py"
        (mutant,) = [each for each in MUTANTS if each.name == self.mutant]
        place = folder / "mutant"
        if not place.exists():
            place.mkdir()
            shutil.copy(ROOT / "main.py", place / "main.py")
            mutant.put_into(place / "src")
        return place / "main.py"

    def _env(self, address: str, vertex: Vertex) -> dict[str, str]:
        return {
            "PUBSUB_EMULATOR_HOST": address,
            "VERTEX_ENDPOINT": f"http://{vertex.address}",
            "SOURCE_PROJECT": SOURCE_PROJECT,
            "TARGET_PROJECT": TARGET_PROJECT,
            "LOCATION": LOCATION,
            "TOKEN_CHECKS": "none",
            **SETTINGS,
        }

    async def _subscribe(self, topics: Topics) -> None:
        """Subscriptions of our own, before anything is published."""
        for name, topic in (("chaos-replies", REPLIES), ("chaos-letters", DEAD_LETTERS)):
            await topics.subscriber.create_subscription(
                request=Subscription(
                    name=subscription_path(name), topic=topic_path(topic), ack_deadline_seconds=60
                )
            )

    # What is done

    async def _publish(self, topics: Topics, cancels: asyncio.TaskGroup) -> None:
        """Publish everything over the first half minute; cancel a tenth of it a moment later."""
        pause = min(30.0, self.requests / 20) / self.requests
        for ask in self.seen.asks:
            await self._send(topics, ask.request_id, ask.data, ask.attributes)
            if ask.cancelled:
                cancels.create_task(self._cancel(topics, ask, self._random.uniform(0, 5)))
            await asyncio.sleep(pause)

    async def _publish_again(self, topics: Topics, workers: Workers) -> None:
        """Google's emulator forgets messages when endpoints die under it: see the docs.

        So in the calm, as a person would who is not told: the same request again. How many
        that takes is counted and shown. It is done for what no worker ever acknowledged: a
        message that one did, and that is not told for so long, is our own failure.
        """
        await self._calm.wait()
        while not self._over.is_set():
            await _pause(self._over, SILENCE_SECONDS)
            again = [(ask.request_id, ask.data, ask.attributes) for ask in self.seen.untold()]
            again += [(each, *self._replays[each]) for each in self.seen.unfollowed()]
            acknowledged = await asyncio.to_thread(workers.acknowledged)
            for name, data, attributes in again:
                if acknowledged & self._message_ids[name]:
                    self.seen.dropped.add(name)
                    continue
                self.counts["published again"] += 1
                await self._send(topics, name, data, attributes)

    async def _cancel(self, topics: Topics, ask: Ask, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.counts["cancels"] += 1
        await self._send(topics, f"cancel of {ask.request_id}", *cancel_of(ask))

    async def _tick(self, topics: Topics) -> None:
        while not self._over.is_set():
            with suppress(GoogleAPICallError):
                await topics.tick()
            await _pause(self._over, TICK_SECONDS)

    async def _collect(self, topics: Topics, name: str, into: list[Message]) -> None:
        while not self._over.is_set():
            if pulled := await pull(topics, name):
                into += pulled
                self._news.set()

    async def _replay(self, topics: Topics) -> None:
        """Publish each first letter again, twice, as an impatient person would."""
        while not self._over.is_set():
            for letter in await pull(topics, "chaos-letters"):
                self.seen.letters.append(letter)
                outcome_id = letter.attributes.get("outcome_id", "")
                if not outcome_id.endswith("-1") or outcome_id in self.seen.replayed:
                    continue
                kept = {
                    name: value
                    for name, value in letter.attributes.items()
                    if not name.startswith(LETTER_MARKS)
                }
                self.seen.replayed.add(outcome_id)
                again = letter.data, kept | {"replay_of": outcome_id}
                self._replays[outcome_id] = again
                for _ in range(2):
                    await self._send(topics, outcome_id, *again)

    async def _strike(self, workers: Workers, front: Front, thaws: asyncio.TaskGroup) -> None:
        """Kill or stop one of the two, again and again, until calm comes."""
        started = time.monotonic()
        spare = thaws.create_task(workers.another())
        while not self._calm.is_set():
            await _pause(self._calm, self._random.expovariate(1 / self.every_seconds))
            awake = [port for port in front.ports if port not in workers.frozen]
            if self._calm.is_set() or not awake:
                continue
            struck = self._random.choice(awake)
            if self._random.random() < KILLS:
                self.counts["kills"] += 1
                await workers.kill(struck)
                front.ports[front.ports.index(struck)] = (await spare).port
                spare = thaws.create_task(workers.another())
            else:
                self.counts["stops"] += 1
                thaws.create_task(workers.stop_for(struck, STOPPED_SECONDS))
        self.counts["seconds under blows"] = round(time.monotonic() - started)

    async def _end(self, started: float) -> None:
        """Let calm come when nearly all is told or no news comes; end when all is told."""
        shown, most, news_at = 0, 0, started
        while True:
            told = len(self.seen.told().keys() & {ask.request_id for ask in self.seen.asks})
            now = time.monotonic()
            most, news_at = (told, now) if told > most else (most, news_at)
            if told >= 0.95 * self.requests or now > news_at + SILENCE_SECONDS:
                self._calm.set()
            waited = now - started
            if sys.stderr.isatty() or told >= shown + self.requests / 10:
                shown = told
                print(f"{waited:5.0f} s  {told:,d} of {self.requests:,d} told", file=sys.stderr)
            if self.seen.is_whole() or waited > self.patience_seconds:
                break
            await self._some_news(1)
        self._calm.set()
        # What is told twice comes late: a moment for repeats, which must be repeats.
        while await self._some_news(3) and time.monotonic() < started + self.patience_seconds:
            pass
        self._over.set()

    async def _some_news(self, seconds: float) -> bool:
        """Tell whether a reply came meanwhile."""
        self._news.clear()
        await _pause(self._news, seconds)
        return self._news.is_set()

    async def _send(
        self, topics: Topics, name: str, data: bytes, attributes: dict[str, str]
    ) -> None:
        message = PubsubMessage(data=data, attributes=attributes)
        sent = await topics.publisher.publish(
            topic=topic_path(REQUESTS), messages=[message], timeout=20
        )
        self._message_ids[name].update(sent.message_ids)

    # What came of it

    def _count_pushes(self, counters: dict[str, Any]) -> None:
        requests = counters["subscriptions"][subscription_path(REQUESTS)]
        self.counts.update({f"{name} of requests": value for name, value in requests.items()})

    async def _read_log(self, vertex: Vertex) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            log = (await client.get(f"{vertex.rest_url}/control/log")).json()
        self.seen.copy_calls = log["copy_calls"]
        self.seen.operations = log["operations"]
        self.seen.models = {
            f"{model['name']}@{each['version']}"
            for model in log["models"]
            for each in model["versions"]
        }

    def table(self) -> str:
        """What was done and what came of it, a line each."""
        seen = self.seen
        outcomes = Counter(outcome["outcome"] for outcome in seen.outcomes().values())
        ended = Counter(operation["state"] for operation in seen.operations)
        answers = Counter(call["answer"] for call in seen.copy_calls)
        made = {op["destination"] for op in seen.operations if op["state"] == "SUCCEEDED"}
        rows = {
            "requests": len(seen.asks),
            "deliveries of requests": self.counts["deliveries of requests"] or "not counted",
            "connections to the workers": self.counts["connections"],
            "kills": self.counts["kills"],
            "stops past the lease": self.counts["stops"],
            "seconds between two blows": round(
                self.counts["seconds under blows"]
                / max(1, self.counts["kills"] + self.counts["stops"]),
                1,
            ),
            "acknowledgements lost": self.counts["drop_response of requests"],
            "forgotten by the broker, sent again": self.counts["published again"],
            "cancels asked for": self.counts["cancels"],
            "CopyModel calls": len(seen.copy_calls),
            "  taken, and answered UNAVAILABLE": sum(
                bool(call["operation"]) and call["answer"] == "UNAVAILABLE"
                for call in seen.copy_calls
            ),
            "  whose caller was gone": answers["GONE"],
            "copies that ended well": ended["SUCCEEDED"],
            "  on so many models": len(made),
            "copies that failed": ended["FAILED"],
            "copies that were cancelled": ended["CANCELLED"],
            **{f"outcomes: {kind}": outcomes[kind] for kind in sorted(outcomes)},
            "distinct event ids": len(seen.outcomes()),
            "replies with repeats": len(seen.replies),
            "letters": len({letter.attributes.get("outcome_id") for letter in seen.letters}),
            "letters replayed, each twice": len(seen.replayed),
            "seconds": self.counts["seconds"],
        }
        return "\n".join(f"{name:36} {value:>8}" for name, value in rows.items())


async def pull(topics: Topics, name: str) -> list[Message]:
    """Take what is there, waiting a second for it."""
    try:
        pulled = await topics.subscriber.pull(
            subscription=subscription_path(name), max_messages=PULL_MOST, timeout=1, retry=None
        )
    except GoogleAPICallError:
        return []
    if not pulled.received_messages:
        return []
    await topics.subscriber.acknowledge(
        subscription=subscription_path(name),
        ack_ids=[each.ack_id for each in pulled.received_messages],
    )
    return [
        Message(data=each.message.data, attributes=dict(each.message.attributes))
        for each in pulled.received_messages
    ]


async def _pause(until: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)


async def _until_told_to_go(run: Coroutine[Any, Any, T]) -> T:
    """SIGTERM ends a run as Ctrl-C does: nothing of it lives on."""
    task = asyncio.ensure_future(run)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Chaos with real processes.")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pubsub", choices=["local", "google"], default="local")
    parser.add_argument("--store", choices=["sqlite", "firestore"], default="sqlite")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two blows")
    parser.add_argument("--patience", type=float, default=1200, help="seconds until all is told")
    parser.add_argument(
        "--mutant", default="", help="break a rule of the engine first (names: make mutants)"
    )
    asked = parser.parse_args(arguments)
    chaos = Chaos(
        requests=asked.requests,
        seed=asked.seed,
        broker=asked.pubsub,
        store=asked.store,
        mutant=asked.mutant,
        every_seconds=asked.every,
        patience_seconds=asked.patience,
    )
    try:
        found = asyncio.run(_until_told_to_go(chaos.run()))
    except EmulatorMissingError as error:
        print(f"skipped: {error}")
        return 0
    print(chaos.table())
    for invariant, violated in found.items():
        print(f"{invariant:36} {'holds' if not violated else f'{len(violated)} violations':>8}")
        print(*(f"    {violation}" for violation in violated[:10]), sep="\n", end="")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
