"""What to ask of Vertex AI, and what came of an ask."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from model_copier.copy_request import CopyRequest, IfExists, Source
from model_copier.errors import Code
from model_copier.job import Failure, Job, Original, State
from model_copier.plan import Absent, Found, Made, Quiet, Running, Seen, Unclear, plan, what_came_of
from model_copier.registry import CopyCall, Model, Operation
from model_copier.resource_names import ModelName
from model_copier.timing import Timing
from simulators import START

PLACE = "projects/target/locations/us-central1"
TARGET = ModelName.parse(f"{PLACE}/models/copied")
SOURCE = ModelName.parse("projects/source/locations/us-central1/models/7@1")
OTHER_SOURCE = ModelName.parse("projects/source/locations/us-central1/models/8@1")
KNOWN_SOURCE = Source(name=SOURCE, known_as=SOURCE)
REQUEST = CopyRequest(
    source=SOURCE.at("prod"),
    target_project="target",
    target_location="us-central1",
    destination="copied",
)
TO_PARENT = replace(REQUEST, new_version=True)
TIMING = Timing()
SOON = START + timedelta(seconds=5)
AFTER_GRACE = START + timedelta(seconds=TIMING.grace + 1)
AFTER_BUDGET = START + timedelta(seconds=TIMING.copy_deadline + 1)


def version(number: int, copy_of: ModelName | None = SOURCE) -> Model:
    return Model(name=TARGET.at(str(number)), copy_of=copy_of)


def operation(*, done: bool, started: float | None = 0, made: int | None = None) -> Operation:
    """An operation that started so many seconds after the ask."""
    return Operation(
        name="operations/1",
        done=done,
        model=TARGET.at(str(made)) if made else None,
        started_at=None if started is None else START + timedelta(seconds=started),
    )


def asked(*known_versions: str, request: CopyRequest = REQUEST) -> Job:
    job = Job(
        key="key",
        request_id="request-1",
        request_source="//ec2/pipeline",
        digests=("digest",),
        request=request,
        original=Original(data=b"{}", attributes={}),
        accepted_at=START,
        attempt_at=START,
        due_at=START,
    )
    return job.with_source(KNOWN_SOURCE).asked(START, known_versions)


# What to ask


def test_a_new_model_is_asked_for_by_its_id():
    asked_for = plan(
        replace(REQUEST, kms_key_name="key", custom_service_account="account"), KNOWN_SOURCE, ()
    )

    assert asked_for == CopyCall(
        source=SOURCE,
        target_location=PLACE,
        model_id="copied",
        kms_key_name="key",
        custom_service_account="account",
    )


def test_a_new_model_without_a_name_gets_one_that_names_its_source():
    asked_for = plan(replace(REQUEST, destination=None), KNOWN_SOURCE, ())

    assert asked_for == CopyCall(source=SOURCE, target_location=PLACE, model_id="m-7-v1")


@pytest.mark.parametrize("if_exists", IfExists)
def test_a_model_that_is_not_there_is_made_whatever_was_to_be_done_if_it_were(if_exists: IfExists):
    asked_for = plan(replace(REQUEST, if_exists=if_exists), KNOWN_SOURCE, ())

    assert asked_for == CopyCall(source=SOURCE, target_location=PLACE, model_id="copied")


@pytest.mark.parametrize("there", [version(1), version(1, OTHER_SOURCE), version(1, None)])
@pytest.mark.parametrize("request_", [TO_PARENT, replace(REQUEST, if_exists=IfExists.NEW_VERSION)])
def test_a_parent_gets_a_new_version_whatever_it_holds(request_: CopyRequest, there: Model):
    asked_for = plan(request_, KNOWN_SOURCE, [there])

    assert asked_for == CopyCall(source=SOURCE, target_location=PLACE, parent_model=str(TARGET))


def test_a_parent_that_is_not_there_is_a_failure():
    failure = plan(TO_PARENT, KNOWN_SOURCE, ())

    assert failure == Failure(
        code=Code.NOT_FOUND,
        message=f"destination_parent_model: {TARGET} does not exist",
        hint="use destination_model_id to make a new model",
    )


@pytest.mark.parametrize("if_exists", [IfExists.FAIL, IfExists.SKIP])
def test_a_copy_of_the_same_source_is_there_and_nothing_is_asked(if_exists: IfExists):
    versions = [version(1), version(2), version(3, OTHER_SOURCE)]

    assert plan(replace(REQUEST, if_exists=if_exists), KNOWN_SOURCE, versions) == version(2)


def test_skip_takes_whatever_is_there():
    there = [version(1, None), version(2, OTHER_SOURCE)]

    assert plan(replace(REQUEST, if_exists=IfExists.SKIP), KNOWN_SOURCE, there) == there[-1]


@pytest.mark.parametrize("there", [version(1, OTHER_SOURCE), version(1, None)])
def test_another_model_under_the_name_is_a_failure_that_says_what_to_do(there: Model):
    failure = plan(REQUEST, KNOWN_SOURCE, [there])

    assert isinstance(failure, Failure)
    assert failure.code is Code.ALREADY_EXISTS
    assert failure.message == f"destination_model_id: {TARGET} is there already"
    assert "if_exists: skip or new_version" in failure.hint


# What came of it


def came_of(
    job: Job,
    operations: Sequence[Operation] | None,
    versions: Sequence[Model],
    now: datetime,
    *neighbours: Job,
) -> Found:
    seen = Seen(operations=operations, versions=versions, neighbours=neighbours)
    return what_came_of(job, seen, now, TIMING)


def at_the_second_look(
    job: Job,
    operations: Sequence[Operation] | None,
    versions: Sequence[Model],
    now: datetime,
    *neighbours: Job,
) -> Found:
    """What is said by versions alone: nothing at the first look, then this."""
    later = now + timedelta(seconds=TIMING.hush)
    first = came_of(job, operations, versions, now, *neighbours)
    soon = came_of(job.quiet(now), operations, versions, later, *neighbours)
    assert isinstance(first, Quiet)
    assert isinstance(soon, Quiet)
    after = timedelta(seconds=1)
    return came_of(job.quiet(now), operations, versions, later + after, *neighbours)


def nothing_came_of(
    job: Job,
    operations: Sequence[Operation] | None,
    versions: Sequence[Model],
    now: datetime,
    *neighbours: Job,
) -> bool:
    """Tell whether a copy is called absent, at the second look."""
    return isinstance(at_the_second_look(job, operations, versions, now, *neighbours), Absent)


def test_a_new_version_of_the_source_is_what_the_ask_made():
    ended = operation(done=True, made=2)

    came = came_of(asked("1"), [ended], [version(1), version(2)], SOON)

    assert came == Made(model=version(2), operation=ended, others=())


@pytest.mark.parametrize(
    ("operations", "unclear", "clear"),
    [([], SOON, AFTER_GRACE), (None, AFTER_GRACE, AFTER_BUDGET)],
    ids=["listed", "cannot be listed"],
)
def test_without_an_operation_a_version_is_believed_once_nothing_can_be_on_its_way(
    operations, unclear, clear
):
    """Before, it may be a model that is not whole yet, or somebody else's beside ours."""
    assert isinstance(came_of(asked(), operations, [version(1)], unclear), Unclear)
    assert at_the_second_look(asked(), operations, [version(1)], clear) == Made(
        model=version(1), operation=None, others=()
    )


def test_an_operation_that_made_another_version_is_not_the_one():
    late = operation(done=True, made=3, started=3600)

    came = at_the_second_look(asked(), [late], [version(2), version(3)], AFTER_GRACE)

    assert came == Made(model=version(2), operation=None, others=())


@pytest.mark.parametrize("versions", [[], [version(1)]])
def test_what_an_operation_made_must_show_before_anything_is_said(versions: Sequence[Model]):
    """Reads may be stale: the operation has ended, its version is still to be seen."""
    ended = operation(done=True, made=2)

    assert isinstance(came_of(asked("1"), [ended], versions, AFTER_BUDGET), Unclear)


# Others that copy there


def neighbour(**changes: object) -> Job:
    """Another request for a copy of the same source to the same model."""
    other = replace(asked("1"), key="other", request_id="request-2", ended_at=SOON)
    return replace(other, **changes)  # type: ignore[arg-type]


def succeeded(*, ended: datetime = SOON, number: str = "2") -> Job:
    return neighbour(state=State.SUCCEEDED, model_version=number, ended_at=ended)


def test_a_version_that_was_told_to_another_request_since_is_not_ours():
    versions = [version(1), version(2)]

    assert nothing_came_of(asked("1"), [], versions, AFTER_GRACE, succeeded())


def test_beside_a_version_that_was_told_to_another_request_ours_is_found():
    versions = [version(1), version(2), version(3)]

    came = at_the_second_look(asked("1"), [], versions, AFTER_GRACE, succeeded())

    assert came == Made(model=version(3), operation=None, others=())


def test_a_version_that_was_told_before_we_asked_says_nothing():
    """The reads were stale when we asked, or it was deleted and ours has its number."""
    before = succeeded(ended=START - timedelta(seconds=1))
    versions = [version(1), version(2)]

    assert isinstance(came_of(asked("1"), [], versions, AFTER_BUDGET, before), Unclear)


def test_a_model_that_was_told_before_we_asked_for_it_as_a_new_one_is_met_when_we_ask_again():
    """A second ask by id makes no second model; so asking again is safe."""
    before = succeeded(ended=START - timedelta(seconds=1), number="1")

    assert nothing_came_of(asked(), [], [version(1)], AFTER_GRACE, before)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.COPYING, State.FAILED])
def test_two_open_asks_for_one_source_cannot_be_told_apart_by_a_version(state: State):
    versions = [version(1), version(2)]

    came = came_of(asked("1"), [], versions, AFTER_BUDGET, neighbour(state=state))

    assert isinstance(came, Unclear)


def test_an_operation_of_our_time_tells_two_open_asks_apart():
    ours = operation(done=True, made=2)
    before = neighbour(asked_at=START - timedelta(seconds=TIMING.lease + 2 * TIMING.max_skew))

    came = came_of(asked("1"), [ours], [version(1), version(2)], SOON, before)

    assert came == Made(model=version(2), operation=ours, others=())


def test_an_operation_that_two_open_asks_may_have_begun_is_told_to_neither():
    """The other was given up right after it had asked."""
    someones = operation(done=True, made=2)
    before = neighbour(asked_at=START - timedelta(seconds=TIMING.lease), state=State.FAILED)

    for now in (SOON, AFTER_BUDGET):
        came = came_of(asked("1"), [someones], [version(1), version(2)], now, before)
        assert isinstance(came, Unclear)


def test_a_version_that_our_operation_made_is_new_although_its_number_was_there_before():
    """What came to nothing was taken back, and ours got its number."""
    ours = operation(done=True, made=2)

    came = came_of(asked("1", "2"), [ours], [version(1), version(2)], SOON)

    assert came == Made(model=version(2), operation=ours, others=())


def test_what_we_made_is_seen_while_a_copy_runs_that_was_answered_to_another():
    ours, theirs = operation(done=True, made=2), replace(operation(done=False), name="operations/2")
    other = neighbour(state=State.COPYING, operation=theirs.name)

    came = came_of(asked("1"), [theirs, ours], [version(1), version(2)], SOON, other)
    waits = came_of(asked("1"), [theirs], [version(1)], AFTER_BUDGET, other)

    assert came == Made(model=version(2), operation=ours, others=())
    assert isinstance(waits, Running)


def test_an_operation_that_was_answered_to_another_request_is_not_ours():
    """That one was given up while its copy ran, and ours was asked for within the skew."""
    theirs = operation(done=True, made=2)
    before = neighbour(state=State.FAILED, operation=f"projects/1/{theirs.name}")
    versions = [version(1), version(2)]

    assert nothing_came_of(asked("1"), [theirs], versions, AFTER_GRACE, before)


def test_an_open_ask_for_another_source_is_told_apart_by_its_proof():
    other = Source(name=OTHER_SOURCE, known_as=OTHER_SOURCE)
    versions = [version(1), version(2)]

    came = at_the_second_look(asked("1"), [], versions, AFTER_GRACE, neighbour(source=other))

    assert came == Made(model=version(2), operation=None, others=())


# What can be said without a proof


def test_of_two_new_versions_the_first_is_ours_and_the_other_is_named():
    versions = [version(10), version(9), version(1)]

    came = at_the_second_look(asked("1"), [], versions, AFTER_GRACE)

    assert came == Made(model=version(9), operation=None, others=(version(10),))


@pytest.mark.parametrize("now", [SOON, AFTER_GRACE, AFTER_BUDGET])
@pytest.mark.parametrize("versions", [[], [version(1)]])
def test_nothing_is_said_while_an_operation_runs(versions, now):
    """Even beside a proven version: the operation that runs may be making the next one."""
    came = came_of(asked(), [operation(done=False)], versions, now)

    assert isinstance(came, Running)


def test_an_operation_without_a_start_may_be_ours():
    running = operation(done=False, started=None)

    assert isinstance(came_of(asked(), [running], [], AFTER_GRACE), Running)


@pytest.mark.parametrize("started", [-TIMING.max_skew, 0, 3600])
def test_an_operation_that_began_within_the_skew_of_the_ask_may_be_ours(started: float):
    running = operation(done=False, started=started)

    assert isinstance(came_of(asked(), [running], [], AFTER_GRACE), Running)


def test_an_operation_from_before_the_ask_is_ignored():
    running = operation(done=False, started=-TIMING.max_skew - 1)

    assert nothing_came_of(asked(), [running], [], AFTER_GRACE)


def test_a_version_that_was_there_before_the_ask_proves_nothing():
    assert nothing_came_of(asked("1"), [], [version(1)], AFTER_GRACE)


def test_a_new_version_of_another_source_is_somebody_elses():
    versions = [version(1, OTHER_SOURCE), version(2, SOURCE.at("2"))]

    assert nothing_came_of(asked(), [], versions, AFTER_GRACE)


@pytest.mark.parametrize("now", [SOON, AFTER_GRACE, AFTER_BUDGET])
def test_a_new_version_that_names_no_source_may_be_ours_for_ever(now):
    came = came_of(asked(), [], [version(1, None)], now)

    assert isinstance(came, Unclear)


def test_nothing_is_absent_before_the_grace_is_over():
    at_grace = START + timedelta(seconds=TIMING.grace)

    assert isinstance(came_of(asked(), [], [], at_grace), Unclear)
    assert nothing_came_of(asked(), [], [], AFTER_GRACE)


def test_an_operation_that_ended_without_a_model_leaves_nothing():
    ended = operation(done=True)

    assert nothing_came_of(asked(), [ended], [], AFTER_GRACE)


def test_where_operations_cannot_be_listed_the_whole_budget_must_pass():
    assert isinstance(came_of(asked(), None, [], AFTER_GRACE), Unclear)
    assert nothing_came_of(asked(), None, [], AFTER_BUDGET)


def test_a_short_budget_does_not_make_a_running_copy_absent():
    job = asked(request=replace(REQUEST, deadline_seconds=1))

    assert isinstance(came_of(job, None, [], AFTER_GRACE), Unclear)
    assert nothing_came_of(job, None, [], AFTER_BUDGET)


def test_a_version_whose_operation_began_too_late_to_be_ours_is_not_taken():
    """A given-up ask that never was taken; somebody copied the same source there since."""
    late = TIMING.lease + TIMING.max_skew + 1
    theirs = operation(done=True, started=late, made=2)

    assert nothing_came_of(asked("1"), [theirs], [version(1), version(2)], AFTER_GRACE)


def test_a_version_that_a_failed_operation_takes_back_is_not_believed():
    """It showed before it was whole, its copy failed, and stale reads show it still."""
    failed = operation(done=True)
    first = came_of(asked("1"), [failed], [version(1), version(2)], AFTER_GRACE)
    later = AFTER_GRACE + timedelta(seconds=TIMING.hush + 1)

    second = came_of(asked("1").quiet(AFTER_GRACE), [failed], [version(1)], later)

    assert isinstance(first, Quiet)
    assert isinstance(second, Absent)
