"""docs/state-machine.md is what job.py does: its states, arrows and waits."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from model.perils import named
from model.soak import MOVES
from model_copier.domain.copy_call import MAX_KNOWN_OPERATIONS, Call
from model_copier.domain.copy_request import CopyRequest, Original, Source
from model_copier.domain.errors import Code, Failure
from model_copier.domain.job import Job
from model_copier.domain.resource_names import ModelName
from model_copier.domain.steps import STEPS
from model_copier.domain.timing import HARD_LIMIT, MAX_COPY_ATTEMPTS, RETRIES_UNTIL_TROUBLE, Timing
from model_copier.engine.steady_clock import STEADY_SECONDS
from simulators import START

PAGE = (Path(__file__).parents[2] / "docs" / "state-machine.md").read_text()
TIMING = Timing()
SOURCE = ModelName(project="source", location="us-central1", model="7", version="1")
KNOWN_SOURCE = Source(name=SOURCE, known_as=SOURCE)
REQUEST = CopyRequest(source=SOURCE, target_project="target", target_location="us-central1")
ORIGINAL = Original(data=b"{}", attributes={})
CALL = Call(requested_at=START, visible_at=START)
NEW = Job(
    key="key",
    request_id="request-1",
    request_source="//ec2",
    digests=("digest",),
    request=REQUEST,
    original=ORIGINAL,
    accepted_at=START,
    run_started_at=START,
    due_at=START,
    source=KNOWN_SOURCE,
)
# Every method of Job that returns a job, by its name.
METHODS: dict[str, Callable[[Job], Job]] = {
    "leased": lambda job: job.leased(START, TIMING),
    "retry_later": lambda job: job.retry_later(START),
    "postponed": lambda job: job.postponed(START),
    "retry_after_bug": lambda job: job.retry_after_bug(START),
    "snoozed": lambda job: job.snoozed(START),
    "unfinished": lambda job: job.unfinished(START),
    "evidence_missing": lambda job: job.evidence_missing(START),
    "with_source": lambda job: job.with_source(KNOWN_SOURCE, 1.0),
    "with_lock": lambda job: job.with_lock(),
    "enqueued": lambda job: job.enqueued(),
    "watching": lambda job: job.watching(START),
    "copy_requested": lambda job: job.copy_requested(START, CALL, TIMING),
    "reconciles_first": lambda job: job.reconciles_first(START, TIMING),
    "copy_reset": lambda job: job.copy_reset(START, ""),
    "operation_failed": lambda job: job.operation_failed(START, START),
    "reconciles_again": lambda job: job.reconciles_again(),
    "with_nothing_made": lambda job: job.with_nothing_made(),
    "copying": lambda job: job.copying("operations/1", START, START),
    "cancel_answered": lambda job: job.cancel_answered(START),
    "succeeded": lambda job: job.succeeded(START, model_version="1", verified=True),
    "failed": lambda job: job.failed(START, Failure(code=Code.INTERNAL, message="no")),
    "cancelled": lambda job: job.cancelled(START),
    "with_cancel_requested": lambda job: job.with_cancel_requested(START),
    "replayed": lambda job: job.replayed(
        START, TIMING, request=REQUEST, digest="digest", original=ORIGINAL
    ),
    "after_restore": lambda job: job.after_restore(START),
    "with_letter_kept": lambda job: job.with_letter_kept(START),
    "announced": lambda job: job.announced(START),
    "announced_again": lambda job: job.announced_again(START),
}
# Moves that the methods take one by one, and no step combines: nobody looks for a copy without
# a lock or a call, an operation that surely made nothing is not reconciled, and a restored job
# that holds its destination looks before anything can fail it.
UNUSED = {
    ("QUEUED", "UNKNOWN", "failed"),
    ("ACCEPTED", "SUCCEEDED", "succeeded"),
    ("REQUESTED", "CANCELLED", "cancelled"),
}


def _plain(job: Job) -> Job:
    """A job without what no move asks for: so the walk is short."""
    return replace(
        job,
        due_at=START,
        retries=0,
        bugs=0,
        run=1,
        attempts=0,
        call=job.call and CALL,
        deadline_at=None,
        watching_since=None,
        looked_at=None,
        failure_seen_at=None,
        copy_started_at=None,
        copy_ended_at=None,
        cancel_sent_at=None,
        cancel_requested=False,
        letter_kept=False,
        expires_at=None,
        history=(),
    )


def arrows() -> Iterator[tuple[str, str, str]]:
    """Walk every job that moves can make of a new one; yield the moves that change its state."""
    seen: set[str] = set()
    unvisited = [NEW]
    while unvisited:
        job = unvisited.pop()
        for method, move in METHODS.items():
            try:
                moved = _plain(move(job))
            except AssertionError:
                continue  # not a legal move from here
            if named(moved) != named(job):
                yield named(job), named(moved), method
            if repr(moved) not in seen:
                seen.add(repr(moved))
                unvisited.append(moved)


def drawn() -> set[tuple[str, str, str]]:
    (chart,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    return set(re.findall(r"^ +([A-Z]+) --> ([A-Z]+): (\w+)$", chart, re.MULTILINE))


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+) \|$", section, re.MULTILINE)
    return [row.split(" | ") for row in rows[2:]]


def test_every_move_of_a_job_is_walked():
    moves = {
        name
        for name, member in vars(Job).items()
        if not name.startswith("_") and getattr(member, "__annotations__", {}).get("return") is Self
    }

    # A restored store is not on the chart: its jobs are elsewhere all at once.
    assert moves == METHODS.keys()


def test_the_chart_has_the_arrows_of_job_py():
    """And no other."""
    assert drawn() | UNUSED == set(arrows())
    assert not drawn() & UNUSED


def test_random_histories_must_reach_every_arrow():
    reached = {move for move in MOVES if not move.startswith("new") and not _stays(move)}

    assert reached == {f"{before} -> {after}" for before, after, _ in drawn()}


def _stays(move: str) -> bool:
    before, _, after = move.partition(" -> ")
    return before == after


def test_the_page_names_each_state_s_step():
    rows = {state: step.partition(":")[0] for state, _, step in table("States")}

    assert rows == {state.name: step.name for state, step in STEPS.items()}


def test_the_page_says_how_long_the_engine_waits():
    waits = {row[0]: row[1] for row in table("Times")}

    assert waits == {
        "lease": f"{TIMING.lease_seconds:g}",
        "visibility": f"{TIMING.grace_seconds:g}",
        "second read": f"{TIMING.second_read_seconds:g}",
        "poll": f"{TIMING.min_poll_seconds:g} to {TIMING.max_poll_seconds:g}",
        "backoff": f"{TIMING.min_backoff_seconds:g} to {TIMING.max_backoff_seconds:g}",
        "read of a destination's waiter": f"{TIMING.max_backoff_seconds:g}",
        "budget": f"{TIMING.copy_deadline_seconds:g}",
        "hard limit": f"{HARD_LIMIT.total_seconds():g}",
        "wait limit": f"{TIMING.wait_limit_seconds:g}",
        "steady clock": f"{STEADY_SECONDS:g}",
    }


def test_the_page_has_the_numbers_of_the_code():
    for told in (
        f"At most {TIMING.starts_per_minute:g} copies start in any 60 seconds",
        f"at most {MAX_COPY_ATTEMPTS} CopyModel calls",
        f"the newest {MAX_KNOWN_OPERATIONS:,} operations",
        f"{RETRIES_UNTIL_TROUBLE} failed retries",
    ):
        assert told in PAGE.replace("\n", " ")
