"""A whole random history of the engine, from one seed.

A history drives the real workflow with several workers, whose calls are let through one
at a time in any order while time passes, processes die and everything outside may fail.
Then all is calm, what was not acknowledged comes again, and the invariants must hold as
seen from outside: the registry, the replies and the letters, never the store.

The same seed gives the same history, step by step, and a shorter one is its beginning.
``soak.py`` lives many, and cuts one that fails to what it takes.
"""

import asyncio
import json
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from local_cloud.vertex_dialects import DIALECTS
from local_cloud.vertex_records import Code as VertexCode
from local_cloud.vertex_records import Dialect
from model.invariants import Witness
from model.perils import Cloud, CrashError, Gate, Worker
from model_copier.contract.requests import (
    CANCEL_REQUESTED,
    LETTER_ATTRIBUTES,
    STATUS_REQUESTED,
    Message,
    Received,
    digest_of,
)
from model_copier.domain.errors import UnavailableError
from model_copier.domain.job import Job
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import Timing
from model_copier.domain.vertex_types import CopyCall
from world import PARENT, SOURCE_PROJECT, request

# What *Once* takes for granted, and what a history may break on purpose.
ASSUMPTIONS = ("an accepted copy shows in time", "clocks agree")

STEPS = 200
*SOURCES, SOMEBODYS_SOURCE = (
    f"projects/{SOURCE_PROJECT}/locations/us-central1/models/{number}"
    for number in (1001, 1002, 1003)
)
PARENT_ID = PARENT.rpartition("/")[2]
# Where each fault can strike, how often it does at most.
WORST = {
    "store down": 0.15,
    "store write worked unseen": 0.15,
    "topic down": 0.25,
    "publish worked unseen": 0.2,
    "vertex down": 0.25,
    "copy refused for now": 0.4,
    "copy refused for good": 0.3,
    "copy not taken, answer unknown": 0.4,
    "copy taken, answer lost": 0.5,
    "copy sent twice by the wire": 0.3,
    "copy fails and may be retried": 0.5,
    "copy fails for good": 0.5,
    "copy never ends in time": 0.5,
    "cancel comes to nothing": 0.6,
    "operation forgotten": 0.3,
    "operation hangs": 0.3,
}
# What makes a history hard to get right comes more often than the rest.
LIKELY = {"copy taken, answer lost": 0.7, "copy never ends in time": 0.3, "store down": 0.3}
OUTAGES = ("store down", "topic down", "vertex down", "copy refused for now")
DAY = 24 * 3600.0
TASKS_AT_ONCE = 10
CALM_ROUNDS = 400
CALM_DELIVERIES = 5  # of what is answered "not yet"


@dataclass(kw_only=True)
class History:
    """One random life of a few requests. ``run`` it, then read ``cloud.violations``."""

    seed: int
    steps: int = STEPS
    traced: bool = False
    # Faults that are left out, to see which ones it takes.
    without: frozenset[str] = frozenset()
    # The assumption that this history breaks.
    breaks: str = ""
    rng: Random = field(init=False)
    cloud: Cloud = field(init=False)
    workers: list[Worker] = field(default_factory=list)
    to_publish: list[Received] = field(default_factory=list)
    unacknowledged: list[Received] = field(default_factory=list)
    acknowledged: list[Received] = field(default_factory=list)
    # What Pub/Sub gave up on: its letters, and those of them that still have to be pushed.
    given_up: list[Received] = field(default_factory=list)
    forwarded: list[Received] = field(default_factory=list)
    replays: list[Received] = field(default_factory=list)
    published: dict[str, set[bytes]] = field(default_factory=dict)  # contents by request id
    valid: set[str] = field(default_factory=set)  # requests that must become jobs
    messages: int = 0
    backup: dict[str, Job] = field(default_factory=dict)
    acknowledged_at_backup: int = 0
    forgotten: set[str] = field(default_factory=set)  # requests that a restored store does not know
    forgotten_replays: set[str] = field(default_factory=set)  # and replays, by message id
    # Where all of them go, if that is one place.
    destination: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        rng = self.rng
        spoken, dialect = random_dialect(rng)
        if self.breaks == ASSUMPTIONS[0]:
            dialect = replace(dialect, shows_after_seconds=rng.uniform(150, 900))
        skew = Timing().max_skew_seconds * (
            rng.uniform(3, 30) if self.breaks == ASSUMPTIONS[1] else 1
        )
        self.half_skew = skew / 2
        timing = Timing(starts_per_minute=rng.choice([2, 10, 50]))
        # Vertex AI's clock is nobody's business: nothing may rest on it.
        vertex_skew = rng.uniform(-half_of(timing), half_of(timing))
        if rng.random() < 0.3 and "vertex clock" not in self.without:
            vertex_skew = rng.choice([-1, 1]) * rng.choice([15.0, 120.0, 600.0])
        self.cloud = Cloud(rng=rng, dialect=dialect, timing=timing, vertex_skew=vertex_skew)
        if abs(vertex_skew) > timing.max_skew_seconds:
            self.cloud.note("Vertex AI's clock is off")
        self.cloud.note(f"dialect: {spoken}")
        if self.traced:
            self.cloud.trace = []
        # Only some of the faults, each as often as it likes: a few faults together find more
        # than all at once.
        self.cloud.odds = {
            fault: rng.uniform(0.2, 1) * worst
            for fault, worst in WORST.items()
            if rng.random() < LIKELY.get(fault, 0.4)
        }
        if rng.random() < 0.3:
            # Much is lost, and little else happens: what is hardest to get right.
            self.cloud.odds = {"copy taken, answer lost": 0.8, "copy fails and may be retried": 0.3}
            self.cloud.longest_copy = 900.0
        if "ListOperations" in dialect.unimplemented:
            # Where operations cannot be listed, a copy is assumed to end in its time.
            self.cloud.odds.pop("operation hangs", None)
        for fault in self.without:
            self.cloud.odds.pop(fault, None)
        self.crash_odds = rng.choice([0.0, 0.01, 0.05])
        self.longest_pass = rng.choice([20.0, 100.0, 400.0, 3000.0])
        for source in (*SOURCES, SOMEBODYS_SOURCE):
            self.cloud.models.add(source)
        self.cloud.models.add(PARENT)
        self.jumps_wanted = rng.random() < 0.15 and "clock jumps" not in self.without
        self.restore_wanted = rng.random() < 0.15 and "restore" not in self.without
        self.other_timing = rng.random() < 0.2 and "other timing" not in self.without
        self.sleeps = rng.random() < 0.1 and "sleeps" not in self.without
        self.outages_wanted = rng.random() < 0.3 and "outages" not in self.without
        self.somebody_wanted = rng.random() < 0.3 and "somebody" not in self.without
        self.workers = [self.start_worker(n) for n in range(rng.choice([1, 2, 2, 3]))]
        self.to_publish = self.requests()

    def start_worker(self, number: int) -> Worker:
        half = self.half_skew
        skew = self.rng.choice([-half, half, self.rng.uniform(-half, half)])
        timing = self.cloud.timing
        if self.other_timing:
            # Two revisions at once, or one after the other.
            timing = replace(timing, call_seconds=self.rng.choice([5.0, 30.0, 100.0]))
            self.cloud.note("workers with different timing")
        return Worker(name=f"w{number}", cloud=self.cloud, skew_seconds=skew, timing=timing)

    # What is asked

    def requests(self) -> list[Received]:
        made = []
        most = 4
        if self.rng.random() < 0.2:
            # Many for one destination, which is handed on from each to the next.
            most = 9
            self.cloud.longest_copy = self.rng.choice([self.cloud.longest_copy, 3_000.0])
            self.destination = self.rng.choice(
                [{"destination_parent_model": PARENT_ID}, {"destination_model_id": "target-a"}]
            )
        for number in range(self.rng.randint(1, most)):
            request_id = f"r{number}"
            received = self.message(self.content(), request_id)
            if self.rng.random() < 0.05:
                received = self.message({"source_model_id": 7}, request_id)
            else:
                self.valid.add(request_id)
            made.append(received)
        return made

    def content(self) -> dict[str, Any]:
        rng = self.rng
        source = rng.choice(SOURCES).rpartition("/")[2]
        data: dict[str, Any] = {"source_model_id": source + rng.choice(["", "@1", "@default"])}
        if rng.random() < 0.04:
            data["source_model_id"] = "9"
        way = rng.random()
        if self.destination:
            data |= self.destination
        elif way < 0.45:
            data["destination_parent_model"] = PARENT_ID
        elif way < 0.9:
            data["destination_model_id"] = rng.choice(["target-a", "target-b"])
        if "destination_model_id" in data and rng.random() < 0.5:
            data["if_exists"] = rng.choice(["fail", "skip", "new_version"])
        if "copy never ends in time" in self.cloud.odds or rng.random() < 0.3:
            data["deadline_seconds"] = rng.choice([60, 300, 1000])
        return data

    def message(self, data: object, request_id: str, **attributes: str) -> Received:
        """A message that is published now, with an id of its own."""
        received = request(data, request_id=request_id, **attributes)
        return self.renewed(received)

    def renewed(self, received: Received) -> Received:
        self.messages += 1
        asked = received.attributes["ce-id"]
        self.published.setdefault(asked, set()).add(received.data)
        return self.published_now(replace(received, message_id=str(self.messages)))

    def published_now(self, received: Received) -> Received:
        return replace(received, published_at=self.cloud.clock.at.isoformat())

    def replay_of(self, letter: Message) -> Received:
        """A letter published again, as it was or repaired."""
        kept = {
            name: value
            for name, value in letter.attributes.items()
            if name not in LETTER_ATTRIBUTES and name != "replay_of"
        }
        if "outcome_id" in letter.attributes:
            kept["replay_of"] = letter.attributes["outcome_id"]
        again = Received(data=letter.data, attributes=kept, message_id="")
        if self.rng.random() < 0.2:
            again = replace(again, data=json.dumps(self.content()).encode())
            self.valid.add(kept["ce-id"])
        self.replays.append(again)
        return self.renewed(again)

    # The chaos

    async def run(self) -> None:
        self.cloud.begin()
        for _ in range(self.steps):
            await self.settle()
            self.step()
        await self.settle()
        for number in range(len(self.workers)):
            self.crash(number)
            await self.settle()
        await self.calm_down()
        await self.look_back()
        Witness(
            cloud=self.cloud,
            published=self.published,
            valid=self.valid,
            given_up=self.given_up,
            replays=self.replays,
            acknowledged=self.acknowledged,
            forgotten=self.forgotten,
            forgotten_replays=self.forgotten_replays,
        ).check()

    async def settle(self) -> None:
        """Let every task run until it waits at a gate."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        while ready:  # noqa: ASYNC110 - there is no event for "nobody can go on"
            await asyncio.sleep(0)

    def step(self) -> None:
        cloud, rng = self.cloud, self.rng
        urgent = [gate for gate in cloud.gates if gate.latest and gate.latest <= cloud.clock.at]
        if urgent:
            self.open(urgent[0])
            return
        if rng.random() < self.crash_odds:
            self.crash(rng.randrange(len(self.workers)))
            return
        busy = sum(len(worker.tasks) for worker in self.workers)
        free = busy < TASKS_AT_ONCE
        wishes = {
            self.open_any: 8.0 if cloud.gates else 0.0,
            self.pass_time: 1.5 if cloud.gates else 3.0,
            self.publish: 0.8 if self.to_publish else 0.0,
            self.deliver: 1.5 if free and self.unacknowledged else 0.0,
            self.forward: 1.0 if free and self.forwarded else 0.0,
            self.tick: 1.0 if free else 0.0,
            self.deliver_again: 0.12 if free and self.acknowledged else 0.0,
            self.give_up: 0.06 if self.unacknowledged else 0.0,
            self.cancel: 0.08,
            self.ask_status: 0.04,
            self.contradict: 0.02,
            self.replay: 0.25 if cloud.topics.letters or self.given_up else 0.0,
            self.nudge: 0.3 if free else 0.0,
            self.begin_outage: 0.04 if self.outages_wanted else 0.0,
            self.somebody_copies: 0.1 if self.somebody_wanted else 0.0,
            self.jump_a_clock: 0.1 if self.jumps_wanted else 0.0,
            self.back_up: 0.1 if self.restore_wanted and not self.backup else 0.0,
            self.restore: 0.15 if self.backup else 0.0,
        }
        (act,) = rng.choices(list(wishes), list(wishes.values()))
        act()

    def open(self, gate: Gate) -> None:
        if not gate.opened.done():
            gate.opened.set_result(None)

    def open_any(self) -> None:
        self.open(self.rng.choice(self.cloud.gates))

    def pass_time(self) -> None:
        rng, cloud = self.rng, self.cloud
        seconds = rng.choice([rng.uniform(0, 1), rng.uniform(0, 15), rng.uniform(0, 90)])
        if rng.random() < 0.15:
            seconds = rng.uniform(0, self.longest_pass)
        for gate in cloud.gates:
            if gate.latest:
                seconds = min(seconds, (gate.latest - cloud.clock.at).total_seconds())
        cloud.clock.advance(seconds)

    def publish(self) -> None:
        received = self.published_now(self.to_publish.pop())
        self.cloud.tell(f"published {received.attributes['ce-id']} {received.data.decode()}")
        self.unacknowledged.append(received)

    def deliver(self) -> None:
        self.start(self.rng.choice(self.unacknowledged))

    def deliver_again(self) -> None:
        """Pub/Sub delivers at least once: an acknowledgement may be lost."""
        self.start(self.rng.choice(self.acknowledged))

    def start(self, received: Received) -> None:
        worker = self.rng.choice(self.workers)
        self.spawn(worker, self.delivery(worker, received))

    def give_up(self) -> None:
        """Pub/Sub itself writes a letter of what nobody could record."""
        received = self.rng.choice(self.unacknowledged)
        if received.attributes["ce-type"] in {CANCEL_REQUESTED, STATUS_REQUESTED}:
            return
        self.unacknowledged.remove(received)
        marks = {"CloudPubSubDeadLetterSourceDeliveryCount": "100"}
        self.cloud.tell(f"pubsub gives up {received.attributes['ce-id']}")
        letter = replace(received, attributes={**received.attributes, **marks})
        self.given_up.append(letter)
        self.forwarded.append(letter)

    def forward(self) -> None:
        worker, received = self.rng.choice(self.workers), self.rng.choice(self.forwarded)
        self.spawn(worker, self.delivery(worker, received))

    def tick(self) -> None:
        worker = self.rng.choice(self.workers)
        self.spawn(worker, self.ticking(worker))

    def nudge(self) -> None:
        """The audit log tells of an operation's end: in time, early, late, or of somebody's."""
        operations = self.cloud.models.registry.operations()
        name = self.rng.choice(operations).name if operations else "operations/1"
        worker = self.rng.choice(self.workers)
        self.spawn(worker, self.nudging(worker, name))

    async def nudging(self, worker: Worker, name: str) -> None:
        self.cloud.tell(f"{worker.name} is nudged to {name[-3:]}")
        try:
            moved = await worker.ticks.nudge(name)
        except (UnavailableError, CrashError):
            return
        except Exception as bug:  # noqa: BLE001 - any other is a finding
            self.cloud.found(f"bug: {_why(bug)}")
            return
        self.cloud.note("rule: nudged" if moved else "rule: nudged in vain")

    def begin_outage(self) -> None:
        what = self.rng.choice(OUTAGES)
        until = self.cloud.clock.at + timedelta(seconds=self.rng.uniform(5, 500))
        self.cloud.outages[what] = until
        self.cloud.note(f"outage: {what}")
        self.cloud.tell(f"outage: {what}")

    def jump_a_clock(self) -> None:
        """A machine's clock is wrong for some seconds, by hours or by months."""
        worker, cloud = self.rng.choice(self.workers), self.cloud
        seconds = self.rng.choice([70 * DAY, DAY, 3 * 3600.0, -3600.0])
        until = cloud.clock.at + timedelta(seconds=self.rng.uniform(1, 30))
        worker.clock.jump(seconds, until)
        cloud.note("clock jumps")
        cloud.tell(f"{worker.name}'s clock jumps by {seconds:.0f} s")

    def back_up(self) -> None:
        self.backup = dict(self.cloud.store.jobs)
        self.acknowledged_at_backup = len(self.acknowledged)
        self.cloud.tell("backup")

    def restore(self) -> None:
        """The store is lost, and an earlier state of it put in its place."""
        cloud, backup = self.cloud, self.backup
        for number in range(len(self.workers)):
            self.crash(number)
        cloud.store.jobs = restored(backup, cloud.clock.at)
        cloud.restored_at = cloud.clock.at
        # Requests and replays acknowledged since are known to nobody: docs say so.
        known = {job.request_id: job.digests for job in backup.values()}
        lost = [each for each in self.acknowledged if each.attributes["ce-id"] not in known]
        self.forgotten |= {each.attributes["ce-id"] for each in lost}
        self.forgotten_replays |= {
            each.message_id
            for each in self.acknowledged[self.acknowledged_at_backup :]
            if each.replay_of and digest_of(each) not in known.get(each.attributes["ce-id"], ())
        }
        self.backup, self.restore_wanted = {}, False
        cloud.note("store restored from a backup")
        cloud.tell("restored from the backup")

    def somebody_copies(self) -> None:
        """A person copies a model, sometimes one of ours, to a destination of ours, by hand."""
        place = ModelName.parse(PARENT)
        to = self.rng.choice([PARENT_ID, "target-a", "target-b"])
        there = self.cloud.models.versions(str(replace(place, model=to)))
        self.cloud.somebody_copies(
            CopyCall(
                source=ModelName.parse(self.rng.choice([SOMEBODYS_SOURCE, *SOURCES, *SOURCES])),
                target_location=place.location_name,
                parent_model=str(replace(place, model=to)) if there else "",
                model_id="" if there else to,
            )
        )

    def cancel(self) -> None:
        self.question(CANCEL_REQUESTED)

    def ask_status(self) -> None:
        self.question(STATUS_REQUESTED)

    def question(self, kind: str) -> None:
        about = f"r{self.rng.randrange(4)}"
        question = self.message(
            {"request_id": about}, f"question-{self.messages}", **{"ce-type": kind}
        )
        self.cloud.tell(f"published {kind.split('.')[3]} of {about}")
        self.unacknowledged.append(question)

    def contradict(self) -> None:
        """Publish other content under an id that was used before."""
        asked = f"r{self.rng.randrange(4)}"
        self.valid.add(asked)
        received = self.message(self.content(), asked)
        self.cloud.tell(f"published {asked} otherwise {received.data.decode()}")
        self.unacknowledged.append(received)

    def replay(self) -> None:
        letters = [
            *self.cloud.topics.letters,
            *(Message(data=letter.data, attributes=_unmarked(letter)) for letter in self.given_up),
        ]
        received = self.replay_of(self.rng.choice(letters))
        self.cloud.tell(
            f"replayed {received.attributes['ce-id']} of {received.replay_of} {received.data!r}"
        )
        self.unacknowledged.append(received)
        if self.rng.random() < 0.3:
            self.unacknowledged.append(self.renewed(received))

    def crash(self, number: int) -> None:
        """A process dies, and another takes its place."""
        dead, cloud = self.workers[number], self.cloud
        cloud.tell(f"{dead.name} dies")
        for gate in [gate for gate in cloud.gates if gate.worker is dead]:
            cloud.note(f"crash {'after' if gate.name.endswith('answers') else 'before'} a call")
            if gate.copy_call and self.rng.random() < 0.5:
                # It was on its way when the process died.
                cloud.note("crash, and the copy is taken all the same")
                try:
                    cloud.take_copy(gate.key, gate.copy_call)
                except Exception as refused:  # noqa: BLE001 - nobody is left to be told
                    cloud.tell(f"  {refused!r}")
        dead.alive = False
        for task in dead.tasks:
            task.cancel()
        self.workers[number] = self.start_worker(number)

    def spawn(self, worker: Worker, story: Any) -> None:
        task = asyncio.get_running_loop().create_task(story)
        worker.tasks.add(task)
        task.add_done_callback(worker.tasks.discard)

    async def ticking(self, worker: Worker) -> None:
        try:
            self.cloud.tell(f"{worker.name} ticks")
            await worker.ticks.take(0)
        except (UnavailableError, CrashError):
            return
        except Exception as bug:  # noqa: BLE001 - any other is a finding
            kind = "sweep" if "UnavailableError" in _why(bug) else "bug"
            self.cloud.found(f"{kind}: {_why(bug)}")

    async def delivery(self, worker: Worker, received: Received) -> None:
        asked = received.attributes["ce-id"]
        forwarded = "CloudPubSubDeadLetterSourceDeliveryCount" in received.attributes
        accept = worker.deliveries.accept_forwarded if forwarded else worker.deliveries.accept
        self.cloud.tell(f"{worker.name} is delivered {asked}, message {received.message_id}")
        try:
            told = await accept(received)
        except (UnavailableError, CrashError):
            return
        except Exception as bug:  # noqa: BLE001 - any other is a finding
            self.cloud.found(f"bug: {_why(bug)}")
            return
        worker.note_unasked()
        self.cloud.note(f"verdict: {told.verdict}")
        self.cloud.tell(f"{worker.name} acknowledges {asked}: {told.verdict}")
        waiting = self.forwarded if forwarded else self.unacknowledged
        if received in waiting:
            waiting.remove(received)
            self.acknowledged.append(received)

    # The calm

    async def calm_down(self) -> None:
        """Faults end; one fresh worker sees everything to its end."""
        self.cloud.calm = True
        self.cloud.tell("calm")
        while self.to_publish:
            self.publish()
        worker = self.start_worker(9)
        for _ in range(CALM_DELIVERIES):
            for received in [*self.forwarded, *self.unacknowledged]:
                await self.delivery(worker, received)
            await self.end_all(worker)
            if not self.forwarded + self.unacknowledged:
                return
        left = len(self.forwarded + self.unacknowledged)
        self.cloud.found(f"told: {left} messages are never acknowledged")

    async def end_all(self, worker: Worker) -> None:
        """Tick until nothing is due."""
        for rounds in range(CALM_ROUNDS):
            jobs = self.cloud.store.jobs.values()
            dues = [job.due_at for job in jobs if job.due_at]
            if not dues and not any(job.in_queue for job in jobs):
                return
            wait = (min(dues) - worker.workflow.clock.now()).total_seconds() if dues else 1.0
            # First whatever is due at once; what takes an hour is ticked ever more seldom.
            self.cloud.clock.advance(max(wait, 0.001, (rounds - 60) * 10.0))
            await self.ticking(worker)
        self.cloud.found("told: a job never ends")

    async def look_back(self) -> None:
        """Much later, when every copy has ended: some replay all they have, some do nothing."""
        self.cloud.clock.advance(20_000)
        letters = list(self.cloud.topics.letters)
        if self.sleeps:
            # Records expire. A dead letter in a backup does not, if nobody has replayed it yet.
            present = {job.outcome_id for job in self.cloud.store.jobs.values()}
            letters = [each for each in letters if each.attributes["outcome_id"] in present]
            self.cloud.clock.advance(75 * DAY)
            await self.ticking(self.start_worker(8))
            self.acknowledged.clear()
        self.cloud.models.registry.settle(self.cloud.models.clock.at)
        if self.sleeps or self.rng.random() < 0.5:
            for letter in letters:
                again = self.replay_of(letter)
                self.cloud.tell(f"replayed {again.attributes['ce-id']} of {again.replay_of}")
                self.unacknowledged += [again, self.renewed(again)]
            await self.calm_down()


def half_of(timing: Timing) -> float:
    return timing.max_skew_seconds / 2


def restored(backup: dict[str, Job], now: datetime) -> dict[str, Job]:
    """What a restored store holds: every unfinished job looks before it calls CopyModel."""
    return {key: job.after_restore(now) for key, job in backup.items()}


def random_dialect(rng: Random) -> tuple[str, Dialect]:
    """One of the named ones, or two of them at once: a name that was spoken, and the mixture."""
    if rng.random() < 0.4:
        return "default", DIALECTS["default"]
    if rng.random() < 0.2:
        # What shows early, and is taken back, may be read for as long as we assume.
        return "stale-reads", Dialect(
            stale_seconds=rng.choice([15.0, 30.0, 50.0]),
            model_after_seconds=rng.choice([None, 0.0, 10.0]),
            existing_id=rng.choice([VertexCode.ALREADY_EXISTS, None]),
            unimplemented=frozenset({"ListOperations"} if rng.random() < 0.2 else ()),
        )
    spoken, other = rng.choice(list(DIALECTS)), rng.choice(list(DIALECTS))
    dialect = DIALECTS[spoken]
    if rng.random() < 0.5:
        changed = {
            each.name: value
            for each in fields(Dialect)
            if (value := getattr(DIALECTS[other], each.name)) != getattr(Dialect(), each.name)
        }
        dialect = replace(dialect, **changed)
    return spoken, dialect


def _unmarked(letter: Received) -> dict[str, str]:
    return {
        name: value
        for name, value in letter.attributes.items()
        if not name.startswith("CloudPubSub")
    }


def _why(bug: BaseException) -> str:
    while isinstance(bug, ExceptionGroup):
        bug = bug.exceptions[0]
    line = bug.__traceback__
    while line and line.tb_next:
        line = line.tb_next
    where = f"{Path(line.tb_frame.f_code.co_filename).name}:{line.tb_lineno}" if line else ""
    return f"{type(bug).__name__}: {bug} at {where}"
