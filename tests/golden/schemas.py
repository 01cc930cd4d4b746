"""JSON Schemas of every message, written from the types that read and write them.

``docs/schemas`` holds them as files, for readers in other languages; a test holds the
files to what is made here. The service needs none of it.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from model_copier.contract import replies, request_schema, requests
from model_copier.domain.errors import Code

_ROOT = Path(__file__).parents[2]
FOLDER = _ROOT / "docs" / "schemas"
# The publisher's copy, which is in its wheel: requests are held to it before they are sent.
PUBLISHERS = _ROOT / "publisher" / "src" / "model_copy_publisher" / "requested.v1.json"
_REQUESTS: Mapping[str, tuple[type[BaseModel], str]] = {
    "requested": (request_schema.CopyData, "Copy one model. What is null counts as left out."),
    "cancel.requested": (request_schema.NamedRequest, "End the copying of a request."),
    "status.requested": (request_schema.NamedRequest, "Ask how a request stands."),
}
_REPLIES: Mapping[str, type[BaseModel]] = {
    "succeeded": replies.Succeeded,
    "failed": replies.Failed,
    "cancelled": replies.Cancelled,
    "rejected": replies.Rejected,
    "validated": replies.Validated,
    "status": replies.Status,
}
_LETTER: Mapping[str, Mapping[str, Any]] = {
    "dead_letter_code": {
        "enum": list(map(str, Code)),
        "description": "canonical code of Google's APIs, by name",
    },
    "outcome_id": {
        "description": "CloudEvent id of the reply that told it; a replay names it as `replay_of`"
    },
    "dead_letter_at": {"format": "date-time", "description": "when the outcome was known, in UTC"},
    "attempts": {
        "pattern": "^[0-9]+$",
        "description": "how often Vertex AI was asked for the copy; 0: never became a job",
    },
    "dead_letter_reason": {
        "description": "error and hint, for a person; cut at 1,024 bytes, whole in the reply"
    },
    requests.OUTCOME_UNKNOWN: {
        "description": "present where there may be a copy; a replay must keep it"
    },
}


def file_name(kind: str) -> str:
    return f"{kind}.v1.json"


@cache
def schemas() -> Mapping[str, dict[str, Any]]:
    """Every schema by its file's name."""
    return dict(_schemas())


def _schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, (form, about) in _REQUESTS.items():
        yield file_name(kind), _frame(kind, about) | _written(form, "validation")
    for kind, reply in _REPLIES.items():
        about = (reply.__doc__ or "").partition(": ")[2]
        yield file_name(kind), _frame(kind, about) | _written(reply, "serialization")
    yield file_name("dead-letter"), _letter()


def schema_of(event_type: str) -> dict[str, Any]:
    """The schema for the data of a CloudEvent.

    Raises:
        KeyError: the type is not one of ours.
    """
    return schemas()[event_type.removeprefix("dev.modelcopier.copy.") + ".json"]


def fits(schema: Mapping[str, Any], data: object) -> bool:
    return Draft202012Validator(schema).is_valid(data)


def as_text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _Writer(GenerateJsonSchema):
    """Pydantic's schemas, less what says nothing to a reader, plus what a reply always has."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False  # the name again, with spaces

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        if self.mode == "serialization":  # what is not known is left out, never null
            return self.generate_inner(schema["schema"])
        return super().nullable_schema(schema)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        found = super().default_schema(schema)
        if self.mode == "serialization" or found.get("default", ...) is None:
            found.pop("default", None)
        return found

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: FBT001  pydantic's own
        if self.mode == "validation":
            return super().field_is_required(field, total)
        return field["schema"].get("default", ...) is not None


def _written(form: type[BaseModel], mode: Any) -> dict[str, Any]:
    found = form.model_json_schema(mode=mode, schema_generator=_Writer)
    for name in ("title", "description"):
        found.pop(name, None)  # the frame's are better
    for definition in found.get("$defs", {}).values():
        definition.pop("title", None)
    return found


def _frame(kind: str, about: str) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": replies.SCHEMA.format(kind),
        "title": f"dev.modelcopier.copy.{kind}.v1",
        "description": about[:1].upper() + about[1:],
    }


def _letter() -> dict[str, Any]:
    """Attributes are text, and each may have had to give way to Pub/Sub's limits."""
    assert tuple(_LETTER) == (*requests.LETTER_ATTRIBUTES, requests.OUTCOME_UNKNOWN)
    about = (
        "The attributes of a dead letter: the request's own, and these; its data are the"
        " request's own bytes. Where Pub/Sub's limits leave no room, the last of these give way"
        " first. A letter that Pub/Sub forwarded itself has CloudPubSubDeadLetterSource..."
        " attributes instead."
    )
    return _frame("dead-letter", about) | {
        "title": "Dead letter",
        "type": "object",
        "additionalProperties": {"type": "string"},
        "properties": {name: {"type": "string", **rest} for name, rest in _LETTER.items()},
    }
