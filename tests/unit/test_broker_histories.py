"""Whatever subscribers do, in whatever order: random histories of the broker."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker_world import LETTERS, World
from local_cloud.pubsub_faults import Rates
from local_cloud.pubsub_records import Backoff, Consumer, Delivery


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
