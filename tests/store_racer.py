"""A process that races others on one store: ``python store_racer.py STORE NAME ROUNDS``.

In each round it adds one to a job that all of them write, takes one of their starts, and
takes the destination that they all want. Only its holder writes the job "inside", so a save
there that is stale has met somebody. What it saw is printed as JSON.
"""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from model_copier.adapters.firestore import FirestoreJobStore
from model_copier.adapters.firestore_documents import Place
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.domain.errors import DestinationTakenError, StaleJobError, UnavailableError
from model_copier.domain.job import Job
from model_copier.engine.ports import JobStore
from simulators import START, SimulatedClock
from stores import holding, job

# Fewer than all racers want.
STARTS = 4


async def open_store(store: str) -> SqliteJobStore | FirestoreJobStore:
    if store.startswith("firestore:"):
        return FirestoreJobStore.open(Place.parse(store), clock=SimulatedClock(), call_seconds=20)
    return await SqliteJobStore.open(Path(store.removeprefix("sqlite:///")), busy_seconds=20)


async def race(store: JobStore, name: str, rounds: int) -> dict[str, object]:
    granted, met = 0, 0
    for number in range(rounds):
        await _add_one_among_others(store)
        granted += await _take_one_start(store)
        held = await _hold(store, await store.create(job(f"{name}-{number}")))
        inside = await store.get("inside")
        assert inside is not None
        try:
            await store.save(replace(inside, retries=inside.retries + 1))
        except StaleJobError:
            met += 1
        await store.save(held.succeeded(START, model_version="1", verified=True))
    return {"granted": granted, "met": met}


async def _add_one_among_others(store: JobStore) -> None:
    while True:
        shared = await store.get("shared")
        assert shared is not None
        try:
            await store.save(replace(shared, retries=shared.retries + 1))
        except StaleJobError:
            continue
        return


async def _take_one_start(store: JobStore) -> int:
    while True:
        try:
            return await store.take_starts("all", [1.0], START, STARTS)
        except UnavailableError:  # others were faster, five times
            continue


async def _hold(store: JobStore, mine: Job) -> Job:
    while True:
        try:
            return await store.save(holding(mine))
        except DestinationTakenError:
            await asyncio.sleep(0.001)


async def main() -> None:
    where, name, rounds = sys.argv[1:]
    store = await open_store(where)
    print(json.dumps(await race(store, name, int(rounds))))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
