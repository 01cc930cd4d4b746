"""What the broker owes, to whom, and until when; time is a number that the tests move."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from local_cloud.broker import Broker
from local_cloud.filters import parse_filter
from local_cloud.pubsub_faults import Fault, Faults, Rates
from local_cloud.pubsub_records import (
    AlreadyExistsError,
    Backoff,
    Consumer,
    Content,
    Counts,
    Delivery,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    Push,
    Rules,
)
from local_cloud.subscription import ANSWER_BYTES, Subscription

TOPIC = "projects/p/topics/requests"
LETTERS = "projects/p/topics/letters"
SUBSCRIPTION = "projects/p/subscriptions/worker"
AT_ONCE = Backoff(minimum_seconds=0, maximum_seconds=0)


class World:
    """One topic, one subscription, and a clock."""

    def __init__(
        self,
        *,
        backoff: Backoff = AT_ONCE,
        attribute_filter: str = "",
        push_endpoint: str = "",
        dead_letter_topic: str = "",
        ordered: bool = False,
        rates: Rates | None = None,
    ) -> None:
        self.now = 1_000_000.0
        self.broker = Broker(faults=Faults(rates))
        self.broker.create_topic(TOPIC, record=None)
        self.broker.create_topic(LETTERS, record=None)
        self.rules = Rules(
            matches=parse_filter(attribute_filter),
            ack_deadline_seconds=10,
            backoff=backoff,
            push=Push(endpoint=push_endpoint) if push_endpoint else None,
            dead_letter_topic=dead_letter_topic,
            max_delivery_attempts=5 if dead_letter_topic else 0,
            ordered=ordered,
        )
        self.worker = self.subscribe(SUBSCRIPTION, self.rules)

    def subscribe(self, name: str, rules: Rules, *, topic: str = TOPIC) -> Subscription:
        return self.broker.create_subscription(name, topic=topic, rules=rules, record=None)

    def publish(self, *texts: str, **attributes: str) -> list[str]:
        contents = [Content(data=text.encode(), attributes=attributes) for text in texts]
        return self.broker.publish(TOPIC, contents, now=self.now)

    def publish_with_key(self, key: str, *texts: str) -> None:
        contents = [Content(data=text.encode(), ordering_key=key) for text in texts]
        self.broker.publish(TOPIC, contents, now=self.now)

    def acknowledge(self, delivery: Delivery) -> None:
        self.worker.acknowledge([delivery.ack_id], now=self.now)

    @property
    def counts(self) -> Counts:
        return self.broker.counts[SUBSCRIPTION]

    def take(
        self,
        consumer: Consumer | None = None,
        *,
        limit: int = 100,
        who: Subscription | None = None,
    ) -> list[Delivery]:
        consumer = consumer or Consumer(lease_seconds=10)
        return (who or self.worker).take(consumer, limit=limit, now=self.now)

    def nack(self, delivery: Delivery) -> None:
        self.worker.modify_deadline([delivery.ack_id], seconds=0, now=self.now)


def texts(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.content.data.decode() for delivery in deliveries]


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


# Faults


def test_a_duplicate_is_delivered_beside_the_delivery_and_settled_apart() -> None:
    world = World()
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.DUPLICATE)
    world.publish("one")

    first, second = world.take()
    assert first.message == second.message
    world.acknowledge(first)
    assert world.worker.backlog() == 1
    world.acknowledge(second)

    assert world.worker.backlog() == 0
    assert world.counts == Counts(deliveries=2, acks=2, duplicate=1)


def test_a_delayed_delivery_comes_later_and_others_pass() -> None:
    world = World(rates=Rates(delay_seconds=3))
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.DELAY)
    world.publish("late", "in time")

    assert texts(world.take()) == ["in time"]
    assert world.broker.next_due() == world.now + 3
    world.now += 3

    assert texts(world.take()) == ["late"]


def test_a_reordered_delivery_comes_right_after_the_one_that_overtakes_it() -> None:
    world = World()
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.REORDER)
    world.publish("first")
    assert world.take() == []

    world.publish("second", "third")

    assert texts(world.take()) == ["second", "first", "third"]


def test_what_nothing_overtakes_comes_all_the_same() -> None:
    world = World(rates=Rates(reorder_seconds=1))
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.REORDER)
    world.publish("only")

    assert world.take() == []
    world.now += 1

    assert texts(world.take()) == ["only"]


def test_what_was_overtaken_keeps_its_backoff_afterwards() -> None:
    world = World(backoff=Backoff(minimum_seconds=9, maximum_seconds=9))
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.REORDER)
    world.publish("only")
    world.take()
    world.now += 1
    world.nack(world.take()[0])

    world.publish("another")

    assert texts(world.take()) == ["another"]


def test_messages_of_one_key_never_overtake_each_other() -> None:
    world = World(ordered=True)
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.REORDER)

    world.publish_with_key("a", "a1", "a2")

    assert texts(world.take()) == ["a1"]


def test_a_dropped_response_is_an_acknowledgement_that_counts_as_a_nack() -> None:
    world = World()
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.DROP_RESPONSE)
    world.publish("one")

    world.acknowledge(world.take()[0])
    world.acknowledge(world.take()[0])

    assert world.worker.backlog() == 0
    assert world.counts == Counts(deliveries=2, acks=1, drop_response=1)


def test_a_redelivery_meets_a_fault_of_its_own() -> None:
    world = World()
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.DROP_RESPONSE, times=2)
    world.publish("one")

    for _ in range(3):
        world.acknowledge(world.take()[0])

    assert world.counts == Counts(deliveries=3, acks=1, drop_response=2)


def test_orders_are_for_their_subscription_and_are_carried_out_in_their_turn() -> None:
    world = World()
    other = world.subscribe("projects/p/subscriptions/other", world.rules)
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.DUPLICATE)
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.DELAY)

    world.publish("one", "two", "three")

    assert texts(world.take(who=other)) == ["one", "two", "three"]
    assert texts(world.take()) == ["one", "three", "one"]


def test_the_same_seed_brings_the_same_faults_whatever_other_subscriptions_do() -> None:
    def history(*, with_other: bool) -> list[str]:
        world = World(rates=Rates(duplicate=0.3, delay=0.3, reorder=0.3, seed=7))
        other = world.subscribe("projects/p/subscriptions/other", world.rules)
        told = []
        for number in range(40):
            world.publish(str(number))
            if with_other:
                world.take(who=other)
            told += texts(world.take())
        return told

    assert history(with_other=False) == history(with_other=True)


def test_chance_rules_only_where_it_was_told_to() -> None:
    world = World(rates=Rates(duplicate=1, subscriptions=frozenset({SUBSCRIPTION})))
    other = world.subscribe("projects/p/subscriptions/other", world.rules)

    world.publish("one")

    assert texts(world.take()) == ["one", "one"]
    assert texts(world.take(who=other)) == ["one"]


def test_what_is_cleared_befalls_nobody() -> None:
    world = World(rates=Rates(duplicate=1))
    world.broker.faults.next_delivery(SUBSCRIPTION, Fault.DELAY)

    world.broker.faults.clear()
    world.publish("one")

    assert texts(world.take()) == ["one"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("duplicate", 1.5), ("delay", -0.1), ("reorder", float("nan")), ("delay_seconds", 0)],
)
def test_a_rate_that_is_none_is_named(field: str, value: float) -> None:
    given: dict[str, Any] = {field: value}

    with pytest.raises(ValueError, match=f"^{field}: "):
        Rates(**given)


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


class BrokerMachine(RuleBasedStateMachine):
    """Whatever subscribers do, in whatever order: nothing is lost and nothing is held twice."""

    @initialize()
    def begin(self) -> None:
        self.world = World(
            backoff=Backoff(minimum_seconds=1, maximum_seconds=4),
            dead_letter_topic=LETTERS,
        )
        self.letters = self.world.subscribe(
            "projects/p/subscriptions/letters", self.world.rules, topic=LETTERS
        )
        self.consumer = Consumer(lease_seconds=10, max_messages=3)
        self.held: dict[str, tuple[str, float]] = {}
        self.acknowledged: set[str] = set()
        self.published = 0

    @rule()
    def publish(self) -> None:
        self.world.publish(str(self.published))
        self.published += 1

    @rule(limit=st.integers(1, 5))
    def take(self, limit: int) -> None:
        taken = self.world.take(self.consumer, limit=limit)
        self._forget_ended()
        for delivery in taken:
            text = delivery.message.content.data.decode()
            assert text not in self.acknowledged
            assert text not in {other for other, _ in self.held.values()}
            self.held[delivery.ack_id] = (text, self.world.now + 10)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        ack_id = data.draw(st.sampled_from(sorted(self.held)))
        self.world.worker.acknowledge([ack_id], now=self.world.now)
        self.acknowledged.add(self.held.pop(ack_id)[0])

    @precondition(lambda self: self.held)
    @rule(data=st.data(), seconds=st.integers(0, 20))
    def modify(self, data: st.DataObject, seconds: int) -> None:
        ack_id = data.draw(st.sampled_from(sorted(self.held)))
        self.world.worker.modify_deadline([ack_id], seconds=seconds, now=self.world.now)
        text, _ = self.held.pop(ack_id)
        if seconds:
            self.held[ack_id] = (text, self.world.now + seconds)

    @rule(seconds=st.floats(0.1, 30))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.broker.advance(self.world.now)
        self._forget_ended()

    @invariant()
    def every_message_is_somewhere(self) -> None:
        owed, letters = self.world.worker.backlog(), self.letters.backlog()
        assert self.published == owed + letters + len(self.acknowledged)

    @invariant()
    def the_consumer_holds_what_it_was_given(self) -> None:
        assert self.consumer.held_messages == len(self.held) <= 3

    @invariant()
    def the_timer_is_set_for_the_future(self) -> None:
        due = self.world.broker.next_due()
        assert due is None or due > self.world.now

    def _forget_ended(self) -> None:
        now = self.world.now
        self.held = {ack_id: held for ack_id, held in self.held.items() if held[1] > now}


class FaultyMachine(RuleBasedStateMachine):
    """Whatever goes wrong on purpose, nothing is lost, and keys keep their order."""

    @initialize(seed=st.integers(0, 1_000))
    def begin(self, seed: int) -> None:
        self.world = World(
            backoff=Backoff(minimum_seconds=1, maximum_seconds=4),
            dead_letter_topic=LETTERS,
            ordered=True,
            rates=Rates(duplicate=0.3, delay=0.3, reorder=0.3, drop_response=0.3, seed=seed),
        )
        self.letters = self.world.subscribe(
            "projects/p/subscriptions/letters", self.world.rules, topic=LETTERS
        )
        self.consumer = Consumer(lease_seconds=10, max_messages=5)
        self.held: list[Delivery] = []
        self.published: dict[str, list[str]] = {}
        self.seen: dict[str, list[str]] = {}

    @rule(key=st.sampled_from(["", "a", "b"]))
    def publish(self, key: str) -> None:
        of_key = self.published.setdefault(key, [])
        of_key.append(str(len(of_key)))
        self.world.publish_with_key(key, of_key[-1])

    @rule(limit=st.integers(1, 5))
    def take(self, limit: int) -> None:
        for delivery in self.world.take(self.consumer, limit=limit):
            self.held.append(delivery)
            seen = self.seen.setdefault(delivery.message.content.ordering_key, [])
            text = delivery.message.content.data.decode()
            if text not in seen:
                seen.append(text)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), well=st.booleans())
    def settle(self, data: st.DataObject, *, well: bool) -> None:
        delivery = data.draw(st.sampled_from(self.held))
        self.held.remove(delivery)
        if well:
            self.world.acknowledge(delivery)
        else:
            self.world.nack(delivery)

    @rule(seconds=st.floats(0.1, 12))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.broker.advance(self.world.now)

    @invariant()
    def every_message_is_somewhere(self) -> None:
        counts = self.world.counts
        published = sum(map(len, self.published.values()))
        owed, letters = self.world.worker.backlog(), self.letters.backlog()
        assert published + counts.duplicate == owed + letters + counts.acks

    @invariant()
    def every_delivery_has_one_end(self) -> None:
        counts = self.world.counts
        ended = counts.acks + counts.nacks + counts.timeouts + counts.drop_response
        assert counts.deliveries == ended + self.consumer.held_messages

    @invariant()
    def keys_keep_their_order(self) -> None:
        for key in ("a", "b"):
            seen = self.seen.get(key, [])
            assert seen == self.published.get(key, [])[: len(seen)]

    def teardown(self) -> None:
        """Once nothing goes wrong any more, everything arrives."""
        self.world.broker.faults.clear()
        consumer = Consumer(lease_seconds=10)
        for _ in range(5 + sum(map(len, self.published.values())) * 2):
            self.world.now += 12
            for delivery in self.world.take(consumer):
                self.world.acknowledge(delivery)
        assert self.world.worker.backlog() == 0


for machine in (BrokerMachine, FaultyMachine):
    machine.TestCase.settings = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
TestBrokerMachine = BrokerMachine.TestCase
TestFaultyMachine = FaultyMachine.TestCase
