from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inbox import Inbox
from local_cloud.stack import Stack
from local_cloud.topics import DEAD_LETTERS, REPLIES, topic_path

# Short waits: what the engine promises does not depend on their lengths, only on their order.
QUICK = {
    "POLL_SECONDS": "0.2",
    "CALL_TIMEOUT_SECONDS": "2",
    "MAX_SKEW_SECONDS": "0.2",
    "FOLLOW_SECONDS": "10",
}


def quick_stack(folder: Path, **more: Any) -> Stack:
    return Stack(
        folder=folder,
        copy_seconds=0.5,
        tick_seconds=0.5,
        backoff_seconds=0.2,
        settings=QUICK,
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
async def own_stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A local cloud for a test that harms it."""
    async with quick_stack(tmp_path, max_delivery_attempts=5) as running:
        yield running


@pytest.fixture
async def own_replies(own_stack: Stack) -> AsyncIterator[Inbox]:
    inbox = await Inbox.open(own_stack.pubsub.address, topic_path(REPLIES), "test-replies")
    yield inbox
    await inbox.close()
