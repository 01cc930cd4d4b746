"""What Firestore alone promises: locks that heal, limits, what it costs, what is set up wrongly."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from google.api_core.exceptions import PermissionDenied
from google.rpc.error_details_pb2 import ErrorInfo

from firestore_front import FirestoreFront
from model_copier.adapters.firestore import FirestoreJobStore
from model_copier.adapters.firestore_documents import INDEXED, TTL_FIELD, fields_of
from model_copier.adapters.firestore_set_up import to_be_mended
from model_copier.domain.copy_call import MAX_KNOWN_OPERATIONS, Call
from model_copier.domain.copy_request import Original
from model_copier.domain.errors import DestinationTakenError, SetUpError, UnavailableError
from model_copier.engine.ports import Wanted
from simulators import START, SimulatedClock
from stores import LATEST, TIMING, firestore_store, holding, job, requested

MEBIBYTE = 1 << 20


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
async def front(firestore: str) -> AsyncIterator[FirestoreFront]:
    async with FirestoreFront(emulator=firestore) as running:
        yield running


@pytest.fixture
async def store(front: FirestoreFront, clock: SimulatedClock) -> AsyncIterator[FirestoreJobStore]:
    async with firestore_store(front.address, clock=clock) as opened:
        yield opened


# Destinations


async def test_a_destination_whose_holder_is_gone_is_taken_over(store):
    """As a person leaves it behind who deletes a job by hand."""
    await store.save(holding(await store.create(job("a"))))
    await store._jobs.document("a").delete()
    second = await store.create(job("b"))

    taken = await store.save(holding(second))

    with pytest.raises(DestinationTakenError):
        await store.save(holding(await store.create(job("c"))))
    assert taken.destination


async def test_a_destination_whose_holder_knows_nothing_of_it_is_taken_over(store):
    """The holder was never saved, holds another, or has ended: its own document says so."""
    a, b = await store.create(job("a")), await store.create(job("b"))
    destination = holding(a).destination
    await store._lock(destination).set({"destination": destination, "holder": "b"})

    await store.save(holding(a))

    with pytest.raises(DestinationTakenError):
        await store.save(holding(b))


async def test_of_many_who_take_over_a_destination_one_gets_it(store):
    waiting = [await store.create(job(key)) for key in "abcdefgh"]
    destination = holding(waiting[0]).destination
    await store._lock(destination).set({"destination": destination, "holder": "nobody"})

    tried = await asyncio.gather(
        *(store.save(holding(each)) for each in waiting), return_exceptions=True
    )

    assert sum(isinstance(each, DestinationTakenError) for each in tried) == 7
    assert len([key for key in "abcdefgh" if (await store.get(key)).destination]) == 1


async def test_a_destination_of_which_only_the_lock_was_written_is_still_its_own(store):
    a = await store.create(job("a"))
    destination = holding(a).destination
    await store._lock(destination).set({"destination": destination, "holder": "a"})

    assert (await store.save(holding(a))).destination == destination


async def test_a_destination_is_left_without_a_trace(store):
    held = await store.save(holding(await store.create(job())))
    await store.save(held.succeeded(START, model_version="1", verified=True))

    assert [each async for each in store._destinations.stream()] == []


# What expires


async def test_what_has_expired_reads_as_gone_before_firestore_deletes_it(store, clock):
    copied = requested(job(due_at=None))
    ended = copied.succeeded(START, model_version="1", verified=True)
    stored = await store.create(replace(ended, expires_at=START + timedelta(days=1)))
    assert await store.get("a") == stored

    clock.advance(86_400)

    assert await store.get("a") is None
    assert await store.ended(["a"]) == []
    assert await store.with_traces([stored.claim]) == []
    assert await store.find(Wanted(request_source="//ec2"), 10) == []
    assert await store.create(job()) == replace(job(), version=1)
    assert await store.get("a") == replace(job(), version=1)


# What Firestore is asked to keep


async def test_the_largest_job_fits_into_a_document(store):
    """64 KiB of request, every attribute that Pub/Sub allows, and characters that JSON writes
    as six.
    """
    attributes = {f"{n:03d}" + "\x01" * 253: "\x01" * 1024 for n in range(100)}
    largest = job(
        original=Original(data=b"\xff" * 65_536, attributes=attributes),
        digests=tuple("d" * 64 for _ in range(100)),
        call=Call(
            requested_at=START,
            visible_at=TIMING.visible_at(START),
            known_versions=tuple(str(n) for n in range(1000)),
            known_operations=tuple(str(10**18 + n) for n in range(MAX_KNOWN_OPERATIONS)),
        ),
    )

    await store.create(largest)

    assert await store.get("a") == replace(largest, version=1)
    assert len(fields_of(largest)["record"].encode()) < MEBIBYTE * 0.9


WANTED = Wanted(request_source="//ec2", accepted_from=START, accepted_before=LATEST)
QUERIES: dict[str, Callable[[FirestoreJobStore], Awaitable[object]]] = {
    "due": lambda store: store.due(START, LATEST, 10),
    "next_due_at": lambda store: store.next_due_at(),
    "awaiting": lambda store: store.awaiting("model", 10),
    "queued": lambda store: store.queued("queue", 10),
    "queues": lambda store: store.queues(),
    "next_turn": lambda store: store.next_turn("queue", "//ec2", 1),
    "unfinished": lambda store: store.unfinished("//ec2"),
    "with_traces": lambda store: store.with_traces(["model", "model@1"]),
    "with_operation": lambda store: store.with_operation("42"),
    "ended": lambda store: store.ended(["a"]),
    "find": lambda store: store.find(WANTED, 10),
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("query", QUERIES)
async def test_every_query_asks_one_indexed_field_and_names_it_when_the_index_is_missing(
    store, front, query
):
    """The emulator has every index; Firestore has those that Terraform makes."""
    await QUERIES[query](store)

    asked = [*front.asked]
    assert asked
    for fields in asked:
        (front.missing_index,) = fields
        assert front.missing_index in INDEXED
        with pytest.raises(SetUpError, match="requires an index") as told:
            await QUERIES[query](store)
        assert f" fields update {front.missing_index} " in told.value.mends


async def test_a_store_that_is_ready_has_every_index(store, front):
    await store.check()

    assert set.union(*front.asked) == INDEXED.keys()


async def test_a_document_has_the_fields_that_are_indexed_and_no_empty_ones(store):
    copying = requested(job())
    await store.create(replace(copying, expires_at=START + timedelta(days=1)))
    elsewhere = replace(job().request, destination="other")
    await store.create(holding(job("b", request=elsewhere, turn=1.0, due_at=None)))

    first, second = [each.to_dict() async for each in store._jobs.stream()]

    assert {*INDEXED, TTL_FIELD} - {"waits"} <= first.keys()
    assert {*INDEXED, "start_queue"} - {"due_at", "marks"} <= second.keys()
    for document in (first, second):
        assert None not in document.values()
        assert json.loads(document["record"])[0] == 1


# Outages


@pytest.mark.parametrize(
    ("code", "details", "mended_by"),
    [
        (
            grpc.StatusCode.NOT_FOUND,
            "The database jobs does not exist for project p",
            "gcloud firestore databases create --database=DATABASE",
        ),
        (
            grpc.StatusCode.PERMISSION_DENIED,
            "Missing or insufficient permissions.",
            "--role=roles/datastore.user",
        ),
        (
            grpc.StatusCode.FAILED_PRECONDITION,
            "The query requires an index.",
            "gcloud firestore indexes fields update due_at --index=order=ascending",
        ),
    ],
)
async def test_what_is_not_set_up_is_told_with_the_command_that_mends_it(
    store, front, code, details, mended_by
):
    await store.restored_at()  # reads a document: that needs no index
    front.refusal = (code, details)

    with pytest.raises(SetUpError, match=details) as told:
        await store.check()

    assert mended_by in told.value.mends


def test_an_api_that_is_off_is_told_from_a_role_that_is_missing():
    """Google's reason comes beside the message."""
    off = ErrorInfo(reason="SERVICE_DISABLED", domain="googleapis.com")

    told = to_be_mended(PermissionDenied("has not been used in project 7", error_info=off))

    assert told.mends == "gcloud services enable firestore.googleapis.com --project=PROJECT"


async def test_a_database_of_the_other_kind_is_told_by_a_read(store, front):
    front.refusal = (grpc.StatusCode.FAILED_PRECONDITION, "in Datastore Mode")

    with pytest.raises(SetUpError) as told:
        await store.get("a")

    assert told.value.mends.startswith("gcloud firestore databases update")


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.CANCELLED,
    ],
)
async def test_every_call_tells_an_outage(store, front, code):
    front.refusal = (code, "out, on purpose")
    calls = [
        store.create(job()),
        store.get("a"),
        store.save(job()),
        store.due(START, LATEST, 10),
        store.next_due_at(),
        store.awaiting("m", 10),
        store.with_traces(["m"]),
        store.with_operation("42"),
        store.ended(["a"]),
        store.find(Wanted(request_source="//ec2"), 10),
        store.queued("here", 10),
        store.queues(),
        store.next_turn("here", "//ec2", 1),
        store.unfinished("//ec2"),
        store.take_starts("here", [1], START, 50),
        store.take_slots("here", 1, START, 50),
        store.check(),
    ]

    for call in calls:
        with pytest.raises(UnavailableError, match="out, on purpose"):
            await call


async def test_a_store_that_does_not_answer_is_an_outage_not_a_hang():
    """Nobody listens there; gRPC would try for twenty seconds."""
    async with firestore_store("127.0.0.1:9", seconds=0.2) as store:
        with pytest.raises(UnavailableError, match="job store"):
            await store.get("a")
