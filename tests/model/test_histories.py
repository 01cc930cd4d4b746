"""Five hundred random histories keep the invariants, and try every rule."""

import pytest

from model.histories import RULES, History, Run, live

SEEDS = range(1, 501)


@pytest.fixture(scope="module")
def lived() -> list[Run]:
    """Filled by the first test that needs it."""
    return []


async def five_hundred(lived: list[Run]) -> Run:
    if not lived:
        lived.append(await live(SEEDS))
    return lived[0]


async def test_no_history_violates_an_invariant(lived: list[Run]) -> None:
    run = await five_hundred(lived)

    assert run.violations == {}


async def test_every_fault_move_and_verdict_was_tried(lived: list[Run]) -> None:
    run = await five_hundred(lived)

    assert [rule for rule in RULES if not run.reached[rule]] == []


async def test_a_seed_gives_the_same_history_again() -> None:
    first, second = History(seed=7, traced=True), History(seed=7, traced=True)

    await first.run()
    await second.run()

    assert first.cloud.trace == second.cloud.trace
