"""Whole random histories of the engine: ``python tests/model/histories.py --count 10000 --seed 1``.

A history drives the real workflow with several workers, whose calls are let through one
at a time in any order while time passes, processes die and everything outside may fail.
Then all is calm, what was not acknowledged comes again, and the invariants must hold as
seen from outside: the registry, the replies and the letters, never the store.

The same seed gives the same history, step by step, and a shorter one is its beginning;
so ``--only SEED --trace`` shows what happened, cut to the steps that it takes.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from local_cloud.vertex_records import CopyState
from model.perils import FAULTS, Cloud, CrashError, Gate, Worker
from model_copier.errors import UnavailableError
from model_copier.messages import (
    CANCEL_REQUESTED,
    LETTER_ATTRIBUTES,
    STATUS_REQUESTED,
    Message,
    Received,
    digest_of,
)
from world import PARENT, SOURCE_PROJECT, read, request

MOVES = (
    "new -> ACCEPTED",
    "new -> FAILED",
    "ACCEPTED -> ACCEPTED",
    "ACCEPTED -> ASKED",
    "ACCEPTED -> SUCCEEDED",
    "ACCEPTED -> FAILED",
    "ACCEPTED -> CANCELLED",
    "ASKED -> ASKED",
    "ASKED -> ACCEPTED",
    "ASKED -> COPYING",
    "ASKED -> SUCCEEDED",
    "ASKED -> FAILED",
    "COPYING -> COPYING",
    "COPYING -> ACCEPTED",
    "COPYING -> SUCCEEDED",
    "COPYING -> FAILED",
    "COPYING -> CANCELLED",
    "SUCCEEDED -> SUCCEEDED",
    "FAILED -> FAILED",
    "FAILED -> ACCEPTED",
    "FAILED -> ASKED",
    "FAILED -> COPYING",
    "CANCELLED -> CANCELLED",
)
VERDICTS = (
    "accepted",
    "duplicate",
    "announced_again",
    "replayed",
    "conflict",
    "rejected",
    "status",
    "cancelling",
    "forwarded",
)
# Everything that a run must have tried.
RULES = (
    *FAULTS,
    *(f"move: {move}" for move in MOVES),
    *(f"verdict: {verdict}" for verdict in VERDICTS),
)

# Kinds of violations that are reported and not mended yet; each is counted apart.
OPEN_FINDINGS = frozenset(
    {
        # A job that is given up at its hard limit, with an ask of unknown outcome, frees the
        # destination; replayed, it may still claim what another request made there meanwhile
        # (1 of 500 histories: seed 228). Nothing is made twice.
        "beside",
    }
)

STEPS = 200
SOURCES = [
    f"projects/{SOURCE_PROJECT}/locations/us-central1/models/{number}" for number in (1001, 1002)
]
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
    "copy fails and may be retried": 0.5,
    "copy fails for good": 0.5,
    "copy never ends in time": 0.5,
    "cancel comes to nothing": 0.6,
    "operation forgotten": 0.3,
    "operations cannot be listed": 1.0,
}
TASKS_AT_ONCE = 10
CALM_ROUNDS = 400
CALM_DELIVERIES = 5  # of what is answered "not yet"


@dataclass(kw_only=True)
class History:
    """One random life of a few requests. ``run`` it, then read ``cloud.violations``."""

    seed: int
    steps: int = STEPS
    traced: bool = False
    rng: Random = field(init=False)
    cloud: Cloud = field(init=False)
    workers: list[Worker] = field(default_factory=list)
    to_publish: list[Received] = field(default_factory=list)
    unacknowledged: list[Received] = field(default_factory=list)
    acknowledged: list[Received] = field(default_factory=list)
    # What Pub/Sub gave up on: its letters, and those of them that still have to be pushed.
    given_up: list[Received] = field(default_factory=list)
    forwarded: list[Received] = field(default_factory=list)
    published: dict[str, set[bytes]] = field(default_factory=dict)  # contents by request id
    valid: set[str] = field(default_factory=set)  # requests that must become jobs
    messages: int = 0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        rng = self.rng
        self.cloud = Cloud(rng=rng)
        if self.traced:
            self.cloud.trace = []
        # Only some of the faults, each as often as it likes: a few faults together find more
        # than all at once.
        self.cloud.odds = {
            fault: rng.uniform(0.2, 1) * worst
            for fault, worst in WORST.items()
            if rng.random() < 0.5
        }
        if "operations cannot be listed" in self.cloud.odds:
            if rng.random() < 0.6:
                del self.cloud.odds["operations cannot be listed"]
            else:
                # Then only a copy that ends within its budget can be told from none.
                self.cloud.odds.pop("copy never ends in time", None)
        if rng.random() < 0.5:
            self.cloud.shows_after = rng.uniform(0, SHOWS_WITHIN)
        self.crash_odds = rng.choice([0.0, 0.01, 0.05])
        self.longest_pass = rng.choice([20.0, 100.0, 400.0, 3000.0])
        for source in SOURCES:
            self.cloud.models.add(source)
        self.cloud.models.add(PARENT)
        self.workers = [self.start_worker(n) for n in range(rng.choice([1, 2, 2, 3]))]
        self.to_publish = self.requests()

    def start_worker(self, number: int) -> Worker:
        half = self.cloud.timing.max_skew / 2
        skew = self.rng.choice([-half, half, self.rng.uniform(-half, half)])
        return Worker(name=f"w{number}", cloud=self.cloud, skew_seconds=skew)

    # What is asked

    def requests(self) -> list[Received]:
        made = []
        for number in range(self.rng.randint(1, 4)):
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
        if way < 0.45:
            data["destination_parent_model"] = PARENT_ID
        elif way < 0.9:
            data["destination_model_id"] = rng.choice(["target-a", "target-b"])
            if rng.random() < 0.5:
                data["if_exists"] = rng.choice(["fail", "skip", "new_version"])
        stuck = "copy never ends in time" in self.cloud.odds
        if (stuck or rng.random() < 0.3) and "operations cannot be listed" not in self.cloud.odds:
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
        return replace(received, message_id=str(self.messages))

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
        self.check()

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
            self.cancel: 0.2,
            self.ask_status: 0.04,
            self.contradict: 0.03,
            self.replay: 0.25 if cloud.topics.letters or self.given_up else 0.0,
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
        received = self.to_publish.pop()
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
            self.found(f"{kind}: {_why(bug)}")

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
            self.found(f"bug: {_why(bug)}")
            return
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
        self.found(f"told: {left} messages are never acknowledged")

    async def end_all(self, worker: Worker) -> None:
        """Tick until nothing is due."""
        for rounds in range(CALM_ROUNDS):
            dues = [job.due_at for job in self.cloud.store.jobs.values() if job.due_at]
            if not dues:
                return
            wait = (min(dues) - worker.workflow.clock.now()).total_seconds()
            # First whatever is due at once; what takes an hour is ticked ever more seldom.
            self.cloud.clock.advance(max(wait, 0.001, (rounds - 60) * 2.0))
            await self.ticking(worker)
        self.found("told: a job never ends")

    async def look_back(self) -> None:
        """Much later, when every copy has ended: some replay all they have, some do nothing."""
        self.cloud.clock.advance(20_000)
        self.cloud.models.registry.settle(self.cloud.models.clock.at)
        if self.rng.random() < 0.5:
            for letter in list(self.cloud.topics.letters):
                again = self.replay_of(letter)
                self.cloud.tell(f"replayed {again.attributes['ce-id']} of {again.replay_of}")
                self.unacknowledged += [again, self.renewed(again)]
            await self.calm_down()

    # The invariants, from outside

    def found(self, violation: str) -> None:
        self.cloud.violations.append(violation)
        self.cloud.tell(f"VIOLATION {violation}")

    def check(self) -> None:
        replies = self.cloud.topics.replies
        events: dict[str, Message] = {}
        # Answers to status questions are told apart by the microsecond; here time stands still.
        for reply in (reply for reply in replies if "-status-" not in reply.attributes["ce-id"]):
            first = events.setdefault(reply.attributes["ce-id"], reply)
            if first != reply:
                self.found(f"told: event {reply.attributes['ce-id']} has two contents")
        told = [read(reply) for reply in events.values()]
        outcomes = [reply for reply in told if "outcome" in reply]
        for asked in self.valid & self.published.keys():
            self.check_told(asked, [reply for reply in outcomes if reply["request_id"] == asked])
        self.check_kept(outcomes)
        self.check_copies([reply for reply in outcomes if reply["outcome"] == "succeeded"])

    def unexpected(self, kind: str = "") -> list[str]:
        """Violations, without those of findings that are still open (unless one is asked for)."""
        return [
            found
            for found in self.cloud.violations
            if found.partition(":")[0] not in OPEN_FINDINGS - {kind}
        ]

    def check_told(self, asked: str, outcomes: Sequence[dict[str, Any]]) -> None:
        by_attempt = [reply for reply in outcomes if "attempt" in reply]
        numbers = sorted(reply["attempt"] for reply in by_attempt)
        if not numbers:
            self.found(f"told: {asked} was never told an outcome")
        elif numbers != list(range(1, len(numbers) + 1)):
            self.found(f"gap: {asked} was told of attempts {numbers}")
        last = max(by_attempt, key=lambda reply: reply["attempt"], default=None)
        if last is None:
            return
        made = [op for op in self.operations(asked) if op.state is CopyState.SUCCEEDED]
        if len(made) > 1:
            self.found(f"once: {asked} made {[f'{op.destination}@{op.version}' for op in made]}")
        if any("met a bug" in reply.get("error", {}).get("message", "") for reply in outcomes):
            self.found(f"blamed: {asked} was told of a bug, and there was only an outage")
        unknown = "unknown" in last.get("error", {}).get("message", "")
        if made and last["outcome"] != "succeeded" and not unknown:
            self.found(f"honest: {asked} was told {last['outcome']}, and there is a copy")

    def operations(self, asked: str) -> list[Any]:
        (key,) = {job.key for job in self.cloud.store.jobs.values() if job.request_id == asked} or {
            ""
        }
        return self.cloud.operations_of(key)

    def check_kept(self, outcomes: Sequence[dict[str, Any]]) -> None:
        letters: dict[str, Message] = {}
        for letter in self.cloud.topics.letters:
            first = letters.setdefault(letter.attributes["outcome_id"], letter)
            if first.data != letter.data:
                self.found(f"kept: two contents of {letter.attributes['outcome_id']}")
        bad = [reply for reply in outcomes if reply["outcome"] in {"failed", "rejected"}]
        for reply in bad:
            if "dead_letter" in reply:
                self.check_letter(reply, letters.get(reply["dead_letter"]))
            elif not (self.was_given_up(reply["request_id"]) or _is_question(reply)):
                self.found(f"kept: {reply['id']} names no letter")
        for outcome_id in letters.keys() - {reply["id"] for reply in bad if "dead_letter" in reply}:
            kind = "gap"
            if "-rejected-" in outcome_id:
                asked = letters[outcome_id].attributes["ce-id"]
                kind = "unheard" if self.was_given_up(asked) else "kept"
            self.found(f"{kind}: a letter of {outcome_id}, which was not told as failed")

    def was_given_up(self, asked: str) -> bool:
        return any(letter.attributes["ce-id"] == asked for letter in self.given_up)

    def was_told_unknown(self) -> bool:
        failed = (
            read(m) for m in self.cloud.topics.replies if m.attributes.get("outcome") == "failed"
        )
        return any("unknown" in reply["error"]["message"] for reply in failed)

    def check_letter(self, reply: dict[str, Any], kept: Message | None) -> None:
        if kept is None:
            self.found(f"kept: no letter of {reply['id']}")
        elif kept.data not in self.published[reply["request_id"]]:
            self.found(f"kept: the letter of {reply['id']} has other bytes")
        elif reply.get("request_digest") != digest_of(_received(kept)):
            self.found(f"kept: the letter of {reply['id']} is of another attempt")

    def check_copies(self, succeeded: Sequence[dict[str, Any]]) -> None:
        claimed: dict[tuple[str, str], str] = {}
        for reply in succeeded:
            asked, name = reply["request_id"], reply["resource_name"]
            versions = self.cloud.models.versions(name)
            there = next((v for v in versions if v.name.version == reply["version"]), None)
            if there is None:
                self.found(f"true: {asked} names {name}@{reply['version']}, which is not there")
                continue
            if reply["verified"] and str(there.copied_from) != reply["source_model"]:
                self.found(f"true: {asked} names {there.name}, a copy of {there.copied_from}")
            if reply["already_existed"]:
                continue
            kind = "beside" if self.was_told_unknown() else "true"
            mine = [op for op in self.operations(asked) if op.state is CopyState.SUCCEEDED]
            if (name, reply["version"]) not in [(str(o.destination), o.version) for o in mine]:
                self.found(
                    f"{kind}: {asked} claims {name}@{reply['version']}, which it did not make"
                )
            other = claimed.setdefault((name, reply["version"]), asked)
            if other != asked:
                self.found(f"{kind}: {asked} and {other} claim {name}@{reply['version']}")


# How long an accepted copy may stay unseen, in seconds: what GRACE, which counts from
# `asked_at`, leaves of itself after the latest send (20 s), its call (30 s) and the skew (10 s).
SHOWS_WITHIN = 15.0


def _unmarked(letter: Received) -> dict[str, str]:
    return {
        name: value
        for name, value in letter.attributes.items()
        if not name.startswith("CloudPubSub")
    }


def _is_question(reply: dict[str, Any]) -> bool:
    return str(reply["request_id"]).startswith("question")


def _received(letter: Message) -> Received:
    return Received(data=letter.data, attributes=letter.attributes, message_id="")


def _why(bug: BaseException) -> str:
    while isinstance(bug, ExceptionGroup):
        bug = bug.exceptions[0]
    line = bug.__traceback__
    while line and line.tb_next:
        line = line.tb_next
    where = f"{Path(line.tb_frame.f_code.co_filename).name}:{line.tb_lineno}" if line else ""
    return f"{type(bug).__name__}: {bug} at {where}"


@dataclass(kw_only=True)
class Run:
    """What many histories came to."""

    histories: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)
    # Histories that only met what OPEN_FINDINGS names, by kind.
    still_open: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def table(self) -> str:
        names = sorted({*RULES, *self.reached})
        return "\n".join(f"{self.reached[name]:9,d}  {name}" for name in names)


async def live(seeds: Sequence[int]) -> Run:
    run = Run()
    for seed in seeds:
        history = History(seed=seed)
        await history.run()
        run.histories += 1
        run.reached.update(history.cloud.reached)
        if violations := history.unexpected():
            run.violations[seed] = violations
        for kind in {found.partition(":")[0] for found in history.cloud.violations}:
            if kind in OPEN_FINDINGS:
                run.still_open[kind].append(seed)
    return run


async def shortest(seed: int, kind: str = "") -> History:
    """The shortest beginning of a history that still violates something, with its trace."""
    for steps in range(STEPS + 1):
        history = History(seed=seed, steps=steps, traced=True)
        await history.run()
        if any(found.startswith(kind) for found in history.unexpected(kind)):
            return history
    return history


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Random histories of the engine.")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    parser.add_argument("--only", type=int, help="one seed, cut to what it takes")
    parser.add_argument("--kind", default="", help="with --only: the kind of violation wanted")
    parser.add_argument("--trace", action="store_true", help="print each step")
    asked = parser.parse_args(arguments)
    if asked.only is not None:
        history = asyncio.run(shortest(asked.only, asked.kind))
        if asked.trace:
            print("\n".join(history.cloud.trace or []))
        print(f"seed {asked.only}, {history.steps} steps:", *history.cloud.violations, sep="\n  ")
        return 1 if history.cloud.violations else 0
    run = asyncio.run(live(range(asked.seed, asked.seed + asked.count)))
    print(run.table())
    for seed, violations in sorted(run.violations.items())[:20]:
        print(f"seed {seed}: {violations[0]}")
    for kind, seeds in sorted(run.still_open.items()):
        print(f"open finding {kind!r}: {len(seeds)} histories, such as {seeds[:6]}")
    never = [rule for rule in RULES if not run.reached[rule]]
    print(f"{run.histories:,d} histories, {len(run.violations):,d} with violations")
    if never:
        print(f"never reached: {', '.join(never)}")
    return 1 if run.violations or never else 0


if __name__ == "__main__":
    sys.exit(main())
