"""A small run of chaos, by two brokers; and one with a broken engine, which it must tell."""

import pytest

from chaos.run import Chaos
from emulators import PUBSUB, EmulatorMissingError

pytestmark = pytest.mark.timeout(240)


async def test_a_run_of_chaos_violates_nothing() -> None:
    chaos = Chaos(requests=45, seed=1, patience_seconds=150)

    found = await chaos.run()

    assert found == {"once": [], "told": [], "kept": [], "nobody else's": []}
    assert chaos.counts["kills"] > 0


async def test_nor_does_one_under_google_s_emulator() -> None:
    try:
        PUBSUB.command(0)
    except EmulatorMissingError as missing:
        pytest.skip(str(missing))
    chaos = Chaos(requests=30, seed=1, broker="google", patience_seconds=150)

    found = await chaos.run()

    assert found == {"once": [], "told": [], "kept": [], "nobody else's": []}


async def test_a_broken_engine_makes_it_fail() -> None:
    """Every lost answer is then asked for again: at five in a hundred, soon seen."""
    chaos = Chaos(
        requests=90,
        seed=1,
        mutant="UNAVAILABLE counts as not started",
        every_seconds=20,
        patience_seconds=60,
    )

    found = await chaos.run()

    assert found["once"] != []
