"""What goes wrong on purpose: what each fault does to a delivery, and which delivery meets it."""

from typing import Any

import pytest

from broker_world import SUBSCRIPTION, World, texts
from local_cloud.pubsub_faults import Fault, Rates
from local_cloud.pubsub_records import Backoff, Counts


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
