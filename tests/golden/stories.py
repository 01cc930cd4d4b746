"""Golden messages: what comes in and what the service makes of it, one story a file.

The files in ``messages`` are for teams in any language: ``message`` is what is published,
``expected`` what comes of it. Here they are told to the real workflow, in a small world
whose clock begins at 2026-02-13T09:00:00Z. What must not break: nothing here knows the
contract; what is expected stands in the files alone.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import rfc8785

from golden.schemas import fits, schema_of
from model_copier.contract.requests import Message, Received
from model_copier.domain.errors import Code
from model_copier.domain.resource_names import ModelName
from world import World

FOLDER = Path(__file__).parent / "messages"
# Long enough for a copy and its reply in the simulated world.
WAIT_SECONDS = 150  # a copy, and as long as what came to nothing may still show


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    name: str
    about: str
    given: Mapping[str, Any]  # how the world differs, from here on
    before: Mapping[str, float]  # stories told first, and the seconds until what follows
    message: Mapping[str, Any]
    wait_seconds: float  # after the message
    expected: Mapping[str, Any]

    @classmethod
    def read(cls, name: str) -> Self:
        found = json.loads((FOLDER / f"{name}.json").read_text())
        return cls(
            name=name,
            about=found["about"],
            given=found.get("given", {}),
            before=found.get("before", {}),
            message=found["message"],
            wait_seconds=found.get("wait_seconds", WAIT_SECONDS),
            expected=found.get("expected", {}),
        )

    def write(self, expected: Mapping[str, Any]) -> None:
        """Keep what is expected; the rest of the file is left as it is."""
        file = FOLDER / f"{self.name}.json"
        found = json.loads(file.read_text()) | {"expected": expected}
        file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")

    @property
    def received(self) -> Received:
        """The message as it is delivered; JSON travels in its canonical form."""
        return Received(
            data=_data(self.message),
            attributes=self.message.get("attributes", {}),
            message_id=self.message["message_id"],
        )


def stories() -> Iterator[Story]:
    """Every golden message, by name."""
    for file in sorted(FOLDER.glob("*.json")):
        yield Story.read(file.stem)


async def happened(story: Story) -> dict[str, Any]:
    """Tell a story to a world of its own; return what came of its message."""
    world = World()
    for name, seconds in story.before.items():
        await _tell(world, replace(Story.read(name), wait_seconds=seconds))
    replies, letters = len(world.topics.replies), len(world.topics.letters)
    verdict = await _tell(world, story)
    return {
        "verdict": verdict,
        "by_schema": by_schema(story.received),
        "replies": [_shown(message) for message in world.topics.replies[replies:]],
        "letters": [
            _shown(message, as_it_came=story.received.data)
            for message in world.topics.letters[letters:]
        ],
    }


async def _tell(world: World, story: Story) -> str:
    for name, more in story.given.items():
        _GIVEN[name](world, more)
    if story.message.get("forwarded_by_pubsub"):
        accepted = await world.deliveries.accept_forwarded(story.received)
    else:
        accepted = await world.deliver(story.received)
    await world.pass_time(story.wait_seconds)
    return accepted.verdict


def _add_models(world: World, names: list[str]) -> None:
    for name in map(ModelName.parse, names):
        world.models.add(str(name.at(None)), name.version or "1")


def _add_aliases(world: World, names: list[str]) -> None:
    for name in map(ModelName.parse, names):
        world.models.registry.add_model(
            str(name.at(None)), version="2", aliases=(name.version,), now=world.clock.at
        )


def _end_copies_in(world: World, codes: list[str]) -> None:
    world.models.dooms = [Code[code] for code in codes]


def _refuse_copies_with(world: World, codes: list[str]) -> None:
    world.models.refusals = [Code[code] for code in codes]


def _copy_for(world: World, seconds: float) -> None:
    world.models.copy_seconds = seconds


def _ignore_cancels(world: World, _reason: str) -> None:
    async def no_cancel(_name: str) -> None:
        """Vertex AI takes the cancel, and nothing comes of it."""

    world.models.cancel_operation = no_cancel


def _allow_accounts(world: World, accounts: list[str]) -> None:
    contract = world.deliveries.contract
    defaults = replace(contract.defaults, service_accounts=frozenset(accounts))
    world.deliveries.contract = replace(contract, defaults=defaults)


# What a story may say of its world: without it, one source model, nothing in the target,
# copies that take 42 seconds.
_GIVEN: Mapping[str, Callable[[World, Any], None]] = {
    "models": _add_models,
    "aliases": _add_aliases,
    "copies_end_in": _end_copies_in,
    "copies_are_refused_with": _refuse_copies_with,
    "copy_seconds": _copy_for,
    "cancels_are_ignored": _ignore_cancels,
    "allowed_service_accounts": _allow_accounts,
}


def by_schema(received: Received) -> str:
    """Say what the JSON Schema alone finds; the service refuses more than it can say."""
    try:
        event_type, data = _event(received)
        schema = schema_of(event_type)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "not JSON of a known type"
    return "valid" if fits(schema, data) else "invalid"


def _event(received: Received) -> tuple[str, Any]:
    """Read a request as leniently as anybody would, with nothing but ``json``."""
    data = json.loads(received.data.decode("utf-8-sig"))
    attributes = {name.lower(): value for name, value in received.attributes.items()}
    structured = attributes.get("content-type", "").startswith("application/cloudevents")
    if structured or "specversion" in data:
        return data["type"], data.get("data")
    return attributes.get("ce-type", "dev.modelcopier.copy.requested.v1"), data


def _data(message: Mapping[str, Any]) -> bytes:
    if "data_base64" in message:
        return base64.b64decode(message["data_base64"])
    if "data_text" in message:
        text: str = message["data_text"] * message.get("data_times", 1)
        return text.encode()
    return rfc8785.dumps(message["data"])


def _shown(message: Message, *, as_it_came: bytes | None = None) -> dict[str, Any]:
    """Write a message down; a letter keeps the request's own bytes, so they are not repeated."""
    data = "as it came" if message.data == as_it_came else json.loads(message.data)
    return {"attributes": dict(sorted(message.attributes.items())), "data": data}
