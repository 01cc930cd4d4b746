from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

import stores
from firestore_front import FirestoreFront
from inbox import Inbox
from local_cloud.stack import Stack
from local_cloud.topics import DEAD_LETTERS, REPLIES, topic_path

# Short waits: what the engine promises does not depend on their lengths, only on their order.
QUICK = {
    "POLL_SECONDS": "0.2",
    "CALL_TIMEOUT_SECONDS": "2",
    "MAX_SKEW_SECONDS": "0.2",
    "VISIBILITY_SECONDS": "1",
    "FOLLOW_SECONDS": "10",
    "READS_PER_MINUTE": "60000",
}


def quick_stack(folder: Path, *, settings: Mapping[str, str] | None = None, **more: Any) -> Stack:
    return Stack(
        folder=folder,
        copy_seconds=0.5,
        tick_seconds=0.5,
        backoff_seconds=0.2,
        settings={**QUICK, **stores.settings(), **(settings or {})},
        **more,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A local cloud with worker and api, shared by the tests of a file."""
    async with quick_stack(tmp_path_factory.mktemp("stack"), with_api=True) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replies(stack: Stack) -> AsyncIterator[Inbox]:
    inbox = await Inbox.open(stack.pubsub.address, topic_path(REPLIES), "test-replies")
    yield inbox
    await inbox.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def letters(stack: Stack) -> AsyncIterator[Inbox]:
    inbox = await Inbox.open(stack.pubsub.address, topic_path(DEAD_LETTERS), "test-letters")
    yield inbox
    await inbox.close()


@pytest.fixture
async def firestore_front() -> AsyncIterator[FirestoreFront | None]:
    """Between Firestore and the processes of a test, where it has Firestore."""
    if not stores.emulator:
        yield None
        return
    async with FirestoreFront(emulator=stores.emulator) as front:
        yield front


@pytest.fixture
async def own_stack(tmp_path: Path, firestore_front: FirestoreFront | None) -> AsyncIterator[Stack]:
    """A local cloud for a test that harms it."""
    there = {"FIRESTORE_EMULATOR_HOST": firestore_front.address} if firestore_front else {}
    async with quick_stack(tmp_path, settings=there, max_delivery_attempts=5) as running:
        yield running


@dataclass
class StoreOutage:
    """Takes the job store away from a worker that is not running."""

    file: Path
    front: FirestoreFront | None

    def begin(self) -> None:
        if self.front:
            self.front.refusal = (grpc.StatusCode.UNAVAILABLE, "away, on purpose")
            return
        for file in self.file.parent.glob(f"{self.file.name}*"):
            file.unlink()
        self.file.write_bytes(b"this is no database, but long enough to be taken for one")

    def end(self) -> None:
        if self.front:
            self.front.refusal = None
        else:
            self.file.unlink()


@pytest.fixture
def store_outage(own_stack: Stack, firestore_front: FirestoreFront | None) -> StoreOutage:
    return StoreOutage(own_stack.folder / "jobs.db", firestore_front)


@pytest.fixture
async def own_replies(own_stack: Stack) -> AsyncIterator[Inbox]:
    inbox = await Inbox.open(own_stack.pubsub.address, topic_path(REPLIES), "test-replies")
    yield inbox
    await inbox.close()
