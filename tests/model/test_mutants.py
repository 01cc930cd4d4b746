"""Every rule of the engine is missed when it is gone."""

import asyncio

import pytest

from model.mutants import MUTANTS, Mutant, clues, hunt
from model.soak import live

# Where the clue of the last ``make mutants`` leads nowhere. That looks longer.
HISTORIES = 250

# A hunt that begins anew is long.
pytestmark = pytest.mark.timeout(600)


def test_the_engine_itself_is_no_mutant() -> None:
    """The histories that give mutants away have nothing to show of the engine as it is."""
    seeds = [int(clue) for clue in clues().values() if clue.isdigit()]

    assert not asyncio.run(live(seeds)).violations


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_found(mutant: Mutant) -> None:
    """Each broken rule shows in a history or in a test."""
    assert hunt(mutant, most=HISTORIES, clue=clues().get(mutant.name, "")).found
