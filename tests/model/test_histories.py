"""Random histories keep the invariants, and reach every fault, move and rule."""

import pytest

from model.histories import History
from model.soak import RULES, Run, many

COUNT = 1200


@pytest.fixture(scope="module")
def lived() -> Run:
    run = Run()
    for piece in many(range(1, COUNT + 1), processes=2):
        run.add(piece)
    return run


def test_no_history_violates_an_invariant(lived: Run) -> None:
    assert lived.histories == COUNT
    assert lived.violations == {}


def test_every_fault_move_dialect_and_rule_was_reached(lived: Run) -> None:
    assert [rule for rule in RULES if not lived.reached[rule]] == []


async def test_a_seed_gives_the_same_history_again() -> None:
    first, second = History(seed=7, traced=True), History(seed=7, traced=True)

    await first.run()
    await second.run()

    assert first.cloud.trace == second.cloud.trace
