"""Another team's client: plain JSON and Google's library, written from docs/messages.md alone.

It shares no line with the publisher or the service, and talks to a real worker.
"""

import asyncio
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1

import stores
from local_cloud.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
PROJECT = "projects/gemini-fine-tuning-target"
REQUESTS = f"{PROJECT}/topics/model-copy-requests"
REPLIES = f"{PROJECT}/topics/model-copy-replies"
LETTERS = f"{PROJECT}/subscriptions/model-copy-dead-letters"
MODEL = "7704127342733426688"
SLOW_SECONDS = 60.0
QUICK = {
    "POLL_SECONDS": "0.2",
    "CALL_TIMEOUT_SECONDS": "2",
    "MAX_SKEW_SECONDS": "0.2",
    "VISIBILITY_SECONDS": "1",
    "FOLLOW_SECONDS": "10",
}


class Team:
    """The second implementation. Blocking, as its library is."""

    def __init__(self) -> None:
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()
        self.inbox = f"{PROJECT}/subscriptions/second-implementation"
        self.seen: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
        listening = {"name": self.inbox, "topic": REPLIES, "filter": 'attributes.reply_tag = "2nd"'}
        self.subscriber.create_subscription(request=listening)

    def ask(self, kind: str, event_id: str, data: object) -> str:
        """Publish a CloudEvent; return the digest of what it holds."""
        event: dict[str, Any] = {
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": "//second/implementation",
            "ce-type": f"dev.modelcopier.copy.{kind}.v1",
            "content-type": "application/json",
            "reply_tag": "2nd",
        }
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self.publisher.publish(REQUESTS, canonical.encode(), **event).result(10)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def ask_plainly(self, data: object) -> str:
        """Publish bare JSON; return its message id."""
        body = json.dumps(data).encode()
        return str(self.publisher.publish(REQUESTS, body, reply_tag="2nd").result(10))

    def reply(self, outcome: str, request_id: str, run: str | None = None) -> dict[str, Any]:
        """Wait for one reply; each event counts once, however often it comes."""
        for _ in range(20):
            for attributes, data in self.seen.values():
                if (attributes["outcome"], attributes["request_id"]) == (outcome, request_id) and (
                    run in {None, attributes.get("run")}
                ):
                    return data
            self._pull()
        raise AssertionError(f"no {outcome} for {request_id}; there were {self.seen}")

    def answer(self, question: str) -> tuple[str, dict[str, Any]]:
        """Wait for the answer to a question: a status names it, a rejection is under its id."""
        for _ in range(20):
            for attributes, data in self.seen.values():
                if question in {attributes.get("in_reply_to"), attributes["request_id"]}:
                    return attributes["outcome"], data
            self._pull()
        raise AssertionError(f"no answer to {question}; there were {self.seen}")

    def _pull(self) -> None:
        try:
            found = self.subscriber.pull(
                subscription=self.inbox, max_messages=10, timeout=1, retry=None
            )
        except DeadlineExceeded:
            return
        for received in found.received_messages:
            attributes = dict(received.message.attributes)
            self.seen[attributes["ce-id"]] = (attributes, json.loads(received.message.data))
            self.subscriber.acknowledge(subscription=self.inbox, ack_ids=[received.ack_id])

    def replay(self) -> None:
        """Run the page's own lines."""
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        (lines,) = (block for block in blocks if "replay_of" in block)
        exec(
            lines,
            {
                "publisher": self.publisher,
                "subscriber": self.subscriber,
                "REQUESTS": REQUESTS,
                "LETTERS": LETTERS,
            },
        )

    def close(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self.subscriber.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(
        folder=tmp_path_factory.mktemp("stack"),
        copy_seconds=0.5,
        tick_seconds=0.5,
        backoff_seconds=0.2,
        settings={**QUICK, **stores.settings()},
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def team(stack: Stack) -> AsyncIterator[Team]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", stack.pubsub.address)
        made = await asyncio.to_thread(Team)
    yield made
    await asyncio.to_thread(made.close)


async def test_it_asks_for_a_copy_and_reads_the_reply(team: Team):
    request = {"source_model_id": MODEL, "destination_model_id": "second", "correlation": {"n": 1}}

    digest = await asyncio.to_thread(team.ask, "requested", "copy-1", request)

    told = await asyncio.to_thread(team.reply, "succeeded", "copy-1")
    assert told["request_digest"] == digest
    assert told["resource_name"] == f"{PROJECT}/locations/us-central1/models/second"
    assert told["correlation"] == {"n": 1}
    assert told["verified"] is True


async def test_it_asks_with_bare_json(team: Team):
    message_id = await asyncio.to_thread(team.ask_plainly, {"source_model_id": MODEL})

    told = await asyncio.to_thread(team.reply, "succeeded", message_id)
    assert told["resource_name"].endswith(f"/models/m-{MODEL}-v1")


async def test_it_asks_how_a_copy_stands_and_ends_it(stack: Stack, team: Team):
    usual = stack.vertex.copy_seconds
    stack.vertex.copy_seconds = SLOW_SECONDS
    request = {"source_model_id": MODEL, "destination_model_id": "slow"}

    def play() -> tuple[dict[str, Any], dict[str, Any]]:
        team.ask("requested", "copy-2", request)
        for number in itertools.count():
            team.ask("status.requested", f"status-{number}", {"request_id": "copy-2"})
            outcome, told = team.answer(f"status-{number}")
            # Before the worker has taken the request up, the question is about nobody.
            if outcome == "status" and told["state"] == "COPYING":
                break
        team.ask("cancel.requested", "cancel-1", {"request_id": "copy-2"})
        return told, team.reply("cancelled", "copy-2")

    status, cancelled = await asyncio.wait_for(asyncio.to_thread(play), timeout=20)
    stack.vertex.copy_seconds = usual

    assert status["operation"] == cancelled["operation"]


async def test_it_replays_a_letter(stack: Stack, team: Team):
    stack.vertex.faults.copy_fails(times=1)
    request = {"source_model_id": MODEL, "destination_model_id": "third"}

    await asyncio.to_thread(team.ask, "requested", "copy-3", request)
    failed = await asyncio.to_thread(team.reply, "failed", "copy-3")
    await asyncio.to_thread(team.replay)

    told = await asyncio.to_thread(team.reply, "succeeded", "copy-3", "2")
    assert (failed["run"], told["run"]) == (1, 2)
    assert await stack.letters() == []


async def test_it_is_told_what_is_wrong_with_a_request(team: Team):
    await asyncio.to_thread(team.ask, "requested", "copy-4", {"source_model": MODEL})

    told = await asyncio.to_thread(team.reply, "rejected", "copy-4")
    assert told["error"]["message"].startswith(
        "source_model_id: is required; source_model: unknown"
    )


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
async def test_gcloud_asks_too(stack: Stack, team: Team, tmp_path: Path):
    request = {"source_model_id": MODEL, "destination_model_id": "by_hand"}
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": "by-hand",
        "ce-source": "//a/person",
        "ce-type": "dev.modelcopier.copy.requested.v1",
        "reply_tag": "2nd",
    }

    await asyncio.to_thread(
        subprocess.run,
        [
            *("gcloud", "pubsub", "topics", "publish", "model-copy-requests"),
            f"--message={json.dumps(request)}",
            f"--attribute={','.join(f'{name}={value}' for name, value in attributes.items())}",
        ],
        env={**os.environ, **stack.exports(), "CLOUDSDK_CONFIG": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=60,
    )

    told = await asyncio.to_thread(team.reply, "succeeded", "by-hand")
    assert told["resource_name"].endswith("/models/by_hand")
    assert told["request_source"] == "//a/person"
