"""Google's own clients of one Pub/Sub, for tests that need no loop of their own."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Queue
from typing import Any, Self

import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherClient as PlainPublisherClient
from google.pubsub_v1 import types

from local_cloud.pubsub import PubSub

PATIENCE_SECONDS = 10
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A Pub/Sub that runs, and where the certificates are that its tokens are checked by."""

    address: str
    certs_url: str = ""


@contextmanager
def serving(server: PubSub) -> Iterator[PubSub]:
    """Run ``server`` on a loop of its own, so that blocking clients can be used as they are."""
    started: Future[asyncio.AbstractEventLoop] = Future()
    ended = asyncio.Event()
    left_over: list[object] = []

    async def live() -> None:
        await server.start()
        started.set_result(asyncio.get_running_loop())
        await ended.wait()
        await server.stop()
        left_over.extend(asyncio.all_tasks() - {asyncio.current_task()})

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    loop = started.result(PATIENCE_SECONDS)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert left_over == []


class Clients:
    """Google's clients of one server, the few calls that every test makes, and their names.

    Every one has a project of its own: what a test leaves behind, such as a stream that a
    server has not yet seen the end of, meets no other test.
    """

    def __init__(
        self,
        address: str,
        monkeypatch: pytest.MonkeyPatch,
        *,
        project: str = "",
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        self.address = address
        self.patience_seconds = patience_seconds
        self.project = project or f"projects/contract-{next(_numbers)}"
        self.topic = f"{self.project}/topics/requests"
        self.letters = f"{self.project}/topics/letters"
        self.subscription = f"{self.project}/subscriptions/worker"
        self.other = f"{self.project}/subscriptions/other"
        # Any: they take plain dictionaries, which their annotations do not say.
        self.publisher: Any = pubsub_v1.PublisherClient()
        self.subscriber: Any = pubsub_v1.SubscriberClient()
        # Without the batching, and without its checks before sending.
        self.plain: Any = PlainPublisherClient(transport=self.publisher.transport)

    def close(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self.subscriber.close()

    def subscribe(self, name: str = "", **fields: Any) -> types.Subscription:
        subscription = types.Subscription(
            **{"name": name or self.subscription, "topic": self.topic, **fields}
        )
        created: types.Subscription = self.subscriber.create_subscription(request=subscription)
        return created

    def publish(self, data: str = "", **attributes: str) -> str:
        return self.publish_with_key("", data, **attributes)

    def publish_with_key(self, key: str, data: str, **attributes: str) -> str:
        message = types.PubsubMessage(data=data.encode(), attributes=attributes, ordering_key=key)
        [message_id] = self.plain.publish(topic=self.topic, messages=[message]).message_ids
        return str(message_id)

    def pull(self, name: str = "", **fields: Any) -> list[types.ReceivedMessage]:
        """Answers at once, perhaps with nothing, unless told to wait."""
        request = {
            "subscription": name or self.subscription,
            "max_messages": 100,
            "return_immediately": True,
        }
        answer = self.subscriber.pull(request={**request, **fields}, timeout=self.patience_seconds)
        return list(answer.received_messages)

    def wait_and_pull(self, name: str = "") -> list[types.ReceivedMessage]:
        return self.pull(name, return_immediately=False)

    def acknowledge(self, *received: types.ReceivedMessage, name: str = "") -> None:
        self.subscriber.acknowledge(
            subscription=name or self.subscription, ack_ids=[one.ack_id for one in received]
        )

    def nack(self, *received: types.ReceivedMessage) -> None:
        self.subscriber.modify_ack_deadline(
            subscription=self.subscription,
            ack_ids=[one.ack_id for one in received],
            ack_deadline_seconds=0,
        )

    def stream(self, **fields: Any) -> "Stream":
        first = types.StreamingPullRequest(
            **{"subscription": self.subscription, "stream_ack_deadline_seconds": 10, **fields}
        )
        return Stream(self.subscriber, first, patience_seconds=self.patience_seconds)

    def listen(self, callback: Callable[[Any], object], **options: Any) -> Any:
        """Streaming pull as applications use it, until the future that this is is cancelled."""
        return self.subscriber.subscribe(self.subscription, callback, **options)


class Stream:
    """One streaming pull by hand, where the client's own bookkeeping would be in the way."""

    def __init__(
        self, client: Any, first: types.StreamingPullRequest, *, patience_seconds: float
    ) -> None:
        self._requests: Queue[types.StreamingPullRequest | None] = Queue()
        self._requests.put(first)
        self._call = client.streaming_pull(
            requests=iter(self._requests.get, None), timeout=patience_seconds
        )

    def send(self, **fields: Any) -> None:
        self._requests.put(types.StreamingPullRequest(**fields))

    def receive(self) -> list[types.ReceivedMessage]:
        return list(next(self._call).received_messages)

    def close(self) -> None:
        self._requests.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._call.cancel()


def texts(received: Iterable[types.ReceivedMessage]) -> list[str]:
    return [one.message.data.decode() for one in received]
