"""The publisher: publishes requests, and waits for their outcomes.

Waiting again is publishing again: the same request (source, id and content)
makes the service announce its outcome once more and never copies twice. So the
wait needs topics alone, and may be broken off and taken up at any point.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Self

from model_copy_publisher import filters, wire
from model_copy_publisher.broker import Broker
from model_copy_publisher.errors import UnknownRequestError
from model_copy_publisher.events import Reply, Status
from model_copy_publisher.messages import (
    CANCEL_TYPE,
    DEFAULT_SOURCE,
    STATUS_TYPE,
    CopyRequest,
    Named,
    Published,
    Question,
)
from model_copy_publisher.resource_names import (
    REPLY_TOPIC,
    REQUEST_TOPIC,
    check_distinct,
    check_project,
    full_name,
)
from model_copy_publisher.subscription import Subscription
from model_copy_publisher.waiting import (
    DEFAULT_PACE,
    Awaited,
    Pace,
    Questions,
    Unknown,
    Waiting,
)

DEFAULT_TIMEOUT_SECONDS = 3600.0
# A question is answered by the next delivery; a worker that starts up needs some seconds.
DEFAULT_ANSWER_SECONDS = 60.0

# One publish call: Pub/Sub allows 1,000 messages and 10 MB.
MAX_MESSAGES = 500
MAX_BYTES = 4_000_000
# Calls under way at once: enough to hide the way there and back, few enough to stop soon.
IN_FLIGHT = 4


class Publisher:
    """Publishes requests to a model copier and waits for its replies.

    ``project`` holds the topics. A topic may be a short or a full name.

        with Publisher(project="team-models") as publisher:
            request = CopyRequest(source_model_id="7704127342733426688@1")
            published = publisher.publish(request)         # and go on, or:
            reply = publisher.copy(request)                # the same request: never a second copy

    ``PUBSUB_EMULATOR_HOST`` is obeyed; otherwise ``credentials_file`` is used, or Google's
    application default credentials. ``pace`` bounds how often a wait asks how copies stand.
    One object serves one thread.

    Raises:
        InvalidRequestError: ``project`` or a topic is not a name.
        BrokerError: there are no usable credentials.
    """

    def __init__(
        self,
        *,
        project: str,
        request_topic: str = REQUEST_TOPIC,
        reply_topic: str = REPLY_TOPIC,
        credentials_file: str | None = None,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        check_project(project)
        self.request_topic = full_name("request_topic", request_topic, project)
        self.reply_topic = full_name("reply_topic", reply_topic, project)
        check_distinct(request_topic=self.request_topic, reply_topic=self.reply_topic)
        self._project = project
        self._pace = pace
        self._broker = Broker(credentials_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()

    # Publishing

    def publish(self, request: CopyRequest, *, within_seconds: float | None = None) -> Published:
        """Publish ``request`` and return once Pub/Sub has confirmed it.

        May publish the message more than once; the service copies once.

        Raises:
            UnreachableError: not confirmed within ``within_seconds`` (default 60, with an
                emulator 5); it may have been published.
            BrokerError: Pub/Sub refused.
        """
        return self._publish_requests([request], within_seconds)[0]

    def publish_all(
        self, requests: Iterable[CopyRequest], *, within_seconds: float | None = None
    ) -> Iterator[Published]:
        """Publish many, and yield each once it is confirmed, in their order.

        At most a few thousand are under way at once, so that any number may be given.
        ``within_seconds`` and what is raised: as ``publish``, for each call to Pub/Sub.
        What was not yielded by then may have been published all the same.
        """
        lots = _lots(requests)
        first, second = next(lots, []), next(lots, [])
        if not second:  # the usual case needs no threads
            yield from self._publish_requests(first, within_seconds) if first else []
            return
        pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="publish")
        flying: deque[Future[list[Published]]] = deque()
        try:
            for lot in itertools.chain([first, second], lots):
                if len(flying) == IN_FLIGHT:
                    yield from flying.popleft().result()
                flying.append(pool.submit(self._publish_requests, lot, within_seconds))
            while flying:
                yield from flying.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    # Waiting

    def copy(
        self, request: CopyRequest, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> Reply:
        """Publish ``request`` and wait for its outcome, whichever it is.

        Call it again with the same request to wait again.

            reply = publisher.copy(request, timeout_seconds=600)
            if not reply.ok:
                raise RuntimeError(reply.error)

        Raises:
            NoReplyError: nothing was announced in time; the copy may go on.
            BrokerError: Pub/Sub refused, or could not be reached to publish.
        """
        return next(self.copy_all([request], timeout_seconds=timeout_seconds))

    def copy_all(
        self,
        requests: Sequence[CopyRequest],
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Iterator[Reply]:
        """Publish ``requests`` and yield the outcome of each as it comes, each once.

        Raises: as ``copy``; what was yielded by then stays true.
        """
        with self.listening(requests) as waiting:
            for _ in self.publish_all(requests):
                pass
            for lot in waiting.events(timeout_seconds=timeout_seconds):
                yield from (event for event in lot if isinstance(event, Reply))

    def wait(
        self,
        request_ids: Sequence[str],
        *,
        request_source: str = DEFAULT_SOURCE,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Iterator[Reply | Status]:
        """Wait for requests that are known by their ids alone, and yield how each ended.

        One that had ended before comes as a ``Status``, any other as a ``Reply``; both have ``ok``.

        Raises:
            UnknownRequestError: nobody asked for it, or longer ago than the service remembers.
            NoReplyError: not all had ended in time; they may go on.
            BrokerError: Pub/Sub refused, or could not be reached.
        """
        named = [Named.by(each, request_source) for each in request_ids]
        with self.questioning(named) as waiting:
            for lot in waiting.events(timeout_seconds=timeout_seconds):
                for event in lot:
                    if isinstance(event, Unknown):
                        raise UnknownRequestError(event.request.request_id)
                    if isinstance(event, Reply) or (isinstance(event, Status) and event.ended):
                        yield event

    def status(
        self,
        request_id: str,
        *,
        request_source: str = DEFAULT_SOURCE,
        timeout_seconds: float = DEFAULT_ANSWER_SECONDS,
    ) -> Status | Reply:
        """Ask how a request stands. It may end at that very moment: then it is a ``Reply``.

        Raises: as ``wait``.
        """
        named = Named.by(request_id, request_source)
        with self.questioning([named]) as waiting:
            for lot in waiting.events(timeout_seconds=timeout_seconds):
                for event in lot:
                    if isinstance(event, Unknown):
                        raise UnknownRequestError(request_id)
                    if isinstance(event, Reply | Status):
                        return event
        raise AssertionError("a wait ends with an event or raises")

    def cancel(
        self,
        request_id: str,
        *,
        request_source: str = DEFAULT_SOURCE,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Reply | Status:
        """Ask for the end of a copy, and wait for its outcome: ``cancelled``, or what came first.

        Raises: as ``wait``.
        """
        named = Named.by(request_id, request_source)
        with self.questioning([named], kind=CANCEL_TYPE) as waiting:
            for lot in waiting.events(timeout_seconds=timeout_seconds):
                for event in lot:
                    if isinstance(event, Unknown):
                        raise UnknownRequestError(request_id)
                    if isinstance(event, Reply) or (isinstance(event, Status) and event.ended):
                        return event
        raise AssertionError("a wait ends with an event or raises")

    # What both the API and the command are made of

    @contextmanager
    def listening(
        self,
        requests: Sequence[CopyRequest],
        *,
        subscription: Subscription | None = None,
        on_subscribed: Callable[[str], object] = lambda _: None,
    ) -> Iterator[Waiting]:
        """Listen for what is told of ``requests``: enter it before publishing them."""
        listening = subscription or self.subscription([each.request_id for each in requests])
        with listening:
            on_subscribed(listening.name)
            yield Waiting(
                subscription=listening,
                awaited=requests,
                pace=self._pace,
                ask=self._publish_again,
                questions=Questions(publish=self._publish_questions),
                on_subscribed=on_subscribed,
            )

    @contextmanager
    def questioning(
        self, requests: Sequence[Named], *, kind: str = STATUS_TYPE
    ) -> Iterator[Waiting]:
        """Ask about ``requests`` (or for their end), and listen for what is told of them."""
        asking = Questions(publish=self._publish_questions, kind=kind)
        listening = self.subscription(
            [each.request_id for each in requests], also_about=(asking.prefix,)
        )
        with listening:
            asking.ask(requests, self._broker.patience_seconds)
            yield Waiting(
                subscription=listening,
                awaited=requests,
                pace=self._pace,
                ask=asking.ask,
                questions=asking,
                states_will_do=True,
            )

    @contextmanager
    def following(
        self,
        requests: Sequence[Named],
        *,
        again: Callable[[Sequence[Awaited], float], object],
        known_before: Iterable[str] = (),
    ) -> Iterator[Waiting]:
        """Listen for further outcomes of ``requests``; ``again`` has them told once more.

        Enter it before publishing whatever brings them.
        """
        questions = Questions(publish=self._publish_questions)
        names = [each.request_id for each in requests]
        with self.subscription(names, also_about=(questions.prefix,)) as listening:
            yield Waiting(
                subscription=listening,
                awaited=requests,
                pace=self._pace,
                ask=again,
                questions=questions,
                known_before=known_before,
            )

    def subscription(
        self, request_ids: Sequence[str], *, name: str = "", also_about: Sequence[str] = ()
    ) -> Subscription:
        """Return a subscription for what is told of these requests; ``name`` takes one up."""
        return Subscription(
            broker=self._broker,
            project=self._project,
            reply_topic=self.reply_topic,
            narrowed_to=filters.of_requests(request_ids, prefixes=also_about),
            name=name,
        )

    def _publish_again(self, requests: Sequence[Awaited], within_seconds: float) -> None:
        copies = [each for each in requests if isinstance(each, CopyRequest)]
        for _ in self.publish_all(copies, within_seconds=within_seconds):
            pass

    def _publish_requests(
        self, requests: Sequence[CopyRequest], within_seconds: float | None
    ) -> list[Published]:
        now = datetime.now(UTC)
        message_ids = self._publish(requests, now, within_seconds)
        return [
            Published(
                request_id=request.request_id,
                request_source=request.request_source,
                request_digest=request.digest,
                message_id=message_id,
                published_at=now,
            )
            for request, message_id in zip(requests, message_ids, strict=True)
        ]

    def _publish_questions(self, questions: Sequence[Question], within_seconds: float) -> None:
        now = datetime.now(UTC)
        for i in range(0, len(questions), MAX_MESSAGES):
            self._publish(questions[i : i + MAX_MESSAGES], now, within_seconds)

    def _publish(
        self,
        messages: Sequence[CopyRequest | Question],
        now: datetime,
        within_seconds: float | None,
    ) -> Sequence[str]:
        with self._broker.explained(
            task="publish the request" if len(messages) == 1 else "publish the requests",
            missing=f"the topic {self.request_topic}",
            needs=f"roles/pubsub.publisher on {self.request_topic}",
        ):
            response = self._broker.call(
                wire.PUBLISH,
                wire.PublishRequest(
                    topic=self.request_topic,
                    messages=[wire.message(each.body, each.attributes(now)) for each in messages],
                ),
                within_seconds=within_seconds or self._broker.patience_seconds,
            )
        return list(response.message_ids)


def _lots(requests: Iterable[CopyRequest]) -> Iterator[list[CopyRequest]]:
    lot: list[CopyRequest] = []
    size = 0
    for request in requests:
        # Attributes are at most some 1,500 bytes.
        weight = len(request.body) + 1_500
        if lot and (len(lot) == MAX_MESSAGES or size + weight > MAX_BYTES):
            yield lot
            lot, size = [], 0
        lot.append(request)
        size += weight
    if lot:
        yield lot
