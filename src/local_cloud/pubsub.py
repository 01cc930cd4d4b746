"""Pub/Sub for one machine: Google's gRPC services, and push, around the pure broker.

Google's own clients talk to it as they are (``PUBSUB_EMULATOR_HOST``). What is not built is
refused with UNIMPLEMENTED and a sentence, never accepted and left undone; two exceptions:
message retention and expiration are stored and returned, and nothing is ever dropped for
its age. State is memory only: it survives ``stop`` and ``start``, not the process.

What must not break: a call either changes the broker wholly or is refused; and every change
is followed by ``_settle``, which wakes whoever waits for it and sets the one timer.
"""

import asyncio
import base64
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Self

import grpc
import grpc.aio
import httpx
from google.protobuf import empty_pb2
from google.protobuf.message import DecodeError
from google.pubsub_v1 import types

from local_cloud.broker import (
    DELETED_TOPIC,
    Backoff,
    Broker,
    BrokerError,
    Consumer,
    Content,
    Delivery,
    InvalidArgumentError,
    Rules,
    Subscription,
    Topic,
    UnimplementedError,
)
from local_cloud.filters import FilterSyntaxError, parse_filter

# Documented limits: cloud.google.com/pubsub/quotas#resource_limits.
MAX_PUBLISH_BYTES = 10_000_000
MAX_PUBLISH_MESSAGES = 1_000
MAX_ATTRIBUTES = 100
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 1_024
MAX_ORDERING_KEY_BYTES = 1_024
MAX_SECONDS = 600  # of an ack deadline and of a backoff
PAGE_SIZE = 100
ANSWER_MESSAGES = 1_000

# The real service answers an empty pull after a while too; below the 60 s that Google's
# client allows a pull.
PULL_WAIT_SECONDS = 30
STOP_SECONDS = 0.5

# 102 is in the documented list, although HTTP clients never show an interim answer.
ACK_STATUSES = frozenset({102, 200, 201, 202, 204})

GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    # Two servers on one port would share it silently and each lose half of the calls.
    ("grpc.so_reuseport", 0),
    # Google's clients ping every 30 s, which gRPC servers punish unless told otherwise.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_RESOURCE_ID = r"(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}"
_NAMES = {
    "topics": re.compile(rf"projects/[^/\s]+/topics/{_RESOURCE_ID}"),
    "subscriptions": re.compile(rf"projects/[^/\s]+/subscriptions/{_RESOURCE_ID}"),
}
_PROJECT = re.compile(r"projects/[^/\s]+")

_UNBUILT_TOPIC_FIELDS = frozenset(
    {"schema_settings", "ingestion_data_source_settings", "message_transforms"}
)
_UNBUILT_SUBSCRIPTION_FIELDS = frozenset(
    {
        "bigquery_config",
        "cloud_storage_config",
        "bigtable_config",
        "message_transforms",
        "enable_message_ordering",
        "enable_exactly_once_delivery",
    }
)
_UNBUILT_PUSH_FIELDS = frozenset({"oidc_token", "no_wrapper"})
_CHANGEABLE = frozenset(
    {
        "ack_deadline_seconds",
        "push_config",
        "retry_policy",
        "dead_letter_policy",
        "labels",
        "message_retention_duration",
        "retain_acked_messages",
        "expiration_policy",
    }
)

EMPTY: Any = empty_pb2.Empty()  # type: ignore[attr-defined]  # protobuf makes it at import

Clock = Callable[[], float]
Settle = Callable[[], None]
Answer = Callable[[Any], Awaitable[Any]]


class PubSub:
    """The server. ``address`` ("127.0.0.1:PORT") is known once started.

    ``min_ack_deadline_seconds`` may be lowered, so that tests need not wait the 10 s that the
    real service insists on; ``max_parallel_pushes`` holds for each subscription on its own.
    """

    address: str

    def __init__(
        self, *, min_ack_deadline_seconds: float = 10, max_parallel_pushes: int = 100
    ) -> None:
        self._broker = Broker()
        self._clock: Clock = time.time
        self._bells = _Bells()
        self._max_parallel_pushes = max_parallel_pushes
        publisher = _Publisher(broker=self._broker, clock=self._clock)
        self._subscriber = _Subscriber(
            broker=self._broker,
            clock=self._clock,
            bells=self._bells,
            settle=self._settle,
            min_ack_deadline_seconds=min_ack_deadline_seconds,
        )
        self._methods = {**publisher.methods(), **self._subscriber.methods()}
        self._timer: asyncio.TimerHandle | None = None
        self._courier: _Courier | None = None
        self._server: Any = None
        self._calls: set[asyncio.Task[Any]] = set()

    async def start(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            RuntimeError: the port is taken.
        """
        handlers = {name: self._unary(*method) for name, method in self._methods.items()}
        handlers["/google.pubsub.v1.Subscriber/StreamingPull"] = (
            grpc.stream_stream_rpc_method_handler(self._streaming_pull)
        )
        server = grpc.aio.server(options=GRPC_OPTIONS)
        server.add_generic_rpc_handlers((_Methods(handlers),))
        self.address = f"{host}:{server.add_insecure_port(f'{host}:{port}')}"
        await server.start()
        self._server = server
        self._courier = _Courier(
            clock=self._clock, settle=self._settle, max_parallel=self._max_parallel_pushes
        )
        for subscription in self._broker.subscriptions.values():
            self._courier.dispatch(subscription)
        self._settle()

    async def stop(self) -> None:
        """End open calls and pushes at once. A push cut short is nacked; leases run on."""
        if self._server is None or self._courier is None:
            return
        server, self._server = self._server, None
        courier, self._courier = self._courier, None
        if self._timer is not None:
            self._timer.cancel()
        await courier.close()
        await server.stop(grace=None)
        if self._calls:  # cancelled by now; gRPC does not wait until they have noticed
            await asyncio.wait(self._calls, timeout=STOP_SECONDS)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _settle(self) -> None:
        """Wake whoever may have been waiting for what just changed, and set the timer anew."""
        if self._courier is None:
            return
        while stirred := self._broker.collect_stirred():
            for subscription in stirred:
                self._bells.ring(subscription)
                self._courier.dispatch(subscription)
        if self._timer is not None:
            self._timer.cancel()
        due = self._broker.next_due()
        if due is not None:
            delay = max(0.0, due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_time)

    def _on_time(self) -> None:
        self._broker.advance(self._clock())
        self._settle()

    def _unary(self, request_type: Any, answer: Answer) -> Any:
        async def serve(raw: bytes, context: Any) -> bytes:
            self._count_call()
            try:
                response = await answer(_parsed(request_type, raw))
            except BrokerError as error:
                await context.abort(grpc.StatusCode[error.code], str(error))
            finally:
                self._settle()
            return bytes(response.SerializeToString())

        return grpc.unary_unary_rpc_method_handler(serve)

    async def _streaming_pull(self, raws: AsyncIterator[bytes], context: Any) -> None:
        self._count_call()

        async def requests() -> AsyncIterator[Any]:
            async for raw in raws:
                yield _parsed(types.StreamingPullRequest, raw)

        async def write(response: Any) -> None:
            await context.write(response.SerializeToString())

        try:
            await self._subscriber.StreamingPull(requests(), write)
        except BrokerError as error:
            await context.abort(grpc.StatusCode[error.code], str(error))

    def _count_call(self) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a call; every unknown method is answered by a sentence."""

    def __init__(self, handlers: Mapping[str, Any]) -> None:
        self._handlers = handlers

    def service(self, details: Any) -> Any:
        async def refuse(_raw: bytes, context: Any) -> None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"The local Pub/Sub has no {details.method}."
            )

        return self._handlers.get(details.method) or grpc.unary_unary_rpc_method_handler(refuse)


class _Bells:
    """One bell for each subscription; ringing wakes all who wait now and nobody later."""

    def __init__(self) -> None:
        self._events: dict[Subscription, asyncio.Event] = {}

    def hear(self, subscription: Subscription) -> asyncio.Event:
        """The next ring. Ask for it before looking whether there is anything to wait for."""
        return self._events.setdefault(subscription, asyncio.Event())

    def ring(self, subscription: Subscription) -> None:
        event = self._events.pop(subscription, None)
        if event is not None:
            event.set()


class _Courier:
    """Push: one POST for each delivery, each on its own task, so that none waits for another."""

    def __init__(self, *, clock: Clock, settle: Settle, max_parallel: int) -> None:
        self._clock = clock
        self._settle = settle
        self._max_parallel = max_parallel
        self._consumers: dict[Subscription, Consumer] = {}
        self._posts: set[asyncio.Task[None]] = set()

    def dispatch(self, subscription: Subscription) -> None:
        """Push what is ready, as far as the subscription's own cap has room."""
        if subscription.deleted or not subscription.rules.push_endpoint:
            self._consumers.pop(subscription, None)
            return
        consumer = self._consumers.setdefault(
            subscription,
            Consumer(pushes=True, max_messages=self._max_parallel, lease_seconds=0),
        )
        consumer.lease_seconds = subscription.rules.ack_deadline_seconds
        while taken := subscription.take(consumer, limit=ANSWER_MESSAGES, now=self._clock()):
            for delivery in taken:
                post = asyncio.create_task(self._post(subscription, delivery))
                self._posts.add(post)
                post.add_done_callback(self._posts.discard)

    async def close(self) -> None:
        for post in self._posts:
            post.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)

    async def _post(self, subscription: Subscription, delivery: Delivery) -> None:
        rules = subscription.rules
        body = json.dumps(envelope(subscription, delivery)).encode()
        acknowledged = False
        try:
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(rules.ack_deadline_seconds), _stranger() as client:
                    response = await client.post(rules.push_endpoint, content=body)
                acknowledged = response.status_code in ACK_STATUSES
        finally:  # also when ``close`` cancels the post: no answer is a nack
            if acknowledged:
                subscription.acknowledge([delivery.ack_id])
            else:
                subscription.modify_deadline([delivery.ack_id], seconds=0, now=self._clock())
            self._settle()


def _stranger() -> httpx.AsyncClient:
    """A client for one push, with nothing from the one before: no cookie, no connection.

    A shared one costs more: its pool searches all connections for each request, and a kept
    connection that the server is just closing would cost a delivery attempt.
    """
    return httpx.AsyncClient(
        headers={"User-Agent": "CloudPubSub-Google", "Content-Type": "application/json"},
        transport=httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False),
        timeout=None,  # noqa: S113  the caller's ack deadline bounds the whole call
        trust_env=False,
    )


@cache
def _tls() -> ssl.SSLContext:
    """Made on the first push: it reads every root certificate, which takes a while."""
    return httpx.create_ssl_context(trust_env=False)


def envelope(subscription: Subscription, delivery: Delivery) -> dict[str, object]:
    """The body of a wrapped push: cloud.google.com/pubsub/docs/push#receive_push."""
    message, content = delivery.message, delivery.message.content
    published_at = message.published_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    wrapped: dict[str, object] = {
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published_at,
        "publish_time": published_at,
    }
    if content.data:
        wrapped["data"] = base64.b64encode(content.data).decode()
    if content.attributes:
        wrapped["attributes"] = dict(content.attributes)
    if content.ordering_key:
        wrapped["orderingKey"] = content.ordering_key
    body: dict[str, object] = {"message": wrapped, "subscription": subscription.name}
    if subscription.rules.dead_letter_topic:
        body["deliveryAttempt"] = delivery.attempt
    return body


class _Publisher:
    """google.pubsub.v1.Publisher, as far as it is built."""

    def __init__(self, *, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock

    def methods(self) -> dict[str, tuple[Any, Answer]]:
        return _by_path(
            "Publisher",
            self.CreateTopic,
            self.GetTopic,
            self.ListTopics,
            self.DeleteTopic,
            self.Publish,
            self.ListTopicSubscriptions,
        )

    async def CreateTopic(self, request: Any) -> Any:
        _refuse_unbuilt(request, _UNBUILT_TOPIC_FIELDS)
        request.state = types.Topic.State.ACTIVE.value
        return self._broker.create_topic(_name("topics", request.name), record=request).record

    async def GetTopic(self, request: Any) -> Any:
        return self._topic(request.topic).record

    async def ListTopics(self, request: Any) -> Any:
        names, next_page_token = _page(_of_project(self._broker.topics, request), request)
        return types.ListTopicsResponse.pb()(
            topics=[self._broker.topics[name].record for name in names],
            next_page_token=next_page_token,
        )

    async def DeleteTopic(self, request: Any) -> Any:
        self._broker.delete_topic(self._topic(request.topic).name)
        return EMPTY

    async def Publish(self, request: Any) -> Any:
        topic = self._topic(request.topic)
        if request.ByteSize() > MAX_PUBLISH_BYTES:
            raise InvalidArgumentError(
                f"messages: a request has at most {MAX_PUBLISH_BYTES} bytes, "
                f"not {request.ByteSize()}."
            )
        if not 1 <= len(request.messages) <= MAX_PUBLISH_MESSAGES:
            raise InvalidArgumentError(
                f"messages: 1 to {MAX_PUBLISH_MESSAGES} of them, not {len(request.messages)}."
            )
        contents = [
            _content(message, where=f"messages[{index}]")
            for index, message in enumerate(request.messages)
        ]
        message_ids = self._broker.publish(topic.name, contents, now=self._clock())
        return types.PublishResponse.pb()(message_ids=message_ids)

    async def ListTopicSubscriptions(self, request: Any) -> Any:
        names, next_page_token = _page(self._topic(request.topic).subscriptions, request)
        return types.ListTopicSubscriptionsResponse.pb()(
            subscriptions=names, next_page_token=next_page_token
        )

    def _topic(self, name: str) -> Topic:
        return self._broker.topic(_name("topics", name, field="topic"))


class _Subscriber:
    """google.pubsub.v1.Subscriber, as far as it is built."""

    def __init__(
        self,
        *,
        broker: Broker,
        clock: Clock,
        bells: _Bells,
        settle: Settle,
        min_ack_deadline_seconds: float,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._bells = bells
        self._settle = settle
        self._min_ack_deadline_seconds = min_ack_deadline_seconds

    def methods(self) -> dict[str, tuple[Any, Answer]]:
        """All but StreamingPull, which is not one request and one answer."""
        return _by_path(
            "Subscriber",
            self.CreateSubscription,
            self.GetSubscription,
            self.UpdateSubscription,
            self.ListSubscriptions,
            self.DeleteSubscription,
            self.ModifyPushConfig,
            self.Pull,
            self.Acknowledge,
            self.ModifyAckDeadline,
        )

    async def CreateSubscription(self, request: Any) -> Any:
        name = _name("subscriptions", request.name)
        topic = _name("topics", request.topic, field="topic")
        subscription = self._broker.create_subscription(
            name, topic=topic, rules=self._rules(request), record=request
        )
        return _described(subscription)

    async def GetSubscription(self, request: Any) -> Any:
        return _described(self._subscription(request.subscription))

    async def UpdateSubscription(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription.name, field="subscription.name")
        paths = list(request.update_mask.paths)
        if not paths:
            raise InvalidArgumentError("update_mask: names no field.")
        for path in paths:
            if path.partition(".")[0] not in _CHANGEABLE:
                raise InvalidArgumentError(f"update_mask: {path!r} cannot be changed.")
        if not request.update_mask.IsValidForDescriptor(request.subscription.DESCRIPTOR):
            raise InvalidArgumentError(f"update_mask: {paths} names an unknown field.")
        record = types.Subscription.pb()()
        record.CopyFrom(subscription.record)
        request.update_mask.MergeMessage(
            request.subscription, record, replace_message_field=True, replace_repeated_field=True
        )
        return self._change(subscription, record)

    async def ListSubscriptions(self, request: Any) -> Any:
        names, next_page_token = _page(_of_project(self._broker.subscriptions, request), request)
        return types.ListSubscriptionsResponse.pb()(
            subscriptions=[_described(self._broker.subscriptions[name]) for name in names],
            next_page_token=next_page_token,
        )

    async def DeleteSubscription(self, request: Any) -> Any:
        self._broker.delete_subscription(self._subscription(request.subscription).name)
        return EMPTY

    async def ModifyPushConfig(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        record = types.Subscription.pb()()
        record.CopyFrom(subscription.record)
        record.push_config.CopyFrom(request.push_config)
        self._change(subscription, record)
        return EMPTY

    async def Pull(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        if request.max_messages < 1:
            raise InvalidArgumentError("max_messages: must be greater than 0.")
        consumer = Consumer(lease_seconds=subscription.rules.ack_deadline_seconds)
        limit = min(request.max_messages, ANSWER_MESSAGES)
        taken: list[Delivery] = []
        if request.return_immediately:
            taken = subscription.take(consumer, limit=limit, now=self._clock())
            return types.PullResponse.pb()(received_messages=_received(subscription, taken))
        with suppress(TimeoutError):
            async with asyncio.timeout(PULL_WAIT_SECONDS):
                while not taken:
                    taken = await self._take_or_wait(subscription, consumer, limit=limit)
        return types.PullResponse.pb()(received_messages=_received(subscription, taken))

    async def Acknowledge(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        if not request.ack_ids:
            raise InvalidArgumentError("ack_ids: at least one.")
        subscription.acknowledge(request.ack_ids)
        return EMPTY

    async def ModifyAckDeadline(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        if not request.ack_ids:
            raise InvalidArgumentError("ack_ids: at least one.")
        seconds = _lease_seconds(request.ack_deadline_seconds, field="ack_deadline_seconds")
        subscription.modify_deadline(request.ack_ids, seconds=seconds, now=self._clock())
        return EMPTY

    async def StreamingPull(
        self, requests: AsyncIterator[Any], write: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Deliver until the client closes its side; what it holds then stays leased.

        Raises:
            BrokerError: the stream is refused, or ends because its subscription was deleted
                or turned to push.
        """
        first = await anext(requests, None)
        if first is None:
            return
        subscription = self._subscription(first.subscription)
        consumer = Consumer(
            lease_seconds=self._ack_deadline(
                first.stream_ack_deadline_seconds, field="stream_ack_deadline_seconds"
            ),
            max_messages=first.max_outstanding_messages,
            max_bytes=first.max_outstanding_bytes,
        )
        self._apply(first, subscription, consumer)
        reader = asyncio.create_task(self._read(requests, subscription, consumer))
        reader.add_done_callback(lambda _: self._bells.ring(subscription))
        try:
            while not reader.done():
                taken = await self._take_or_wait(subscription, consumer, limit=ANSWER_MESSAGES)
                if taken:
                    received = _received(subscription, taken)
                    await write(types.StreamingPullResponse.pb()(received_messages=received))
        finally:
            reader.cancel()
            [outcome] = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    async def _take_or_wait(
        self, subscription: Subscription, consumer: Consumer, *, limit: int
    ) -> list[Delivery]:
        """What is ready now; or nothing, once something has happened and a new look is due."""
        rung = self._bells.hear(subscription)
        taken = subscription.take(consumer, limit=limit, now=self._clock())
        self._settle()
        if not taken:
            await rung.wait()
        return taken

    async def _read(
        self, requests: AsyncIterator[Any], subscription: Subscription, consumer: Consumer
    ) -> None:
        async for request in requests:
            for only_first in ("subscription", "max_outstanding_messages", "max_outstanding_bytes"):
                if getattr(request, only_first):
                    raise InvalidArgumentError(
                        f"{only_first}: belongs to the first request of a stream only."
                    )
            if request.stream_ack_deadline_seconds:
                consumer.lease_seconds = self._ack_deadline(
                    request.stream_ack_deadline_seconds, field="stream_ack_deadline_seconds"
                )
            self._apply(request, subscription, consumer)

    def _apply(self, request: Any, subscription: Subscription, consumer: Consumer) -> None:
        """What any request of a stream may ask: settle deliveries or move their deadlines."""
        ack_ids, seconds = request.modify_deadline_ack_ids, request.modify_deadline_seconds
        if len(ack_ids) != len(seconds):
            raise InvalidArgumentError(
                "modify_deadline_seconds: must be as long as modify_deadline_ack_ids."
            )
        checked = [_lease_seconds(each, field="modify_deadline_seconds") for each in seconds]
        subscription.acknowledge(request.ack_ids)
        for ack_id, each in zip(ack_ids, checked, strict=True):
            subscription.modify_deadline([ack_id], seconds=each, now=self._clock())
        self._settle()

    def _subscription(self, name: str, *, field: str = "subscription") -> Subscription:
        return self._broker.subscription(_name("subscriptions", name, field=field))

    def _change(self, subscription: Subscription, record: Any) -> Any:
        rules = self._rules(record)
        return _described(
            self._broker.change_subscription(subscription.name, rules=rules, record=record)
        )

    def _ack_deadline(self, seconds: int, *, field: str) -> int:
        if not self._min_ack_deadline_seconds <= seconds <= MAX_SECONDS:
            raise InvalidArgumentError(
                f"{field}: {self._min_ack_deadline_seconds:g} to {MAX_SECONDS}, not {seconds}."
            )
        return seconds

    def _rules(self, record: Any) -> Rules:
        """Read the rules out of a resource, writing into it the defaults that they used."""
        _refuse_unbuilt(record, _UNBUILT_SUBSCRIPTION_FIELDS)
        _refuse_unbuilt(record.push_config, _UNBUILT_PUSH_FIELDS, field="push_config.")
        record.ack_deadline_seconds = self._ack_deadline(
            record.ack_deadline_seconds or 10, field="ack_deadline_seconds"
        )
        if not record.HasField("message_retention_duration"):
            record.message_retention_duration.seconds = 7 * 86_400
        if not record.HasField("expiration_policy"):
            record.expiration_policy.ttl.seconds = 31 * 86_400
        record.state = types.Subscription.State.ACTIVE.value
        record.ClearField("detached")  # said by the service, ignored when said to it
        try:
            matches = parse_filter(record.filter)
        except FilterSyntaxError as error:
            raise InvalidArgumentError(f"filter: {error}") from error
        topic, max_attempts = _dead_letter(record)
        return Rules(
            matches=matches,
            ack_deadline_seconds=record.ack_deadline_seconds,
            backoff=_backoff(record),
            push_endpoint=_endpoint(record.push_config.push_endpoint),
            dead_letter_topic=topic,
            max_delivery_attempts=max_attempts,
        )


def _by_path(service: str, *answers: Answer) -> dict[str, tuple[Any, Answer]]:
    """The request type and the method of each call, by the path that gRPC knows it by."""
    of_resource = {"CreateTopic": types.Topic, "CreateSubscription": types.Subscription}
    methods: dict[str, tuple[Any, Answer]] = {}
    for answer in answers:
        name: str = getattr(answer, "__name__")  # noqa: B009  Callable promises no name
        request_type = of_resource.get(name) or getattr(types, f"{name}Request")
        methods[f"/google.pubsub.v1.{service}/{name}"] = (request_type, answer)
    return methods


def _parsed(request_type: Any, raw: bytes) -> Any:
    try:
        return request_type.pb().FromString(raw)
    except DecodeError as error:
        raise InvalidArgumentError(f"The request is no {request_type.__name__}.") from error


def _name(kind: str, value: str, *, field: str = "name") -> str:
    if not _NAMES[kind].fullmatch(value):
        raise InvalidArgumentError(
            f"{field}: {value!r} is not projects/PROJECT/{kind}/ID, where ID has 3 to 255 of "
            "letters, digits and -_.~+%, begins with a letter, and not with goog."
        )
    return value


def _refuse_unbuilt(record: Any, unbuilt: frozenset[str], *, field: str = "") -> None:
    for descriptor, _ in record.ListFields():
        if descriptor.name in unbuilt:
            raise UnimplementedError(
                f"{field}{descriptor.name}: is not built into the local Pub/Sub."
            )


def _content(message: Any, *, where: str) -> Content:
    """Raises InvalidArgumentError where a message breaks a documented limit."""
    if not message.data and not message.attributes:
        raise InvalidArgumentError(f"{where}: is empty; it needs data or an attribute.")
    if len(message.attributes) > MAX_ATTRIBUTES:
        raise InvalidArgumentError(f"{where}.attributes: more than {MAX_ATTRIBUTES}.")
    for key, value in message.attributes.items():
        if not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
            raise InvalidArgumentError(
                f"{where}.attributes: a key has 1 to {MAX_KEY_BYTES} bytes: {key[:40]!r}."
            )
        # The exception is how Google's own clients carry their trace context.
        if key.startswith("goog") and not key.startswith("googclient_"):
            raise InvalidArgumentError(f"{where}.attributes: {key!r} begins with goog.")
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise InvalidArgumentError(
                f"{where}.attributes: the value of {key!r} is over {MAX_VALUE_BYTES} bytes."
            )
    if len(message.ordering_key.encode()) > MAX_ORDERING_KEY_BYTES:
        raise InvalidArgumentError(f"{where}.ordering_key: over {MAX_ORDERING_KEY_BYTES} bytes.")
    return Content(
        data=message.data,
        attributes=dict(message.attributes),
        ordering_key=message.ordering_key,
    )


def _lease_seconds(seconds: int, *, field: str) -> int:
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidArgumentError(f"{field}: 0 to {MAX_SECONDS}, not {seconds}.")
    return seconds


def _endpoint(url: str) -> str:
    if not url:
        return ""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidArgumentError(f"push_config.push_endpoint: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidArgumentError(f"push_config.push_endpoint: {url!r} is no http(s) URL.")
    return url


def _backoff(record: Any) -> Backoff:
    if not record.HasField("retry_policy"):
        # "As soon as possible" in the documentation; a push that fails at once must not spin.
        quickly = Backoff(minimum_seconds=0.1, maximum_seconds=1.0)
        at_once = Backoff(minimum_seconds=0.0, maximum_seconds=0.0)
        return quickly if record.push_config.push_endpoint else at_once
    policy = record.retry_policy
    for name, default in (("minimum_backoff", 10), ("maximum_backoff", MAX_SECONDS)):
        if not policy.HasField(name):
            getattr(policy, name).seconds = default
        # Compared as written: ToTimedelta overflows on the largest durations.
        duration = getattr(policy, name)
        if not 0 <= duration.seconds + duration.nanos / 1e9 <= MAX_SECONDS:
            raise InvalidArgumentError(f"retry_policy.{name}: 0 to {MAX_SECONDS} s.")
    minimum, maximum = (
        duration.seconds + duration.nanos / 1e9
        for duration in (policy.minimum_backoff, policy.maximum_backoff)
    )
    if minimum > maximum:
        raise InvalidArgumentError("retry_policy.minimum_backoff: is above maximum_backoff.")
    return Backoff(minimum_seconds=minimum, maximum_seconds=maximum)


def _dead_letter(record: Any) -> tuple[str, int]:
    if not record.HasField("dead_letter_policy"):
        return "", 0
    policy = record.dead_letter_policy
    policy.max_delivery_attempts = policy.max_delivery_attempts or 5
    if not 5 <= policy.max_delivery_attempts <= 100:
        raise InvalidArgumentError(
            f"dead_letter_policy.max_delivery_attempts: 5 to 100, "
            f"not {policy.max_delivery_attempts}."
        )
    topic = _name("topics", policy.dead_letter_topic, field="dead_letter_policy.dead_letter_topic")
    return topic, policy.max_delivery_attempts


def _described(subscription: Subscription) -> Any:
    """The resource as the owner wrote it, except that its topic may be gone by now."""
    if subscription.topic == DELETED_TOPIC:
        subscription.record.topic = DELETED_TOPIC
    return subscription.record


def _received(subscription: Subscription, deliveries: Sequence[Delivery]) -> list[Any]:
    received = []
    for delivery in deliveries:
        content = delivery.message.content
        one = types.ReceivedMessage.pb()(ack_id=delivery.ack_id)
        one.message.data = content.data
        one.message.attributes.update(content.attributes)
        one.message.ordering_key = content.ordering_key
        one.message.message_id = delivery.message.message_id
        one.message.publish_time.FromDatetime(delivery.message.published_at)
        if subscription.rules.dead_letter_topic:
            one.delivery_attempt = delivery.attempt
        received.append(one)
    return received


def _of_project(names: Iterable[str], request: Any) -> list[str]:
    if not _PROJECT.fullmatch(request.project):
        raise InvalidArgumentError(f"project: {request.project!r} is not projects/PROJECT.")
    return [name for name in names if name.startswith(f"{request.project}/")]


def _page(names: Iterable[str], request: Any) -> tuple[list[str], str]:
    """One page by name, and the token of the next: the last name of this one."""
    if request.page_size < 0:
        raise InvalidArgumentError("page_size: must not be negative.")
    size = min(request.page_size or PAGE_SIZE, ANSWER_MESSAGES)
    rest = sorted(name for name in names if name > request.page_token)
    return rest[:size], rest[size - 1] if len(rest) > size else ""
