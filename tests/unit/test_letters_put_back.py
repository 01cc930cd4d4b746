"""A dead letter that a general tool publishes again, as it is: Dataflow's template, gundi-dlq."""

from dataclasses import replace

import pytest

from model_copier.contract.requests import Received
from model_copier.domain.errors import Code
from world import World, request


def put_back(world: World, **more: str) -> Received:
    """The newest letter, byte for byte, with its own attributes."""
    letter = world.topics.letters[-1]
    attributes = {**letter.attributes, **more}
    return Received(data=letter.data, attributes=attributes, message_id="put-back")


async def failed(world: World, received: Received) -> None:
    world.models.refusals = [Code.PERMISSION_DENIED]
    await world.deliver(received)


@pytest.mark.parametrize("case", [str, str.upper])
async def test_a_letter_put_back_is_replayed(case):
    """After the tool's acknowledgement the request is in no other topic."""
    world = World()
    await failed(world, request())
    letter = put_back(world)
    letter = replace(letter, attributes={case(k): v for k, v in letter.attributes.items()})

    told = await world.deliver(letter)

    assert told.verdict == "replayed"
    await world.pass_time(150)
    assert [reply.attributes["outcome"] for reply in world.topics.replies] == [
        "failed",
        "succeeded",
    ]


async def test_a_letter_put_back_twice_is_replayed_once():
    world = World()
    await failed(world, request())
    letter = put_back(world)

    verdicts = [(await world.deliver(letter)).verdict for _ in range(2)]

    assert verdicts == ["replayed", "duplicate"]


async def test_the_second_letter_is_of_the_second_outcome():
    """It holds the `replay_of` of the replay that failed, which is no longer the present one."""
    world = World()
    await failed(world, request())
    first = world.topics.letters[-1].attributes["outcome_id"]
    await failed(world, put_back(world))

    told = await world.deliver(put_back(world, replay_of=first))

    assert len(world.topics.letters) == 2
    assert told.verdict == "replayed"


async def test_an_outcome_id_alone_is_no_replay():
    """A sender may have an attribute of that name."""
    world = World()
    await failed(world, request())
    letter = put_back(world)
    attributes = {k: v for k, v in letter.attributes.items() if k != "dead_letter_code"}

    told = await world.deliver(replace(letter, attributes=attributes))

    assert told.verdict == "announced_again"


async def test_a_letter_that_fails_again_is_kept_again():
    world = World()
    await failed(world, request())

    await failed(world, put_back(world))

    outcomes = [letter.attributes["outcome_id"] for letter in world.topics.letters]
    assert len(set(outcomes)) == 2
