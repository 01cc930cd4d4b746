"""Every rule of the engine is missed when it is gone."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from model.mutants import MUTANTS, Fate, Mutant, clues, hunt
from model.soak import live

# Where the clue of the last ``make mutants`` leads nowhere. That looks longer.
HISTORIES = 250

# All wait for the same few processors, the last one for all before it.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def fates() -> Iterator[dict[str, Future[Fate]]]:
    """Hunt as many at once as there are processors; each test waits for its own."""
    known = clues()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            mutant.name: pool.submit(hunt, mutant, most=HISTORIES, clue=known.get(mutant.name, ""))
            for mutant in MUTANTS
        }
        pool.shutdown(cancel_futures=True)


def test_the_engine_itself_is_no_mutant() -> None:
    """The histories that give mutants away have nothing to show of the engine as it is."""
    seeds = [int(clue) for clue in clues().values() if clue.isdigit()]

    assert not asyncio.run(live(seeds)).violations


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_found(mutant: Mutant, fates: dict[str, Future[Fate]]) -> None:
    assert fates[mutant.name].result().found
