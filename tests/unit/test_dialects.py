"""The engine in each of Vertex AI's dialects: what Google leaves open must not matter.

Each story is lived under every named dialect, and under the worst mixture of them. What
may differ is only how sure the answer is: a copy whose proof never comes, after an answer
that was lost, is told as unknown, never as made and never made twice.
"""

from collections.abc import Callable

import pytest

from local_cloud.registry import Registry
from local_cloud.vertex_dialects import DIALECTS
from model_copier.domain.errors import Code
from simulators import SimulatedClock, SimulatedModels
from world import PARENT, REQUEST, SOURCE, World, request

VERSION = {"source_model_id": "7704127342733426688", "destination_parent_model": "shared-parent"}
A_DAY = 86_400


def world_in(dialect: str) -> World:
    clock = SimulatedClock()
    models = SimulatedModels(clock, registry=Registry(dialect=DIALECTS[dialect]))
    models.add(SOURCE)
    models.add(PARENT)
    clock.advance(3600)  # they have been there for a while
    return World(clock=clock, models=models)


def lost(models: SimulatedModels) -> None:
    models.lost_answers = 1


def fails_once(models: SimulatedModels) -> None:
    models.dooms = [Code.INTERNAL]


def nothing(_models: SimulatedModels) -> None:
    pass


async def copies_of(world: World, data: object) -> tuple[str, str, int]:
    """Outcome, its error and how many copies were made, a day later."""
    before = world.copies
    await world.deliver(request(data))
    await world.pass_time(A_DAY)
    (reply,) = world.replies
    whole = sum(
        operation.state.name == "SUCCEEDED" for operation in world.models.registry.operations()
    )
    assert world.copies >= before
    return reply["outcome"], reply.get("error", {}).get("message", ""), whole


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("data", [REQUEST, VERSION], ids=["new model", "new version"])
async def test_a_copy_is_made_once_and_told(dialect: str, data: object):
    world = world_in(dialect)

    assert await copies_of(world, data) == ("succeeded", "", 1)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("data", [REQUEST, VERSION], ids=["new model", "new version"])
async def test_a_copy_whose_answer_was_lost_is_found_or_told_as_unknown(dialect: str, data: object):
    world = world_in(dialect)
    lost(world.models)

    outcome, message, made = await copies_of(world, data)

    assert made == 1
    if DIALECTS[dialect].proof_after_seconds is None:
        assert outcome == "failed"
        assert "unknown" in message
    else:
        assert (outcome, message) == ("succeeded", "")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_copy_that_fails_in_the_end_is_tried_again_unless_it_left_a_wreck(dialect: str):
    world = world_in(dialect)
    fails_once(world.models)

    outcome, message, made = await copies_of(world, REQUEST)

    if DIALECTS[dialect].leaves_wreck:
        assert (outcome, made) == ("failed", 0)
        assert "is there already" in message
    else:
        assert (outcome, made) == ("succeeded", 1)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("trouble", [nothing, lost], ids=["calm", "answer lost"])
async def test_two_requests_for_one_model_id_make_one_model_and_are_both_told(
    dialect: str, trouble: Callable[[SimulatedModels], None]
):
    """The second comes as soon as the first has ended, when stale reads still miss its model."""
    world = world_in(dialect)
    await world.deliver(request(REQUEST, request_id="first"))
    trouble(world.models)
    await world.deliver(request(REQUEST, request_id="second"))

    await world.pass_time(A_DAY)

    told = {reply["request_id"]: reply for reply in world.replies}
    assert told["first"]["outcome"] == "succeeded"
    second = told["second"]
    whole = [op for op in world.models.registry.operations() if op.state.name == "SUCCEEDED"]
    assert len(whole) == 1
    assert second["outcome"] == "succeeded" or second["error"]["code"] in {
        "ALREADY_EXISTS",
        "DEADLINE_EXCEEDED",
    }
