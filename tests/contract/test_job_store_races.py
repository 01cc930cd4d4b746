"""Three processes on one store, as three instances of the worker are."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

import store_racer
from stores import job, new_place

TESTS = Path(store_racer.__file__).parent


# The emulator takes its time over documents that many want.
@pytest.mark.parametrize(("kind", "rounds"), [("sqlite", 30), ("firestore", 2)])
async def test_three_processes_never_win_the_same_thing(kind, rounds, request, tmp_path: Path):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS)}
    where = f"sqlite:///{tmp_path / 'jobs.db'}"
    if kind == "firestore":
        env["FIRESTORE_EMULATOR_HOST"] = request.getfixturevalue("firestore")
        place = new_place()
        where = f"firestore://{place.project}/{place.database}"
        request.getfixturevalue("monkeypatch").setenv(
            "FIRESTORE_EMULATOR_HOST", env["FIRESTORE_EMULATOR_HOST"]
        )
    store = await store_racer.open_store(where)
    for key in ("shared", "inside"):
        await store.create(job(key, due_at=None))

    racers = [
        await asyncio.create_subprocess_exec(
            sys.executable, store_racer.__file__, where, name, str(rounds), env=env, stdout=PIPE
        )
        for name in "abc"
    ]
    ended = await asyncio.gather(*(racer.communicate() for racer in racers))
    seen = [json.loads(out) for out, _ in ended]

    counted = [await store.get(key) for key in ("shared", "inside")]
    assert [each and each.retries for each in counted] == [3 * rounds, 3 * rounds]
    assert sum(racer["granted"] for racer in seen) == store_racer.STARTS
    assert [racer["met"] for racer in seen] == [0, 0, 0]
    await store.close()
