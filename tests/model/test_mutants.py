"""Every rule of the engine is missed when it is gone."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from model.mutants import MUTANTS, Fate, Mutant, hunt

# Enough for most; what takes rarer histories is found by a story. ``make mutants`` looks longer.
HISTORIES = 250

# All wait for the same few processors, the last one for all before it.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def fates() -> Iterator[dict[str, Future[Fate]]]:
    """Hunt as many at once as there are processors; each test waits for its own."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hunted = {"": pool.submit(hunt, None, most=HISTORIES)}
        for mutant in MUTANTS:
            hunted[mutant.name] = pool.submit(hunt, mutant, most=HISTORIES)
        yield hunted
        pool.shutdown(cancel_futures=True)


def test_the_engine_itself_is_no_mutant(fates: dict[str, Future[Fate]]) -> None:
    assert fates[""].result().found == ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_found(mutant: Mutant, fates: dict[str, Future[Fate]]) -> None:
    assert fates[mutant.name].result().found
