"""The AsyncAPI document of the four topics, written from the schemas and the golden messages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from golden import schemas, stories
from model_copier.contract.requests import LETTER_ATTRIBUTES, MAX_REPLY_TAG
from model_copier.settings import Settings

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
_HEAD = "# Written by `make contracts`. messages.md explains it.\n"
# Each message with the golden one that is its example.
REQUESTS = {
    "requested": "copy-every-field",
    "cancel.requested": "cancel-by-another",
    "status.requested": "status-while-copying",
}
REPLIES = {
    "succeeded": "copy-every-field",
    "failed": "failed-source-missing",
    "cancelled": "cancel-running",
    "rejected": "refused-destination-upper-case",
    "validated": "validate-new-model",
    "status": "status-while-copying",
}
LETTER = "failed-source-missing"
_TEXT = {"type": "string"}
_FORMAT = "application/schema+json;version=draft-2020-12"


def as_text() -> str:
    # Through JSON, so that what is used twice is written twice, not by reference.
    plain = json.loads(json.dumps(document()))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    return _HEAD + text


def document() -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Model copier",
            "version": "1.0.0",
            "description": "Copies Vertex AI models between projects by message: once, told, kept.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "pubsub": {
                "host": "pubsub.googleapis.com",
                "protocol": "googlepubsub",
                "description": "All topics are in one project.",
            }
        },
        "channels": _channels(),
        "operations": {
            "takeRequest": _operation("receive", "requests") | {"reply": _to("replies")},
            "tellOutcome": _operation("send", "replies"),
            "keepLetter": _operation("send", "deadLetters"),
            "takeForwarded": _operation("receive", "deadLetters")
            | {"description": "Only what Pub/Sub forwarded itself.", "reply": _to("replies")},
            "wake": _operation("send", "ticks"),
            "wakeUp": _operation("receive", "ticks"),
        },
        "components": {"messages": _messages(), "schemas": _attributes()},
    }


def _channels() -> dict[str, Any]:
    topics = Settings.__dataclass_fields__
    return {
        "requests": {
            "address": topics["request_topic"].default,
            "description": "What teams publish, and letters that are replayed.",
            "messages": {_name(kind): _ref("messages", _name(kind)) for kind in REQUESTS},
        },
        "replies": {
            "address": topics["reply_topic"].default,
            "description": "Outcomes, at least once, the same event id in every repeat.",
            "messages": {_name(kind): _ref("messages", _name(kind)) for kind in REPLIES},
        },
        "deadLetters": {
            "address": topics["dead_letter_topic"].default,
            "description": "Failed and unreadable requests, for 31 days.",
            "messages": {"deadLetter": _ref("messages", "deadLetter")},
        },
        "ticks": {
            "address": topics["tick_topic"].default,
            "description": "The copier's own: look what is due. Nobody else need know of it.",
            "messages": {"tick": _ref("messages", "tick")},
        },
    }


def _operation(action: str, channel: str) -> dict[str, Any]:
    return {"action": action} | _to(channel)


def _to(channel: str) -> dict[str, Any]:
    return {"channel": {"$ref": f"#/channels/{channel}"}}


def _messages() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, golden in REQUESTS.items():
        story = stories.Story.read(golden)
        found[_name(kind)] = _event(kind, "requestAttributes", golden, story.message)
    for kind, golden in REPLIES.items():
        reply = stories.Story.read(golden).expected["replies"][0]
        found[_name(kind)] = _event(kind, "replyAttributes", golden, reply)
    story = stories.Story.read(LETTER)
    found["deadLetter"] = {
        "name": "deadLetter",
        "title": "Dead letter",
        "summary": "A request's own bytes, with the reason why it failed.",
        "headers": _schema("dead-letter"),
        "payload": {"description": "the request's own bytes, whatever they are"},
        "examples": [
            {
                "name": LETTER,
                "headers": story.expected["letters"][0]["attributes"],
                "payload": story.message["data"],
            }
        ],
    }
    found["tick"] = {
        "name": "tick",
        "title": "Tick",
        "summary": "Its data do not count.",
        "payload": {"description": "anything"},
        "examples": [{"name": "tick", "payload": {}}],
    }
    return found


def _event(kind: str, attributes: str, golden: str, example: Mapping[str, Any]) -> dict[str, Any]:
    schema = schemas.schemas()[schemas.file_name(kind)]
    return {
        "name": schema["title"],
        "title": schema["title"],
        "summary": schema["description"],
        "contentType": "application/json",
        "headers": _ref("schemas", attributes),
        "payload": _schema(kind),
        "examples": [
            {"name": golden, "headers": example["attributes"], "payload": example["data"]}
        ],
    }


def _attributes() -> dict[str, Any]:
    """The attributes of requests and replies: all are text."""
    cloud_event = {
        "ce-specversion": {"const": "1.0"},
        "ce-id": _TEXT,
        "ce-source": _TEXT,
        "ce-type": _TEXT,
    }
    replies = {
        name
        for story in stories.stories()
        for reply in story.expected["replies"]
        for name in reply["attributes"]
    }
    return {
        "requestAttributes": {
            "type": "object",
            "description": (
                "A CloudEvent in binary mode. Structured mode and the bare data are taken too."
            ),
            "properties": {
                **cloud_event,
                "ce-id": _TEXT | {"pattern": "^[A-Za-z0-9._~-]{1,128}$"},
                "reply_tag": _TEXT | {"maxLength": MAX_REPLY_TAG},
                "replay_of": _TEXT | {"description": f"{LETTER_ATTRIBUTES[1]} of a dead letter"},
            },
            "additionalProperties": _TEXT,
            "required": list(cloud_event),
        },
        "replyAttributes": {
            "type": "object",
            "description": "A CloudEvent in binary mode; the plain ones are for filters.",
            "properties": dict.fromkeys(sorted(replies), _TEXT) | cloud_event,
            "additionalProperties": _TEXT,
            "required": [*cloud_event, "outcome", "request_id", "request_source"],
        },
    }


def _schema(kind: str) -> dict[str, Any]:
    return {"schemaFormat": _FORMAT, "schema": {"$ref": f"schemas/{schemas.file_name(kind)}"}}


def _ref(part: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{part}/{name}"}


def _name(kind: str) -> str:
    """`cancel.requested` as a key of the document: `cancelRequested`."""
    first, *rest = kind.split(".")
    return first + "".join(map(str.title, rest))
