"""Random histories keep the invariants, and reach every fault, move and rule."""

from itertools import islice

import pytest

from model.histories import History
from model.soak import RULES, Run, many

# The histories are lived in a fixture, as many as it takes.
pytestmark = pytest.mark.timeout(1200)
COUNT = 1200
MOST = 6000  # where a rare rule was not reached by then


@pytest.fixture(scope="module")
def lived() -> Run:
    run = Run()
    seeds = iter(range(1, MOST + 1))
    while run.histories < COUNT or (_missed(run) and run.histories < MOST):
        for piece in many([*islice(seeds, COUNT // 2)], processes=2):
            run.add(piece)
    return run


def _missed(run: Run) -> list[str]:
    return [rule for rule in RULES if not run.reached[rule]]


def test_no_history_violates_an_invariant(lived: Run) -> None:
    assert lived.histories >= COUNT
    assert lived.violations == {}


def test_every_fault_move_dialect_and_rule_was_reached(lived: Run) -> None:
    assert _missed(lived) == []


async def test_a_seed_gives_the_same_history_again() -> None:
    first, second = History(seed=7, traced=True), History(seed=7, traced=True)

    await first.run()
    await second.run()

    assert first.cloud.trace == second.cloud.trace
