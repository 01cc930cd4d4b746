"""The life of a job, move by move, without a clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from model_copier.copy_request import CopyRequest, Source, derived_model_id
from model_copier.errors import Code
from model_copier.job import Failure, Job, Original, State, Step, next_step
from model_copier.resource_names import ModelName, explain_bad_model_id
from model_copier.timing import HARD_LIMIT_AFTER_DEADLINE, KEEP_AFTER_END, Timing

NOW = datetime(2026, 2, 13, 9, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)
SOURCE = ModelName.parse("projects/source/locations/us-central1/models/7@1")
REQUEST = CopyRequest(
    source=SOURCE, target_project="target", target_location="us-central1", destination="copied"
)
TIMING = Timing()
FAILURE = Failure(code=Code.PERMISSION_DENIED, message="no")

# What an operator may set: see settings.py.
timings = st.builds(
    Timing,
    call=st.floats(0.1, 120),
    max_skew=st.floats(0.1, 60),
    copy_deadline=st.floats(1, 604_800),
    poll_shortest=st.floats(0.05, 60),
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
        attempt_at=NOW,
        due_at=NOW,
    )
    return replace(job, **changes)


def ready() -> Job:
    return accepted().with_source(Source(name=SOURCE, known_as=SOURCE)).holding()


def asked() -> Job:
    return ready().asked(NOW, ("1", "2"))


def copying() -> Job:
    return asked().copying("operations/1", NOW, NOW)


def succeeded() -> Job:
    return copying().succeeded(NOW, model_version="3", verified=True)


def failed() -> Job:
    return copying().failed(NOW, FAILURE)


def replayed(job: Job) -> Job:
    return job.replayed(NOW + A_SECOND, request=job.request, digest="digest", original=job.original)


# What to do next


@pytest.mark.parametrize(
    ("job", "step"),
    [
        (accepted(), Step.START),
        (ready(), Step.START),
        (asked(), Step.RECONCILE),
        (copying(), Step.POLL),
        (copying().not_asked(NOW, "refused"), Step.START),
        (succeeded(), Step.ANNOUNCE),
        (failed(), Step.ANNOUNCE),
        (failed().with_letter_kept(NOW), Step.ANNOUNCE),
        (copying().with_nothing_made().cancelled(NOW), Step.ANNOUNCE),
        (succeeded().announced(NOW), Step.NOTHING),
        (failed().announced(NOW), Step.NOTHING),
        (succeeded().announced(NOW).announced_again(NOW), Step.ANNOUNCE),
    ],
)
def test_the_saved_job_alone_says_what_is_next(job: Job, step: Step):
    assert next_step(job, NOW, TIMING) is step


@pytest.mark.parametrize("job", [accepted(), asked(), copying(), succeeded(), failed()])
def test_nobody_takes_a_job_up_while_another_holds_its_lease(job: Job):
    leased = job.leased(NOW, TIMING)
    end = NOW + timedelta(seconds=TIMING.lease)

    assert next_step(leased, end - A_SECOND, TIMING) is Step.NOTHING
    assert next_step(leased, end, TIMING) is next_step(job, NOW, TIMING)


def test_a_due_time_further_away_than_any_wait_comes_from_a_broken_clock_and_counts_as_now():
    furthest = NOW + timedelta(seconds=TIMING.longest_wait)

    assert not accepted(due_at=furthest).is_due(NOW, TIMING)
    assert accepted(due_at=furthest + A_SECOND).is_due(NOW, TIMING)


def test_a_job_with_nothing_left_to_do_is_never_due():
    assert not succeeded().announced(NOW).is_due(NOW + timedelta(days=365), TIMING)


# How the lengths of time hang together


@given(timings)
def test_a_lease_outlasts_the_longest_call_and_two_clocks_that_disagree(timing: Timing):
    assert timing.lease >= timing.call + 2 * timing.max_skew


@given(timings)
def test_nobody_asks_again_before_the_lease_of_the_first_asker_is_over(timing: Timing):
    assert timing.grace >= timing.lease + timing.max_skew


@given(timings)
def test_a_lease_leaves_time_to_save_the_ask_before_asking(timing: Timing):
    """The asker asks only while the longest call and a skew still fit into the lease."""
    assert timing.lease - timing.call - timing.max_skew > 0


@given(timings, st.floats(0, 1e7), st.integers(0, 10_000), jitters)
@example(Timing(), 1e7, 10_000, 1.0)
def test_no_wait_that_is_ever_written_counts_as_a_broken_clock(
    timing: Timing, copying_for: float, tries: int, jitter: float
):
    waits = [
        timing.lease,
        timing.grace,
        timing.poll_wait(copying_for, jitter),
        timing.backoff(tries, jitter),
    ]

    assert all(0 < wait <= timing.longest_wait for wait in waits)


@given(timings, st.floats(-60, 1e6), st.floats(0, 1e6), jitters)
def test_an_older_copy_is_looked_at_less_often(
    timing: Timing, copying_for: float, longer: float, jitter: float
):
    assert timing.poll_wait(copying_for, jitter) <= timing.poll_wait(copying_for + longer, jitter)


@given(st.integers(0, 100), jitters)
def test_a_backoff_grows_with_each_try_up_to_its_limit(tries: int, jitter: float):
    wait = TIMING.backoff(tries, jitter)

    assert wait <= TIMING.backoff(tries + 1, jitter) <= TIMING.backoff_longest * 1.1


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
def test_ids_that_look_alike_are_told_apart(source: str, other: str):
    place = "projects/source/locations/us-central1"
    first, second = (ModelName.parse(f"{place}/{name}") for name in (source, other))

    assert derived_model_id(first) != derived_model_id(second)


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True), versions)
def test_a_name_that_was_chosen_in_two_projects_derives_two_ids(model: str, version: str):
    here = replace(SOURCE, model=model, version=version)
    there = replace(here, project="another")

    assert derived_model_id(here) != derived_model_id(there)


def test_a_number_stays_readable():
    source = ModelName.parse("projects/source/locations/us-central1/models/7704127342733426688@2")

    assert derived_model_id(source) == "m-7704127342733426688-v2"


def test_the_destination_is_the_one_asked_for_or_derived():
    derived = replace(REQUEST, destination=None)

    assert str(REQUEST.target(SOURCE)) == "projects/target/locations/us-central1/models/copied"
    assert derived.target(SOURCE).model == "m-7-v1"


def test_a_destination_is_held_from_the_source_to_the_end():
    assert accepted().destination is None
    held = str(REQUEST.target(SOURCE))
    assert [job().destination for job in (ready, asked, copying)] == [held] * 3
    assert succeeded().destination is failed().destination is None


# Whose copy is it


def test_a_model_is_our_copy_when_it_names_the_source_in_any_way_the_source_is_known():
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
def test_a_model_that_names_another_source_or_version_is_not_our_copy(original: ModelName | None):
    assert not Source(name=SOURCE, known_as=SOURCE).is_origin(original)


# Moves


@pytest.mark.parametrize(
    "moved",
    [
        asked().leased(NOW, TIMING),
        asked().snoozed(NOW, 5),
        asked().waiting(NOW, 5),
        asked().holding(),
        copying(),
        succeeded(),
        failed(),
        failed().with_letter_kept(NOW),
        failed().announced(NOW),
        failed().announced(NOW).announced_again(NOW),
        replayed(failed().announced(NOW)),
        copying().with_cancel_requested(NOW),
    ],
)
def test_an_ask_is_remembered_whatever_happens(moved: Job):
    assert moved.asked_at == NOW
    assert moved.known_versions == ("1", "2")


@pytest.mark.parametrize(
    "moved", [copying().not_asked(NOW, "refused"), copying().with_nothing_made()]
)
def test_an_ask_is_forgotten_only_when_nothing_was_made_of_it(moved: Job):
    assert moved.asked_at is None
    assert moved.known_versions == ()
    assert moved.first_asked_at == NOW
    assert moved.copy_attempts == 1


def test_the_operation_of_a_failed_copy_stays_named_for_the_reply():
    assert copying().with_nothing_made().failed(NOW, FAILURE).operation == "operations/1"


def test_a_second_ask_is_counted_and_the_deadline_still_counts_from_the_first():
    again = asked().not_asked(NOW, "refused").asked(NOW + A_SECOND, ("1",))

    assert again.asked_at == NOW + A_SECOND
    assert again.first_asked_at == NOW
    assert again.copy_attempts == 2


@pytest.mark.parametrize("job", [asked(), copying(), succeeded()])
def test_nobody_asks_over_an_ask(job: Job):
    with pytest.raises(AssertionError):
        job.asked(NOW, ())


def test_tries_are_counted_for_one_step():
    stumbling = ready().snoozed(NOW, 1).snoozed(NOW, 1)

    assert stumbling.tries == 2
    assert stumbling.leased(NOW, TIMING).tries == 2
    assert stumbling.waiting(NOW, 1).tries == 0
    assert stumbling.asked(NOW, ()).copying("operations/1", NOW, NOW).tries == 0
    assert stumbling.failed(NOW, FAILURE).tries == 0


def test_an_outcome_keeps_its_id_however_often_it_is_told():
    told = failed().with_letter_kept(NOW).announced(NOW)
    again = told.announced_again(NOW + A_SECOND)

    assert again.outcome_id == told.outcome_id == "key-1"
    assert again.ended_at == told.ended_at
    assert again.letter_kept


def test_a_record_outlives_what_can_be_replayed():
    told = succeeded().announced(NOW)

    assert told.due_at is None
    assert told.expires_at == NOW + KEEP_AFTER_END
    assert timedelta(days=62) < KEEP_AFTER_END


def test_only_an_ended_job_is_final():
    assert [state for state in State if state.final] == [
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
    ]


# Replays


def test_a_replay_of_an_ask_that_may_have_worked_looks_first():
    """At its operation, where it has one; else at the destination."""
    again = replayed(failed().announced(NOW))
    unanswered = replayed(replace(failed(), operation="").announced(NOW))

    assert next_step(again, NOW + A_SECOND, TIMING) is Step.POLL
    assert next_step(unanswered, NOW + A_SECOND, TIMING) is Step.RECONCILE
    assert again.source == failed().source
    assert again.operation == "operations/1"


def test_a_replay_of_an_ask_that_made_nothing_starts_anew():
    again = replayed(copying().with_nothing_made().failed(NOW, FAILURE).announced(NOW))

    assert next_step(again, NOW + A_SECOND, TIMING) is Step.START
    assert again.source is None  # an alias may mean another version by now
    assert again.operation == ""


def test_a_replay_brings_a_further_outcome_with_an_id_and_a_budget_of_its_own():
    told = failed().with_letter_kept(NOW).announced(NOW)
    again = replayed(told)

    assert again.outcome_id == "key-2"
    assert again.deadline(TIMING) == NOW + A_SECOND + timedelta(seconds=TIMING.copy_deadline)
    assert again.copy_attempts == 1  # the ask that is still open
    assert not again.letter_kept
    assert not again.reply_sent
    assert (again.failure, again.ended_at, again.expires_at) == (None, None, None)


def test_the_last_digest_is_the_one_that_counts():
    job = replace(failed(), digests=("first", "second"))

    other = job.replayed(NOW, request=REQUEST, digest="third", original=job.original)
    first = job.replayed(NOW, request=REQUEST, digest="first", original=job.original)

    assert other.digests == ("first", "second", "third")
    assert first.digests == ("second", "first")


def test_only_a_failed_job_is_replayed_and_only_by_the_name_of_its_present_outcome():
    for job in (
        accepted(),
        asked(),
        copying(),
        succeeded(),
        copying().with_nothing_made().cancelled(NOW),
    ):
        assert not job.awaits_replay(replay_of=job.outcome_id, digest="digest")

    assert failed().awaits_replay(replay_of="key-1", digest="other")
    assert not failed().awaits_replay(replay_of="", digest="digest")
    again = replayed(failed()).failed(NOW, FAILURE)
    assert not again.awaits_replay(replay_of="key-1", digest="digest")
    assert again.awaits_replay(replay_of="key-2", digest="digest")


def test_a_request_that_nobody_tried_yet_is_replayed_as_it_is():
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
def test_a_replay_may_change_how_but_not_what_goes_where(change, *, elsewhere: bool):
    assert REQUEST.goes_elsewhere(replace(REQUEST, **change)) is elsewhere


# Deadlines


def test_the_deadline_counts_from_the_first_ask_and_before_that_from_acceptance():
    later = NOW + timedelta(hours=1)
    budget = timedelta(seconds=TIMING.copy_deadline)

    assert ready().deadline(TIMING) == NOW + budget
    assert ready().asked(later, ()).deadline(TIMING) == later + budget


def test_a_request_may_name_its_own_budget():
    job = accepted(request=replace(REQUEST, deadline_seconds=60))

    assert job.budget_seconds(TIMING) == 60
    assert job.deadline(TIMING) == NOW + timedelta(seconds=60)


def test_a_job_is_hopeless_some_time_after_its_deadline():
    limit = copying().deadline(TIMING) + HARD_LIMIT_AFTER_DEADLINE

    assert not copying().is_hopeless(limit, TIMING)
    assert copying().is_hopeless(limit + A_SECOND, TIMING)
