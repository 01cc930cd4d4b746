"""Many random histories: ``make soak COUNT=100000 SEED=1``, or ``--only SEED --trace`` for one.

Prints how often each fault, each move of a job's state, each way of Vertex AI and each
rule was reached; one that was never reached fails the run, as a violation does. Histories
that break on purpose what *Once* takes for granted are lived beside, and counted apart.
"""

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from local_cloud.vertex_dialects import DIALECTS
from model.histories import ASSUMPTIONS, STEPS, WORST, History
from model.perils import DECISIONS, FAULTS

MOVES = (
    "new -> ACCEPTED",
    "new -> FAILED",
    "ACCEPTED -> ACCEPTED",
    "ACCEPTED -> QUEUED",
    "ACCEPTED -> FAILED",
    "ACCEPTED -> UNKNOWN",
    "ACCEPTED -> CANCELLED",
    "QUEUED -> QUEUED",
    "QUEUED -> REQUESTED",
    "QUEUED -> SUCCEEDED",
    "QUEUED -> FAILED",
    "QUEUED -> CANCELLED",
    "REQUESTED -> REQUESTED",
    "REQUESTED -> QUEUED",
    "REQUESTED -> ACCEPTED",
    "REQUESTED -> COPYING",
    "REQUESTED -> SUCCEEDED",
    "REQUESTED -> FAILED",
    "REQUESTED -> UNKNOWN",
    "COPYING -> COPYING",
    "COPYING -> QUEUED",
    "COPYING -> ACCEPTED",
    "COPYING -> REQUESTED",
    "COPYING -> SUCCEEDED",
    "COPYING -> FAILED",
    "COPYING -> UNKNOWN",
    "COPYING -> CANCELLED",
    "SUCCEEDED -> SUCCEEDED",
    "FAILED -> FAILED",
    "FAILED -> ACCEPTED",
    "UNKNOWN -> UNKNOWN",
    "UNKNOWN -> ACCEPTED",
    "UNKNOWN -> REQUESTED",
    "UNKNOWN -> COPYING",
    "CANCELLED -> CANCELLED",
)
VERDICTS = (
    "accepted",
    "duplicate",
    "announced_again",
    "replayed",
    "conflict",
    "rejected",
    "status",
    "cancelling",
    "forwarded",
)
# Rules that no save shows, noted where they strike.
OTHER_DECISIONS = (
    "waited for its turn",
    "waited for the destination",
    "handed a destination on",
    "too late in the lease to ask",
    "a decision that lost was dropped",
    "cancel asked for",
    "cancel at the deadline",
    "a copy beside one that was given up",
    "somebody's copy of our source was taken for ours",
    "nudged",
    "nudged in vain",
)
# Everything that a run must have tried.
RULES = (
    *FAULTS,
    *(f"dialect: {name}" for name in DIALECTS),
    *(f"rule: {decision}" for decision in (*DECISIONS, *OTHER_DECISIONS)),
    *(f"move: {move}" for move in MOVES),
    *(f"verdict: {verdict}" for verdict in VERDICTS),
)


@dataclass(kw_only=True)
class Run:
    """What many histories came to."""

    histories: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: "Run") -> None:
        self.histories += other.histories
        self.reached.update(other.reached)
        self.violations.update(other.violations)

    def table(self) -> str:
        names = sorted({*RULES, *self.reached})
        return "\n".join(f"{self.reached[name]:9,d}  {name}" for name in names)


async def live(seeds: Iterable[int], *, breaks: str = "") -> Run:
    run = Run()
    for seed in seeds:
        history = History(seed=seed, breaks=breaks)
        await history.run()
        run.histories += 1
        run.reached.update(history.cloud.reached)
        if history.cloud.violations:
            run.violations[seed] = history.cloud.violations
    return run


async def first_violation(seeds: Iterable[int]) -> Run:
    """Live histories until one violates something."""
    run = Run()
    for seed in seeds:
        run.add(await live([seed]))
        if run.violations:
            break
    return run


async def shortest(seed: int, kind: str = "", breaks: str = "") -> History:
    """The least of a history that still violates something: the fewest faults, then steps."""

    async def tried(without: frozenset[str], steps: int = STEPS) -> History | None:
        history = History(seed=seed, steps=steps, traced=True, without=without, breaks=breaks)
        await history.run()
        violated = any(found.startswith(kind) for found in history.cloud.violations)
        return history if violated else None

    least = await tried(frozenset())
    if least is None:
        return History(seed=seed, steps=0)
    without: frozenset[str] = frozenset()
    for fault in (*WORST, *EXTRAS):
        if found := await tried(without | {fault}):
            least, without = found, without | {fault}
    for steps in range(STEPS):
        if found := await tried(without, steps):
            return found
    return least


def many(seeds: Sequence[int], *, breaks: str = "", processes: int = 1) -> Iterator[Run]:
    """Live histories in several processes; yield what they came to, piece by piece."""
    pieces = [seeds[at : at + PIECE] for at in range(0, len(seeds), PIECE)]
    if processes == 1:
        yield from (_piece(piece, breaks) for piece in pieces)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(_piece, pieces, [breaks] * len(pieces))


def _piece(seeds: Sequence[int], breaks: str) -> Run:
    return asyncio.run(live(seeds, breaks=breaks))


PIECE = 100
EXTRAS = ("outages", "somebody", "vertex clock", "clock jumps", "restore", "other timing", "sleeps")


def soak(*, count: int, seed: int, processes: int) -> int:
    """Live them all and print the tables; 0 if everything held and was reached."""
    started = time.monotonic()
    run = Run()
    for piece in many(range(seed, seed + count), processes=processes):
        run.add(piece)
        for bad, violated in piece.violations.items():
            print(f"\nseed {bad}: {violated[0]}", file=sys.stderr, flush=True)
        _progress(run, count)
    print(run.table())
    for bad, violations in sorted(run.violations.items())[:20]:
        print(f"seed {bad}: {violations[0]}")
    never = [rule for rule in RULES if not run.reached[rule]]
    if never:
        print(f"never reached: {', '.join(never)}")
    seconds = time.monotonic() - started
    print(
        f"seeds {seed} to {seed + count - 1}: {run.histories:,d} histories"
        f" in {seconds:,.0f} s, {len(run.violations):,d} with violations"
    )
    for breaks in ASSUMPTIONS:
        broken = Run()
        for piece in many(range(seed, seed + count // 20), breaks=breaks, processes=processes):
            broken.add(piece)
        kinds = Counter(
            found.partition(":")[0] for each in broken.violations.values() for found in set(each)
        )
        print(
            f"where it does not hold that {breaks}: {broken.histories:,d} histories,"
            f" {len(broken.violations):,d} with violations {dict(kinds.most_common())}"
        )
    return 1 if run.violations or never else 0


def _progress(run: Run, count: int) -> None:
    """A line that counts up on a terminal; elsewhere one line for each tenth."""
    told = f"{run.histories:,d} of {count:,d}, {len(run.violations):,d} with violations"
    if sys.stderr.isatty():
        print(f"\r{told}", end="\n" if run.histories == count else "", file=sys.stderr, flush=True)
    elif run.histories // (count / 10) > (run.histories - PIECE) // (count / 10):
        print(told, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Random histories of the engine.")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--only", type=int, help="one seed, cut to what it takes")
    parser.add_argument("--kind", default="", help="with --only: the kind of violation wanted")
    parser.add_argument("--breaks", default="", choices=ASSUMPTIONS, help="with --only")
    parser.add_argument("--trace", action="store_true", help="with --only: print each step")
    asked = parser.parse_args(arguments)
    if asked.first:
        run = asyncio.run(first_violation(range(asked.seed, asked.seed + asked.count)))
        found = next(iter(run.violations.values()), ["nothing found"])
        print(f"{run.histories}\t{found[0]}")
        return 1 if run.violations else 0
    if asked.only is None:
        return soak(count=asked.count, seed=asked.seed, processes=asked.processes)
    history = asyncio.run(shortest(asked.only, asked.kind, asked.breaks))
    if asked.trace:
        print("\n".join(history.cloud.trace or []))
    left_out = f" without {', '.join(sorted(history.without))}" if history.without else ""
    print(f"seed {asked.only}, {history.steps} steps{left_out}:")
    print(*history.cloud.violations, sep="\n")
    return 1 if history.cloud.violations else 0


if __name__ == "__main__":
    sys.exit(main())
