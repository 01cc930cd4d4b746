"""What a job remembers of its way: the newest of it, and not more than it needs."""

from dataclasses import replace
from datetime import timedelta

from model_copier.adapters.job_record import to_record
from model_copier.domain.copy_call import Call
from model_copier.domain.copy_request import Source
from model_copier.domain.errors import Code, Failure
from model_copier.domain.job import Job
from model_copier.domain.job_events import MAX_DETAIL, MAX_MOMENTS, Happened, Moment, with_moment
from simulators import START
from unit.test_records import FULL, TIMING

SOURCE = FULL.source or Source(name=FULL.request.source, known_as=FULL.request.source)
QUEUED = FULL.with_source(SOURCE, 1.0).with_lock()
CALL = Call(requested_at=START, visible_at=TIMING.visible_at(START))


def requested_in_vain(job: Job, times: int, why: str = "RESOURCE_EXHAUSTED") -> Job:
    for _ in range(times):
        requested = job.copy_requested(START, CALL, TIMING)
        job = requested.copy_reset(START, why, Code.RESOURCE_EXHAUSTED)
    return job


def test_only_the_newest_moments_are_kept():
    job = requested_in_vain(QUEUED, 1_000)

    assert len(job.history) == MAX_MOMENTS
    assert job.history[-2].detail == "ask 1000"


def test_an_outcome_that_is_announced_again_and_again_pushes_nothing_out():
    told = QUEUED.failed(START, Failure(code=Code.ABORTED, message="no")).with_letter_kept(START)
    for minutes in range(100):
        at = START + timedelta(minutes=minutes)
        told = told.announced(at).announced_again(at)

    assert [moment.step for moment in told.history] == [
        Happened.FAILED, Happened.LETTER_KEPT, Happened.ANNOUNCED,
    ]  # fmt: skip
    assert told.history[-1].at == START


def test_what_only_looks_the_same_is_kept():
    first = Moment(at=START, step=Happened.ASKED, detail="ask 1")

    for other in (
        replace(first, step=Happened.COPYING),
        replace(first, detail="ask 2"),
        replace(first, code=Code.ABORTED),
    ):
        assert with_moment((first,), other) == (first, other)


def test_the_record_stays_small_whatever_is_said():
    """Of the 1 MiB that a document of Firestore may have."""
    job = requested_in_vain(QUEUED, MAX_MOMENTS, why="\N{PILE OF POO}" * 10_000)

    assert len(job.history[-1].detail) == MAX_DETAIL
    assert len(to_record(job)) < 64 * 1024
