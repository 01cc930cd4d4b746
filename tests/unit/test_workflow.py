"""The order of things, told as stories on a simulated clock."""

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local_cloud.registry import Registry
from local_cloud.vertex_records import Dialect
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.contract.requests import CANCEL_REQUESTED
from model_copier.domain.copy_call import Call
from model_copier.domain.errors import Code, UnavailableError
from model_copier.domain.job import Job, State
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import RETRIES_UNTIL_TROUBLE, Timing
from model_copier.engine.steady_clock import SteadyClock
from simulators import START, SimulatedClock, SimulatedModels, SimulatedStore
from world import PARENT, REQUEST, SOURCE, SOURCE_PROJECT, TARGET, World, request


async def test_a_request_becomes_a_model_and_a_reply():
    world = World()

    accepted = await world.deliver()
    await world.pass_time(150)

    assert accepted.verdict == "accepted"
    (reply,) = world.replies
    assert reply["type"] == "dev.modelcopier.copy.succeeded.v1"
    assert reply["resource_name"] == TARGET
    assert reply["version"] == "1"
    assert reply["verified"] is True
    assert reply["timings"]["copy_seconds"] == 42
    assert world.copies == 1
    assert world.job.due_at is None


async def test_a_delivery_returns_while_the_copy_runs():
    world = World()

    await world.deliver()

    assert world.job.state is State.COPYING
    assert world.topics.ticks == 1
    assert world.topics.replies == []


async def test_a_redelivery_joins_the_copy_in_flight():
    """The second delivery of a request never asks Vertex AI again."""
    world = World()

    await world.deliver()
    again = await world.deliver()
    await world.pass_time(150)

    assert again.verdict == "duplicate"
    assert world.models.copies_asked == 1
    assert len(world.replies) == 1


async def test_a_request_published_again_after_the_end_is_told_the_same_outcome():
    world = World()
    await world.deliver()
    await world.pass_time(150)

    again = await world.deliver()

    assert again.verdict == "announced_again"
    first, second = world.topics.replies
    assert first == second
    assert world.models.copies_asked == 1


async def test_other_content_under_a_known_id_is_rejected_and_the_first_goes_on():
    world = World()
    await world.deliver()

    other = await world.deliver(request(REQUEST | {"destination_model_id": "other"}))
    await world.pass_time(150)

    assert other.verdict == "conflict"
    rejected, succeeded = world.replies
    assert rejected["outcome"] == "rejected"
    assert "other content" in rejected["error"]["message"]
    assert rejected["request_digest"] != succeeded["request_digest"]
    assert succeeded["outcome"] == "succeeded"
    assert len(world.topics.letters) == 1


async def test_an_alias_is_resolved_to_a_version_once():
    world = World()
    world.models.registry.add_model(SOURCE, version="2", aliases=("prod",), now=world.clock.at)

    await world.deliver(request({"source_model_id": "7704127342733426688@prod"}))
    await world.pass_time(150)

    (reply,) = world.replies
    assert reply["source_model"] == f"{SOURCE}@2"
    assert reply["resource_name"].endswith("/m-7704127342733426688-v2")


async def test_a_parent_model_gets_a_new_version():
    world = World()
    world.models.add(PARENT)

    await world.deliver(
        request(
            {"source_model_id": "7704127342733426688", "destination_parent_model": "shared-parent"}
        )
    )
    await world.pass_time(150)

    (reply,) = world.replies
    assert reply["resource_name"] == PARENT
    assert reply["version"] == "2"


async def test_a_parent_that_does_not_exist_is_named():
    world = World()

    await world.deliver(
        request({"source_model_id": "7704127342733426688", "destination_parent_model": "nobody"})
    )

    (reply,) = world.replies
    assert reply["outcome"] == "failed"
    assert reply["error"]["code"] == "NOT_FOUND"
    assert "destination_parent_model" in reply["error"]["message"]
    assert world.models.copies_asked == 0


async def test_a_missing_source_fails_before_vertex_is_asked_for_a_copy():
    world = World()

    await world.deliver(request({"source_model_id": "1"}))

    (reply,) = world.replies
    assert reply["outcome"] == "failed"
    assert reply["error"]["code"] == "NOT_FOUND"
    assert reply["error"]["message"] == (
        f"source_model_id: projects/{SOURCE_PROJECT}/locations/us-central1/models/1 does not exist"
    )
    assert "gcloud ai models list --project=gemini-fine-tuning-source" in reply["error"]["hint"]
    assert world.models.copies_asked == 0


async def test_a_failed_copy_leaves_its_letter_before_its_reply():
    world = World()
    world.models.dooms = [Code.PERMISSION_DENIED]
    received = request()

    await world.deliver(received)
    await world.pass_time(150)

    (letter,) = world.topics.letters
    (reply,) = world.replies
    assert letter.data == received.data
    assert letter.attributes["outcome_id"] == reply["id"] == reply["dead_letter"]
    assert letter.attributes["dead_letter_code"] == "PERMISSION_DENIED"
    assert received.attributes.items() <= letter.attributes.items()


async def test_an_answer_that_was_lost_is_looked_for_not_asked_for_again():
    world = World()
    world.models.lost_answers = 1

    await world.deliver()
    await world.pass_time(600)

    (reply,) = world.replies
    assert reply["outcome"] == "succeeded"
    assert reply["operation"]
    assert world.models.copies_asked == 1


async def test_a_version_that_was_there_before_the_ask_is_not_taken_for_ours():
    """The parent holds a copy of the same source already; the lost ask made another."""
    world = World()
    world.models.add(PARENT)
    ask = {"source_model_id": "7704127342733426688", "destination_parent_model": "shared-parent"}
    await world.deliver(request(ask, request_id="first"))
    await world.pass_time(150)
    world.models.lost_answers = 1

    await world.deliver(request(ask, request_id="second"))
    await world.pass_time(600)

    assert [reply["version"] for reply in world.replies] == ["2", "3"]
    assert len(world.models.versions(PARENT)) == 3


async def test_an_exhausted_quota_is_waited_for():
    world = World()
    world.models.refusals = [Code.RESOURCE_EXHAUSTED] * 3

    await world.deliver()
    await world.pass_time(600)

    (reply,) = world.replies
    assert reply["outcome"] == "succeeded"
    assert world.copies == 1


async def test_a_quota_is_retried_ever_more_seldom():
    world = World()
    world.models.refusals = [Code.RESOURCE_EXHAUSTED] * 1000

    await world.deliver()
    await world.pass_time(3600)

    # After 2, 4, 8, ... 256 s, then every 300 s.
    assert world.models.copies_asked == 8 + 1 + (3600 - 510) // 300


@pytest.mark.parametrize(
    ("code", "known"),
    [
        (Code.RESOURCE_EXHAUSTED, "nothing was made"),
        # The last call of many was sent too late to be told apart.
        (Code.INTERNAL, "whether a copy was made is unknown"),
    ],
)
async def test_a_copy_that_never_starts_is_given_up_when_its_time_is_over(code: Code, known: str):
    world = World()
    world.models.refusals = [code] * 1000

    await world.deliver(request(REQUEST | {"deadline_seconds": 600}))
    await world.pass_time(3000)

    (reply,) = world.replies
    assert reply["error"]["code"] == "DEADLINE_EXCEEDED"
    assert reply["error"]["message"].endswith(known)
    assert reply["outcome_unknown"] is (world.job.state is State.UNKNOWN)
    assert len(world.topics.letters) == 1


@pytest.mark.parametrize(
    "code", [Code.INTERNAL, Code.ABORTED, Code.UNKNOWN, Code.CANCELLED, Code.ALREADY_EXISTS]
)
async def test_an_unclear_refusal_is_asked_again_only_after_the_grace(code: Code):
    world = World()
    world.models.refusals = [code]

    await world.deliver()
    await world.pass_time(world.timing.grace_seconds - 1)

    assert world.models.copies_asked == 1
    await world.pass_time(world.timing.second_read_seconds + 180)
    assert world.models.copies_asked == 2
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_a_copy_that_fails_in_the_end_is_tried_again_when_that_may_help():
    world = World()
    world.models.dooms = [Code.INTERNAL, Code.UNAVAILABLE]

    await world.deliver()
    await world.pass_time(1200)

    (reply,) = world.replies
    assert reply["outcome"] == "succeeded"
    assert reply["attempts"] == 3
    assert world.copies == 1


async def test_another_attempt_waits_until_what_the_failed_one_left_is_seen_as_it_is():
    """Reads may be stale: a model that showed before it was whole must not count as there."""
    world = World()
    world.models.dooms = [Code.INTERNAL]
    await world.deliver()
    await world.pass_time(42 + world.timing.max_poll_seconds)
    failed_at = world.models.registry.operations()[0].ends_at

    await world.pass_time(300)

    _, second = world.models.registry.operations()
    assert (second.created_at - failed_at).total_seconds() >= world.timing.visibility_seconds


async def test_two_requests_for_one_destination_copy_one_after_the_other():
    world = World()

    await world.deliver(request(request_id="first"))
    await world.deliver(request(request_id="second"))
    assert world.models.copies_asked == 1
    await world.pass_time(300)

    first, second = world.replies
    assert (first["request_id"], first["already_existed"]) == ("first", False)
    assert (second["request_id"], second["already_existed"]) == ("second", True)
    assert world.copies == 1


async def test_a_destination_is_handed_on_at_once_to_whoever_came_first():
    world = World()
    world.models.add(PARENT)
    world.models.copy_seconds = 60
    version = {"source_model_id": "7704127342733426688", "destination_parent_model": PARENT}
    await world.deliver(request(version, request_id="first"))
    for name, at in (("second", 57), ("third", 58)):
        world.clock.advance(at - world.clock.monotonic())
        await world.deliver(request(version, request_id=name))

    for running in ("first", "second", "third"):
        jobs = {job.request_id: job for job in world.store.jobs.values()}
        copying = [job.request_id for job in jobs.values() if job.state is State.COPYING]
        assert copying == [running]
        world.clock.advance(60)
        for waiting in jobs.values():  # they have just looked, each for itself
            if waiting.waiting_for:
                later = world.clock.now() + timedelta(seconds=5)
                await world.store.save(waiting.snoozed(later))
        await world.ticks.nudge(jobs[running].operation)
        await world.ticks.take(0)

    assert [reply["request_id"] for reply in world.replies] == ["first", "second", "third"]


def world_of(dialect: Dialect) -> World:
    clock = SimulatedClock()
    world = World(clock=clock, models=SimulatedModels(clock, registry=Registry(dialect=dialect)))
    world.models.add(SOURCE)
    return world


async def test_what_came_to_nothing_keeps_its_destination_until_it_is_gone():
    """Else the next one there takes its version for an old one, and its own gets that number."""
    world = world_of(Dialect(model_after_seconds=0.0, stale_seconds=30.0))
    world.models.add(PARENT)
    version = {"source_model_id": "7704127342733426688", "destination_parent_model": PARENT}
    world.models.dooms = [Code.PERMISSION_DENIED]
    await world.deliver(request(version, request_id="first"))
    await world.deliver(request(version, request_id="second"))
    world.models.lost_answers = 1

    await world.pass_time(1200)

    assert world.models.copies_asked == 2
    assert [(reply["outcome"], reply.get("version")) for reply in world.replies] == [
        ("failed", None),
        ("succeeded", "2"),
    ]


@pytest.mark.parametrize("if_exists", ["fail", "skip", "new_version"])
async def test_a_model_that_did_not_show_is_met_by_the_next_attempt(if_exists: str):
    """Reads are stale, and the id is found to be taken only by the operation."""
    world = world_of(Dialect(existing_id=None, stale_seconds=30.0))
    await world.deliver(request(request_id="first"))
    await world.deliver(request(REQUEST | {"if_exists": if_exists}, request_id="second"))

    await world.pass_time(600)

    second = world.replies[-1]
    assert second["outcome"] == "succeeded"
    assert second["already_existed"] is (if_exists != "new_version")


async def test_who_was_told_of_a_version_is_found_although_its_number_was_there_before():
    """Numbers are used again: what an operation made is looked up whatever its number."""
    world = World()
    world.models.add(PARENT)
    version = {"source_model_id": "7704127342733426688", "destination_parent_model": PARENT}
    await world.deliver(request(version))
    await world.pass_time(60)
    call = Call(
        requested_at=world.clock.now(),
        visible_at=world.timing.visible_at(world.clock.now()),
        known_versions=("1", "2"),
    )
    another = replace(world.job, key="another", call=call)

    snapshot = await world.workflow.reader.snapshot(another)

    assert [other.key for other in snapshot.neighbours] == [world.job.key]


@pytest.mark.parametrize("away", ["store.awaiting", "topics.publish_tick"])
async def test_who_waits_looks_by_itself_where_nothing_can_be_handed_on(away: str):
    world = World()
    await world.deliver(request(request_id="first"))
    await world.deliver(request(request_id="second"))
    port, _, method = away.partition(".")

    async def unavailable(*_anything: object) -> None:
        raise UnavailableError(f"{away} is away")

    setattr(getattr(world, port), method, unavailable)
    await world.pass_time(300)

    assert [reply["request_id"] for reply in world.replies] == ["first", "second"]


async def test_a_destination_that_holds_another_model_is_refused():
    world = World()
    world.models.add(TARGET)

    await world.deliver()

    (reply,) = world.replies
    assert reply["error"]["code"] == "ALREADY_EXISTS"
    assert TARGET in reply["error"]["message"]


async def test_what_somebody_is_still_copying_is_not_there_yet():
    """It shows before its copy has ended, and may still come to nothing."""
    clock = SimulatedClock()
    early_models = Registry(dialect=Dialect(model_after_seconds=0.0))
    world = World(clock=clock, models=SimulatedModels(clock, registry=early_models))
    world.models.add(SOURCE)
    target = ModelName.parse(TARGET)
    world.models.registry.copy(
        parent=target.location_name,
        source_model=f"{SOURCE}@1",
        model_id=target.model,
        now=world.clock.at,
        takes=timedelta(seconds=90),
    )

    await world.deliver(request(REQUEST | {"if_exists": "skip"}))
    await world.pass_time(80)
    early = list(world.replies)
    await world.pass_time(80)

    assert early == []
    (reply,) = world.replies
    assert reply["already_existed"]


async def test_what_somebody_s_copy_takes_back_between_two_looks_is_not_there():
    world = world_of(Dialect(model_after_seconds=0.0))
    target = ModelName.parse(TARGET)
    by_hand = world.models.registry.copy(
        parent=target.location_name,
        source_model=f"{SOURCE}@1",
        model_id=target.model,
        now=world.clock.at,
        takes=timedelta(seconds=90),
    )
    look = world.models.list_operations

    async def once_it_was_cancelled(name: ModelName) -> object:
        world.models.registry.cancel(by_hand.name, now=world.clock.at)
        return await look(name)

    world.models.list_operations = once_it_was_cancelled
    await world.deliver(request(REQUEST | {"if_exists": "skip"}))
    await world.pass_time(300)

    assert [reply["already_existed"] for reply in world.replies] == [False]
    assert world.copies == 1


async def test_if_exists_skip_takes_what_is_there():
    world = World()
    world.models.add(TARGET)

    await world.deliver(request(REQUEST | {"if_exists": "skip"}))

    (reply,) = world.replies
    assert reply["outcome"] == "succeeded"
    assert reply["already_existed"] is True
    assert reply["verified"] is False


async def test_if_exists_new_version_adds_one():
    world = World()
    world.models.add(TARGET)

    await world.deliver(request(REQUEST | {"if_exists": "new_version"}))
    await world.pass_time(150)

    (reply,) = world.replies
    assert reply["version"] == "2"


async def test_a_copy_past_its_deadline_is_cancelled_and_told():
    world = World()
    world.models.copy_seconds = 4000

    await world.deliver(request(REQUEST | {"deadline_seconds": 60}))
    await world.pass_time(300)

    (reply,) = world.replies
    assert reply["outcome"] == "failed"
    assert reply["error"]["code"] == "DEADLINE_EXCEEDED"
    assert world.copies == 0


async def test_validate_only_tells_what_would_be_sent_and_keeps_nothing():
    world = World()

    await world.deliver(request(REQUEST | {"validate_only": True}))

    (reply,) = world.replies
    assert reply["outcome"] == "validated"
    assert reply["copy_model_request"] == {
        "parent": TARGET.rpartition("/models/")[0],
        "source_model": f"{SOURCE}@1",
        "model_id": "target-model-260213",
    }
    assert world.store.jobs == {}
    assert world.models.copies_asked == 0


async def test_correlation_and_reply_tag_come_back():
    world = World()
    correlation = {"run": 7, "team": "search"}

    await world.deliver(request(REQUEST | {"correlation": correlation}, reply_tag="nightly"))
    await world.pass_time(150)

    assert world.replies[0]["correlation"] == correlation
    assert world.topics.replies[0].attributes["reply_tag"] == "nightly"


async def test_a_letter_that_was_kept_is_not_kept_again_when_the_reply_is_late():
    world = World()
    world.models.dooms = [Code.PERMISSION_DENIED]
    await world.deliver()
    await world.pass_time(150)
    ended = world.job
    world.store.jobs[ended.key] = replace(ended, reply_sent=False, due_at=world.clock.at)

    await world.ticks.take(0)

    assert len(world.topics.letters) == 1
    assert len(world.topics.replies) == 2


async def test_a_due_time_in_the_year_3000_counts_as_now():
    world = World()
    await world.deliver()
    job = world.job
    assert job.due_at is not None
    world.store.jobs[job.key] = replace(job, due_at=job.due_at.replace(year=3000))
    world.clock.advance(60)

    await world.ticks.take(0)

    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_a_message_without_cloudevents_attributes_is_known_by_its_message_id():
    world = World()
    received = replace(request(), attributes={}, message_id="42")

    await world.deliver(received)
    await world.pass_time(150)

    (reply,) = world.replies
    assert reply["request_id"] == "42"


async def test_a_structured_cloud_event_is_read_too():
    world = World()
    event = {
        "specversion": "1.0",
        "id": "structured-1",
        "source": "//ec2",
        "type": "dev.modelcopier.copy.requested.v1",
        "datacontenttype": "application/json",
        "data": REQUEST,
    }
    received = replace(
        request(json.dumps(event).encode()),
        attributes={"content-type": "application/cloudevents+json"},
    )

    await world.deliver(received)
    await world.pass_time(150)

    assert world.replies[0]["request_id"] == "structured-1"
    assert world.replies[0]["outcome"] == "succeeded"


async def test_a_record_is_forgotten_when_nothing_of_it_can_be_replayed_any_more():
    world = World()
    await world.deliver()
    await world.pass_time(150)
    assert world.job.expires_at is not None
    kept_for = world.job.expires_at - world.clock.now()

    world.clock.advance(kept_for.total_seconds() - 1)
    await world.ticks.take(0)
    assert world.store.jobs
    world.clock.advance(2)
    await world.ticks.take(0)

    assert world.store.jobs == {}
    assert kept_for.days >= 68


async def test_a_job_that_is_put_off_again_and_again_is_told_to_the_operator():
    world = World()
    await world.deliver()
    told: list[tuple[str, str]] = []
    world.workflow.on_trouble = lambda job, why: told.append((job.request_id, why))

    async def refused(_message: object) -> None:
        raise UnavailableError("PERMISSION_DENIED: replies may not be published")

    world.topics.publish_reply = refused
    await world.pass_time(600)

    assert {request_id for request_id, _ in told} == {"request-1"}
    assert "may not be published" in told[0][1]
    assert world.job.retries - len(told) == RETRIES_UNTIL_TROUBLE


# Clocks, hung copies, and limits of waiting


VERSION = {"source_model_id": "7704127342733426688", "destination_parent_model": PARENT}
MINUTES = 60.0


@dataclass
class WorkerClock(SimulatedClock):
    """A worker's clock. Vertex AI's goes on with it, ahead or behind."""

    vertex: SimulatedClock = field(default_factory=SimulatedClock)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.vertex.advance(seconds)


def world_whose_clock_is_ahead(seconds: float) -> World:
    """Of Vertex AI's; a negative number is behind."""
    clock = WorkerClock(at=START + timedelta(seconds=seconds))
    world = World(clock=clock, models=SimulatedModels(clock.vertex))
    world.models.add(SOURCE)
    world.models.add(PARENT)
    return world


@pytest.mark.parametrize("ahead", [15, -15, 120, -120])
@pytest.mark.parametrize("data", [VERSION, REQUEST], ids=["new version", "new model"])
async def test_foreign_clocks_make_no_second_copy(ahead: float, data: object):
    """A lost response is found by what was not there before, not by its time."""
    world = world_whose_clock_is_ahead(ahead)
    before = world.copies
    world.models.lost_answers = 1

    await world.deliver(request(data))
    await world.pass_time(20 * MINUTES)

    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]
    assert world.copies - before == 1
    assert world.models.copies_asked == 1


@pytest.mark.parametrize("ahead", [-600, 600])
async def test_a_clock_behind_saves_seldom(ahead: float):
    """A failed copy keeps its destination for 70 s of our own clock, and is read now and then."""
    world = world_whose_clock_is_ahead(ahead)
    world.models.dooms = [Code.PERMISSION_DENIED]
    await world.deliver()
    await world.pass_time(MINUTES)

    saves = []
    for _ in range(3):
        version = world.job.version
        await world.pass_time(MINUTES)
        saves.append(world.job.version - version)

    assert max(saves) <= 4
    assert [reply["outcome"] for reply in world.replies] == ["failed"]


def world_with_a_hung_copy(dialect: Dialect) -> World:
    """Somebody's copy to the destination is visible, and never ends."""
    world = world_of(dialect)
    target = ModelName.parse(TARGET)
    world.models.registry.copy(
        parent=target.location_name,
        source_model=f"{SOURCE}@1",
        model_id=target.model,
        now=world.clock.at,
        takes=timedelta(days=365),
    )
    return world


async def test_a_skip_behind_a_hung_copy_ends():
    """It watches for its budget and 15 minutes, and says that nothing was made for it."""
    world = world_with_a_hung_copy(Dialect(model_after_seconds=0.0))

    await world.deliver(request(REQUEST | {"if_exists": "skip", "deadline_seconds": 600}))
    await world.pass_time(24 * MINUTES)
    early = list(world.replies)
    await world.pass_time(3 * MINUTES)

    assert early == []
    (reply,) = world.replies
    assert reply["error"]["code"] == "DEADLINE_EXCEEDED"
    assert reply["error"]["message"] == (
        f"another copy to {TARGET} did not end in 600 s; nothing was made"
    )
    assert reply["outcome_unknown"] is False
    assert world.models.copies_asked == 0


async def test_a_waiter_behind_a_hung_copy_ends():
    """Each that waits for the destination gets its own time to watch, one after the other."""
    world = world_with_a_hung_copy(Dialect(model_after_seconds=0.0))
    skip = REQUEST | {"if_exists": "skip", "deadline_seconds": 600}

    for name in ("first", "second"):
        await world.deliver(request(skip, request_id=name))
    await world.pass_time(2 * 27 * MINUTES)

    assert [(reply["request_id"], reply["outcome"]) for reply in world.replies] == [
        ("first", "failed"),
        ("second", "failed"),
    ]


async def test_a_waiter_is_told_within_its_limit():
    """Whoever holds the destination may do so for longer."""
    world = World(timing=Timing(wait_limit_seconds=60 * MINUTES))
    world.models.copy_seconds = 100 * MINUTES
    await world.deliver(request(request_id="holds"))
    await world.deliver(request(request_id="waits"))

    await world.pass_time(60 * MINUTES - 1)
    early = list(world.replies)
    await world.pass_time(world.timing.max_wait_seconds)

    assert early == []
    (reply,) = world.replies
    assert (reply["request_id"], reply["error"]["code"]) == ("waits", "DEADLINE_EXCEEDED")
    assert reply["error"]["message"].endswith(f" s for {TARGET} to be free; nothing was made")
    assert world.models.copies_asked == 1


@pytest.mark.parametrize("call", ["list_operations", "list_versions", "copy_model"])
async def test_waiting_for_a_destination_costs_no_budget(call: str):
    """Four versions of 50 minutes each; at the fourth's turn Vertex AI answers 503 once."""
    world = World()
    world.models.add(PARENT)
    world.models.copy_seconds = 50 * MINUTES
    asked = getattr(world.models, call)
    failures = [UnavailableError("503")]

    async def unavailable_once(*arguments: object) -> object:
        if world.models.copies_asked == 3 and len(world.replies) == 3 and failures:
            raise failures.pop()
        return await asked(*arguments)

    setattr(world.models, call, unavailable_once)
    names = ["first", "second", "third", "fourth"]
    for name in names:
        await world.deliver(request(VERSION, request_id=name))

    await world.pass_time(5 * 50 * MINUTES)

    assert [reply["request_id"] for reply in world.replies] == names
    assert {reply["outcome"] for reply in world.replies} == {"succeeded"}
    assert failures == []
    assert len(world.models.versions(PARENT)) == 5


# Ticks that pause, and cancels


NOT_ENDED = "the copy did not end in 60 s"


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        (Dialect(), "cancelled: the copy did not end in 60 s"),
        (Dialect(cancels=False), f"{NOT_ENDED}: a cancel was requested and did not take effect"),
        (
            Dialect(unimplemented=frozenset({"CancelOperation"})),
            f"{NOT_ENDED}: a cancel was requested and refused (UNIMPLEMENTED)",
        ),
    ],
    ids=["cancelled", "ignored", "refused"],
)
async def test_paused_ticks_still_cancel_before_giving_up(dialect: Dialect, said: str):
    """Nobody looked for 20 minutes, past the hard limit; what is said then is true."""
    world = world_of(dialect)
    world.models.copy_seconds = 100 * MINUTES
    cancels: list[str] = []
    cancel = world.models.cancel_operation

    async def noted(name: str) -> None:
        cancels.append(name)
        await cancel(name)

    world.models.cancel_operation = noted
    await world.deliver(request(REQUEST | {"deadline_seconds": 60}))
    operation = world.job.operation
    world.clock.advance(20 * MINUTES)

    await world.pass_time(20 * MINUTES)

    assert set(cancels) == {operation}
    (reply,) = world.replies
    assert reply["error"]["message"].startswith(said)
    is_unknown = f"the outcome of operation {operation} is unknown" in reply["error"]["message"]
    assert reply["outcome_unknown"] is is_unknown is (dialect != Dialect())


async def test_a_refused_cancel_is_recorded():
    """The copy goes on, and is told as it ends."""
    world = world_of(Dialect(unimplemented=frozenset({"CancelOperation"})))
    await world.deliver()

    cancel = request({"request_id": "request-1"}, request_id="q", **{"ce-type": CANCEL_REQUESTED})
    await world.deliver(cancel)
    recorded = world.job
    await world.pass_time(150)

    assert "UNIMPLEMENTED" in recorded.cancel_refused
    assert recorded.cancel_sent_at is None
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


# Turns


def destinations(count: int) -> list[dict[str, str]]:
    return [REQUEST | {"destination_model_id": f"target-{number}"} for number in range(count)]


async def test_one_sender_does_not_delay_another():
    """The only request of the second sender is behind one of the first's, not behind all."""
    world = World(timing=Timing(starts_per_minute=5))
    for number, data in enumerate(destinations(30)):
        await world.deliver(request(data, request_id=f"r-{number}", **{"ce-source": "//many"}))
    single = REQUEST | {"destination_model_id": "single"}
    await world.deliver(request(single, request_id="single", **{"ce-source": "//one"}))

    await world.pass_time(10 * MINUTES)

    started = [operation.destination.model for operation in world.models.registry.operations()]
    assert len(started) == 31
    assert started.index("single") <= 6


@pytest.mark.parametrize("kind", ["simulated", "sqlite"])
async def test_many_waiters_start_in_order_of_arrival(kind: str, tmp_path: Path):
    """More wait for one destination than any page of a store holds."""
    clock = SimulatedClock()
    store: Any = SimulatedStore()
    if kind == "sqlite":
        store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=5)
    world = World(clock=clock, store=store)
    world.models.add(PARENT)
    world.models.copy_seconds = 1
    names = [f"request-{number * 7 % 25}" for number in range(25)]
    for name in names:
        await world.deliver(request(VERSION, request_id=name))
        world.clock.advance(0.01)

    await world.pass_time(30 * MINUTES)

    assert [reply["request_id"] for reply in world.replies] == names
    assert [reply["version"] for reply in world.replies] == [str(n) for n in range(2, 27)]
    if kind == "sqlite":
        await store.close()


# Jumps of a clock, and restored stores


async def test_a_jump_of_the_clock_decides_nothing():
    """A machine's time is set by years for a minute: no record expires, nothing is given up."""
    world = World()
    await world.deliver()
    jumped = SimulatedClock(at=world.clock.at)
    steady = SteadyClock(
        wall=jumped.now, elapsed=world.clock.monotonic, max_skew=world.timing.max_skew_seconds
    )
    steady.now()
    world.workflow.clock = steady
    world.workflow.starts.clock = steady
    before = world.job

    world.clock.advance(43)
    jumped.advance(43 + 5 * 365 * 86_400)
    with pytest.raises(UnavailableError, match="this machine's time was set"):
        await world.ticks.take(0)
    with pytest.raises(UnavailableError, match="this machine's time was set"):
        await world.deliver(request(request_id="second"))
    unchanged = world.job == before
    jumped.at = world.clock.at
    await world.ticks.take(0)

    assert unchanged
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


@pytest.mark.parametrize("data", [REQUEST, VERSION], ids=["new model", "new version"])
@pytest.mark.parametrize("seconds", [1, 60], ids=["runs", "has ended"])
async def test_a_restored_store_requests_nothing_twice(data: object, seconds: float):
    """The backup was made before CopyModel was sent; so the record knows of no call."""
    world = World()
    world.models.add(PARENT)
    backups: list[Job] = []
    save = world.store.save

    async def backed_up(job: Job) -> Job:
        saved: Job = await save(job)
        backups.append(saved)
        return saved

    world.store.save = backed_up
    await world.deliver(request(data))
    before_the_call = next(job for job in backups if job.state is State.QUEUED)
    await world.pass_time(seconds)
    world.topics.replies.clear()
    copies = world.models.copies_asked

    now = world.clock.now()
    world.store.jobs[world.job.key] = before_the_call.after_restore(now)
    await world.pass_time(20 * MINUTES)

    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]
    assert world.models.copies_asked == copies == 1
