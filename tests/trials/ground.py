"""What the trials stand on: one local cloud with real processes, and the habits of callers.

A trial is one public report: what went wrong elsewhere, tried here. It raises AssertionError where
the copier does not do what a correct one does.
"""

import asyncio
import base64
import json
import os
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from google.pubsub_v1.types import PubsubMessage

from e2e.conftest import quick_stack
from inbox import Inbox
from local_cloud.stack import SOURCE_MODEL, SOURCE_PROJECT, Stack
from local_cloud.topics import DEAD_LETTERS, REPLIES, REQUESTS, subscription_path, topic_path

ROOT = Path(__file__).parents[2]
MODEL_COPY = str(Path(sys.executable).with_name("model-copy"))
REQUESTED = "dev.modelcopier.copy.requested.v1"
SOURCE = f"projects/{SOURCE_PROJECT}/locations/us-central1/models/{SOURCE_MODEL}"
GITHUB = "https://github.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One report."""

    number: int
    source: str  # address of the report, or what habit it is
    right: str  # what a correct copier does
    run: Callable[["Ground"], Awaitable[None]]
    alone: bool  # it arms a fault or changes the set-up, which others would meet


TRIALS: list[Trial] = []


def trial(
    number: int, source: str, right: str, *, alone: bool = False
) -> Callable[[Callable[["Ground"], Awaitable[None]]], Callable[["Ground"], Awaitable[None]]]:
    """Register a trial; ``source`` without a scheme is ``OWNER/REPO#NUMBER`` on GitHub."""
    owner_repo, _, issue = source.partition("#")
    address = f"{GITHUB}/{owner_repo}/issues/{issue}" if issue and " " not in source else source

    def register(
        run: Callable[["Ground"], Awaitable[None]],
    ) -> Callable[["Ground"], Awaitable[None]]:
        TRIALS.append(Trial(number=number, source=address, right=right, run=run, alone=alone))
        return run

    return register


@dataclass(frozen=True, slots=True)
class Ended:
    """A process, after its end."""

    code: int | None
    out: str
    errors: str

    @property
    def all(self) -> str:
        return f"exit {self.code}: {self.out}{self.errors}"[-600:]


@dataclass(kw_only=True)
class Ground:
    """The local cloud with worker and api; nobody is asked for a token."""

    stack: Stack
    folder: Path
    replies: Inbox
    letters: Inbox
    http: httpx.AsyncClient
    _listening: asyncio.Lock = field(default_factory=asyncio.Lock)

    # Over Pub/Sub

    async def publish(self, data: object, **attributes: str) -> str:
        """Publish as any team would; the message id."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        assert self.stack.topics is not None
        message = PubsubMessage(data=body, attributes=attributes)
        answer = await self.stack.topics.publisher.publish(
            topic=topic_path(REQUESTS), messages=[message]
        )
        return answer.message_ids[0]

    async def reply(self, request_id: str, *, seconds: float = 30, count: int = 1) -> Any:
        """Wait for the outcome of a request; the last of ``count``."""
        async with asyncio.timeout(seconds):
            while True:
                async with self._listening:
                    if len(self._told(request_id)) < count:
                        await self.replies._pull(0.3)
                if len(told := self._told(request_id)) >= count:
                    return json.loads(told[count - 1].data)

    def _told(self, request_id: str) -> list[PubsubMessage]:
        return [
            each for each in self.replies.of(request_id) if each.attributes["outcome"] != "status"
        ]

    async def ask(self, data: object = None, **more: Any) -> Any:
        """Publish a CloudEvent and wait for what is told of it."""
        request_id = more.pop("request_id", None) or uuid.uuid4().hex
        await self.publish(
            {"source_model_id": SOURCE_MODEL} | (data if isinstance(data, dict) else {})
            if not isinstance(data, bytes)
            else data,
            **event(request_id),
            **more,
        )
        return await self.reply(request_id)

    async def letter(self, found: Callable[[PubsubMessage], bool]) -> PubsubMessage:
        """Wait for a dead letter."""
        async with self._listening:
            return await self.letters.until(found, seconds=20)

    async def push(self, data: bytes | str, **message: Any) -> httpx.Response:
        """Post an envelope to the worker, as Pub/Sub does."""
        encoded = base64.b64encode(data).decode() if isinstance(data, bytes) else data
        envelope = {"message": {"data": encoded, "messageId": uuid.uuid4().hex, **message}}
        return await self.http.post(f"{self.stack.worker.url}/pubsub/requests", json=envelope)

    async def change_requests(self, **fields: Any) -> None:
        """Change the subscription that the worker is told of requests by."""
        assert self.stack.topics is not None
        await self.stack.topics.subscriber.update_subscription(
            request={
                "subscription": {"name": subscription_path(REQUESTS), **fields},
                "update_mask": {"paths": list(fields)},
            }
        )

    async def logged(self, text: str, *, seconds: float = 30) -> None:
        """Wait until the worker has logged this."""
        log = self.stack.worker.log
        async with asyncio.timeout(seconds):
            while text not in log.read_text():  # noqa: ASYNC110  a process writes it
                await asyncio.sleep(0.02)

    # Over REST

    async def copy(self, **how: Any) -> httpx.Response:
        return await self.http.post(f"{self.stack.api.url}/v1/models/copy", **how)

    # On a machine

    async def cli(self, *words: str, **env: str) -> Ended:
        return await self.ended(MODEL_COPY, *words, **env)

    async def ended(self, *words: str, given: str = "", **env: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *words,
            env={
                "PATH": f"{Path(MODEL_COPY).parent}:{os.environ['PATH']}",
                "HOME": str(self.folder),
                **self.stack.exports(),
                **env,
            },
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        out, errors = await process.communicate(given.encode())
        return Ended(process.returncode, out.decode(), errors.decode())


def event(request_id: str, **more: str) -> dict[str, str]:
    """The attributes of a CloudEvent."""
    return {
        "ce-specversion": "1.0",
        "ce-id": request_id,
        "ce-source": "//trials",
        "ce-type": REQUESTED,
        **more,
    }


def model(name: str) -> str:
    """The full name of a model in the source project."""
    return SOURCE.replace(SOURCE_MODEL, name)


def says(told: Mapping[str, Any] | str, *words: str) -> None:
    """Hold that all ``words`` are said."""
    text = told if isinstance(told, str) else json.dumps(told)
    missing = [each for each in words if each not in text]
    assert not missing, f"{missing} not in {text[:400]}"


def says_not(told: Mapping[str, Any] | str, *words: str) -> None:
    """Hold that none of ``words`` is said."""
    text = told if isinstance(told, str) else json.dumps(told)
    there = [each for each in words if each in text]
    assert not there, f"{there} in {text[:400]}"


@asynccontextmanager
async def ground(folder: Path) -> AsyncIterator[Ground]:
    """All of it, running."""
    async with quick_stack(folder / "stack", with_api=True) as stack:
        replies = await Inbox.open(stack.pubsub.address, topic_path(REPLIES), "trials-replies")
        letters = await Inbox.open(stack.pubsub.address, topic_path(DEAD_LETTERS), "trials-letters")
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            yield Ground(stack=stack, folder=folder, replies=replies, letters=letters, http=http)
        await replies.close()
        await letters.close()
