"""Every rule of the engine is missed when it is gone."""

import pytest

from model.mutants import MUTANTS, Mutant, hunt

# Enough for most; what takes rarer histories is found by a story. ``make mutants`` looks longer.
HISTORIES = 250


def test_the_engine_as_it_is_is_not_taken_for_a_mutant() -> None:
    assert hunt(None, most=HISTORIES).found == ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_found(mutant: Mutant) -> None:
    assert hunt(mutant, most=HISTORIES).found
