"""docs/state-machine.md is what job.py does: its arrows, and the lengths of its waits."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from model.perils import named
from model.soak import MOVES
from model_copier.copy_request import CopyRequest, Source
from model_copier.errors import Code
from model_copier.job import Failure, Job, Original
from model_copier.resource_names import ModelName
from model_copier.timing import HARD_LIMIT_AFTER_DEADLINE, Timing
from simulators import START

PAGE = (Path(__file__).parents[2] / "docs" / "state-machine.md").read_text()
TIMING = Timing()
SOURCE = ModelName(project="source", location="us-central1", model="7", version="1")
REQUEST = CopyRequest(source=SOURCE, target_project="target", target_location="us-central1")
ORIGINAL = Original(data=b"{}", attributes={})
NEW = Job(
    key="key",
    request_id="request-1",
    request_source="//ec2",
    digests=("digest",),
    request=REQUEST,
    original=ORIGINAL,
    accepted_at=START,
    attempt_at=START,
    due_at=START,
    source=Source(name=SOURCE, known_as=SOURCE),
)
# Every method of Job that returns a job, by its name.
METHODS: dict[str, Callable[[Job], Job]] = {
    "leased": lambda job: job.leased(START, TIMING),
    "snoozed": lambda job: job.snoozed(START, 1),
    "stumbled": lambda job: replace(job.stumbled(START, 1), bugs=0),
    "waiting": lambda job: job.waiting(START, 1),
    "seen": lambda job: job.seen(),
    "quiet": lambda job: job.quiet(START),
    "with_source": lambda job: job.with_source(Source(name=SOURCE, known_as=SOURCE)),
    "holding": lambda job: job.holding(),
    "queued": lambda job: job.queued(START),
    "asked": lambda job: job.asked(START, ()),
    "not_asked": lambda job: job.not_asked(START, ""),
    "came_to_nothing": lambda job: job.came_to_nothing(START),
    "with_nothing_made": lambda job: job.with_nothing_made(),
    "copying": lambda job: job.copying("operations/1", START, START),
    "succeeded": lambda job: job.succeeded(START, model_version="1", verified=True),
    "failed": lambda job: job.failed(START, Failure(code=Code.INTERNAL, message="no")),
    "cancelled": lambda job: job.cancelled(START),
    "with_cancel_requested": lambda job: job.with_cancel_requested(START),
    "replayed": lambda job: job.replayed(
        START, request=REQUEST, digest="digest", original=ORIGINAL
    ),
    "with_letter_kept": lambda job: job.with_letter_kept(START),
    "announced": lambda job: job.announced(START),
    "announced_again": lambda job: job.announced_again(START),
}


def arrows() -> Iterator[tuple[str, str, str]]:
    """Walk every job that moves can make of a new one; yield the moves that change its state."""
    seen: set[str] = set()
    unvisited = [NEW]
    while unvisited:
        job = unvisited.pop()
        for method, move in METHODS.items():
            try:
                moved = replace(move(job), tries=0, attempt=1, copy_attempts=0, history=())
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


def test_every_move_of_a_job_is_walked():
    moves = {
        name
        for name, member in vars(Job).items()
        if not name.startswith("_") and getattr(member, "__annotations__", {}).get("return") is Self
    }

    # A restored store is not on the chart: its jobs are elsewhere all at once.
    assert moves - {"after_restore", "asked_unseen"} == METHODS.keys()


def test_the_chart_has_the_arrows_of_job_py_and_no_other():
    assert drawn() == set(arrows())


def test_the_random_histories_must_reach_every_arrow_of_the_chart():
    reached = {move for move in MOVES if not move.startswith("new") and not _stays(move)}

    assert reached == {f"{before} -> {after}" for before, after, _ in drawn()}


def _stays(move: str) -> bool:
    before, _, after = move.partition(" -> ")
    return before == after


def test_the_page_says_how_long_the_engine_waits():
    rows = PAGE.partition("## How long")[2]
    waits = dict(re.findall(r"^\| ([a-z ]+) \| (\d[0-9a-z ]*) \|", rows, re.MULTILINE))

    assert waits == {
        "lease": f"{TIMING.lease:g}",
        "grace": f"{TIMING.grace:g}",
        "between the two looks": f"{TIMING.hush:g}",
        "polls": f"{TIMING.poll_shortest:g} to {TIMING.poll_longest:g}",
        "backoff": f"{TIMING.backoff_shortest:g} to {TIMING.backoff_longest:g}",
        "after an operation that came to nothing": f"{TIMING.hush:g}",
        "deadline": f"{TIMING.copy_deadline:g}",
        "hard limit": f"{HARD_LIMIT_AFTER_DEADLINE.total_seconds():g} more",
    }
    assert f"At most {TIMING.starts_per_minute:g} copies start in any minute" in PAGE
    assert f"then one every {TIMING.start_distance:g} s" in PAGE
