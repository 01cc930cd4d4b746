"""docs/asyncapi.yaml: true to AsyncAPI 3.0, to the topics, and to the golden messages.

AsyncAPI's own JSON Schema is larger than this project's documents together, so its rules
that matter here are written out: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

import json
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from golden import asyncapi, schemas
from local_cloud.topics import DEAD_LETTERS, REPLIES, REQUESTS, TICKS

DOCUMENT: dict[str, Any] = yaml.safe_load(asyncapi.FILE.read_text())
MESSAGES = DOCUMENT["components"]["messages"]
# Fixed fields of the specification's objects, as far as they are used: required, allowed.
INFO = {"title", "version"}, {"title", "version", "description", "license"}
SERVER = {"host", "protocol"}, {"host", "protocol", "description"}
CHANNEL = {"address", "messages"}, {"address", "messages", "description"}
OPERATION = {"action", "channel"}, {"action", "channel", "messages", "description", "reply"}
MESSAGE = (
    {"name", "payload", "examples"},
    {"name", "title", "summary", "contentType", "headers", "payload", "examples"},
)
EXAMPLE = {"name", "payload"}, {"name", "payload", "headers", "summary"}


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for inside in part.values():
            yield from references(inside)
    elif isinstance(part, list):
        for inside in part:
            yield from references(inside)


def resolved(reference: str) -> Any:
    """What a reference points to; fails where that is nothing."""
    file, _, pointer = reference.partition("#")
    whole = json.loads((asyncapi.FILE.parent / file).read_text()) if file else DOCUMENT
    return reduce(lambda inside, key: inside[key], pointer.split("/")[1:], whole)


def schema_of(part: dict[str, Any]) -> dict[str, Any]:
    """A schema wherever it is: here, referred to, or in a format of its own."""
    if "schemaFormat" in part:
        part = part["schema"]
    found: dict[str, Any] = resolved(part["$ref"]) if "$ref" in part else part
    return found


def keeps(part: dict[str, Any], rule: tuple[set[str], set[str]]) -> bool:
    required, allowed = rule
    return required <= part.keys() <= allowed


def test_it_is_written_from_the_schemas_and_the_golden_messages():
    """``make contracts`` mends it."""
    assert asyncapi.FILE.read_text() == asyncapi.as_text()


def test_its_objects_have_the_fields_that_asyncapi_gives_them():
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert keeps(DOCUMENT["info"], INFO)
    assert all(keeps(server, SERVER) for server in DOCUMENT["servers"].values())
    assert all(keeps(channel, CHANNEL) for channel in DOCUMENT["channels"].values())
    assert all(keeps(operation, OPERATION) for operation in DOCUMENT["operations"].values())
    assert all(keeps(message, MESSAGE) for message in MESSAGES.values())
    assert all(
        keeps(each, EXAMPLE) for message in MESSAGES.values() for each in message["examples"]
    )
    assert {operation["action"] for operation in DOCUMENT["operations"].values()} == {
        "send",
        "receive",
    }
    for part in ("messages", "schemas"):
        assert all(re.fullmatch(r"[\w.-]+", key) for key in DOCUMENT["components"][part])


def test_every_reference_leads_somewhere():
    found = set(references(DOCUMENT))

    assert {reference for reference in found if not reference.startswith("#")} == {
        f"schemas/{name}" for name in schemas.schemas()
    }
    assert all(resolved(reference) for reference in found)


def test_its_channels_are_the_topics():
    addresses = {name: channel["address"] for name, channel in DOCUMENT["channels"].items()}

    assert addresses == {
        "requests": REQUESTS,
        "replies": REPLIES,
        "deadLetters": DEAD_LETTERS,
        "ticks": TICKS,
    }


def test_every_message_is_on_a_topic_and_every_topic_is_used():
    on_topics = {
        reference.rpartition("/")[2]
        for channel in DOCUMENT["channels"].values()
        for reference in references(channel["messages"])
    }
    used = {operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()}

    assert on_topics == set(MESSAGES)
    assert used == {f"#/channels/{name}" for name in DOCUMENT["channels"]}


@pytest.mark.parametrize("name", MESSAGES)
def test_an_example_keeps_the_schemas_of_its_message(name: str):
    message = MESSAGES[name]

    for example in message["examples"]:
        Draft202012Validator(schema_of(message["payload"])).validate(example["payload"])
        if "headers" in message:
            Draft202012Validator(schema_of(message["headers"])).validate(example["headers"])
            assert example["headers"].get("ce-type", name) in {message["name"], *KEPT.get(name, ())}


# A letter keeps the type of its request.
KEPT = {"deadLetter": ("dev.modelcopier.copy.requested.v1",)}
