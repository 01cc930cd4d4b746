"""A flood against a real worker: ``make flood COUNT=20000``. Each goal, and whether it is met.

Three parts, each with a local cloud and a worker of its own:

- *fair*: three senders, one of them with COUNT requests, at 50 starts a minute. A fourth sends
  one request, which must start within a minute. Nothing may be lost: each request is
  unfinished in the store or was told.
- *in-flight*: COUNT / 2 copies run at once.
- *large*: 200 messages of 9.9 MB are pushed at once, each again until it is acknowledged.

Memory is the resident memory of all processes of the worker. Exit code 1: a goal is not met.
"""

import argparse
import asyncio
import base64
import json
import random
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import httpx
import psutil
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import PubsubMessage, Subscription

from local_cloud.process import Process
from local_cloud.stack import SOURCE_MODEL, Stack
from local_cloud.topics import (
    DEAD_LETTERS,
    REPLIES,
    REQUESTS,
    Topics,
    subscription_path,
    topic_path,
)
from model_copier.adapters.sqlite import SqliteJobStore

MEBIBYTE = 1 << 20
REPLIES_READ = "flood-replies"
LARGE = 200
LARGE_BYTES = 9_900_000
PARTS = ("fair", "in-flight", "large")
_PUBLISHED_AT_ONCE = 500


@dataclass
class Goals:
    """What was measured, beside what is wanted."""

    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def add(self, name: str, measured: float, most: float, unit: str) -> None:
        met = measured <= most
        self.rows.append((name, f"{measured:,.0f} {unit}", f"at most {most:,.0f} {unit}", met))

    def __str__(self) -> str:
        table = [("goal", "measured", "wanted", "met")]
        table += [
            (goal, found, most, "yes" if met else "NO") for goal, found, most, met in self.rows
        ]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        )


@dataclass
class Memory:
    """The most memory that a worker's processes had."""

    worker: Process
    most: float = 0.0
    _watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._watching is not None
        self._watching.cancel()

    def now(self) -> float:
        """MiB of all processes; what they share counts once."""
        assert self.worker.running is not None
        first = psutil.Process(self.worker.running.pid)
        found = 0
        for each in (first, *first.children(recursive=True)):
            with suppress(psutil.Error):
                found += each.memory_full_info().pss
        self.most = max(self.most, found / MEBIBYTE)
        return found / MEBIBYTE

    async def _watch(self) -> None:
        while True:
            self.now()
            await asyncio.sleep(0.1)


@asynccontextmanager
async def running(
    folder: Path, copy_seconds: float, **settings: str
) -> AsyncIterator[tuple[Stack, Topics]]:
    stack = Stack(folder=folder, copy_seconds=copy_seconds, tick_seconds=10, settings=settings)
    async with stack:
        assert stack.topics is not None
        await stack.topics.subscriber.create_subscription(
            request=Subscription(
                name=subscription_path(REPLIES_READ),
                topic=topic_path(REPLIES),
                ack_deadline_seconds=600,
            )
        )
        yield stack, stack.topics


# Requests and replies


async def publish(topics: Topics, sender: str, count: int) -> None:
    """Publish requests of one sender, each for a destination of its own."""
    name = sender.removeprefix("//")
    for start in range(0, count, _PUBLISHED_AT_ONCE):
        numbers = range(start, min(start + _PUBLISHED_AT_ONCE, count))
        await topics.publisher.publish(
            topic=topic_path(REQUESTS),
            messages=[_request(sender, f"{name}-{number}") for number in numbers],
        )


def _request(sender: str, request_id: str) -> PubsubMessage:
    data = {"source_model_id": SOURCE_MODEL, "destination_model_id": request_id}
    attributes = {
        "ce-specversion": "1.0",
        "ce-type": "dev.modelcopier.copy.requested.v1",
        "ce-source": sender,
        "ce-id": request_id,
        "content-type": "application/json",
    }
    return PubsubMessage(data=json.dumps(data).encode(), attributes=attributes)


async def pulled(topics: Topics, subscription: str) -> Sequence[PubsubMessage]:
    """Messages that are there now, acknowledged; none after a second without one."""
    path = subscription_path(subscription)
    try:
        found = await topics.subscriber.pull(subscription=path, max_messages=100, timeout=1)
    except DeadlineExceeded:
        return []
    if ids := [each.ack_id for each in found.received_messages]:
        await topics.subscriber.acknowledge(subscription=path, ack_ids=ids)
    return [each.message for each in found.received_messages]


@dataclass
class Replies:
    """The outcomes that were told, by request."""

    topics: Topics
    told: dict[str, str] = field(default_factory=dict)

    async def read(self) -> None:
        while found := await pulled(self.topics, REPLIES_READ):
            for message in found:
                self.told[message.attributes["request_id"]] = message.attributes["outcome"]


# Parts


async def fair(folder: Path, count: int, goals: Goals) -> None:
    """A fourth sender's request starts soon, whatever the other three have waiting."""
    senders = {"//flood": count, "//second": count // 100, "//third": count // 100}
    async with running(folder, 5) as (stack, topics), Memory(stack.worker) as memory:
        replies = Replies(topics)
        store = await SqliteJobStore.open(folder / "jobs.db", busy_seconds=30)
        await asyncio.gather(*(publish(topics, name, size) for name, size in senders.items()))
        await _accepted(store, replies, senders)
        print(f"{sum(senders.values()):,} requests are accepted", flush=True)
        waited = await _started(stack, topics, "//fourth", patience_seconds=300)
        lost = await _lost(store, replies, {**senders, "//fourth": 1})
        most = max([0, *[len(await store.queued(name, count)) for name in await store.queues()]])
        print(f"{most:,} jobs wait in the longest queue; replies: {Counter(replies.told.values())}")
        goals.add("a fourth sender's request starts", waited, 60, "s")
        goals.add("requests lost", lost, 0, "requests")
        goals.add("memory, a flood accepted", memory.most, 200, "MiB")
        await store.close()


async def _accepted(store: SqliteJobStore, replies: Replies, senders: Mapping[str, int]) -> None:
    """Wait until each request is in the store, or was told."""
    ends = time.monotonic() + 60 + sum(senders.values()) / 10
    while await _lost(store, replies, senders):
        assert time.monotonic() < ends, "the requests are not accepted in time"
        await asyncio.sleep(2)


async def _lost(store: SqliteJobStore, replies: Replies, senders: Mapping[str, int]) -> int:
    """How many requests are neither unfinished nor told."""
    unfinished = sum([await store.unfinished(sender) for sender in senders])
    await replies.read()  # afterwards: what ends meanwhile is told, and counted twice at most
    return max(0, sum(senders.values()) - unfinished - len(replies.told))


async def _started(stack: Stack, topics: Topics, sender: str, *, patience_seconds: float) -> float:
    """Send one request; return the seconds until Vertex AI has its copy."""
    began = time.monotonic()
    await publish(topics, sender, 1)
    model = f"{sender.removeprefix('//')}-0"
    while time.monotonic() - began < patience_seconds:
        if any(each.destination.model == model for each in stack.vertex.operations):
            break
        await asyncio.sleep(0.2)
    return time.monotonic() - began


async def in_flight(folder: Path, count: int, goals: Goals) -> None:
    """Many copies run at once."""
    # Quotas are raised as an operator would raise them: with the defaults, this takes two hours.
    settings = {
        "STARTS_PER_MINUTE": "6000",
        "READS_PER_MINUTE": "60000",
        "FOLLOW_SECONDS": "30",
    }
    async with running(folder, 3600, **settings) as (stack, topics), Memory(stack.worker) as memory:
        thirds = [count // 3, count // 3, count - 2 * (count // 3)]
        await asyncio.gather(
            *(publish(topics, f"//sender-{number}", size) for number, size in enumerate(thirds))
        )
        ends, copying = time.monotonic() + 120 + count / 10, 0
        while copying < count and time.monotonic() < ends:
            await asyncio.sleep(2)
            before, copying = copying, len(stack.vertex.operations)
            if copying // 1000 > before // 1000:
                print(f"{copying:,} of {count:,} copies in flight", flush=True)
        await asyncio.sleep(30)  # so that all of them are polled, too
        goals.add("copies that did not start", count - copying, 0, "copies")
        goals.add(f"memory, {count:,} in flight", memory.most, 200, "MiB")


async def large(folder: Path, goals: Goals) -> None:
    """Messages of 9.9 MB at once: each is refused, and kept in a letter."""
    async with running(folder, 5) as (stack, _), Memory(stack.worker) as memory:
        kept: set[str] = set()
        reading = asyncio.create_task(_keep_reading(stack.pubsub.address, kept))
        began = time.monotonic()
        # In processes of their own: what they measure should not be how busy this one is.
        small = await _beside("small", stack.worker.url)
        answers = await (await _beside("large", stack.worker.url)).communicate()
        slowest, _stderr = await small.communicate(b"enough")
        print(f"{LARGE} large messages in {time.monotonic() - began:.0f} s; {answers[0].decode()}")
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while len(kept) < LARGE:
                    await asyncio.sleep(0.2)
        reading.cancel()
        goals.add("memory, 200 messages of 9.9 MB", memory.most, 512, "MiB")
        goals.add("large messages without a letter", LARGE - len(kept), 0, "messages")
        goals.add("slowest small push meanwhile", float(slowest or "inf"), 10, "s")


async def _beside(what: str, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--push", what, url, stdin=PIPE, stdout=PIPE
    )


async def push_large(url: str) -> None:
    """Push all large messages at once; print how they were answered."""
    data = base64.b64encode(b"x" * LARGE_BYTES)
    answers: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=600) as http:
        await asyncio.gather(*(_push(http, number, data, answers) for number in range(LARGE)))
    print(f"answers: {dict(answers)}")


async def push_small(url: str) -> None:
    """Push small messages until somebody writes; print how long the slowest took, in seconds."""
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    slowest = 0.0
    # The log entry of an operation that began: nothing follows from it.
    began_entry = json.dumps({"operation": {"id": "operations/1", "first": True}}).encode()
    message = {"messageId": "small", "data": base64.b64encode(began_entry).decode()}
    async with httpx.AsyncClient(base_url=url, timeout=600) as http:
        while not ended.done():
            began = time.monotonic()
            answer = await http.post("/pubsub/ticks", json={"message": message})
            assert answer.is_success, answer.text
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.wait([ended], timeout=0.5)
    print(f"{slowest:.2f}")


async def _push(http: httpx.AsyncClient, number: int, data: bytes, answers: Counter[str]) -> None:
    """Push as Pub/Sub does: until it is acknowledged, later each time."""
    backoff = 4.0  # Pub/Sub's own is 10 to 600 s

    head = b'{"message": {"messageId": "large-%d", "data": "' % number
    tail = b'"}, "subscription": "flood"}'

    async def body() -> AsyncIterator[bytes]:
        yield head
        for start in range(0, len(data), 1 << 18):
            yield data[start : start + (1 << 18)]
        yield tail

    headers = {"Content-Length": str(len(head) + len(data) + len(tail))}
    while True:
        try:
            answer = await http.post("/pubsub/requests", content=body(), headers=headers)
            answers[str(answer.status_code)] += 1
            if answer.is_success:
                return
        except httpx.TransportError:  # refused before it was sent whole
            answers["closed"] += 1
        await asyncio.sleep(backoff * random.uniform(0.5, 1.5))
        backoff = min(backoff * 2, 60)


async def _keep_reading(address: str, kept: set[str]) -> None:
    """Read the letters as they come: so many would not fit in this process."""
    channel = grpc.aio.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
    subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
    path = subscription_path(DEAD_LETTERS)
    while True:
        try:
            found = await subscriber.pull(subscription=path, max_messages=5, timeout=5)
        except DeadlineExceeded:
            continue
        for each in found.received_messages:
            if len(each.message.data) == LARGE_BYTES:  # whole
                kept.add(each.message.attributes["outcome_id"])
        if ids := [each.ack_id for each in found.received_messages]:
            await subscriber.acknowledge(subscription=path, ack_ids=ids)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--push", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.push:
        what, url = options.push
        await {"large": push_large, "small": push_small}[what](url)
        return 0
    goals = Goals()
    for part in options.part or PARTS:
        print(f"{part}:", flush=True)
        with tempfile.TemporaryDirectory(prefix="flood-") as made:
            folder = Path(made)
            match part:
                case "fair":
                    await fair(folder, options.count, goals)
                case "in-flight":
                    await in_flight(folder, options.count // 2, goals)
                case "large":
                    await large(folder, goals)
    print(f"\n{goals}")
    return 0 if all(met for *_, met in goals.rows) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
