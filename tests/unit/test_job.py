"""The life of a job, move by move, without a clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from model_copier.domain.copy_call import Call
from model_copier.domain.copy_request import CopyRequest, Original, Source, derived_model_id
from model_copier.domain.errors import Code, Failure
from model_copier.domain.job import Job, State
from model_copier.domain.resource_names import ModelName, explain_bad_model_id
from model_copier.domain.steps import Step, next_step, step_of
from model_copier.domain.timing import HARD_LIMIT, KEEP_AFTER_END, RETRIES_UNTIL_TROUBLE, Timing
from model_copier.domain.vertex_types import Operation

NOW = datetime(2026, 2, 13, 9, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)
A_DAY = timedelta(days=1)
SOURCE = ModelName.parse("projects/source/locations/us-central1/models/7@1")
KNOWN_SOURCE = Source(name=SOURCE, known_as=SOURCE)
REQUEST = CopyRequest(
    source=SOURCE, target_project="target", target_location="us-central1", destination="copied"
)
TARGET = str(REQUEST.target(SOURCE))
QUEUE = "projects/target/locations/us-central1"
TIMING = Timing()
BUDGET = timedelta(seconds=TIMING.copy_deadline_seconds)
WAIT_LIMIT = timedelta(seconds=TIMING.wait_limit_seconds)
FAILURE = Failure(code=Code.PERMISSION_DENIED, message="no")
CALL = Call(
    requested_at=NOW,
    visible_at=TIMING.visible_at(NOW),
    known_versions=("1", "2"),
    known_operations=("41",),
)

# What an operator may set: see settings.py.
timings = st.builds(
    Timing,
    call_seconds=st.floats(0.1, 120),
    max_skew_seconds=st.floats(0.1, 60),
    visibility_seconds=st.floats(0.1, 3600),
    copy_deadline_seconds=st.floats(1, 604_800),
    min_poll_seconds=st.floats(0.05, 60),
)
jitters = st.floats(0, 1)
versions = st.integers(1, 2**63 - 1).map(str)
sources = st.builds(
    ModelName,
    project=st.sampled_from(["source", "another", "123456"]),
    location=st.sampled_from(["us-central1", "europe-west4"]),
    model=st.from_regex(r"[A-Za-z0-9_-]{1,63}", fullmatch=True)
    | st.text("aA1-_v", min_size=1, max_size=4)
    | st.text("aA1", min_size=60, max_size=63),
    version=versions,
)


def accepted(**changes) -> Job:
    job = Job(
        key="key",
        request_id="request-1",
        request_source="//ec2/pipeline",
        digests=("digest",),
        request=REQUEST,
        original=Original(data=b"{}", attributes={}),
        accepted_at=NOW,
        run_started_at=NOW,
        due_at=NOW,
    )
    return replace(job, **changes)


def waiting() -> Job:
    """A job whose destination another one holds."""
    return accepted().with_source(KNOWN_SOURCE, turn=1.0)


def queued(**changes) -> Job:
    return replace(waiting().with_lock(), **changes)


def requested(**changes) -> Job:
    return replace(queued().copy_requested(NOW, CALL, TIMING), **changes)


def copying(**changes) -> Job:
    return replace(requested().copying("operations/1", NOW, NOW), **changes)


def succeeded() -> Job:
    return copying().succeeded(NOW, model_version="3", verified=True)


def failed() -> Job:
    return copying().with_nothing_made().failed(NOW, FAILURE)


def unknown() -> Job:
    return copying().failed(NOW, FAILURE)


def cancelled() -> Job:
    return copying().with_nothing_made().cancelled(NOW)


def replayed(job: Job) -> Job:
    return job.replayed(
        NOW + A_SECOND, TIMING, request=job.request, digest="digest", original=job.original
    )


UNFINISHED = [accepted, waiting, queued, requested, copying]
FINAL = [succeeded, failed, unknown, cancelled]


# The next step


@pytest.mark.parametrize(
    ("job", "step"),
    [
        (accepted(), Step.PREPARE),
        (waiting(), Step.PREPARE),
        (queued(), Step.START),
        (requested(), Step.RECONCILE),
        (copying(), Step.POLL),
        (copying().copy_reset(NOW, "refused"), Step.START),
        (replayed(unknown()).copy_reset(NOW, "refused"), Step.PREPARE),
        (copying().reconciles_again(), Step.RECONCILE),
        (queued().reconciles_first(NOW, TIMING), Step.RECONCILE),
        (succeeded(), Step.ANNOUNCE),
        (failed(), Step.ANNOUNCE),
        (unknown(), Step.ANNOUNCE),
        (failed().with_letter_kept(NOW), Step.ANNOUNCE),
        (cancelled(), Step.ANNOUNCE),
        (succeeded().announced(NOW), Step.NOTHING),
        (failed().announced(NOW), Step.NOTHING),
        (succeeded().announced(NOW).announced_again(NOW), Step.ANNOUNCE),
    ],
)
def test_the_state_decides_the_step(job: Job, step: Step):
    assert step_of(job, NOW, TIMING) is step


@pytest.mark.parametrize("job", [accepted(), requested(), copying(), succeeded(), failed()])
def test_a_lease_keeps_others_away(job: Job):
    leased = job.leased(NOW, TIMING)
    end = NOW + timedelta(seconds=TIMING.lease_seconds)

    assert next_step(leased, end - A_SECOND, TIMING) is Step.NOTHING
    assert next_step(leased, end, TIMING) is next_step(job, NOW, TIMING)


def test_a_due_time_too_far_away_counts_as_now():
    """It is further away than any wait that is ever written: a broken clock wrote it."""
    furthest = NOW + timedelta(seconds=TIMING.max_wait_seconds)

    assert not accepted(due_at=furthest).is_due(NOW, TIMING)
    assert accepted(due_at=furthest + A_SECOND).is_due(NOW, TIMING)


@pytest.mark.parametrize("job", [succeeded().announced(NOW), queued().enqueued()])
def test_without_a_due_time_a_job_is_never_due(job: Job):
    """Nothing is left to do, or the job waits in its queue."""
    assert not job.is_due(NOW + timedelta(days=365), TIMING)


# How the lengths of time hang together


@given(timings)
def test_a_lease_outlasts_the_longest_call(timing: Timing):
    """By two skews: two clocks may disagree."""
    assert timing.lease_seconds >= timing.call_seconds + 2 * timing.max_skew_seconds


@given(timings)
def test_an_accepted_copy_is_visible_after_its_lease(timing: Timing):
    """Nobody sends another call before the lease of the first sender is over."""
    lease = timedelta(seconds=timing.lease_seconds + timing.max_skew_seconds)

    assert timing.visible_at(NOW) >= NOW + lease


@given(timings)
def test_a_lease_leaves_time_to_save_the_call(timing: Timing):
    """CopyModel is sent only while the longest call and a skew still fit into the lease."""
    assert timing.lease_seconds - timing.call_seconds - timing.max_skew_seconds > 0


@given(timings, st.floats(0, 1e7), st.integers(0, 10_000), jitters)
@example(Timing(), 1e7, 10_000, 1.0)
def test_no_wait_counts_as_a_broken_clock(
    timing: Timing, copying_for: float, retries: int, jitter: float
):
    """So the clamp shortens no wait of the engine's own."""
    waits = [
        timing.lease_seconds,
        timing.grace_seconds,
        timing.second_read_seconds * (1 + jitter / 10),
        timing.poll_wait(copying_for, jitter),
        timing.backoff(retries, jitter),
    ]

    assert all(0 < wait <= timing.max_wait_seconds for wait in waits)
    assert all(not accepted(due_at=timing.after(NOW, w)).is_due(NOW, timing) for w in waits)


@given(timings, st.floats(allow_nan=False))
@example(Timing(), float("inf"))
@example(Timing(), float("-inf"))
def test_every_wait_is_clamped(timing: Timing, seconds: float):
    """Neither in the past nor further away than the longest, whatever clocks made of it."""
    due_at = timing.after(NOW, seconds)

    assert NOW <= due_at <= timing.latest_due(NOW)
    if 0 <= seconds <= timing.max_wait_seconds:
        assert due_at == NOW + timedelta(seconds=seconds)


@given(timings, st.floats(-60, 1e6), st.floats(0, 1e6), jitters)
def test_older_copies_are_polled_less_often(
    timing: Timing, copying_for: float, longer: float, jitter: float
):
    assert timing.poll_wait(copying_for, jitter) <= timing.poll_wait(copying_for + longer, jitter)


@given(st.integers(0, 100), jitters)
def test_a_backoff_grows_up_to_its_limit(retries: int, jitter: float):
    wait = TIMING.backoff(retries, jitter)

    assert wait <= TIMING.backoff(retries + 1, jitter) <= TIMING.max_backoff_seconds * 1.1


# The destination


@given(sources)
def test_a_derived_id_is_always_legal(source: ModelName):
    assert explain_bad_model_id(derived_model_id(source)) is None


@given(sources, sources)
def test_two_sources_never_derive_one_id(source: ModelName, other: ModelName):
    # Google's own numbers are unique; they are no one's choice.
    assume((source.model, source.version) != (other.model, other.version))

    assert derived_model_id(source) != derived_model_id(other)


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ("models/Faker@1", "models/faker@1"),
        (f"models/{'f' * 63}@1", f"models/{'f' * 62}@1"),
        ("models/faker-v1@2", "models/faker@1"),
    ],
)
def test_similar_ids_derive_different_ids(source: str, other: str):
    place = "projects/source/locations/us-central1"
    first, second = (ModelName.parse(f"{place}/{name}") for name in (source, other))

    assert derived_model_id(first) != derived_model_id(second)


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True), versions)
def test_one_name_in_two_projects_derives_two_ids(model: str, version: str):
    here = replace(SOURCE, model=model, version=version)
    there = replace(here, project="another")

    assert derived_model_id(here) != derived_model_id(there)


def test_a_numeric_id_stays_readable():
    source = ModelName.parse("projects/source/locations/us-central1/models/7704127342733426688@2")

    assert derived_model_id(source) == "m-7704127342733426688-v2"


def test_the_destination_is_requested_or_derived():
    derived = replace(REQUEST, destination=None)

    assert str(REQUEST.target(SOURCE)) == "projects/target/locations/us-central1/models/copied"
    assert derived.target(SOURCE).model == "m-7-v1"


def test_the_destination_is_locked_until_the_end():
    assert accepted().destination is waiting().destination is None
    assert [job().destination for job in (queued, requested, copying)] == [TARGET] * 3
    assert [job().destination for job in FINAL] == [None] * 4


def test_only_without_the_lock_it_is_waited_for():
    """A job whose source is not resolved yet knows no destination to wait for."""
    assert waiting().waiting_for == TARGET
    others = (accepted, queued, requested, copying, *FINAL)
    assert [job().waiting_for for job in others] == [None] * len(others)


def test_a_replay_with_an_open_call_waits_for_nothing():
    """It reads its operation; the lock is for whoever sends another call."""
    again = replayed(unknown())

    assert (again.destination, again.waiting_for) == (None, None)


# The start queue


def test_a_turn_counts_until_the_copy_is_requested():
    assert accepted().start_queue is None
    assert waiting().start_queue == queued().start_queue == QUEUE
    later = (requested, copying, *FINAL)
    assert [job().start_queue for job in later] == [None] * len(later)


def test_only_a_job_without_other_waits_is_in_queue():
    assert queued().enqueued().in_queue
    assert not queued().in_queue  # a step is due
    assert not waiting().snoozed(NOW).in_queue
    assert not queued().enqueued().failed(NOW, FAILURE).in_queue


def test_a_refused_start_keeps_its_turn():
    """The copy that was refused goes first; whoever came later stays behind it."""
    assert requested().copy_reset(NOW, "quota").turn == queued().turn


@pytest.mark.parametrize("job", [failed(), unknown()])
def test_a_replay_gets_a_new_turn(job: Job):
    assert replayed(job).turn is None


def test_the_place_is_by_turn_then_by_age():
    first = queued(turn=1.0, accepted_at=NOW + A_SECOND)
    second = queued(turn=2.0, accepted_at=NOW)
    third = queued(turn=2.0, accepted_at=NOW + A_SECOND)

    assert sorted([third, second, first], key=lambda job: job.place) == [first, second, third]


def test_a_queued_job_is_not_due():
    job = queued(bugs=2, retries=3, watching_since=NOW).enqueued()

    assert (job.due_at, job.bugs, job.retries, job.watching_since) == (None, 0, 0, None)


# Whose copy is it


def test_a_copy_may_name_its_source_in_any_way():
    """By id, by the project's number, or by the source's own origin."""
    source = Source(
        name=SOURCE,
        known_as=ModelName.parse("projects/123456/locations/us-central1/models/7@1"),
        copy_of=ModelName.parse("projects/first/locations/europe-west4/models/3@2"),
    )

    for name in (source.name, source.known_as, source.copy_of):
        assert source.is_origin(name)


@pytest.mark.parametrize(
    "original",
    [
        None,
        SOURCE.at("2"),
        SOURCE.at(None),
        replace(SOURCE, model="8"),
        replace(SOURCE, location="europe-west4"),
        replace(SOURCE, project="another"),
    ],
)
def test_a_copy_of_another_source_is_not_ours(original: ModelName | None):
    assert not KNOWN_SOURCE.is_origin(original)


def test_a_claim_names_the_version_or_the_model():
    """The model while a call is open, whatever its state; the version once it is known."""
    assert succeeded().claim == f"{TARGET}@3"
    assert [job().claim for job in (requested, copying, unknown)] == [TARGET] * 3
    assert [job().claim for job in (accepted, waiting, queued, failed)] == [None] * 4


def test_what_was_there_already_is_not_claimed():
    there = queued().succeeded(NOW, model_version="3", verified=True, already_existed=True)

    assert there.claim is None


# The call


def operation(number: str, started: float | None = None) -> Operation:
    started_at = None if started is None else NOW + timedelta(seconds=started)
    return Operation(name=f"projects/1/operations/{number}", done=False, started_at=started_at)


@pytest.mark.parametrize("started", [None, -1e6, 0, 1e6])
def test_only_a_listed_operation_precedes_the_call(started: float | None):
    """Whatever time it began at: Vertex AI's clock may differ from ours by any amount."""
    assert CALL.precedes(operation("41", started))
    assert not CALL.precedes(operation("42", started))


def test_without_a_list_no_operation_precedes():
    assert not replace(CALL, known_operations=None).precedes(operation("41", -1e6))


def test_operations_too_old_to_be_listed_precede():
    """Both times are by Vertex AI's clock."""
    call = replace(CALL, known_until=NOW)

    assert call.precedes(operation("40", -1))
    assert call.precedes(operation("40", 0))
    assert not call.precedes(operation("42", 1))
    assert not call.precedes(operation("42", None))


@pytest.mark.parametrize(
    "moved",
    [
        requested().leased(NOW, TIMING),
        requested().retry_later(NOW),
        requested().retry_after_bug(NOW),
        requested().snoozed(NOW),
        requested().unfinished(NOW),
        requested().with_cancel_requested(NOW),
        copying(),
        copying().operation_failed(NOW, NOW),
        copying().reconciles_again(),
        copying().cancel_answered(NOW),
        copying().cancel_answered(NOW, refused="no"),
        copying().with_cancel_requested(NOW),
        succeeded(),
        unknown(),
        unknown().with_letter_kept(NOW),
        unknown().announced(NOW),
        unknown().announced(NOW).announced_again(NOW),
        replayed(unknown().announced(NOW)),
    ],
)
def test_a_call_is_remembered_whatever_happens(moved: Job):
    assert moved.call == CALL


@pytest.mark.parametrize(
    "moved", [copying().copy_reset(NOW, "refused"), copying().with_nothing_made()]
)
def test_a_call_that_made_nothing_is_forgotten(moved: Job):
    """Its budget and its number stay: they belong to the run."""
    assert moved.call is None
    assert moved.deadline_at == NOW + BUDGET
    assert moved.attempts == 1


def test_a_reset_starts_the_next_call_clean():
    job = copying().operation_failed(NOW, NOW).unfinished(NOW).copy_reset(NOW, "failed")

    assert (job.operation, job.failure_seen_at, job.looked_at) == ("", None, None)
    assert (job.copy_started_at, job.copy_ended_at) == (None, None)


def test_a_failed_operation_stays_named():
    assert failed().operation == "operations/1"


def test_a_second_call_keeps_the_first_deadline():
    later = NOW + A_DAY
    again = requested().copy_reset(NOW, "refused").copy_requested(later, CALL, TIMING)

    assert again.deadline_at == NOW + BUDGET
    assert again.attempts == 2


@pytest.mark.parametrize("job", [requested(), copying(), succeeded(), unknown(), waiting()])
def test_nobody_requests_over_an_open_call(job: Job):
    """And nobody without the lock."""
    with pytest.raises(AssertionError):
        job.copy_requested(NOW, CALL, TIMING)


def test_evidence_is_missing_since_the_first_such_read():
    later = NOW + A_SECOND
    missing = requested().evidence_missing(NOW).evidence_missing(later)

    assert missing.call is not None
    assert (missing.call.missing_since, missing.looked_at) == (NOW, later)
    found = missing.unfinished(later).call
    assert found is not None
    assert found.missing_since is None


def test_a_failure_is_seen_once():
    """The wait for what it left counts from when we saw it, by our own clock."""
    ended_at = NOW - A_DAY
    job = copying().operation_failed(NOW, ended_at).operation_failed(NOW + A_SECOND, ended_at)

    assert job.failure_seen_at == NOW
    assert job.copy_ended_at == ended_at


# Retries and the outcome


def test_retries_are_counted_for_one_step():
    retried = queued().retry_later(NOW).retry_later(NOW)

    assert retried.retries == 2
    assert retried.leased(NOW, TIMING).retries == 2
    assert retried.snoozed(NOW).retries == 0
    requested_now = retried.copy_requested(NOW, CALL, TIMING)
    assert requested_now.retries == 0
    assert requested_now.retry_later(NOW).copying("operations/1", NOW, NOW).retries == 0
    assert retried.failed(NOW, FAILURE).retries == 0


def test_a_bug_counts_until_the_job_moves_on():
    buggy = queued().retry_after_bug(NOW).retry_later(NOW)

    assert (buggy.bugs, buggy.retries) == (1, 2)
    assert buggy.snoozed(NOW).bugs == buggy.failed(NOW, FAILURE).bugs == 0


def test_an_outcome_keeps_its_id():
    published = failed().with_letter_kept(NOW).announced(NOW)
    again = published.announced_again(NOW + A_SECOND)

    assert again.outcome_id == published.outcome_id == "key-1"
    assert again.ended_at == published.ended_at
    assert again.letter_kept


def test_a_record_outlives_what_can_be_replayed():
    published = succeeded().announced(NOW)

    assert published.due_at is None
    assert published.expires_at == NOW + KEEP_AFTER_END
    assert timedelta(days=62) < KEEP_AFTER_END


def test_only_an_ended_job_is_final():
    assert [state for state in State if state.final] == [
        State.SUCCEEDED,
        State.FAILED,
        State.UNKNOWN,
        State.CANCELLED,
    ]


@pytest.mark.parametrize("job", [requested, copying])
def test_failing_with_an_open_call_is_unknown(job):
    assert job().failed(NOW, FAILURE).state is State.UNKNOWN
    assert failed().state is queued().failed(NOW, FAILURE).state is State.FAILED


@pytest.mark.parametrize("job", [requested, copying])
def test_an_open_call_cannot_be_cancelled(job):
    """Cancelled means that it is certain that nothing was made."""
    with pytest.raises(AssertionError):
        job().cancelled(NOW)


def test_a_refused_cancel_is_recorded_until_accepted():
    refused = copying().cancel_answered(NOW, refused="not yours")
    sent = refused.cancel_answered(NOW + A_SECOND).cancel_answered(NOW + A_DAY)

    assert (refused.cancel_sent_at, refused.cancel_refused) == (None, "not yours")
    assert (sent.cancel_sent_at, sent.cancel_refused) == (NOW + A_SECOND, "")


# Replays


def test_a_replay_with_an_open_call_reads_first():
    """The operation, where there is one; else the destination."""
    again = replayed(unknown().announced(NOW))
    unanswered = replayed(requested().failed(NOW, FAILURE).announced(NOW))

    assert next_step(again, NOW + A_SECOND, TIMING) is Step.POLL
    assert next_step(unanswered, NOW + A_SECOND, TIMING) is Step.RECONCILE
    assert again.source == unanswered.source == KNOWN_SOURCE
    assert again.operation == "operations/1"


def test_a_replay_without_a_call_starts_anew():
    again = replayed(failed().announced(NOW))

    assert next_step(again, NOW + A_SECOND, TIMING) is Step.PREPARE
    assert again.source is None  # an alias may mean another version by now
    assert again.operation == ""


@pytest.mark.parametrize(("job", "calls"), [(unknown(), 1), (failed(), 0)])
def test_a_replay_is_a_run_of_its_own(job: Job, calls: int):
    """With an outcome id, time and attempts of its own; an open call is its first."""
    published = job.with_letter_kept(NOW).announced(NOW)
    again = replayed(published)

    assert again.outcome_id == "key-2"
    assert again.run_started_at == NOW + A_SECOND
    assert again.deadline_at == (NOW + A_SECOND + BUDGET if calls else None)
    assert again.attempts == calls
    assert not again.letter_kept
    assert not again.reply_sent
    assert (again.failure, again.ended_at, again.expires_at) == (None, None, None)


def test_a_replay_remembers_no_cancel():
    job = copying().with_cancel_requested(NOW).cancel_answered(NOW).unfinished(NOW)
    again = replayed(job.cancel_answered(NOW, refused="no").failed(NOW, FAILURE))

    assert not again.cancel_requested
    assert (again.cancel_sent_at, again.cancel_refused, again.looked_at) == (None, "", None)


def test_a_replay_has_all_its_time_again():
    """Whatever its last run waited for until it was given up."""
    later = NOW + A_DAY * 30
    given_up = [
        queued().watching(NOW).failed(later, FAILURE),
        queued().failed(later, FAILURE),
        copying().unfinished(later).failed(later, FAILURE),
        copying().copy_reset(NOW, "").failed(later, FAILURE),
    ]

    for job in given_up:
        again = job.replayed(later, TIMING, request=REQUEST, digest="digest", original=job.original)
        assert step_of(again, later, TIMING) is not Step.GIVE_UP


def test_the_last_digest_counts():
    job = replace(failed(), digests=("first", "second"))

    other = job.replayed(NOW, TIMING, request=REQUEST, digest="third", original=job.original)
    first = job.replayed(NOW, TIMING, request=REQUEST, digest="first", original=job.original)

    assert other.digests == ("first", "second", "third")
    assert first.digests == ("second", "first")


@pytest.mark.parametrize("job", [*UNFINISHED, succeeded, cancelled])
def test_only_a_failed_job_is_replayed(job):
    assert not job().awaits_replay(replay_of=job().outcome_id, digest="digest")
    with pytest.raises(AssertionError):
        replayed(job())


@pytest.mark.parametrize("job", [failed(), unknown()])
def test_a_replay_names_the_present_outcome(job: Job):
    assert job.awaits_replay(replay_of="key-1", digest="other")
    assert not job.awaits_replay(replay_of="", digest="digest")
    again = replayed(job).failed(NOW, FAILURE)
    assert not again.awaits_replay(replay_of="key-1", digest="digest")
    assert again.awaits_replay(replay_of="key-2", digest="digest")


def test_an_untried_request_is_replayed_as_it_is():
    """Pub/Sub's own dead letter names no outcome."""
    untried = replace(failed(), untried=True)

    assert untried.awaits_replay(replay_of="", digest="digest")
    assert not untried.awaits_replay(replay_of="", digest="other")
    assert not replayed(untried).untried


@pytest.mark.parametrize(
    ("change", "elsewhere"),
    [
        ({"source": SOURCE.at("2")}, True),
        ({"target_project": "other"}, True),
        ({"target_location": "europe-west4"}, True),
        ({"destination": "other"}, True),
        ({"new_version": True}, True),
        ({"deadline_seconds": 60}, False),
        ({"kms_key_name": "key"}, False),
    ],
)
def test_another_source_or_destination_is_elsewhere(change, *, elsewhere: bool):
    assert REQUEST.goes_elsewhere(replace(REQUEST, **change)) is elsewhere


# When the time is over


def test_the_budget_begins_with_the_first_call():
    """Waiting for the destination and for the start costs none of it."""
    later = NOW + A_DAY
    own = queued(request=replace(REQUEST, deadline_seconds=60))

    assert queued().deadline_at is None
    assert queued().copy_requested(later, CALL, TIMING).deadline_at == later + BUDGET
    assert own.budget_seconds(TIMING) == 60
    assert own.copy_requested(NOW, CALL, TIMING).deadline_at == NOW + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("job", "limit"),
    [
        (accepted(), NOW + WAIT_LIMIT),
        (waiting(), NOW + WAIT_LIMIT),
        (queued(), NOW + WAIT_LIMIT),
        (queued().enqueued(), NOW + WAIT_LIMIT),
        (queued().watching(NOW + A_SECOND), NOW + A_SECOND + BUDGET + HARD_LIMIT),
        (queued().watching(NOW + WAIT_LIMIT), NOW + WAIT_LIMIT),
        (requested(), NOW + BUDGET + HARD_LIMIT),
        (copying(), NOW + BUDGET + HARD_LIMIT),
        (copying().with_cancel_requested(NOW), NOW + BUDGET + HARD_LIMIT),
        (copying().cancel_answered(NOW + A_SECOND), NOW + BUDGET + HARD_LIMIT),
        (copying().cancel_answered(NOW + A_DAY), NOW + A_DAY + HARD_LIMIT),
        (copying().cancel_answered(NOW + A_DAY, refused="no"), NOW + BUDGET + HARD_LIMIT),
        (copying().copy_reset(NOW, "failed"), NOW + BUDGET + HARD_LIMIT),
        (replayed(copying().copy_reset(NOW, "").failed(NOW, FAILURE)), NOW + A_SECOND + WAIT_LIMIT),
        (replayed(unknown()), NOW + A_SECOND + BUDGET + HARD_LIMIT),
    ],
)
def test_each_wait_has_a_limit_of_its_own(job: Job, limit: datetime):
    assert job.gives_up_at(TIMING) == limit


@pytest.mark.parametrize("job", [job() for job in UNFINISHED])
def test_no_job_is_over_before_its_limit(job: Job):
    limit = job.gives_up_at(TIMING)
    exhausted = replace(job, retries=RETRIES_UNTIL_TROUBLE, looked_at=limit)

    assert not job.is_over(limit, TIMING)
    assert not exhausted.is_over(limit, TIMING)


@pytest.mark.parametrize("job", [accepted(), waiting(), queued(), queued().watching(NOW)])
def test_a_wait_is_over_after_its_limit(job: Job):
    """Without a look: there is no call whose outcome could be found."""
    over = job.gives_up_at(TIMING) + A_SECOND

    assert step_of(job, over, TIMING) is Step.GIVE_UP


@pytest.mark.parametrize("job", [requested(), copying()])
def test_a_call_is_over_after_a_look(job: Job):
    """A worker that slept past the limit reads the outcome before it gives up."""
    limit = job.gives_up_at(TIMING)
    over = limit + A_SECOND

    assert not job.is_over(over, TIMING)
    assert not job.unfinished(limit).is_over(over, TIMING)
    assert not job.evidence_missing(limit).is_over(over, TIMING)
    assert job.unfinished(over).is_over(over, TIMING)
    assert job.evidence_missing(over).is_over(over, TIMING)


@pytest.mark.parametrize("job", [requested(), copying()])
def test_a_call_that_cannot_be_read_is_over(job: Job):
    over = job.gives_up_at(TIMING) + A_SECOND

    assert not replace(job, retries=RETRIES_UNTIL_TROUBLE - 1).is_over(over, TIMING)
    assert replace(job, retries=RETRIES_UNTIL_TROUBLE).is_over(over, TIMING)


def test_an_accepted_cancel_gets_its_time():
    """A worker that slept past the limit sends the cancel, and waits for its effect."""
    late = copying().gives_up_at(TIMING) + A_DAY
    cancelling = copying().cancel_answered(late).unfinished(late)

    assert not cancelling.is_over(late + HARD_LIMIT, TIMING)


@pytest.mark.parametrize("job", [job() for job in FINAL])
def test_an_outcome_is_never_given_up(job: Job):
    """It is published however long that takes."""
    assert not job.is_over(NOW + timedelta(days=365), TIMING)
    assert step_of(job, NOW + timedelta(days=365), TIMING) is Step.ANNOUNCE


# A restored store

LATER = NOW + A_DAY


@pytest.mark.parametrize("job", [succeeded(), succeeded().announced(NOW), cancelled()])
def test_a_restore_leaves_a_certain_outcome(job: Job):
    assert job.after_restore(LATER) == job


@pytest.mark.parametrize("job", [job() for job in UNFINISHED])
def test_a_restored_job_begins_its_waits_anew(job: Job):
    """Time may have passed in which it could not go on."""
    old = replace(job.retry_after_bug(NOW), watching_since=NOW, looked_at=NOW)
    restored = old.after_restore(LATER)

    assert restored.restored
    assert restored.state is job.state
    assert (restored.due_at, restored.run_started_at) == (LATER, LATER)
    assert restored.deadline_at == (LATER + BUDGET if job.call else None)
    assert (restored.watching_since, restored.looked_at) == (None, None)
    assert (restored.retries, restored.bugs) == (0, 0)
    assert step_of(restored, LATER, TIMING) is step_of(job, NOW, TIMING)


def test_a_restored_job_leaves_its_queue():
    """It looks at its destination before it takes its turn."""
    restored = queued().enqueued().after_restore(LATER)

    assert not restored.in_queue
    assert next_step(restored, LATER, TIMING) is Step.START


@pytest.mark.parametrize("job", [requested(), copying(), unknown()])
def test_a_restored_call_is_visible_later(job: Job):
    """A call after it may be forgotten; what was there before it is known all the same."""
    assert job.call is not None
    missing = replace(job, call=replace(job.call, missing_since=NOW))

    assert missing.after_restore(LATER).call == replace(
        CALL, visible_at=TIMING.visible_at(LATER), missing_since=None
    )


@pytest.mark.parametrize("job", [failed().announced(NOW), unknown().announced(NOW)])
def test_a_restored_failure_is_marked_for_its_replay(job: Job):
    restored = job.after_restore(LATER)

    assert restored.restored
    assert (restored.state, restored.due_at, restored.reply_sent) == (job.state, None, True)
    assert replayed(restored).restored


def test_a_restored_start_reconciles_without_a_call():
    """The call that it looks for was counted, if ever, in the record that was lost."""
    job = queued().after_restore(LATER).reconciles_first(LATER, TIMING)

    assert job.state is State.REQUESTED
    assert job.attempts == 0
    assert not job.restored
    assert job.call == Call(requested_at=LATER, visible_at=TIMING.visible_at(LATER), forgotten=True)


def test_after_its_look_a_restored_job_goes_on():
    absent = (
        queued()
        .after_restore(LATER)
        .reconciles_first(LATER, TIMING)
        .copy_reset(LATER, "nothing shows of it")
    )

    assert not absent.restored
    assert absent.state is State.QUEUED
    assert absent.call is None
    assert copying().after_restore(LATER).reconciles_again().restored is False
