"""Rules that a random history seldom misses when they are gone, as stories."""

from dataclasses import replace

from model_copier.contract.requests import OUTCOME_UNKNOWN, Identity
from model_copier.domain.errors import Code
from model_copier.domain.job import Job, State
from world import PARENT, World, request

VERSION = {"source_model_id": "7704127342733426688", "destination_parent_model": "shared-parent"}
FIRST_OUTCOME = f"{Identity(source='//ec2/pipeline', request_id='request-1').key}-1"


def with_parent() -> World:
    world = World()
    world.models.add(PARENT)
    return world


def restore(world: World, backup: Job) -> None:
    """The store is lost, and this record of it put back."""
    now = world.clock.now()
    world.store.jobs[backup.key] = replace(backup.after_restore(now), version=world.job.version)


async def test_the_next_waiter_starts_at_once():
    """It is woken when the lock is released; by itself it looks 300 s later."""
    world = with_parent()
    for name in ("first", "second"):
        await world.deliver(request(VERSION, request_id=name))

    await world.pass_time(42 + 2 * world.timing.max_poll_seconds)

    assert [job.state for job in world.store.jobs.values()] == [State.SUCCEEDED] * 2


async def test_claims_on_reused_version_numbers_are_found():
    """An operation's version is looked up, though its number was there before."""
    world = with_parent()
    await world.deliver(request(VERSION))
    await world.pass_time(150)
    assert world.job.call is not None
    call = replace(world.job.call, known_versions=("1", "2"))
    other = replace(world.job, key="other", call=call)

    snapshot = await world.workflow.reader.snapshot(other)

    assert [neighbour.key for neighbour in snapshot.neighbours] == [world.job.key]


async def test_an_unknown_outcome_without_its_record_is_rejected():
    """Another copy could be the second one."""
    world = World()

    handled = await world.deliver(request(replay_of=FIRST_OUTCOME, **{OUTCOME_UNKNOWN: "true"}))

    assert handled.verdict == "rejected"
    assert "its record has expired" in handled.reason
    assert world.models.copies_asked == 0
    assert len(world.topics.letters) == len(world.replies) == 1
    assert world.topics.letters[0].attributes[OUTCOME_UNKNOWN] == "true"


async def test_a_restored_job_finds_its_forgotten_copy():
    """The backup is from before the call."""
    world = with_parent()
    world.models.refusals = [Code.RESOURCE_EXHAUSTED]
    await world.deliver(request(VERSION))
    backup = world.job
    assert (backup.state, backup.call) == (State.QUEUED, None)
    await world.pass_time(600)

    restore(world, backup)
    await world.pass_time(600)

    assert [reply["version"] for reply in world.replies] == ["2", "2"]
    assert len(world.models.versions(PARENT)) == 2


async def test_a_restored_job_finds_its_forgotten_retry():
    """The backup is from before its first operation failed."""
    world = with_parent()
    world.models.dooms = [Code.INTERNAL]
    await world.deliver(request(VERSION))
    backup = world.job
    assert backup.state is State.COPYING
    await world.pass_time(600)

    restore(world, backup)
    await world.pass_time(600)

    assert [reply["version"] for reply in world.replies] == ["2", "2"]
    assert len(world.models.versions(PARENT)) == 2
    assert world.models.copies_asked == 2


async def test_a_slow_save_leaves_no_time_to_call():
    """The lease could end during the call; whoever claims the job next looks first."""
    world = with_parent()
    save, slow = world.store.save, world.timing.lease_seconds / 2

    async def slow_save(job: Job) -> Job:
        saved: Job = await save(job)
        if saved.state is State.REQUESTED and not world.models.copies_asked:
            world.clock.advance(slow)
        return saved

    world.store.save = slow_save
    await world.deliver(request(VERSION))

    assert world.job.state is State.REQUESTED
    assert world.models.copies_asked == 0
    world.store.save = save
    await world.pass_time(1000)
    assert world.models.copies_asked == 1
    assert [reply["version"] for reply in world.replies] == ["2"]
