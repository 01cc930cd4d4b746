"""The real worker, a history of inputs, and what must hold whatever they were.

Between the inputs and the facts stand the application of ``bootstrap.build_app``, the
workflow and SQLite; doubles are Vertex AI, the clock, and topics that refuse what Pub/Sub
would. What an input should lead to is read here anew, from the bytes that were posted.
As a command: the soak, a table, and exit code 1 when anything did not hold.
"""

import argparse
import asyncio
import base64
import io
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import httpx

import rubbish
import stores
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.app import build_app
from model_copier.contract import replies
from model_copier.contract.requests import (
    CANCEL_REQUESTED,
    LETTER_ATTRIBUTES,
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_MESSAGE_BYTES,
    STATUS_REQUESTED,
    Message,
)
from model_copier.domain.errors import UnavailableError
from model_copier.settings import Settings, TokenChecks
from model_copier.web.push import MAX_BODY_BYTES
from rubbish import Input
from simulators import SimulatedClock, SimulatedTopics
from world import PARENT, SOURCE_PROJECT, TARGET_PROJECT, World

# Everything that `make test` and the soak must have reached.
VERDICTS = (
    "accepted", "duplicate", "announced_again", "replayed", "conflict", "rejected", "validated",
    "status", "cancelling", "forwarded",
)  # fmt: skip
STATUSES = ("204", "400", "404", "405", "413", "503")
SETTINGS = Settings(
    source_project=SOURCE_PROJECT,
    target_project=TARGET_PROJECT,
    store="sqlite:///unused",
    follow_seconds=0,
    token_checks=TokenChecks.NONE,
)
_MAX_KEY_BYTES = 256
_QUESTIONS = (CANCEL_REQUESTED, STATUS_REQUESTED)
_TYPES: Mapping[str, type[replies.Reply]] = {
    "succeeded": replies.Succeeded,
    "failed": replies.Failed,
    "cancelled": replies.Cancelled,
    "rejected": replies.Rejected,
    "validated": replies.Validated,
    "status": replies.Status,
}
MOST_SCENES = 10  # in one history
_MOST_SWEEPS = 2000


class StrictTopics(SimulatedTopics):
    """Topics that refuse what Pub/Sub refuses: cloud.google.com/pubsub/quotas#resource_limits."""

    async def publish_reply(self, message: Message) -> None:
        _assert_publishable(message)
        await super().publish_reply(message)

    async def publish_letter(self, message: Message) -> None:
        _assert_publishable(message)
        await super().publish_letter(message)


def _assert_publishable(message: Message) -> None:
    assert message.data or message.attributes, "Pub/Sub refuses an empty message"
    assert len(message.attributes) <= MAX_ATTRIBUTES, "Pub/Sub refuses so many attributes"
    for name, value in message.attributes.items():
        assert 0 < len(name.encode()) <= _MAX_KEY_BYTES, f"Pub/Sub refuses attribute {name!r}"
        assert len(value.encode()) <= MAX_ATTRIBUTE_BYTES, f"Pub/Sub refuses {name}={value!r}"
        assert not name.startswith("goog"), f"Pub/Sub refuses attribute {name!r}"
    size = len(message.data) + sum(
        len(name.encode()) + len(value.encode()) for name, value in message.attributes.items()
    )
    assert size <= MAX_MESSAGE_BYTES, f"Pub/Sub refuses {size} bytes"


class Outages:
    """A job store that is out when told so."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._calls_left: int | None = None
        self._answer_lost = False

    def fail_at(self, call: int | None, *, answer_lost: bool = False) -> None:
        self._calls_left = call
        self._answer_lost = answer_lost

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any) -> Any:
            if self._calls_left is None:
                return await method(*args)
            self._calls_left -= 1
            if self._calls_left >= 0:
                return await method(*args)
            if self._answer_lost:
                self._answer_lost = False
                await method(*args)
            raise UnavailableError("out, on purpose")

        return call


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the body of a delivery holds, by a reading of our own."""

    kept: bytes  # what a letter must hold
    size: int  # of the message that would be kept, by Pub/Sub's count
    attributes: Mapping[str, str]  # that the letter must carry
    names: frozenset[str]  # a reply may call the sender by any of these
    question: bool  # asks, and changes nothing
    enveloped: bool = True  # nothing else is a push without metadata


def read(body: bytes) -> Read:
    """Read an envelope as the contract says, and anything else as itself."""
    nothing = Read(
        kept=body,
        size=len(body),
        attributes={},
        names=frozenset(),
        question=False,
        enveloped=False,
    )
    try:
        message = json.loads(body)["message"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return nothing
    if not isinstance(message, dict):
        return nothing
    given = {} if message.get("attributes") is None else message["attributes"]
    attributes = given if isinstance(given, dict) else {}
    told = {name.lower(): value for name, value in attributes.items()}
    names = {
        name
        for name in (told.get("ce-id"), message.get("messageId") or message.get("message_id"))
        if name and _is_value(name)
    }
    data = _decoded(message.get("data"))
    sound = (
        data is not None
        and isinstance(given, dict)
        and sum(not name.startswith("CloudPubSub") for name in given) <= MAX_ATTRIBUTES
        and all(_is_key(k) and _is_value(v) for k, v in given.items())
        and _is_value(message.get("messageId") or message.get("message_id") or "")
    )
    if data is None or not sound:
        return Read(
            kept=body, size=len(body), attributes={}, names=frozenset(names), question=False
        )
    content = _json(data)
    structured = told.get("content-type", "").lower().startswith("application/cloudevents") or (
        not {"ce-specversion", "ce-id", "ce-source", "ce-type"} & told.keys()
        and ("specversion" in content or {"id", "source", "type"} <= content.keys())
    )
    if structured:
        names |= {name for name in [content.get("id")] if isinstance(name, str)}
    kind = content.get("type") if structured else told.get("ce-type")
    inner = content.get("data") if structured else content
    inner = inner if isinstance(inner, dict) else {}
    if kind in _QUESTIONS and isinstance(inner.get("request_id"), str):
        names.add(inner["request_id"])
    return Read(
        kept=data,
        size=len(data) + sum(len(k.encode()) + len(v.encode()) for k, v in attributes.items()),
        attributes={
            k: v
            for k, v in attributes.items()
            if k not in LETTER_ATTRIBUTES and not k.startswith(("goog", "CloudPubSub"))
        },
        names=frozenset(names),
        question=kind in _QUESTIONS or inner.get("validate_only") is True,
    )


def _decoded(data: Any) -> bytes | None:
    if data is None:
        return b""
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, str) else None
    except ValueError:
        return None


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_key(text: str) -> bool:
    return 0 < _size(text) <= _MAX_KEY_BYTES


def _is_value(text: Any) -> bool:
    return isinstance(text, str) and _size(text) <= MAX_ATTRIBUTE_BYTES


def _size(text: str) -> int:
    """In bytes; half of a surrogate pair has no size that would do."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return sys.maxsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What one input led to at once."""

    input: Input
    status: int
    verdict: str
    met_bug: bool  # which the worker may have buried
    log: str
    replies_before: int
    letters_before: int
    letters_after: int


@dataclass
class Ordeal:
    """One file for many histories, emptied in between; or a database for each."""

    store: SqliteJobStore
    counts: Counter[str] = field(default_factory=Counter)
    inputs: int = 0

    async def endure(self, history: Sequence[Input]) -> None:
        """Post all of ``history`` at a worker of its own, let all copies end, and judge."""
        self.inputs += len(history)
        clock = SimulatedClock()
        outages = Outages(await self._empty_store(clock))
        world = World(store=outages, topics=StrictTopics(), clock=clock)
        world.models.add(PARENT)
        world.models.copy_seconds = 12
        app = build_app("worker", world.deliveries, world.ticks, SETTINGS)
        answers: list[Answered] = []
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for each in history:
                world.clock.advance(0.001)
                outages.fail_at(each.store_fails_at, answer_lost=each.answer_lost)
                answers.append(await self._post(client, world, each))
                outages.fail_at(None)
                if answers[-1].status == 503:
                    # Pub/Sub delivers it again.
                    answers.append(await self._post(client, world, each, again=True))
                await world.pass_time(each.wait_seconds)
        await _come_to_rest(world)
        judge_outcomes(world, answers)

    async def _empty_store(self, clock: SimulatedClock) -> Any:
        if stores.emulator:
            return stores.new_store(clock)
        for table in ("jobs", "queues"):
            await self.store._write(f"DELETE FROM {table}", ())
        return self.store

    async def _post(
        self, client: httpx.AsyncClient, world: World, posted: Input, *, again: bool = False
    ) -> Answered:
        topics, logged = world.topics, io.StringIO()
        replies_before, letters_before = len(topics.replies), len(topics.letters)
        with redirect_stdout(logged):
            response = await client.request(posted.method, posted.path, content=posted.body)
        lines = [json.loads(line) for line in logged.getvalue().splitlines()]
        verdicts = [line["verdict"] for line in lines if line["message"] == "delivery"]
        answered = Answered(
            input=posted,
            status=response.status_code,
            verdict=verdicts[0] if verdicts else "",
            met_bug=any(line["message"] == "bug" for line in lines),
            log="\n".join(str(line.get("stack_trace", line)) for line in lines),
            replies_before=replies_before,
            letters_before=letters_before,
            letters_after=len(topics.letters),
        )
        self.counts[str(answered.status)] += 1
        if verdicts:
            self.counts[verdicts[0]] += 1
        judge_answer(world, answered, outage=posted.store_fails_at is not None and not again)
        return answered

    def unreached(self) -> set[str]:
        return {*VERDICTS, *STATUSES} - self.counts.keys()


async def _come_to_rest(world: World) -> None:
    for _ in range(_MOST_SWEEPS):
        due_at = await world.store.next_due_at()
        if due_at is None:
            return
        world.clock.advance(max((due_at - world.clock.now()).total_seconds(), 0.001))
        await world.ticks.take(0)
    raise AssertionError(f"jobs still move after {_MOST_SWEEPS} sweeps")


def judge_answer(world: World, answered: Answered, *, outage: bool) -> None:
    """What must hold when an input has been answered."""
    posted, status = answered.input, answered.status
    assert not answered.met_bug, f"met a bug, answered {status}:\n{answered.log}"
    assert status == 204 or status in _refusals(posted, outage=outage), (
        f"answered {status}:\n{answered.log}"
    )
    if status != 204:
        published = (len(world.topics.replies), len(world.topics.letters))
        assert published == (answered.replies_before, answered.letters_before), (
            f"answered {status}, and published all the same"
        )
        return
    assert answered.verdict in VERDICTS or posted.path == rubbish.TICKS
    if answered.verdict in ("rejected", "conflict"):
        _judge_rejection(world, answered)


def _refusals(posted: Input, *, outage: bool) -> set[int]:
    """The answers other than 204 that this input may have; empty for what Pub/Sub may send."""
    known = {"/", rubbish.REQUESTS, rubbish.DEAD_LETTERS, rubbish.TICKS}
    if posted.path not in known:
        return {404}
    if posted.method != "POST":
        return {405}
    if len(posted.body) > MAX_BODY_BYTES:
        return {413}
    if posted.path in ("/", rubbish.REQUESTS) and read(posted.body).size > MAX_MESSAGE_BYTES:
        return {413}
    if posted.path != rubbish.TICKS and not read(posted.body).enveloped:
        return {400}
    return {503} if outage else set()


def _judge_rejection(world: World, answered: Answered) -> None:
    expected = read(answered.input.body)
    told = world.topics.replies[answered.replies_before :]
    letters = world.topics.letters[answered.letters_before : answered.letters_after]
    data = [json.loads(reply.data) for reply in told]
    outcomes = [each["outcome"] for each in data]
    assert outcomes == ["rejected"] * bool(expected.names), f"{outcomes} for {expected.names}"
    if not letters:
        assert "dead_letter" not in str(data)
        forwarded = answered.input.path == rubbish.DEAD_LETTERS  # it lies there already
        answerable = expected.question and data[0]["error"]["code"] != "INVALID_ARGUMENT"
        assert forwarded or answerable, "rejected, and not kept"
        return
    (letter,) = letters
    assert letter.data == expected.kept, "the letter has other bytes"
    assert expected.attributes.items() <= letter.attributes.items()
    for each in data:
        # A letter as large as Pub/Sub takes has no room for it.
        assert letter.attributes.get("outcome_id", each["dead_letter"]) == each["dead_letter"]


def judge_outcomes(world: World, answers: Sequence[Answered]) -> None:
    """What must hold once everything has come to rest."""
    told = world.topics.replies
    for reply in told:
        _judge_reply(reply)
    for answered in answers:
        _judge_told(answered, told)
    _judge_repeats(told)
    _judge_letters(world, answers)
    _judge_copies(world)


def _judge_reply(reply: Message) -> None:
    """Valid JSON of its type, under the attributes that the contract promises."""
    attributes = reply.attributes
    data = json.loads(reply.data, parse_constant=_no_constant)
    kind = attributes["outcome"]
    assert (
        _TYPES[kind].model_validate_json(reply.data).model_dump_json(exclude_none=True)
        == reply.data.decode()
    )
    assert data.get("outcome", "status") == kind
    assert attributes["ce-type"] == f"dev.modelcopier.copy.{kind}.v1"
    assert attributes["ce-specversion"] == "1.0"
    assert attributes["ce-source"].startswith("//model-copier/")
    assert attributes["content-type"] == "application/json"
    assert attributes["ce-dataschema"].endswith(f"/{kind}.v1.json")
    assert attributes["ce-id"]
    assert kind == "rejected" or attributes["ce-time"].endswith("Z")
    assert attributes["ce-subject"] == attributes["request_id"]
    for name in ("request_id", "request_source", "request_digest", "source_model", "target_model"):
        assert data.get(name, "").startswith(attributes.get(name, "")), name
        assert (name in data) == (name in attributes), name


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def _judge_told(answered: Answered, told: Sequence[Message]) -> None:
    """Whoever has a name was answered: by then or since."""
    if answered.status != 204 or answered.input.path == rubbish.TICKS:
        return
    names = read(answered.input.body).names
    # A letter of Pub/Sub's may come after its request was recorded and told.
    since = 0 if answered.input.path == rubbish.DEAD_LETTERS else answered.replies_before
    found = (json.loads(reply.data) for reply in told[since:])
    assert not names or any(
        reply["request_id"] in names or reply.get("in_reply_to") in names for reply in found
    ), f"none of {sorted(names)} was told"


def _judge_repeats(told: Sequence[Message]) -> None:
    first: dict[str, Message] = {}
    for reply in told:
        known = first.setdefault(reply.attributes["ce-id"], reply)
        assert known.data == reply.data, "one event id, two contents"


def _judge_letters(world: World, answers: Sequence[Answered]) -> None:
    """Each failed request lies in a letter with the bytes that one delivery of it had."""
    letters = {letter.attributes.get("outcome_id"): letter for letter in world.topics.letters}
    posted = {read(answered.input.body).kept for answered in answers}
    for reply in world.replies:
        if reply.get("outcome") != "failed":
            continue
        if "could not record the request" in reply["error"]["message"]:
            continue  # Pub/Sub wrote that letter
        assert letters[reply["dead_letter"]].data in posted, "a failed request's letter is not it"


def _judge_copies(world: World) -> None:
    """Every copy that was made is the outcome of one request, and of no other."""
    registry = world.models.registry
    made = Counter(
        str(version.name)
        for default in registry.models()
        for version in registry.versions(str(default.name.unversioned))
        if version.copied_from
    )
    outcomes = {
        reply["id"]: reply
        for reply in world.replies
        if reply.get("outcome") == "succeeded" and not reply["already_existed"]
    }
    told = Counter(f"{reply['resource_name']}@{reply['version']}" for reply in outcomes.values())
    asked = Counter((r["request_source"], r["request_id"]) for r in outcomes.values())
    assert made == told, f"made {made}, told {told}"
    assert not asked or max(asked.values()) == 1, f"two copies for one identity: {asked}"


@asynccontextmanager
async def ordeal(file: Path) -> AsyncIterator[Ordeal]:
    store = await SqliteJobStore.open(file, busy_seconds=5)
    # No power plug is pulled here, and waiting for the disk would take most of the time.
    await store._write("PRAGMA synchronous=OFF", ())
    try:
        yield Ordeal(store)
    finally:
        await store.close()


# The soak


async def soak(file: Path, count: int, seed: int) -> int:
    """Endure ``count`` inputs, print the table, and return the exit code."""
    random, violations, begun = Random(seed), 0, time.monotonic()
    async with ordeal(file) as trial:
        while trial.inputs < count:
            scenes = [rubbish.any_scene(random) for _ in range(random.randint(1, MOST_SCENES))]
            history = list(chain.from_iterable(scenes))
            try:
                await trial.endure(history)
            except Exception as error:  # noqa: BLE001  counted, shown, and exit code 1
                violations += 1
                if violations <= 3:
                    print(f"VIOLATION: {type(error).__name__}: {error}"[:3000])
                    print(*(str(each)[:3000] for each in history), sep="\n  ")
    seconds = time.monotonic() - begun
    for name in (*VERDICTS, *STATUSES):
        print(f"{name:16} {trial.counts[name]:>8}")
    for name, value in (
        ("inputs", f"{trial.inputs}"),
        ("seed", f"{seed}"),
        ("seconds", f"{seconds:.1f}"),
        ("inputs per second", f"{trial.inputs / seconds:.0f}"),
        ("violations", f"{violations}"),
    ):
        print(f"{name:17} {value:>7}")
    if unreached := trial.unreached():
        print(f"never reached: {', '.join(sorted(unreached))}")
    return 1 if violations or unreached else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(soak(Path(folder) / "jobs.db", chosen.count, chosen.seed))


if __name__ == "__main__":
    sys.exit(main())
