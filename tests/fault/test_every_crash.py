"""A crash before and after every outside call and every save, on each path.

The crash points are found by running, not listed: each path is run once to count its
calls, then once more for every call with the process dying just before it, and just
after. What survives is the store, Vertex AI and the topics; Pub/Sub delivers again what
was not acknowledged. Then the invariants must hold as if nothing had happened.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from model_copier.contract.requests import CANCEL_REQUESTED, Identity, Received
from model_copier.domain.errors import Code
from model_copier.domain.resource_names import ModelName
from simulators import SimulatedModels
from world import PARENT, REQUEST, SOURCE, TARGET, World, request

FORWARDED = {"CloudPubSubDeadLetterSourceDeliveryCount": "100"}


class CrashError(BaseException):
    """The process dies here. Not an Exception: no handler may hide it."""


@dataclass
class Peril:
    """Counts outside calls and dies at one of them."""

    dies_at: int = -1  # -1: never
    after: bool = False
    calls: int = 0

    def guard(self, port: Any) -> Any:
        return _Guarded(port, self)


class _Guarded:
    def __init__(self, port: Any, peril: Peril) -> None:
        self._port = port
        self._peril = peril

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if not callable(member):
            return member

        async def call(*args: Any, **kwargs: Any) -> Any:
            peril = self._peril
            peril.calls += 1
            dies = peril.calls - 1 == peril.dies_at
            if dies and not peril.after:
                raise CrashError(f"before {name}")
            result = await member(*args, **kwargs)
            if dies:
                raise CrashError(f"after {name}")
            return result

        return call


Story = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Path:
    """A way that a request can go, and what must have come of it.

    ``outcomes``: what may be told of each attempt; ``copies``: how many versions may be in
    the target in the end. More than one where a crash may rightly decide a race.
    """

    name: str
    data: Any
    prepare: Callable[[SimulatedModels], None]
    outcomes: Sequence[str]
    copies: Collection[int]
    before: Story | None = None  # before anything is delivered, and without a crash
    goes_on: Story | None = None  # after the first delivery
    forwarded: bool = False  # Pub/Sub gave it up, and pushes its own letter
    attributes: Mapping[str, str] = field(default_factory=dict)  # of the first delivery
    after: int = 0  # so many outcomes were told before, and their record is gone

    def __str__(self) -> str:
        return self.name


def _nothing(_models: SimulatedModels) -> None:
    pass


def _parent(models: SimulatedModels) -> None:
    models.add(PARENT)


def _target(models: SimulatedModels) -> None:
    models.add(TARGET)


def _fails(models: SimulatedModels) -> None:
    # Each time: a call whose response was lost, and that failed unseen, is sent again.
    models.dooms = [Code.PERMISSION_DENIED] * 3


def _fails_twice(models: SimulatedModels) -> None:
    models.dooms = [Code.INTERNAL, Code.INTERNAL]


def _fails_once(models: SimulatedModels) -> None:
    models.dooms = [Code.PERMISSION_DENIED]


async def _cancel(world: World) -> None:
    """After the first step or in the middle of the copy, wherever a crash left it."""
    cancel = request({"request_id": "request-1"}, request_id="c", **{"ce-type": CANCEL_REQUESTED})
    await world.deliver(cancel)


async def _no_start_is_free(world: World) -> None:
    """Others have used up this minute's starts."""
    rate = int(world.timing.starts_per_minute)
    queue, now = ModelName.parse(TARGET).location_name, world.clock.now()
    assert await world.store.take_starts(queue, [0.0] * rate, now, rate) == rate


async def _minutes(world: World) -> None:
    """Cloud Scheduler's ticks: nothing falls due while a job waits in its queue."""
    for _ in range(3):
        world.clock.advance(61)
        await world.ticks.take(0)


async def _more_time(world: World) -> None:
    await world.pass_time(1000)


async def _nudge(world: World) -> None:
    """The audit log tells of the end, wherever a crash left the job."""
    world.clock.advance(43)
    for operation in world.models.registry.operations():
        await world.ticks.nudge(operation.name)


async def _replay(world: World) -> None:
    """Replay whatever letter there is, twice, as an impatient person would."""
    await world.pass_time(1000)
    for again in _replays(world):
        await world.deliver(again)
        await world.deliver(again)


def _replays(world: World) -> list[Received]:
    """The first letter as it is published again, if there is one."""
    return [
        replace(
            request(), attributes=letter.attributes | {"replay_of": letter.attributes["outcome_id"]}
        )
        for letter in world.topics.letters[:1]
    ]


async def _replay_at_each_stage(world: World) -> None:
    """The same letter while the replay runs, and when its outcome has been told."""
    await _replay(world)
    world.clock.advance(10)
    for again in _replays(world):
        await world.deliver(again)
        await world.pass_time(1000)
        await world.deliver(again)


async def _replay_and_cancel(world: World) -> None:
    """The same letter again after its replay was cancelled."""
    await _replay(world)
    await _cancel(world)
    await world.pass_time(1000)
    for again in _replays(world):
        await world.deliver(again)


async def _deliver_again(world: World) -> None:
    """The replay that was the first delivery comes once more, in between and in the end."""
    again = request(replay_of=GONE)
    await world.deliver(again)
    await world.pass_time(1000)
    await world.deliver(again)


async def _publish_again(world: World) -> None:
    """Pub/Sub's own letter names no outcome: it is published as what it is."""
    await world.deliver(request())


async def _publish_mended(world: World) -> None:
    """Mended, it says what it is to replace: the outcome by which it was given up."""
    mended = REQUEST | {"destination_model_id": "mended"}
    for _ in range(2):
        await world.deliver(request(mended, replay_of=GONE))


def _lost(models: SimulatedModels) -> None:
    models.lost_answers = 1


def _lost_with_parent(models: SimulatedModels) -> None:
    _lost(models)
    _parent(models)


def _quota(models: SimulatedModels) -> None:
    models.refusals = [Code.RESOURCE_EXHAUSTED]


def _quota_and_lost(models: SimulatedModels) -> None:
    models.refusals = [Code.RESOURCE_EXHAUSTED] * 2
    _lost(models)


def _copy_there(models: SimulatedModels) -> None:
    """Somebody copied this very source there by hand, and it has ended."""
    source, target = ModelName.parse(f"{SOURCE}@1"), ModelName.parse(TARGET)
    models.registry.copy(
        parent=target.location_name,
        source_model=str(source),
        model_id=target.model,
        now=models.clock.at,
        takes=timedelta(),
    )
    models.registry.settle(models.clock.at)


def _somebody_copies_for_ever(models: SimulatedModels, to: str) -> None:
    """Another version of a model is being made by hand, and its operation hangs."""
    models.add(to)
    models.registry.copy(
        parent=ModelName.parse(to).location_name,
        source_model=f"{SOURCE}@1",
        parent_model=to,
        now=models.clock.at,
        takes=timedelta(days=30),
    )


def _hung_beside(models: SimulatedModels) -> None:
    _somebody_copies_for_ever(models, PARENT)


def _hung_beside_and_lost(models: SimulatedModels) -> None:
    _hung_beside(models)
    _lost(models)


def _hung_beside_and_not_taken(models: SimulatedModels) -> None:
    """Each time: a call that nobody took, and about which nobody knows that."""
    _hung_beside(models)
    models.refusals = [Code.INTERNAL]


def _hung_there(models: SimulatedModels) -> None:
    _somebody_copies_for_ever(models, TARGET)


def _hangs(models: SimulatedModels) -> None:
    models.copy_seconds = timedelta(days=30).total_seconds()


def _hangs_on(models: SimulatedModels) -> None:
    """A cancel is answered, and does nothing."""
    _hangs(models)
    models.registry.dialect = replace(models.registry.dialect, cancels=False)


def _hangs_and_refuses(models: SimulatedModels) -> None:
    _hangs(models)
    unimplemented = frozenset({"CancelOperation"})
    models.registry.dialect = replace(models.registry.dialect, unimplemented=unimplemented)


# The first outcome: of a letter whose record may be gone, put back from a backup months later.
GONE = f"{Identity(source='//ec2/pipeline', request_id='request-1').key}-1"
VERSION = {"source_model_id": "7704127342733426688", "destination_parent_model": "shared-parent"}
SHORT = REQUEST | {"deadline_seconds": 60}
PATHS = [
    Path("new model", REQUEST, _nothing, ["succeeded"], [1]),
    Path("new version", VERSION, _parent, ["succeeded"], [2]),
    Path("derived id", {"source_model_id": "7704127342733426688"}, _nothing, ["succeeded"], [1]),
    Path(
        "if_exists new_version", REQUEST | {"if_exists": "new_version"}, _target, ["succeeded"], [2]
    ),
    Path("if_exists skip", REQUEST | {"if_exists": "skip"}, _target, ["succeeded"], [1]),
    Path("destination taken", REQUEST, _target, ["failed"], [1]),
    Path("source missing", REQUEST | {"source_model_id": "1"}, _nothing, ["failed"], [0]),
    Path("copy fails", REQUEST, _fails, ["failed"], [0]),
    Path("copy fails and is tried again", REQUEST, _fails_twice, ["succeeded"], [1]),
    Path("answer lost", REQUEST, _lost, ["succeeded"], [1]),
    Path("answer lost, new version", VERSION, _lost_with_parent, ["succeeded"], [2]),
    Path("quota", REQUEST, _quota, ["succeeded"], [1]),
    Path("quota, twice, and the answer lost", REQUEST, _quota_and_lost, ["succeeded"], [1]),
    Path("nudged", REQUEST, _nothing, ["succeeded"], [1], goes_on=_nudge),
    Path(
        "waits in its queue",
        REQUEST,
        _nothing,
        ["succeeded"],
        [1],
        before=_no_start_is_free,
        goes_on=_minutes,
    ),
    Path("beside an operation that hangs", VERSION, _hung_beside, ["succeeded"], [2]),
    Path("beside one that hangs, and lost", VERSION, _hung_beside_and_lost, ["succeeded"], [2]),
    Path(
        "beside one that hangs, and not taken",
        VERSION,
        _hung_beside_and_not_taken,
        ["succeeded"],
        [2],
    ),
    Path(
        "watches a copy that hangs",
        SHORT | {"if_exists": "skip"},
        _hung_there,
        ["failed"],
        [1],
        goes_on=_more_time,
    ),
    Path("too late, and cancelled", SHORT, _hangs, ["failed"], [0], goes_on=_more_time),
    Path("hangs whatever is sent", SHORT, _hangs_on, ["failed"], [0], goes_on=_more_time),
    Path("hangs, no cancel", SHORT, _hangs_and_refuses, ["failed"], [0], goes_on=_more_time),
    Path("its copy is there already", REQUEST, _copy_there, ["succeeded"], [1]),
    Path("rejected", {"source_model_id": 7}, _nothing, ["rejected"], [0]),
    Path("cancelled", REQUEST, _nothing, ["cancelled|succeeded"], [0, 1], goes_on=_cancel),
    Path(
        "cancelled while unknown", REQUEST, _lost, ["cancelled|succeeded"], [0, 1], goes_on=_cancel
    ),
    Path("given up by Pub/Sub", REQUEST, _nothing, ["failed"], [0], forwarded=True),
    Path(
        "given up by Pub/Sub, and published again",
        REQUEST,
        _nothing,
        ["failed", "succeeded"],
        [1],
        goes_on=_publish_again,
        forwarded=True,
    ),
    Path(
        "given up by Pub/Sub, and mended",
        REQUEST,
        _nothing,
        ["failed", "succeeded"],
        [1],
        goes_on=_publish_mended,
        forwarded=True,
    ),
    Path("unreadable, given up by Pub/Sub", b"?", _nothing, ["rejected"], [0], forwarded=True),
    Path(
        "replayed while it runs and when it has succeeded",
        REQUEST,
        _fails_once,
        ["failed|succeeded", "succeeded"],
        [1],
        goes_on=_replay_at_each_stage,
    ),
    Path(
        "replayed, and its old letter after the new failure",
        REQUEST,
        _fails,
        ["failed", "failed"],
        [0],
        goes_on=_replay_at_each_stage,
    ),
    Path(
        "replayed, cancelled, and replayed again",
        REQUEST,
        _fails_once,
        ["failed|succeeded", "cancelled|succeeded"],
        [0, 1],
        goes_on=_replay_and_cancel,
    ),
    Path(
        "replayed when its record is gone",
        REQUEST,
        _nothing,
        ["failed", "succeeded"],
        [1],
        goes_on=_deliver_again,
        attributes={"replay_of": GONE},
        after=1,
    ),
    Path(
        "replayed when its record is gone, and failed",
        REQUEST,
        _fails,
        ["failed", "failed"],
        [0],
        goes_on=_deliver_again,
        attributes={"replay_of": GONE},
        after=1,
    ),
]


async def run(path: Path, peril: Peril) -> World:
    """Live through one history: at most one crash, then redelivery and time."""
    world = World()
    path.prepare(world.models)
    if path.before:
        await path.before(world)
    real = world.store, world.models, world.topics

    async def worker_lives() -> None:
        world.start_worker()
        if path.forwarded:
            await world.deliveries.accept_forwarded(request(path.data, **FORWARDED))
        else:
            await world.deliver(request(path.data, **path.attributes))
        if path.goes_on:
            await path.goes_on(world)
        await world.pass_time(1000)

    world.store, world.models, world.topics = (peril.guard(port) for port in real)
    try:
        await worker_lives()
    except CrashError:
        world.store, world.models, world.topics = real
        await worker_lives()
    world.store, world.models, world.topics = real
    return world


def check(world: World, path: Path) -> None:
    """The invariants: once, told, kept."""
    copies = sum(
        len(world.models.registry.versions(str(model.name)))
        for model in world.models.registry.models()
        if str(model.name.unversioned) != SOURCE
    )
    assert copies in path.copies
    told = {(reply["id"], reply["outcome"]) for reply in world.replies}
    by_number = {reply.get("run", 1): reply for reply in world.replies}
    assert len(told) == len(by_number), "each outcome has one id and one content"
    assert len({message.data for message in world.topics.replies}) == len(told)
    assert sorted(by_number) == list(range(path.after + 1, path.after + len(by_number) + 1))
    for number, reply in by_number.items():
        assert reply["outcome"] in path.outcomes[number - 1].split("|")
    assert by_number[max(by_number)]["outcome"] in path.outcomes[-1].split("|")
    if path.forwarded:
        return  # the letter is Pub/Sub's own
    kept = {letter.attributes["outcome_id"] for letter in world.topics.letters}
    assert kept == {event_id for event_id, how in told if how in {"failed", "rejected"}}
    assert all(letter.data == request(path.data).data for letter in world.topics.letters)
    assert all(job.due_at is None for job in world.store.jobs.values())


@pytest.mark.parametrize("path", PATHS, ids=str)
async def test_a_crash_at_any_point_changes_nothing(path: Path):
    """Before and after each call: in the end all is as if nothing had happened."""
    calm = Peril()
    check(await run(path, calm), path)
    assert calm.calls > 0

    for dies_at in range(calm.calls):
        for after in (False, True):
            peril = Peril(dies_at=dies_at, after=after)
            world = await run(path, peril)
            try:
                check(world, path)
            except AssertionError as error:
                raise AssertionError(
                    f"{path}: dies {'after' if after else 'before'} call {dies_at}"
                ) from error
