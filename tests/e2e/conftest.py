from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inbox import Inbox
from local_cloud.stack import DEAD_LETTERS, REPLIES, Stack, topic_path

# Short waits: what the engine promises does not depend on their lengths, only on their order.
QUICK = {
    "POLL_SECONDS": "0.2",
    "CALL_TIMEOUT_SECONDS": "2",
    "MAX_SKEW_SECONDS": "0.2",
    "FOLLOW_SECONDS": "10",
}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A local cloud with a worker of its own, for tests that harm it."""
    made = Stack(
        folder=tmp_path, copy_seconds=0.5, tick_seconds=0.5, backoff_seconds=0.2, settings=QUICK
    )
    async with made as running:
        yield running


@pytest.fixture
async def replies(stack: Stack) -> AsyncIterator[Inbox]:
    inbox = await Inbox.open(stack.pubsub.address, topic_path(REPLIES), "test-replies")
    yield inbox
    await inbox.close()


@pytest.fixture
async def letters(stack: Stack) -> AsyncIterator[Inbox]:
    inbox = await Inbox.open(stack.pubsub.address, topic_path(DEAD_LETTERS), "test-letters")
    yield inbox
    await inbox.close()
