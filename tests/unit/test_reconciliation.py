"""What became of a CopyModel call without a response, judged by what its destination shows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from model_copier.domain.copy_call import Call
from model_copier.domain.copy_request import CopyRequest, Original, Source
from model_copier.domain.errors import Code, Failure
from model_copier.domain.job import Job, State
from model_copier.domain.reconciliation import (
    Confirmed,
    ConfirmedAbsent,
    DestinationSnapshot,
    Finding,
    InProgress,
    NeedsSecondRead,
    Undetermined,
    reconcile,
)
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import Timing
from model_copier.domain.vertex_types import Model, Operation
from simulators import START

TARGET = ModelName.parse("projects/target/locations/us-central1/models/copied")
SOURCE = ModelName.parse("projects/source/locations/us-central1/models/7@1")
OTHER_SOURCE = ModelName.parse("projects/source/locations/us-central1/models/8@1")
KNOWN_SOURCE = Source(name=SOURCE, known_as=SOURCE)
REQUEST = CopyRequest(
    source=SOURCE, target_project="target", target_location="us-central1", destination="copied"
)
TIMING = Timing()
SOON = START + timedelta(seconds=5)
VISIBLE = TIMING.visible_at(START)
AFTER_VISIBLE = VISIBLE + timedelta(seconds=1)
AFTER_BUDGET = START + timedelta(seconds=TIMING.copy_deadline_seconds + 1)
NOT_LISTABLE = None


def version(number: int, copy_of: ModelName | None = SOURCE) -> Model:
    return Model(name=TARGET.at(str(number)), copy_of=copy_of)


def operation(
    number: int = 1, *, done: bool = True, made: int | None = None, started: float | None = 0
) -> Operation:
    """Vertex AI says that it began so many seconds after our call."""
    return Operation(
        name=f"projects/1/operations/{number}",
        done=done,
        model=TARGET.at(str(made)) if made else None,
        started_at=None if started is None else START + timedelta(seconds=started),
    )


def requested(
    *known_versions: str,
    known_operations: tuple[str, ...] | None = (),
    request: CopyRequest = REQUEST,
    **changes,
) -> Job:
    """A job whose call found so much on its destination, and got no response."""
    job = Job(
        key="key",
        request_id="request-1",
        request_source="//ec2/pipeline",
        digests=("digest",),
        request=request,
        original=Original(data=b"{}", attributes={}),
        accepted_at=START,
        run_started_at=START,
        due_at=START,
    )
    call = Call(
        requested_at=START,
        visible_at=VISIBLE,
        known_versions=known_versions,
        known_operations=known_operations,
        **changes,
    )
    return job.with_source(KNOWN_SOURCE, turn=1.0).with_lock().copy_requested(START, call, TIMING)


def found(
    job: Job,
    operations: Sequence[Operation] | None,
    versions: Sequence[Model],
    now: datetime,
    *neighbours: Job,
) -> Finding:
    snapshot = DestinationSnapshot(operations=operations, versions=versions, neighbours=neighbours)
    return reconcile(job, snapshot, now, TIMING)


def at_the_second_read(
    job: Job,
    operations: Sequence[Operation] | None,
    versions: Sequence[Model],
    now: datetime,
    *neighbours: Job,
) -> Finding:
    """What is said by versions alone: nothing at the first read, then this."""
    later = now + timedelta(seconds=TIMING.second_read_seconds)
    missing = job.evidence_missing(now)
    first = found(job, operations, versions, now, *neighbours)
    soon = found(missing, operations, versions, later, *neighbours)
    assert isinstance(first, NeedsSecondRead)
    assert isinstance(soon, NeedsSecondRead)
    after = timedelta(seconds=1)
    return found(missing, operations, versions, later + after, *neighbours)


def is_absent(
    job: Job,
    operations: Sequence[Operation] | None,
    versions: Sequence[Model],
    now: datetime,
    *neighbours: Job,
) -> bool:
    """Tell whether the copy is called absent, at the second read."""
    return isinstance(
        at_the_second_read(job, operations, versions, now, *neighbours), ConfirmedAbsent
    )


# By an operation


def test_a_new_operation_of_our_source_is_ours():
    ended = operation(made=2)

    finding = found(requested("1"), [ended], [version(1), version(2)], SOON)

    assert finding == Confirmed(model=version(2), operation=ended, others=())


@pytest.mark.parametrize("started", [None, -1e6, -1, 0, 1, 1e6])
def test_no_rule_compares_vertex_ai_s_clock(started: float | None):
    """An operation that was not listed before the call came later, whatever it says."""
    running = operation(done=False, started=started)
    ended = operation(started=started, made=2)
    versions = [version(1), version(2)]

    assert isinstance(found(requested("1"), [running], versions, SOON), InProgress)
    assert found(requested("1"), [ended], versions, SOON) == Confirmed(
        model=version(2), operation=ended, others=()
    )


@pytest.mark.parametrize("started", [None, -1e6, 0, 1e6])
@pytest.mark.parametrize("done", [False, True])
def test_an_operation_from_before_is_ignored(started: float | None, *, done: bool):
    """One that hangs for ever holds nobody up."""
    older = operation(41, done=done, started=started)

    assert is_absent(requested(known_operations=("41",)), [older], [], AFTER_VISIBLE)


def test_a_version_of_an_older_operation_is_not_ours():
    """It was not visible yet when the versions were listed."""
    older = operation(41, made=2)
    job = requested("1", known_operations=("41",))

    assert is_absent(job, [older], [version(1), version(2)], AFTER_VISIBLE)


def test_a_version_of_a_running_older_operation_is_not_claimed():
    """A model may be visible before its operation ends, and the operation names no version yet."""
    running = operation(41, done=False)
    job = requested("1", known_operations=("41",))

    finding = found(job, [running], [version(1), version(2)], AFTER_VISIBLE)

    assert isinstance(finding, Undetermined)


def test_an_operation_that_made_another_version_is_anothers():
    theirs = operation(made=3)
    other = neighbour(state=State.COPYING, operation=theirs.name)
    versions = [version(1), version(2), version(3)]

    finding = at_the_second_read(
        requested("1"), [theirs], versions, AFTER_VISIBLE, replace(other, source=OTHER)
    )

    assert finding == Confirmed(model=version(2), operation=None, others=())


@pytest.mark.parametrize("versions", [[], [version(1)]])
def test_what_an_operation_made_must_become_visible(versions: Sequence[Model]):
    """Reads may be stale: the operation has ended, its version is still to be seen."""
    ended = operation(made=2)

    assert isinstance(found(requested("1"), [ended], versions, AFTER_BUDGET), Undetermined)


def test_a_reused_version_number_is_ours():
    """A failed copy's version was taken back, and ours got its number."""
    ours = operation(made=2)

    finding = found(requested("1", "2"), [ours], [version(1), version(2)], SOON)

    assert finding == Confirmed(model=version(2), operation=ours, others=())


@pytest.mark.parametrize("now", [SOON, AFTER_VISIBLE, AFTER_BUDGET])
@pytest.mark.parametrize("versions", [[], [version(1)]])
def test_a_running_operation_is_waited_for(versions, now):
    """Even beside a proven version: the operation that runs may be making the next one."""
    assert isinstance(found(requested(), [operation(done=False)], versions, now), InProgress)


def test_an_operation_without_a_model_leaves_nothing():
    assert is_absent(requested(), [operation()], [], AFTER_VISIBLE)


def test_a_version_that_vanishes_is_not_ours():
    """It was visible before it was whole, its copy failed, and stale reads show it still."""
    failed = operation()
    first = found(requested("1"), [failed], [version(1), version(2)], AFTER_VISIBLE)
    later = AFTER_VISIBLE + timedelta(seconds=TIMING.second_read_seconds + 1)

    missing = requested("1").evidence_missing(AFTER_VISIBLE)
    second = found(missing, [failed], [version(1)], later)

    assert isinstance(first, NeedsSecondRead)
    assert isinstance(second, ConfirmedAbsent)


# By versions alone


@pytest.mark.parametrize(
    ("operations", "unclear", "clear"),
    [([], SOON, AFTER_VISIBLE), (NOT_LISTABLE, AFTER_VISIBLE, AFTER_BUDGET)],
    ids=["listed", "cannot be listed"],
)
def test_a_version_alone_is_believed_late(operations, unclear, clear):
    """Before, it may be a model that is not whole yet, or somebody else's beside ours."""
    assert isinstance(found(requested(), operations, [version(1)], unclear), Undetermined)
    assert at_the_second_read(requested(), operations, [version(1)], clear) == Confirmed(
        model=version(1), operation=None, others=()
    )


def test_a_version_from_before_proves_nothing():
    assert is_absent(requested("1"), [], [version(1)], AFTER_VISIBLE)


def test_a_version_of_another_source_is_anothers():
    versions = [version(1, OTHER_SOURCE), version(2, SOURCE.at("2"))]

    assert is_absent(requested(), [], versions, AFTER_VISIBLE)


@pytest.mark.parametrize("now", [SOON, AFTER_VISIBLE, AFTER_BUDGET])
def test_a_version_without_a_proof_stays_undetermined(now):
    assert isinstance(found(requested(), [], [version(1, None)], now), Undetermined)


def test_of_two_new_versions_the_first_is_ours():
    """The other is named, for a person to look at."""
    versions = [version(10), version(9), version(1)]

    finding = at_the_second_read(requested("1"), [], versions, AFTER_VISIBLE)

    assert finding == Confirmed(model=version(9), operation=None, others=(version(10),))


def test_our_operation_s_version_comes_before_others():
    ours = operation(made=3)
    versions = [version(1), version(2), version(3)]

    finding = found(requested("1"), [ours], versions, SOON)

    assert finding == Confirmed(model=version(3), operation=ours, others=(version(2),))


def test_nothing_is_absent_before_it_must_be_visible():
    assert isinstance(found(requested(), [], [], VISIBLE), Undetermined)
    assert is_absent(requested(), [], [], AFTER_VISIBLE)


def test_visibility_counts_by_the_timing_of_the_call():
    """A worker of another revision, with shorter waits, believes the call's own."""
    later = VISIBLE + timedelta(hours=1)
    job = requested()
    assert job.call is not None
    slow = replace(job, call=replace(job.call, visible_at=later))

    assert isinstance(found(slow, [], [], later), Undetermined)
    assert is_absent(slow, [], [], later + timedelta(seconds=1))


def test_unlisted_operations_need_the_whole_budget():
    assert isinstance(found(requested(), NOT_LISTABLE, [], AFTER_VISIBLE), Undetermined)
    assert is_absent(requested(), NOT_LISTABLE, [], AFTER_BUDGET)


def test_a_short_budget_ends_no_running_copy():
    job = requested(request=replace(REQUEST, deadline_seconds=1))

    assert isinstance(found(job, NOT_LISTABLE, [], AFTER_VISIBLE), Undetermined)
    assert is_absent(job, NOT_LISTABLE, [], AFTER_BUDGET)


def test_a_long_budget_is_waited_for():
    long = timedelta(seconds=2 * TIMING.copy_deadline_seconds)
    job = requested(request=replace(REQUEST, deadline_seconds=long.total_seconds()))

    assert isinstance(found(job, NOT_LISTABLE, [], START + long), Undetermined)
    assert is_absent(job, NOT_LISTABLE, [], START + long + timedelta(seconds=1))


def test_operations_not_listed_before_prove_nothing():
    """None of them can be told to be ours: only versions count, and the whole budget."""
    job = requested("1", known_operations=None)
    theirs, hanging = operation(made=2), operation(2, done=False)
    versions = [version(1), version(2, OTHER_SOURCE)]

    assert isinstance(found(job, [theirs, hanging], versions, AFTER_VISIBLE), Undetermined)
    assert is_absent(job, [theirs, hanging], versions, AFTER_BUDGET)


# Others that copy there

OTHER = Source(name=OTHER_SOURCE, known_as=OTHER_SOURCE)


def neighbour(**changes: object) -> Job:
    """Another request for a copy of the same source to the same model."""
    other = replace(requested("1"), key="other", request_id="request-2", ended_at=SOON)
    return replace(other, **changes)  # type: ignore[arg-type]


def succeeded(*, ended: datetime = SOON, number: str = "2") -> Job:
    return neighbour(state=State.SUCCEEDED, model_version=number, ended_at=ended)


def unknown(**changes: object) -> Job:
    failure = Failure(code=Code.DEADLINE_EXCEEDED, message="late")
    return replace(neighbour().failed(SOON, failure), **changes)  # type: ignore[arg-type]


def test_a_version_claimed_since_is_not_ours():
    versions = [version(1), version(2)]

    assert is_absent(requested("1"), [], versions, AFTER_VISIBLE, succeeded())


def test_an_operation_s_claimed_version_is_not_ours():
    ended = operation(made=2)
    versions = [version(1), version(2)]

    assert is_absent(requested("1"), [ended], versions, AFTER_VISIBLE, succeeded())


def test_beside_a_claimed_version_ours_is_found():
    versions = [version(1), version(2), version(3)]

    finding = at_the_second_read(requested("1"), [], versions, AFTER_VISIBLE, succeeded())

    assert finding == Confirmed(model=version(3), operation=None, others=())


def test_a_version_claimed_before_says_nothing():
    """The reads were stale before the call, or it was deleted and ours has its number."""
    before = succeeded(ended=START - timedelta(seconds=1))
    versions = [version(1), version(2)]

    finding = found(requested("1"), [], versions, AFTER_BUDGET, before)

    assert isinstance(finding, Undetermined)


def test_a_new_model_claimed_before_is_absent():
    """A second call by id makes no second model; so it is safe."""
    before = succeeded(ended=START - timedelta(seconds=1), number="1")

    assert is_absent(requested(), [], [version(1)], AFTER_VISIBLE, before)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.REQUESTED, State.COPYING, State.UNKNOWN])
def test_two_open_calls_cannot_share_a_version(state: State):
    """A version alone does not tell whose it is."""
    versions = [version(1), version(2)]

    finding = found(requested("1"), [], versions, AFTER_BUDGET, neighbour(state=state))

    assert isinstance(finding, Undetermined)


def test_an_operation_tells_two_open_calls_apart():
    """The other's call came later: this operation was listed before it."""
    ours = operation(made=2)
    other = neighbour()
    assert other.call is not None
    later = replace(other, call=replace(other.call, known_operations=("1",)))

    finding = found(requested("1"), [ours], [version(1), version(2)], SOON, later)

    assert finding == Confirmed(model=version(2), operation=ours, others=())


@pytest.mark.parametrize("now", [SOON, AFTER_BUDGET])
def test_an_operation_of_two_open_calls_is_neither_s(now: datetime):
    """The other was given up right after its call, which was sent before ours."""
    someones = operation(made=2)

    finding = found(requested("1"), [someones], [version(1), version(2)], now, unknown())

    assert isinstance(finding, Undetermined)


def test_ours_is_found_while_another_s_copy_runs():
    """Without a version of ours, the copy that runs is waited for."""
    ours, theirs = operation(made=2), operation(2, done=False)
    other = neighbour(state=State.COPYING, operation=theirs.name)

    finding = found(requested("1"), [theirs, ours], [version(1), version(2)], SOON, other)
    waits = found(requested("1"), [theirs], [version(1)], AFTER_BUDGET, other)

    assert finding == Confirmed(model=version(2), operation=ours, others=())
    assert isinstance(waits, InProgress)


def test_an_operation_answered_to_another_is_not_ours():
    """A project in its name may be spelled as id or number."""
    theirs = operation(made=2)
    before = unknown(operation="projects/other-spelling/operations/1")
    versions = [version(1), version(2)]

    assert is_absent(requested("1"), [theirs], versions, AFTER_VISIBLE, before)


def test_an_open_call_for_another_source_is_told_apart():
    versions = [version(1), version(2)]

    finding = at_the_second_read(
        requested("1"), [], versions, AFTER_VISIBLE, neighbour(source=OTHER)
    )

    assert finding == Confirmed(model=version(2), operation=None, others=())


# After a restore: an earlier call may be forgotten


def forgotten() -> Job:
    """Nothing is known of what was there before."""
    return requested(forgotten=True)


def test_a_forgotten_copy_is_found_by_its_operation():
    ours = operation(made=2)
    versions = [version(1, OTHER_SOURCE), version(2)]

    finding = found(forgotten(), [ours], versions, SOON)

    assert finding == Confirmed(model=version(2), operation=ours, others=())


def test_a_forgotten_copy_is_found_by_its_version():
    versions = [version(1, OTHER_SOURCE), version(2)]

    finding = at_the_second_read(forgotten(), [], versions, AFTER_VISIBLE)

    assert finding == Confirmed(model=version(2), operation=None, others=())


def test_a_forgotten_copy_that_runs_is_waited_for():
    assert isinstance(
        found(forgotten(), [operation(done=False)], [version(1)], AFTER_BUDGET), InProgress
    )


def test_a_claimed_version_is_no_forgotten_copy():
    """Whoever was told of it before the backup has it for good."""
    told = succeeded(ended=START - timedelta(days=1), number="1")
    versions = [version(1), version(2, OTHER_SOURCE)]

    assert is_absent(forgotten(), [operation(made=1)], versions, AFTER_VISIBLE, told)


def test_old_unproven_versions_do_not_block():
    """A restored store knows no versions from before; they were not made by an operation."""
    versions = [version(1, None)]

    assert is_absent(forgotten(), [], versions, AFTER_VISIBLE)
    assert is_absent(forgotten(), [operation()], versions, AFTER_VISIBLE)


def test_an_unproven_version_of_an_operation_blocks():
    """It may be ours."""
    for now in (SOON, AFTER_VISIBLE, AFTER_BUDGET):
        finding = found(forgotten(), [operation(made=1)], [version(1, None)], now)
        assert isinstance(finding, Undetermined)


def test_unlisted_operations_leave_unproven_versions_undetermined():
    finding = found(forgotten(), NOT_LISTABLE, [version(1, None)], AFTER_BUDGET)

    assert isinstance(finding, Undetermined)
