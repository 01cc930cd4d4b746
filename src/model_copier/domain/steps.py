"""What a job needs next, decided in one place from the saved job and the time.

Pure. What must not break: a job is given up once, here, whatever it waits for; and the
sentence that it is told says only what is true of it.
"""

from dataclasses import replace
from datetime import datetime
from enum import Enum, auto

from model_copier.domain.errors import Code, Failure
from model_copier.domain.failure_messages import bug
from model_copier.domain.job import Job, State
from model_copier.domain.timing import Timing


class Step(Enum):
    """What to do next for a job that is due."""

    PREPARE = auto()  # resolve the source, lock the destination
    START = auto()  # send CopyModel, when it is this job's turn
    RECONCILE = auto()  # find out what became of a CopyModel call without a response
    POLL = auto()  # read the operation
    GIVE_UP = auto()  # its time is over: say what is known
    ANNOUNCE = auto()  # publish the dead letter, then the reply
    NOTHING = auto()


STEPS = {
    State.ACCEPTED: Step.PREPARE,
    State.QUEUED: Step.START,
    State.REQUESTED: Step.RECONCILE,
    State.COPYING: Step.POLL,
    State.SUCCEEDED: Step.ANNOUNCE,
    State.FAILED: Step.ANNOUNCE,
    State.UNKNOWN: Step.ANNOUNCE,
    State.CANCELLED: Step.ANNOUNCE,
}


def next_step(job: Job, now: datetime, timing: Timing) -> Step:
    """Decide what to do next from the saved job alone."""
    return step_of(job, now, timing) if job.is_due(now, timing) else Step.NOTHING


def step_of(job: Job, now: datetime, timing: Timing) -> Step:
    """What this job needs, once it is due or dispatched."""
    if job.is_over(now, timing):
        return Step.GIVE_UP
    return Step.NOTHING if job.reply_sent else STEPS[job.state]


def give_up(job: Job, now: datetime, timing: Timing) -> Job:
    """Answer a request whose time is over, with what is known and no more."""
    hint = f"look at {job.target} before you request it again" if job.may_have_copied else ""
    message = f"{_why_over(job, now, timing)}; {_known(job)}"
    return job.failed(now, Failure(code=Code.DEADLINE_EXCEEDED, message=message, hint=hint))


def _why_over(job: Job, now: datetime, timing: Timing) -> str:
    budget = f"{job.budget_seconds(timing):g} s"
    if job.state is State.COPYING and job.cancel_sent_at:
        return f"the copy did not end in {budget}: a cancel was requested and did not take effect"
    if job.state is State.COPYING:
        refused = f": {job.cancel_refused}" if job.cancel_refused else ""
        return f"the copy did not end in {budget}{refused}"
    if job.call:
        return f"no response to CopyModel came, and in {budget} no copy could be proven"
    if job.watching_since:
        return f"another copy to {job.target} did not end in {budget}"
    if job.attempts:
        return f"CopyModel was sent {job.attempts} times, and no copy ended in {budget}"
    waited = (now - job.run_started_at).total_seconds()
    wanted = f"{job.target} to be free" if job.waiting_for else "its source or its turn to start"
    return f"it waited {waited:.0f} s for {wanted}"


def stop(job: Job, error: Exception, now: datetime) -> Job:
    """Answer a request that meets a bug again and again."""
    failure = bug(error)
    return job.failed(now, replace(failure, message=f"{failure.message}; {_known(job)}"))


def _known(job: Job) -> str:
    if job.call and job.operation:
        return f"the outcome of operation {job.operation} is unknown"
    return "whether a copy was made is unknown" if job.may_have_copied else "nothing was made"
