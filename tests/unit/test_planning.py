"""What to send to Vertex AI, what is known before that, and what follows from a failure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from model_copier.domain.copy_call import MAX_KNOWN_OPERATIONS, Call, call_record
from model_copier.domain.copy_request import CopyRequest, IfExists, Original, Source
from model_copier.domain.errors import RETRYABLE_OPERATION, Code, Failure
from model_copier.domain.job import Job, State
from model_copier.domain.planning import after_failure, plan
from model_copier.domain.resource_names import ModelName
from model_copier.domain.steps import Step, give_up, step_of, stop
from model_copier.domain.timing import MAX_COPY_ATTEMPTS, Timing
from model_copier.domain.vertex_types import CopyCall, Model, Operation
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
A_SECOND = timedelta(seconds=1)
SECOND_READ = timedelta(seconds=TIMING.second_read_seconds)
CALL = Call(requested_at=START, visible_at=TIMING.visible_at(START))


def version(number: int, copy_of: ModelName | None = SOURCE) -> Model:
    return Model(name=TARGET.at(str(number)), copy_of=copy_of)


def accepted(request: CopyRequest = REQUEST) -> Job:
    return Job(
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


def waiting() -> Job:
    return accepted().with_source(KNOWN_SOURCE, turn=1.0)


def queued() -> Job:
    return waiting().with_lock()


def requested() -> Job:
    return queued().copy_requested(START, CALL, TIMING)


def copying(**changes) -> Job:
    return replace(requested().copying("operations/1", START, START), **changes)


# What to request


def test_a_new_model_is_requested_by_its_id():
    call = plan(
        replace(REQUEST, kms_key_name="key", custom_service_account="account"), KNOWN_SOURCE, ()
    )

    assert call == CopyCall(
        source=SOURCE,
        target_location=PLACE,
        model_id="copied",
        kms_key_name="key",
        custom_service_account="account",
    )


def test_a_model_without_a_name_names_its_source():
    call = plan(replace(REQUEST, destination=None), KNOWN_SOURCE, ())

    assert call == CopyCall(source=SOURCE, target_location=PLACE, model_id="m-7-v1")


@pytest.mark.parametrize("if_exists", IfExists)
def test_a_missing_model_is_made_whatever_if_exists(if_exists: IfExists):
    call = plan(replace(REQUEST, if_exists=if_exists), KNOWN_SOURCE, ())

    assert call == CopyCall(source=SOURCE, target_location=PLACE, model_id="copied")


@pytest.mark.parametrize("there", [version(1), version(1, OTHER_SOURCE), version(1, None)])
@pytest.mark.parametrize("request_", [TO_PARENT, replace(REQUEST, if_exists=IfExists.NEW_VERSION)])
def test_a_parent_gets_a_new_version(request_: CopyRequest, there: Model):
    """Whatever it holds."""
    call = plan(request_, KNOWN_SOURCE, [there])

    assert call == CopyCall(source=SOURCE, target_location=PLACE, parent_model=str(TARGET))


def test_a_missing_parent_is_a_failure():
    failure = plan(TO_PARENT, KNOWN_SOURCE, ())

    assert failure == Failure(
        code=Code.NOT_FOUND,
        message=f"destination_parent_model: {TARGET} does not exist",
        hint="use destination_model_id to make a new model",
    )


@pytest.mark.parametrize("if_exists", [IfExists.FAIL, IfExists.SKIP])
def test_an_existing_copy_of_the_source_is_enough(if_exists: IfExists):
    versions = [version(1), version(2), version(3, OTHER_SOURCE)]

    assert plan(replace(REQUEST, if_exists=if_exists), KNOWN_SOURCE, versions) == version(2)


def test_skip_takes_whatever_is_there():
    there = [version(1, None), version(2, OTHER_SOURCE)]

    assert plan(replace(REQUEST, if_exists=IfExists.SKIP), KNOWN_SOURCE, there) == there[-1]


@pytest.mark.parametrize("there", [version(1, OTHER_SOURCE), version(1, None)])
def test_another_model_under_the_name_is_a_failure(there: Model):
    """It says what to do."""
    failure = plan(REQUEST, KNOWN_SOURCE, [there])

    assert isinstance(failure, Failure)
    assert failure.code is Code.ALREADY_EXISTS
    assert failure.message == f"destination_model_id: {TARGET} is there already"
    assert "if_exists: skip or new_version" in failure.hint


# What is known before the call


def operations(started: Iterable[float | None]) -> list[Operation]:
    """Operations that began so many seconds after ``START``, in any order."""
    made = [
        Operation(
            name=f"projects/1/operations/{number}",
            done=True,
            started_at=None if seconds is None else START + timedelta(seconds=seconds),
        )
        for number, seconds in enumerate(started)
    ]
    Random(1).shuffle(made)
    return made


def test_a_call_record_keeps_what_is_there():
    call = call_record(operations([0, None]), [version(3), version(1)], START, TIMING)

    assert call.known_versions == ("3", "1")
    assert set(call.known_operations or ()) == {"0", "1"}
    assert call.known_until is None
    assert (call.requested_at, call.visible_at) == (START, TIMING.visible_at(START))
    assert not call.forgotten


def test_operations_that_cannot_be_listed_stay_unknown():
    assert call_record(None, [], START, TIMING).known_operations is None
    assert call_record([], [], START, TIMING).known_operations == ()


MORE = MAX_KNOWN_OPERATIONS + 50


@pytest.mark.parametrize(
    "started",
    [
        range(MAX_KNOWN_OPERATIONS),
        range(MORE),
        [seconds / 3 for seconds in range(MORE)],
        [7.0] * MORE,  # many at once
        [*range(MORE), None, None],
        [None] * MORE,
    ],
    ids=["just enough", "too many", "microseconds", "at one moment", "some undated", "undated"],
)
def test_every_listed_operation_precedes_the_call(started):
    """However many there are; whatever begins afterwards does not precede it."""
    listed = operations(started)
    newest = max((each for each in started if each is not None), default=0.0)
    (later,) = operations([newest + 1])

    call = call_record(listed, [], START, TIMING)

    assert all(call.precedes(operation) for operation in listed)
    assert not call.precedes(replace(later, name="projects/1/operations/new"))


def test_a_call_record_stays_small():
    """A record has a limit in the store; of old operations only their time is kept."""
    call = call_record(operations(range(9 * MORE)), [], START, TIMING)

    assert len(call.known_operations or ()) == MAX_KNOWN_OPERATIONS


# What follows a failure


def ended(code: Code = Code.PERMISSION_DENIED, message: str = "no") -> Operation:
    """By Vertex AI's clock it ended yesterday."""
    return Operation(
        name="operations/1",
        done=True,
        code=code,
        message=message,
        updated_at=START - timedelta(days=1),
    )


def after_second_read(job: Job, operation: Operation) -> Job:
    """What follows once nothing that the operation left can be visible any more."""
    first = after_failure(job, operation, START, TIMING)
    assert first.state is State.COPYING
    return after_failure(first, operation, START + SECOND_READ, TIMING)


def test_a_failed_operation_keeps_its_destination():
    """Until what it left is visible as what it is, by our own clock."""
    job = after_failure(copying(), ended(), START, TIMING)
    again = after_failure(job, ended(), START + A_SECOND, TIMING)

    assert job.destination == again.destination == str(TARGET)
    assert job.due_at == again.due_at == START + SECOND_READ
    assert job.copy_ended_at == START - timedelta(days=1)
    assert after_failure(job, ended(), START + SECOND_READ, TIMING).state is State.FAILED


def test_a_clock_set_back_prolongs_no_wait():
    job = after_failure(copying(), ended(), START, TIMING)
    back = START - timedelta(days=1)

    assert after_failure(job, ended(), back, TIMING).due_at == back + SECOND_READ


@pytest.mark.parametrize("code", sorted(RETRYABLE_OPERATION))
def test_a_retryable_failure_is_tried_again(code: Code):
    job = after_second_read(copying(), ended(code))

    assert job.state is State.QUEUED
    assert job.call is None
    assert job.destination == str(TARGET)


def test_the_last_attempt_is_not_tried_again():
    job = after_second_read(copying(attempts=MAX_COPY_ATTEMPTS), ended(Code.INTERNAL))

    assert job.state is State.FAILED


def test_a_permanent_failure_names_what_vertex_said():
    job = after_second_read(copying(), ended(message="not allowed"))

    assert job.state is State.FAILED
    assert job.failure is not None
    assert job.failure.code is Code.PERMISSION_DENIED
    assert job.failure.message == "Vertex AI gave up the copy: not allowed"


def test_a_caller_s_cancel_that_worked_is_confirmed():
    job = copying().with_cancel_requested(START).cancel_answered(START)

    assert after_second_read(job, ended(Code.CANCELLED)).state is State.CANCELLED


def test_a_late_copy_s_cancel_is_a_deadline():
    job = after_second_read(copying().cancel_answered(START), ended(Code.CANCELLED))

    assert job.state is State.FAILED
    assert job.failure is not None
    assert job.failure.code is Code.DEADLINE_EXCEEDED
    assert job.failure.message == "cancelled: the copy did not end in 7200 s"


def test_somebody_else_s_cancel_is_not_claimed():
    job = after_second_read(copying(), ended(Code.CANCELLED, ""))

    assert job.failure is not None
    assert job.failure.message == "Vertex AI gave up the copy: CANCELLED"


def test_a_restored_job_looks_after_a_failure():
    """A call after this one may be forgotten, and may have worked."""
    job = after_second_read(copying(restored=True), ended())

    assert step_of(job, START + SECOND_READ, TIMING) is Step.RECONCILE
    assert job.call == CALL
    assert not job.restored
    assert job.due_at == START + SECOND_READ


# Giving up

A_WEEK = START + timedelta(seconds=TIMING.wait_limit_seconds)
CANCELLING = copying().with_cancel_requested(START)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (accepted(), "it waited 604800 s for its source or its turn to start; nothing was made"),
        (queued(), "it waited 604800 s for its source or its turn to start; nothing was made"),
        (waiting(), f"it waited 604800 s for {TARGET} to be free; nothing was made"),
        (
            queued().watching(START),
            f"another copy to {TARGET} did not end in 7200 s; nothing was made",
        ),
        (
            requested(),
            (
                "no response to CopyModel came, and in 7200 s no copy could be proven;"
                " whether a copy was made is unknown"
            ),
        ),
        (
            requested().copy_reset(START, "quota"),
            "CopyModel was sent 1 times, and no copy ended in 7200 s; nothing was made",
        ),
        (
            copying(),
            "the copy did not end in 7200 s; the outcome of operation operations/1 is unknown",
        ),
        (
            CANCELLING,
            "the copy did not end in 7200 s; the outcome of operation operations/1 is unknown",
        ),
        (
            CANCELLING.cancel_answered(START, refused="UNIMPLEMENTED: no"),
            (
                "the copy did not end in 7200 s: UNIMPLEMENTED: no;"
                " the outcome of operation operations/1 is unknown"
            ),
        ),
        (
            CANCELLING.cancel_answered(START),
            (
                "the copy did not end in 7200 s: a cancel was requested and did not take effect;"
                " the outcome of operation operations/1 is unknown"
            ),
        ),
    ],
)
def test_giving_up_says_only_what_is_true(job: Job, message: str):
    given_up = give_up(job, A_WEEK, TIMING)

    assert given_up.failure is not None
    assert given_up.failure.code is Code.DEADLINE_EXCEEDED
    assert given_up.failure.message == message
    assert given_up.state is (State.UNKNOWN if job.call else State.FAILED)
    assert given_up.call == job.call
    assert bool(given_up.failure.hint) == bool(job.call)


@pytest.mark.parametrize(
    ("job", "known"),
    [
        (queued(), "nothing was made"),
        (requested(), "whether a copy was made is unknown"),
        (copying(), "the outcome of operation operations/1 is unknown"),
    ],
)
def test_a_bug_s_answer_says_what_is_known(job: Job, known: str):
    stopped = stop(job, ZeroDivisionError("secret"), START)

    assert stopped.failure is not None
    assert stopped.failure.message == f"the copier met a bug: ZeroDivisionError; {known}"
    assert stopped.call == job.call
