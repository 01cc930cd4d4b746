"""A small drill over SQLite; and one whose backup is trusted, which it must tell."""

import pytest

from restore_drill.run import Drill

pytestmark = pytest.mark.timeout(240)


async def test_a_restored_store_makes_no_second_model() -> None:
    drill = Drill(count=6, seed=1, with_firestore=False, patience_seconds=150)

    found = await drill.run()

    assert not any(found.values()), found
    assert drill.facts["told by more than one outcome"]


async def test_a_trusted_backup_makes_the_drill_fail() -> None:
    drill = Drill(count=6, seed=1, with_firestore=False, trusting=True, patience_seconds=60)

    found = await drill.run()

    assert found["no second model"] != []
