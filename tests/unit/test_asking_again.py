"""What comes after the first request: cancel, status, replay, and what Pub/Sub gave up."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from model_copier.contract.requests import CANCEL_REQUESTED, STATUS_REQUESTED, Received
from model_copier.domain.copy_call import Call
from model_copier.domain.errors import Code, UnavailableError
from model_copier.domain.job import Job, State
from model_copier.domain.vertex_types import Operation
from simulators import SimulatedStore
from world import PARENT, REQUEST, World, request


def about(kind: str, request_id: str = "request-1", **fields: str) -> Received:
    """A cancel or status request."""
    data = {"request_id": request_id, **fields}
    return request(data, request_id="question-1", **{"ce-type": kind})


def replay_of(letter, data: object = None) -> Received:
    """The letter's message published again, as the replay command does it."""
    kept = {
        name: value
        for name, value in letter.attributes.items()
        if not name.startswith(("dead_letter_", "CloudPubSub"))
    }
    replay = {"replay_of": kept.pop("outcome_id")} if "outcome_id" in kept else {}
    kept.pop("attempts", None)
    again = request(REQUEST if data is None else data)
    return replace(again, attributes={**kept, **replay}, message_id="another")


# Cancel


async def test_a_running_copy_is_cancelled_and_told_so():
    world = World()
    await world.deliver()

    await world.deliver(about(CANCEL_REQUESTED))
    await world.pass_time(150)

    (reply,) = world.replies
    assert reply["outcome"] == "cancelled"
    assert reply["request_id"] == "request-1"
    assert world.copies == 0
    assert world.topics.letters == []


async def test_a_copy_that_ended_first_is_told_as_it_ended():
    world = World()
    await world.deliver()
    await world.pass_time(150)

    told = await world.deliver(about(CANCEL_REQUESTED))

    assert told.verdict == "announced_again"
    assert [reply["outcome"] for reply in world.replies] == ["succeeded", "succeeded"]


async def test_a_request_that_waits_for_its_destination_is_cancelled_at_once():
    world = World()
    await world.deliver(request(request_id="first"))
    await world.deliver(request(request_id="second"))

    await world.deliver(about(CANCEL_REQUESTED, "second"))

    assert [(reply["request_id"], reply["outcome"]) for reply in world.replies] == [
        ("second", "cancelled")
    ]
    assert world.models.copies_asked == 1


async def test_an_ask_with_an_unknown_outcome_is_not_cancelled_by_guessing():
    """Another operation on the destination may not be ours; it is never cancelled."""
    world = World()
    world.models.lost_answers = 1
    await world.deliver()

    await world.deliver(about(CANCEL_REQUESTED))
    await world.pass_time(300)

    (reply,) = world.replies
    assert reply["outcome"] == "succeeded"
    assert world.copies == 1


@pytest.mark.parametrize("kind", [CANCEL_REQUESTED, STATUS_REQUESTED])
async def test_a_question_about_nobody_is_rejected_and_leaves_no_letter(kind):
    world = World()

    await world.deliver(about(kind, "nobody"))

    (reply,) = world.replies
    assert reply["outcome"] == "rejected"
    assert reply["request_id"] == "question-1"
    assert reply["error"]["code"] == "NOT_FOUND"
    assert "dead_letter" not in reply
    assert world.topics.letters == []


async def test_another_asker_names_the_source_of_the_request():
    world = World()
    await world.deliver(request(**{"ce-source": "//ci"}))

    await world.deliver(about(STATUS_REQUESTED, request_source="//ci"))

    (reply,) = world.replies
    assert reply["request_source"] == "//ci"


async def test_a_question_that_breaks_the_contract_is_kept():
    world = World()

    await world.deliver(request({"request": "x"}, **{"ce-type": STATUS_REQUESTED}))

    (reply,) = world.replies
    assert reply["error"]["message"] == (
        "request_id: is required; request: unknown field; known are request_id, request_source"
    )
    assert len(world.topics.letters) == 1


# Status


async def test_status_tells_how_a_request_stands_and_changes_nothing():
    world = World()
    await world.deliver()
    before = world.job

    await world.deliver(about(STATUS_REQUESTED))

    (reply,) = world.replies
    assert reply["type"] == "dev.modelcopier.copy.status.v1"
    assert reply["state"] == "COPYING"
    assert reply["in_reply_to"] == "question-1"
    assert "outcome" not in reply
    assert world.job == before


# Replay


async def failed_world() -> World:
    world = World()
    world.models.dooms = [Code.PERMISSION_DENIED]
    await world.deliver()
    await world.pass_time(150)
    return world


async def test_a_replayed_letter_brings_a_second_outcome_with_the_next_number():
    world = await failed_world()

    told = await world.deliver(replay_of(world.topics.letters[0]))
    await world.pass_time(150)

    assert told.verdict == "replayed"
    first, second = world.replies
    assert (first["outcome"], first["run"]) == ("failed", 1)
    assert (second["outcome"], second["run"]) == ("succeeded", 2)
    assert first["id"] != second["id"]
    assert world.job.expires_at is not None


async def test_a_letter_replayed_twice_is_applied_once():
    world = await failed_world()
    replay = replay_of(world.topics.letters[0])

    await world.deliver(replay)
    await world.deliver(replay)
    await world.pass_time(150)
    again = await world.deliver(replay)

    assert again.verdict == "announced_again"
    assert [reply["run"] for reply in world.replies] == [1, 2, 2]
    assert world.copies == 1


async def test_of_two_replays_at_once_with_different_repairs_the_second_is_told_that_it_lost():
    """The first is saved between the second's look at the job and its own save."""

    class Racing(SimulatedStore):
        raced = False

        async def save(self, job: Job) -> Job:
            if job.run == 2 and not self.raced:
                self.raced = True
                await world.deliver(replay_of(letter))
            return await super().save(job)

    world = await failed_world()
    letter = world.topics.letters[0]
    world.store = Racing(jobs=world.store.jobs)
    world.start_worker()
    repaired = REQUEST | {"destination_model_id": "mended"}

    told = await world.deliver(replay_of(letter, repaired))
    await world.pass_time(150)

    assert told.verdict == "conflict"
    assert [reply["outcome"] for reply in world.replies] == ["failed", "rejected", "succeeded"]
    assert len(world.topics.letters) == 2


async def test_a_quick_replay_swallows_no_outcome():
    """The letter goes out before its reply, and somebody may be faster than that."""
    world = await failed_world()
    ended = world.job
    world.store.jobs[ended.key] = replace(ended, reply_sent=False, due_at=world.clock.at)
    world.topics.replies.clear()

    await world.deliver(replay_of(world.topics.letters[0]))
    await world.pass_time(150)

    assert [reply["run"] for reply in world.replies] == [1, 2]


async def test_an_old_letter_after_a_new_failure_only_asks_for_the_newest_outcome():
    world = await failed_world()
    world.models.dooms = [Code.PERMISSION_DENIED]
    old = world.topics.letters[0]
    await world.deliver(replay_of(old))
    await world.pass_time(150)

    told = await world.deliver(replay_of(old))

    assert told.verdict == "announced_again"
    assert [reply["run"] for reply in world.replies] == [1, 2, 2]
    assert len(world.topics.letters) == 2


async def test_a_letter_that_outlived_its_record_is_applied_once_and_numbered_on():
    """It was put back from a backup, months later; and what it asks for fails once more."""
    world = await failed_world()
    letter = world.topics.letters[0]
    world.store.jobs.clear()
    world.models.dooms = [Code.PERMISSION_DENIED]

    for _ in range(2):
        await world.deliver(replay_of(letter))
        await world.pass_time(150)

    assert [reply["run"] for reply in world.replies] == [1, 2, 2]
    assert len({reply["id"] for reply in world.replies}) == 2
    assert world.models.copies_asked == 2


async def test_a_replay_has_all_attempts_again():
    """What failed five times because Vertex AI was unwell gets five more when it is well again."""
    world = World()
    world.models.dooms = [Code.INTERNAL] * 7
    await world.deliver()
    await world.pass_time(3_000)
    (failed,) = world.replies

    await world.deliver(replay_of(world.topics.letters[0]))
    await world.pass_time(3_000)

    assert (failed["outcome"], failed["attempts"]) == ("failed", 5)
    assert (world.replies[-1]["outcome"], world.replies[-1]["attempts"]) == ("succeeded", 3)


async def test_a_failed_request_published_again_without_its_letter_is_only_told_again():
    world = await failed_world()

    told = await world.deliver()

    assert told.verdict == "announced_again"
    assert world.models.copies_asked == 1


async def test_repaired_content_replaces_the_request_of_a_failed_job():
    world = await failed_world()
    repaired = REQUEST | {"destination_model_id": "mended"}

    await world.deliver(replay_of(world.topics.letters[0], repaired))
    await world.pass_time(150)

    reply = world.replies[-1]
    assert reply["outcome"] == "succeeded"
    assert reply["resource_name"].endswith("/models/mended")
    assert reply["request_digest"] != world.replies[0]["request_digest"]


async def test_a_replay_of_an_unknown_outcome_looks_before_it_asks():
    """The copy never ended within its time; it does while the letter waits."""
    world = World()
    world.models.copy_seconds = 5000

    async def no_cancel(_name: str) -> None:
        """Vertex AI takes the cancel, and nothing comes of it."""

    world.models.cancel_operation = no_cancel
    await world.deliver(request(REQUEST | {"deadline_seconds": 60}))
    await world.pass_time(1200)
    assert world.replies[0]["error"]["code"] == "DEADLINE_EXCEEDED"
    world.clock.advance(5000)

    await world.deliver(replay_of(world.topics.letters[0], REQUEST | {"deadline_seconds": 60}))
    await world.pass_time(150)

    assert [reply["outcome"] for reply in world.replies] == ["failed", "succeeded"]
    assert world.models.copies_asked == 1


async def test_a_replay_does_not_add_a_second_version_when_the_first_came_late():
    world = World()
    world.models.copy_seconds = 5000
    world.models.add(PARENT)

    async def no_cancel(_name: str) -> None:
        """Vertex AI takes the cancel, and nothing comes of it."""

    world.models.cancel_operation = no_cancel
    content = {
        "source_model_id": REQUEST["source_model_id"],
        "destination_parent_model": PARENT,
        "deadline_seconds": 60,
    }
    await world.deliver(request(content))
    await world.pass_time(1200)
    world.clock.advance(5000)

    await world.deliver(replay_of(world.topics.letters[0], content))
    await world.pass_time(150)

    assert [reply["outcome"] for reply in world.replies] == ["failed", "succeeded"]
    assert len(world.models.versions(PARENT)) == 2


async def test_a_replay_cannot_go_elsewhere_while_an_ask_may_still_come_true():
    world = await failed_world()
    ended = world.job
    call = Call(requested_at=ended.accepted_at, visible_at=ended.accepted_at)
    world.store.jobs[ended.key] = replace(ended, state=State.UNKNOWN, call=call)
    repaired = REQUEST | {"destination_model_id": "mended"}

    told = await world.deliver(replay_of(world.topics.letters[0], repaired))

    assert told.verdict == "rejected"
    assert world.replies[-1]["error"]["code"] == "FAILED_PRECONDITION"
    assert world.job.state is State.UNKNOWN
    assert len(world.topics.letters) == 2


async def unknown_world(data: object = REQUEST | {"deadline_seconds": 60}) -> World:
    """A copy whose cancel has no effect outlives its hard limit; it ends some time later."""
    world = World()
    world.models.copy_seconds = 5000

    async def no_cancel(_name: str) -> None:
        """Vertex AI takes the cancel, and nothing comes of it."""

    world.models.cancel_operation = no_cancel
    await world.deliver(request(data))
    await world.pass_time(1200)
    assert [reply["outcome_unknown"] for reply in world.replies] == [True]
    return world


@pytest.mark.parametrize("days", [75, 400])
async def test_an_unknown_outcome_without_record_is_rejected(days: float):
    """Whether its copy was made cannot be found out any more; another could be the second."""
    world = await unknown_world()
    letter = world.topics.letters[0]
    world.clock.advance(days * 86_400)
    await world.ticks.take(0)
    assert world.store.jobs == {}

    for _ in range(2):
        told = await world.deliver(replay_of(letter))
        await world.pass_time(150)

        assert told.verdict == "rejected"
        assert world.replies[-1]["outcome"] == "rejected"
        assert world.topics.letters[-1].attributes["outcome_unknown"] == "true"
    assert "unknown" in world.replies[-1]["error"]["message"]
    assert world.models.copies_asked == 1
    assert world.store.jobs == {}


@pytest.mark.parametrize("field", ["location", "target_project"])
async def test_an_untouched_replay_outlives_changed_defaults(field: str):
    """While a call is open, the request stays as it was read then, and is not elsewhere."""
    data = {"source_model_id": REQUEST["source_model_id"], "deadline_seconds": 60}
    world = await unknown_world(data)
    contract = world.deliveries.contract
    changed = {"location": "europe-west4", "target_project": "another-project"}
    allowed = contract.defaults.target_projects | {"another-project"}
    changes: dict[str, Any] = {field: changed[field], "target_projects": allowed}
    defaults = replace(contract.defaults, **changes)
    world.deliveries.contract = replace(contract, defaults=defaults)
    world.clock.advance(5000)

    told = await world.deliver(replay_of(world.topics.letters[0], data))
    await world.pass_time(150)

    assert told.verdict == "replayed"
    assert [reply["outcome"] for reply in world.replies] == ["failed", "succeeded"]
    assert world.models.copies_asked == 1


async def test_a_rejected_letter_that_was_mended_is_a_request_like_any_other():
    world = World()
    await world.deliver(request(REQUEST | {"destination_model_id": "BAD"}))

    told = await world.deliver(replay_of(world.topics.letters[0]))
    await world.pass_time(150)

    assert told.verdict == "accepted"
    assert world.replies[-1]["outcome"] == "succeeded"


@pytest.mark.parametrize("wrong", [{"target_project": "theirs"}, {"validate_only": True}])
async def test_a_rejected_replay_keeps_a_way_back(wrong: dict[str, object]):
    """Its dead letter is a replay of the same run, whether it is repaired or put back as it is."""
    world = await failed_world()
    first = world.topics.letters[0]

    told = await world.deliver(replay_of(first, REQUEST | wrong))
    second = world.topics.letters[1]
    again = await world.deliver(
        Received(data=json.dumps(REQUEST).encode(), attributes=second.attributes, message_id="8")
    )
    await world.pass_time(150)

    assert (told.verdict, again.verdict) == ("rejected", "replayed")
    assert world.replies[-1]["outcome"] == "succeeded"
    assert world.models.copies_asked == 2  # the first failed


# What Pub/Sub forwarded itself


def forwarded(received: Received) -> Received:
    marks = {
        "CloudPubSubDeadLetterSourceDeliveryCount": "100",
        "CloudPubSubDeadLetterSourceSubscription": "model-copy-requests",
    }
    return replace(received, attributes={**received.attributes, **marks}, message_id="forwarded")


async def test_a_request_that_pubsub_gave_up_is_told_and_no_second_letter_is_written():
    world = World()

    told = await world.deliveries.accept_forwarded(forwarded(request()))

    assert told.verdict == "forwarded"
    (reply,) = world.replies
    assert reply["outcome"] == "failed"
    assert "in 100 deliveries" in reply["error"]["message"]
    assert "dead_letter" not in reply  # Pub/Sub's own letter carries no outcome id
    assert world.topics.letters == []
    assert world.models.copies_asked == 0


async def test_a_forwarded_letter_of_a_request_that_was_recorded_changes_nothing():
    world = World()
    await world.deliver()

    told = await world.deliveries.accept_forwarded(forwarded(request()))
    await world.pass_time(150)

    assert told.verdict == "duplicate"
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_a_forwarded_letter_that_is_published_as_it_is_is_worked_on():
    world = World()
    await world.deliveries.accept_forwarded(forwarded(request()))

    told = await world.deliver(request())
    await world.pass_time(150)

    assert told.verdict == "replayed"
    assert [reply["outcome"] for reply in world.replies] == ["failed", "succeeded"]


async def test_a_forwarded_letter_that_was_mended_names_the_outcome_that_it_replaces():
    world = World()
    await world.deliveries.accept_forwarded(forwarded(request()))
    mended = REQUEST | {"destination_model_id": "mended"}

    without = await world.deliver(request(mended))
    told = await world.deliver(request(mended, replay_of=world.replies[0]["id"]))
    again = await world.deliver(request(mended, replay_of=world.replies[0]["id"]))
    await world.pass_time(150)

    assert [each.verdict for each in (without, told, again)] == [
        "conflict",
        "replayed",
        "duplicate",
    ]
    assert world.replies[-1]["outcome"] == "succeeded"
    assert world.replies[-1]["resource_name"].endswith("/mended")


async def test_a_forwarded_message_that_nobody_can_read_is_told_too():
    world = World()

    await world.deliveries.accept_forwarded(forwarded(request(b"{")))

    (reply,) = world.replies
    assert reply["outcome"] == "rejected"
    assert world.topics.letters == []


# Bugs


async def test_a_job_that_meets_a_bug_again_and_again_is_answered_in_the_end():
    """Each sweep still raises: the bug is seen, and the other jobs move on."""
    world = World()

    async def broken(_name: str) -> None:
        raise ZeroDivisionError

    await world.deliver()
    world.models.get_operation = broken
    met = 0
    while world.job.due_at is not None:
        world.clock.advance(400)
        try:
            await world.ticks.take(0)
        except ExceptionGroup:
            met += 1

    assert met == 5
    (reply,) = world.replies
    assert reply["error"]["code"] == "INTERNAL"
    assert "ZeroDivisionError" in reply["error"]["message"]
    assert "operations/1000000000000000001 is unknown" in reply["error"]["message"]
    assert world.job.state is State.UNKNOWN
    assert reply["outcome_unknown"] is True


async def test_a_replay_may_meet_as_many_bugs_as_the_request_did():
    world = World()
    asked = world.models.get_operation
    bugs: list[Exception] = [ZeroDivisionError()] * 9  # five for the first, four for the replay

    async def broken(name: str) -> Operation:
        if bugs:
            raise bugs.pop()
        found: Operation = await asked(name)
        return found

    world.models.get_operation = broken
    await world.deliver()
    for _ in range(2):
        while world.job.due_at is not None:
            world.clock.advance(400)
            with suppress(ExceptionGroup):
                await world.ticks.take(0)
        with suppress(ZeroDivisionError):  # then Pub/Sub delivers it again
            await world.deliver(replay_of(world.topics.letters[0]))

    assert [reply["outcome"] for reply in world.replies][:2] == ["failed", "succeeded"]


async def test_an_outage_is_no_bug_however_long_it_takes():
    world = World()
    asked = world.models.get_operation
    errors: list[Exception] = [UnavailableError("away")] * 6 + [ZeroDivisionError()]

    async def troubled(name: str) -> Operation:
        if errors:
            raise errors.pop(0)
        found: Operation = await asked(name)
        return found

    await world.deliver()
    world.models.get_operation = troubled
    while world.job.due_at is not None:
        world.clock.advance(400)
        with suppress(ExceptionGroup):
            await world.ticks.take(0)

    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_a_message_that_is_rejected_twice_is_told_by_the_same_event():
    world = World()

    await world.deliver(request(b"{"))
    world.clock.advance(60)
    await world.deliver(request(b"{"))

    first, second = world.topics.replies
    assert first == second
