"""Topics, subscriptions, publishing and pulling: what Google's own clients are promised."""

import threading
import time
from collections.abc import Callable
from queue import Queue
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import SubscriberClient as PlainSubscriberClient
from google.pubsub_v1 import types
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from pubsub_clients import Clients, texts

PROJECT = "projects/contract"
DAY = 86_400
# The flag is the one way to ask whether there is nothing to pull, without waiting to see.
pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately flag:DeprecationWarning")


# Topics and subscriptions


def _deadline(seconds: int) -> tuple[str, dict[str, Any]]:
    return "ack_deadline_seconds", {"ack_deadline_seconds": seconds}


def _endpoint(url: str) -> tuple[str, dict[str, Any]]:
    return "push_endpoint", {"push_config": {"push_endpoint": url}}


def _kept(seconds: int) -> tuple[str, dict[str, Any]]:
    return "message_retention_duration", {"message_retention_duration": {"seconds": seconds}}


def _backoff(name: str, seconds: int) -> tuple[str, dict[str, Any]]:
    return "minimum_backoff", {"retry_policy": {name: {"seconds": seconds}}}


def test_a_topic_is_found_and_listed_until_it_is_deleted(clients: Clients) -> None:
    clients.plain.create_topic(request=types.Topic(name=clients.letters, labels={"kept": "yes"}))

    assert dict(clients.plain.get_topic(topic=clients.letters).labels) == {"kept": "yes"}
    assert [topic.name for topic in clients.plain.list_topics(project=clients.project)] == [
        clients.letters,
        clients.topic,
    ]
    clients.plain.delete_topic(topic=clients.letters)
    assert [topic.name for topic in clients.plain.list_topics(project=clients.project)] == [
        clients.topic
    ]


def test_a_subscription_is_given_back_as_written_with_the_documented_defaults(
    clients: Clients,
) -> None:
    clients.subscribe(filter="attributes:kind", labels={"team": "ml"})

    found = clients.subscriber.get_subscription(subscription=clients.subscription)

    assert (found.topic, found.filter, dict(found.labels)) == (
        clients.topic,
        "attributes:kind",
        {"team": "ml"},
    )
    assert found.ack_deadline_seconds == 10
    assert found.message_retention_duration.total_seconds() == 7 * 86_400
    assert found.state == types.Subscription.State.ACTIVE


def test_a_subscription_may_keep_for_31_days_and_never_expire(clients: Clients) -> None:
    made = clients.subscribe(message_retention_duration={"seconds": 31 * DAY}, expiration_policy={})

    assert made.message_retention_duration.total_seconds() == 31 * DAY
    assert "expiration_policy" in made
    assert "ttl" not in made.expiration_policy


def test_lists_come_in_pages(clients: Clients) -> None:
    names = [f"{clients.project}/subscriptions/s-{number}" for number in range(5)]
    for name in names:
        clients.subscribe(name)

    pages = clients.subscriber.list_subscriptions(
        request={"project": clients.project, "page_size": 2}
    )
    by_topic = clients.plain.list_topic_subscriptions(
        request={"topic": clients.topic, "page_size": 3}
    )

    assert [len(page.subscriptions) for page in pages.pages] == [2, 2, 1]
    assert list(by_topic) == names


def test_a_name_is_taken_only_once(clients: Clients) -> None:
    clients.subscribe()

    with pytest.raises(exceptions.AlreadyExists):
        clients.plain.create_topic(name=clients.topic)
    with pytest.raises(exceptions.AlreadyExists):
        clients.subscribe()


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.plain.get_topic(topic=c.letters),
        lambda c: c.plain.delete_topic(topic=c.letters),
        lambda c: c.plain.publish(topic=c.letters, messages=[{"data": b"x"}]),
        lambda c: c.subscribe(topic=c.letters),
        lambda c: c.subscribe(dead_letter_policy={"dead_letter_topic": c.letters}),
        lambda c: c.pull(),
        lambda c: c.subscriber.acknowledge(subscription=c.subscription, ack_ids=["ack-1-1"]),
        lambda c: c.subscriber.delete_subscription(subscription=c.subscription),
        lambda c: c.stream().receive(),
    ],
)
def test_what_does_not_exist_is_not_found(
    clients: Clients, call: Callable[[Clients], object]
) -> None:
    with pytest.raises(exceptions.NotFound):
        call(clients)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        pytest.param("name", {"name": "worker"}, id="no full name"),
        pytest.param("name", {"name": f"{PROJECT}/subscriptions/ab"}, id="name too short"),
        pytest.param("name", {"name": f"{PROJECT}/subscriptions/1st"}, id="name begins with 1"),
        pytest.param("name", {"name": f"{PROJECT}/subscriptions/google-x"}, id="name of Google's"),
        pytest.param("name", {"name": f"{PROJECT}/subscriptions/{'x' * 256}"}, id="name too long"),
        pytest.param("topic", {"topic": f"{PROJECT}/subscriptions/worker"}, id="no topic's name"),
        pytest.param(*_deadline(601), id="ack deadline too long"),
        pytest.param(*_deadline(-1), id="ack deadline negative"),
        pytest.param("filter", {"filter": "data = 1"}, id="filter unreadable"),
        pytest.param("filter", {"filter": f'attributes.a = "{"x" * 256}"'}, id="filter too long"),
        pytest.param(*_endpoint("worker"), id="endpoint no URL"),
        pytest.param(*_endpoint("ftp://worker"), id="endpoint not http"),
        pytest.param(*_backoff("minimum_backoff", 601), id="backoff too long"),
        pytest.param(*_backoff("maximum_backoff", 9), id="backoff below the minimum"),
        pytest.param(*_kept(599), id="retention too short"),
        pytest.param(*_kept(31 * DAY + 1), id="retention too long"),
        pytest.param(
            "expiration_policy",
            {"expiration_policy": {"ttl": {"seconds": DAY - 1}}},
            id="expires too soon",
        ),
        pytest.param(
            "dead_letter_topic",
            {"dead_letter_policy": {"max_delivery_attempts": 5}},
            id="policy without a topic",
        ),
        pytest.param(
            "service_account_email",
            {
                "push_config": {
                    "push_endpoint": "http://127.0.0.1:9/push",
                    "oidc_token": {"service_account_email": "somebody"},
                }
            },
            id="token of no account",
        ),
    ],
)
def test_a_bad_field_of_a_subscription_is_named(
    clients: Clients, field: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=field):
        clients.subscribe(**fields)


@pytest.mark.parametrize("attempts", [4, 101])
def test_a_dead_letter_policy_has_five_to_a_hundred_attempts(
    clients: Clients, attempts: int
) -> None:
    policy = {"dead_letter_topic": clients.topic, "max_delivery_attempts": attempts}

    with pytest.raises(exceptions.InvalidArgument, match="max_delivery_attempts"):
        clients.subscribe(dead_letter_policy=policy)


@pytest.mark.parametrize("min_ack_deadline_seconds", [10], ids=["as documented"])
def test_an_ack_deadline_has_ten_seconds_at_least(clients: Clients) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="ack_deadline_seconds"):
        clients.subscribe(ack_deadline_seconds=9)


def test_an_update_changes_what_its_mask_names_and_nothing_else(clients: Clients) -> None:
    clients.subscribe(ack_deadline_seconds=20, labels={"team": "ml"})

    changed = clients.subscriber.update_subscription(
        subscription={"name": clients.subscription, "ack_deadline_seconds": 30, "labels": {}},
        update_mask={"paths": ["ack_deadline_seconds"]},
    )

    assert (changed.ack_deadline_seconds, dict(changed.labels)) == (30, {"team": "ml"})
    assert clients.subscriber.get_subscription(subscription=clients.subscription) == changed


@pytest.mark.parametrize("path", ["filter", "topic", "name", "enable_message_ordering", "colour"])
def test_what_is_fixed_at_creation_cannot_be_updated(clients: Clients, path: str) -> None:
    clients.subscribe()

    with pytest.raises(exceptions.InvalidArgument, match=path):
        clients.subscriber.update_subscription(
            subscription={"name": clients.subscription, "filter": "attributes:a"},
            update_mask={"paths": [path]},
        )


def test_a_refused_update_changes_nothing(clients: Clients) -> None:
    before = clients.subscribe()

    with pytest.raises(exceptions.InvalidArgument):
        clients.subscriber.update_subscription(
            subscription={
                "name": clients.subscription,
                "ack_deadline_seconds": 601,
                "labels": {"a": "b"},
            },
            update_mask={"paths": ["labels", "ack_deadline_seconds"]},
        )

    assert clients.subscriber.get_subscription(subscription=clients.subscription) == before


def test_a_subscription_outlives_its_topic_and_names_it_deleted(clients: Clients) -> None:
    clients.subscribe()
    clients.publish("before")

    clients.plain.delete_topic(topic=clients.topic)

    found = clients.subscriber.get_subscription(subscription=clients.subscription)
    assert found.topic == "_deleted-topic_"
    assert texts(clients.pull()) == ["before"]


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.subscriber.seek(request={"subscription": c.subscription}),
        lambda c: c.subscriber.create_snapshot(name="s", subscription=c.subscription),
        lambda c: c.plain.get_iam_policy(request={"resource": f"{c.project}/snapshots/s"}),
        lambda c: c.plain.update_topic(topic={"name": c.topic}, update_mask={"paths": ["labels"]}),
        lambda c: c.subscribe(enable_exactly_once_delivery=True),
        lambda c: c.subscribe(bigquery_config={"table": "t"}),
    ],
)
def test_ours_says_what_it_does_not_do(clients: Clients, call: Callable[[Clients], object]) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="local Pub/Sub"):
        call(clients)


# Publishing


def test_the_batching_client_publishes_each_message_once(clients: Clients) -> None:
    clients.subscribe()

    futures = [
        clients.publisher.publish(clients.topic, str(n).encode(), n=str(n)) for n in range(500)
    ]
    message_ids = {future.result(clients.patience_seconds) for future in futures}

    received: list[types.ReceivedMessage] = []
    while len(received) < 500:
        received += clients.wait_and_pull()
    assert {one.message.message_id for one in received} == message_ids
    assert {one.message.attributes["n"] for one in received} == {str(n) for n in range(500)}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"ordering_key": "only"}, id="only an ordering key"),
        pytest.param({"attributes": {f"k-{n}": "" for n in range(101)}}, id="too many attributes"),
        pytest.param({"attributes": {"k" * 257: "v"}}, id="key too long"),
        pytest.param({"attributes": {"": "v"}}, id="key empty"),
        pytest.param({"attributes": {"key": "é" * 513}}, id="value too long"),
        pytest.param({"attributes": {"goog-made-this": "v"}}, id="key of Google's"),
        pytest.param({"data": b"x" * 10_000_001}, id="data too long"),
    ],
)
def test_a_message_outside_the_limits_is_refused(clients: Clients, message: Any) -> None:
    clients.subscribe()

    with pytest.raises(exceptions.InvalidArgument, match="messages"):
        clients.plain.publish(topic=clients.topic, messages=[{"data": b"good"}, message])

    assert clients.pull() == [], "a request is taken wholly or not at all"


def test_a_request_has_one_to_a_thousand_messages(clients: Clients) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="1001"):
        clients.plain.publish(topic=clients.topic, messages=[{"data": b"x"}] * 1_001)
    with pytest.raises(exceptions.InvalidArgument, match="messages"):
        clients.plain.publish(topic=clients.topic, messages=[])

    assert len(
        clients.plain.publish(topic=clients.topic, messages=[{"data": b"x"}] * 1_000).message_ids
    )


def test_a_message_at_the_limits_arrives_whole(clients: Clients) -> None:
    clients.subscribe()
    attributes = {"googclient_traceparent": "00-1", "k" * 256: "v" * 1_024}
    data = b"\xff" * 9_990_000

    clients.plain.publish(topic=clients.topic, messages=[{"data": data, "attributes": attributes}])

    # An emulator's client reads 4 MiB at most; the real service's has no such limit.
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(clients.address, options=options) as channel:
        reader = PlainSubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        request = types.PullRequest(subscription=clients.subscription, max_messages=1)
        [received] = reader.pull(
            request=request, timeout=clients.patience_seconds
        ).received_messages
    assert received.message.data == data
    assert dict(received.message.attributes) == attributes


# Pull


def test_a_pulled_message_carries_what_was_published(clients: Clients) -> None:
    clients.subscribe()
    message = {"data": b"\x00\xff", "attributes": {"kind": "copy"}, "ordering_key": "model-7"}
    [message_id] = clients.plain.publish(topic=clients.topic, messages=[message]).message_ids

    [received] = clients.pull()

    assert received.message.message_id == message_id
    assert received.message.data == b"\x00\xff"
    assert dict(received.message.attributes) == {"kind": "copy"}
    assert received.message.ordering_key == "model-7"
    assert abs(received.message.publish_time.timestamp() - time.time()) < 10
    assert received.delivery_attempt == 0, "counted only under a dead-letter policy"


def test_a_pull_that_waits_is_answered_by_the_next_publish(clients: Clients) -> None:
    clients.subscribe()
    answer: Queue[list[str]] = Queue()
    puller = threading.Thread(target=lambda: answer.put(texts(clients.wait_and_pull())))
    puller.start()

    clients.publish("at last")

    assert answer.get(timeout=clients.patience_seconds) == ["at last"]
    puller.join()


def test_an_acknowledged_message_is_gone_and_a_nacked_one_comes_back(clients: Clients) -> None:
    clients.subscribe()
    clients.publish("done")
    clients.publish("again")
    done, again = clients.pull()

    clients.acknowledge(done)
    clients.nack(again)

    assert texts(clients.wait_and_pull()) == ["again"]
    assert clients.pull() == []


def test_an_unacknowledged_message_comes_back_after_its_deadline(clients: Clients) -> None:
    clients.subscribe()
    clients.publish("again")
    [first] = clients.pull()
    clients.subscriber.modify_ack_deadline(
        subscription=clients.subscription, ack_ids=[first.ack_id], ack_deadline_seconds=1
    )

    [second] = clients.wait_and_pull()

    assert second.message.message_id == first.message.message_id
    assert second.ack_id != first.ack_id


def test_an_unreadable_ack_id_is_refused(clients: Clients) -> None:
    clients.subscribe()

    with pytest.raises(exceptions.InvalidArgument, match="ack_ids"):
        clients.subscriber.acknowledge(subscription=clients.subscription, ack_ids=["mine"])


def test_deliveries_are_counted_under_a_dead_letter_policy(clients: Clients) -> None:
    clients.subscribe(dead_letter_policy={"dead_letter_topic": clients.topic})
    clients.publish("again")

    attempts = []
    for _ in range(2):
        [received] = clients.wait_and_pull()
        attempts.append(received.delivery_attempt)
        clients.nack(received)

    assert attempts == [1, 2]


def test_a_filter_keeps_out_what_it_does_not_match(clients: Clients) -> None:
    clients.subscribe(filter='attributes.kind = "copy" AND NOT hasPrefix(attributes.region, "us-")')

    clients.publish("no kind")
    clients.publish("wrong region", kind="copy", region="us-east1")
    clients.publish("wanted", kind="copy", region="europe-west4")

    assert texts(clients.pull()) == ["wanted"]
