"""What the broker owes, to whom, and until when; time is a number that the tests move."""

import pytest

from broker_world import AT_ONCE, LETTERS, SUBSCRIPTION, TOPIC, World, texts
from local_cloud.filters import parse_filter
from local_cloud.pubsub_records import (
    AlreadyExistsError,
    Backoff,
    Consumer,
    Content,
    Counts,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    Rules,
)
from local_cloud.subscription import ANSWER_BYTES


def test_messages_are_taken_in_the_order_they_were_published() -> None:
    world = World()
    world.publish("one", "two")
    world.publish("three")

    taken = world.take()

    assert texts(taken) == ["one", "two", "three"]
    assert world.take() == []


def test_a_leased_message_comes_back_when_its_lease_ends_and_not_before() -> None:
    world = World()
    world.publish("one")
    world.take()

    world.now += 9.9
    assert world.take() == []
    world.now += 0.1
    [again] = world.take()

    assert again.attempt == 2


def test_an_acknowledged_message_never_comes_back() -> None:
    world = World()
    world.publish("one")
    [taken] = world.take()

    world.worker.acknowledge([taken.ack_id], now=world.now)
    world.worker.acknowledge([taken.ack_id], now=world.now)
    world.now += 3_600

    assert world.take() == []
    assert world.worker.backlog() == 0


def test_a_late_acknowledgement_settles_nothing() -> None:
    """The message is with somebody else by then, who may yet fail."""
    world = World()
    world.publish("one")
    [late] = world.take()
    world.now += 10
    world.take()

    world.worker.acknowledge([late.ack_id], now=world.now)

    assert world.worker.backlog() == 1


def test_an_extended_lease_ends_at_its_new_end() -> None:
    world = World()
    world.publish("one")
    [taken] = world.take()

    world.worker.modify_deadline([taken.ack_id], seconds=60, now=world.now)

    assert world.broker.next_due() == world.now + 60
    world.now += 59
    assert world.take() == []


def test_a_shortened_lease_ends_at_its_new_end() -> None:
    world = World()
    world.publish("one")
    [taken] = world.take()

    world.worker.modify_deadline([taken.ack_id], seconds=1, now=world.now)
    world.now += 1

    assert texts(world.take()) == ["one"]


def test_a_nacked_message_comes_back_at_once_without_a_retry_policy() -> None:
    world = World()
    world.publish("one")

    world.nack(world.take()[0])

    assert texts(world.take()) == ["one"]


def test_backoff_doubles_from_the_minimum_to_the_maximum() -> None:
    world = World(backoff=Backoff(minimum_seconds=2, maximum_seconds=10))
    world.publish("one")
    rests = []

    for _ in range(5):
        world.nack(world.take()[0])
        due = world.broker.next_due()
        assert due is not None
        rests.append(due - world.now)
        assert world.take() == []
        world.now = due

    assert rests == [2, 4, 8, 10, 10]


def test_backoff_stays_finite_after_any_number_of_failures() -> None:
    assert Backoff(minimum_seconds=0, maximum_seconds=600).seconds(failures=10_000) == 600


def test_each_subscription_is_owed_its_own_copy() -> None:
    world = World()
    other = world.subscribe("projects/p/subscriptions/audit", world.rules)
    world.publish("one")
    [taken] = world.take()

    world.worker.acknowledge([taken.ack_id], now=world.now)

    assert texts(world.take(who=other)) == ["one"]


def test_a_subscription_is_owed_nothing_from_before_it_existed() -> None:
    world = World()
    world.publish("early")
    late = world.subscribe("projects/p/subscriptions/late", world.rules)

    world.publish("in time")

    assert texts(world.take(who=late)) == ["in time"]


def test_a_message_that_the_filter_refuses_is_never_owed() -> None:
    world = World(attribute_filter='attributes.kind = "copy"')

    world.publish("no")
    world.publish("yes", kind="copy")

    assert texts(world.take()) == ["yes"]


def test_a_consumer_holds_no_more_messages_than_it_asked_for() -> None:
    world = World()
    world.publish("one", "two", "three")
    consumer = Consumer(lease_seconds=10, max_messages=2)

    held = world.take(consumer)
    assert texts(held) == ["one", "two"]
    assert world.take(consumer) == []
    world.worker.acknowledge([held[0].ack_id], now=world.now)

    assert texts(world.take(consumer)) == ["three"]


def test_a_consumer_stops_at_its_byte_limit() -> None:
    world = World()
    world.publish("12345", "67890", "x")

    assert texts(world.take(Consumer(lease_seconds=10, max_bytes=6))) == ["12345", "67890"]


def test_a_lease_that_ends_makes_room_for_its_consumer() -> None:
    world = World()
    world.publish("one")
    consumer = Consumer(lease_seconds=10, max_messages=1)
    world.take(consumer)

    world.now += 10

    assert texts(world.take(consumer)) == ["one"]


def test_one_answer_never_outgrows_what_a_client_can_read() -> None:
    world = World()
    large = "x" * (ANSWER_BYTES // 2)
    world.publish(large, large, "x")

    assert [len(world.take()), len(world.take())] == [2, 1]


def test_the_largest_message_is_still_delivered() -> None:
    world = World()

    world.publish("x" * (ANSWER_BYTES + 1))

    assert len(world.take()) == 1


def test_a_message_that_failed_too_often_goes_to_the_dead_letters() -> None:
    world = World(dead_letter_topic=LETTERS)
    letters = world.subscribe("projects/p/subscriptions/letters", world.rules, topic=LETTERS)
    [message_id] = world.publish("one", kind="copy")

    for _ in range(3):
        world.nack(world.take()[0])
    for _ in range(2):
        world.take()
        world.now += 10
    world.broker.advance(world.now)

    assert world.worker.backlog() == 0
    [letter] = world.take(who=letters)
    assert letter.message.message_id != message_id
    assert letter.message.content == Content(
        data=b"one",
        attributes={
            "kind": "copy",
            "CloudPubSubDeadLetterSourceDeliveryCount": "5",
            "CloudPubSubDeadLetterSourceSubscription": "worker",
            "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
            "CloudPubSubDeadLetterSourceTopicPublishTime": "1970-01-12T13:46:40.000+00:00",
        },
    )


def test_without_its_dead_letter_topic_a_message_is_kept() -> None:
    world = World(dead_letter_topic=LETTERS)
    world.publish("one")
    world.broker.delete_topic(LETTERS)

    for _ in range(9):
        world.nack(world.take()[0])

    assert world.take()[0].attempt == 10


def test_a_dead_letter_topic_must_exist() -> None:
    world = World()
    rules = Rules(
        matches=parse_filter(""),
        ack_deadline_seconds=10,
        backoff=AT_ONCE,
        dead_letter_topic="projects/p/topics/nowhere",
        max_delivery_attempts=5,
    )

    with pytest.raises(NotFoundError, match="dead_letter_topic"):
        world.broker.change_subscription(SUBSCRIPTION, rules=rules, record=None)
    with pytest.raises(NotFoundError, match="dead_letter_topic"):
        world.subscribe("projects/p/subscriptions/other", rules)
    assert list(world.broker.subscriptions) == [SUBSCRIPTION]


def test_an_unreadable_ack_id_leaves_the_readable_ones_alone() -> None:
    world = World()
    world.publish("one")
    [taken] = world.take()

    with pytest.raises(InvalidArgumentError, match="ack_ids"):
        world.worker.acknowledge([taken.ack_id, "ack-ack"], now=world.now)

    assert world.worker.backlog() == 1


def test_a_push_subscription_has_nothing_to_pull() -> None:
    world = World(push_endpoint="http://worker")
    world.publish("one")

    with pytest.raises(FailedPreconditionError):
        world.take()
    assert len(world.take(Consumer(lease_seconds=10, pushes=True))) == 1


def test_a_deleted_subscription_says_so_to_whoever_still_holds_it() -> None:
    world = World()

    world.broker.delete_subscription(SUBSCRIPTION)

    assert world.worker in world.broker.collect_stirred()
    with pytest.raises(NotFoundError):
        world.take()
    with pytest.raises(NotFoundError):
        world.broker.subscription(SUBSCRIPTION)


def test_names_are_taken_once() -> None:
    world = World()

    with pytest.raises(AlreadyExistsError):
        world.broker.create_topic(TOPIC, record=None)
    with pytest.raises(AlreadyExistsError):
        world.subscribe(SUBSCRIPTION, world.rules)


def test_a_new_topic_of_an_old_name_does_not_feed_the_old_subscription() -> None:
    world = World()
    world.publish("before")
    world.broker.delete_topic(TOPIC)
    world.broker.create_topic(TOPIC, record=None)

    world.publish("after")

    assert texts(world.take()) == ["before"]
    assert world.worker.topic == "_deleted-topic_"


def test_whoever_waits_is_woken_by_each_thing_that_makes_a_message_ready() -> None:
    world = World(backoff=Backoff(minimum_seconds=1, maximum_seconds=1))

    def stirred() -> bool:
        return world.worker in world.broker.collect_stirred()

    world.publish("one", "two")
    assert stirred()
    [first] = world.take(Consumer(lease_seconds=10, max_messages=1))
    assert not stirred()
    world.worker.acknowledge([first.ack_id], now=world.now)
    assert stirred(), "its consumer has room again"
    [second] = world.take()
    world.nack(second)
    world.broker.collect_stirred()
    world.now += 1
    world.broker.advance(world.now)
    assert stirred(), "its rest is over"
    world.take()
    world.now += 10
    world.broker.advance(world.now)
    world.now += 1
    world.broker.advance(world.now)
    assert stirred(), "its lease ended"


def test_message_ids_are_new_even_when_the_clock_goes_back() -> None:
    world = World()
    first = world.publish("one", "two")

    world.now -= 3_600
    second = world.publish("three")

    assert len({*first, *second}) == 3


def test_counts_tell_how_each_delivery_ended() -> None:
    world = World(dead_letter_topic=LETTERS)
    world.publish("one", "two")
    first, second = world.take()
    world.acknowledge(first)
    world.nack(second)
    for _ in range(3):
        world.nack(world.take()[0])
    world.take()
    world.now += 10
    world.broker.advance(world.now)

    assert world.counts == Counts(deliveries=6, acks=1, nacks=4, timeouts=1, dead_lettered=1)
    assert world.broker.published == {TOPIC: 2, LETTERS: 1}


# Ordering keys


def test_one_message_of_a_key_is_out_at_a_time() -> None:
    world = World(ordered=True)
    world.publish_with_key("a", "a1", "a2")
    world.publish_with_key("b", "b1")
    world.publish("free")

    first = world.take()
    assert texts(first) == ["a1", "b1", "free"]
    assert world.take() == []
    world.acknowledge(first[0])

    assert texts(world.take()) == ["a2"]


def test_a_failed_message_keeps_the_later_ones_of_its_key_waiting() -> None:
    world = World(ordered=True, backoff=Backoff(minimum_seconds=5, maximum_seconds=5))
    world.publish_with_key("a", "a1", "a2")

    world.nack(world.take()[0])
    assert world.take() == []
    world.now += 5

    assert texts(world.take()) == ["a1"]


def test_a_dead_letter_lets_the_next_of_its_key_go() -> None:
    world = World(ordered=True, dead_letter_topic=LETTERS)
    letters = world.subscribe("projects/p/subscriptions/letters", world.rules, topic=LETTERS)
    world.publish_with_key("a", "a1", "a2")

    for _ in range(5):
        world.nack(world.take()[0])

    assert texts(world.take(who=letters)) == ["a1"]
    assert texts(world.take()) == ["a2"]
    assert world.worker.backlog() == 1


def test_keys_do_not_matter_to_a_subscription_without_order() -> None:
    world = World()

    world.publish_with_key("a", "a1", "a2")

    assert texts(world.take()) == ["a1", "a2"]
