"""Dead letters with the real worker: what the shows show, on a small scale."""

from pathlib import Path

import show_dead_letters


async def test_a_night_in_which_every_request_is_accounted_for_at_every_step(tmp_path: Path):
    steps = await show_dead_letters.night(tmp_path, each=4)

    assert {step.accounted for step in steps} == {10}
    assert [step.models for step in steps] == [0, 0, 4, 8, 8, 8]
    assert [step.letters.total() for step in steps] == [10, 10, 6, 2, 0, 2]


async def test_replays_that_are_killed_and_then_two_at_once_are_applied_once(tmp_path: Path):
    counts = await show_dead_letters.replays(tmp_path, count=20, kills=2, at_once=2)

    assert counts.good, counts
