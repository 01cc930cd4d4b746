"""The rules of a copy request's data: the service's JSON Schema, and what no schema can say.

``requested.v1.json`` is a copy of the service's own, written by ``make contracts``, so that a
request which is published here is not rejected there for its form. A refusal names the field,
the value and the rule. Pure, apart from reading the schema once.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import combinations
from typing import Any

from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.strict_json import json_kind

_KINDS: dict[str, tuple[str, type[Any]]] = {
    "string": ("a string", str),
    "boolean": ("true or false", bool),
    "object": ("a JSON object", Mapping),
}
_NAME = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/")
# https://docs.cloud.google.com/iam/docs/service-account-types
_ACCOUNT = re.compile(
    r"[^@]+@(?P<project>[a-z0-9-]+)(?:\.(?P<domain>[a-z0-9.-]+))?\.iam\.gserviceaccount\.com"
    r"|(?P<app>[^@]+)@appspot\.gserviceaccount\.com"
)
# Longer texts are shown by their beginning, and not searched for the character that is wrong.
_MAX_SHOWN = 80
_MAX_SEARCHED = 600


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``dev.modelcopier.copy.requested.v1``."""
    from importlib import resources  # noqa: PLC0415  for those who send or read a setting

    file = resources.files("model_copy_publisher").joinpath("requested.v1.json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def max_deadline_seconds() -> int:
    """Return the longest ``deadline_seconds`` of a request."""
    longest: int = _rule("deadline_seconds")["maximum"]
    return longest


def check_data(data: Mapping[str, Any]) -> None:
    """Refuse data of a request which the service would reject for its form.

    Raises:
        InvalidRequestError: naming the first field that is wrong.
    """
    _check(data, _validator())
    for field, reason in _contradictions(data):
        raise InvalidRequestError(field, reason)


def check_value(field: str, value: object) -> None:
    """Refuse what no request can have in ``field``, whatever its other fields are.

    Raises:
        InvalidRequestError: naming the field.
    """
    _check({field: value}, _field_validator())


@cache
def _validator() -> Callable[[Any], object]:
    return _compiled(schema())


@cache
def _field_validator() -> Callable[[Any], object]:
    return _compiled({"properties": schema()["properties"], "$defs": schema()["$defs"]})


def _compiled(rules: Mapping[str, Any]) -> Callable[[Any], object]:
    # Here, since only requests need it: the import and the compiling take 30 ms.
    import fastjsonschema  # noqa: PLC0415

    validate: Callable[[Any], object] = fastjsonschema.compile(dict(rules), use_default=False)
    return validate


def _check(data: Mapping[str, Any], validate: Callable[[Any], object]) -> None:
    from fastjsonschema import JsonSchemaValueException  # noqa: PLC0415

    try:
        validate(dict(data))
    except JsonSchemaValueException as error:
        raise _refusal(error.path[1:], error.value, error.definition, error.rule) from None


def _refusal(
    path: list[str], value: Any, definition: Mapping[str, Any], rule: str | None
) -> InvalidRequestError:
    if path:
        return InvalidRequestError(path[0], _reason(value, _rule(path[0])))
    if rule == "additionalProperties":
        known = definition["properties"]
        name = next(name for name in value if name not in known)
        return InvalidRequestError(str(name), no_such_field(str(name), known))
    if definition is schema():
        return InvalidRequestError(definition["required"][0], "is missing")
    # A rule about two fields has its own sentence in the schema.
    field, _, reason = definition["title"].partition(": ")
    return InvalidRequestError(field, reason)


def no_such_field(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Say that a request has no such field, and which one may have been meant."""
    import difflib  # noqa: PLC0415  only a mistake pays for it

    near = difflib.get_close_matches(name, known, 1)
    guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"no field of a request; {guess}"


def _rule(field: str) -> dict[str, Any]:
    """Return the schema of a field's value, without the alternative that it is null."""
    found: dict[str, Any] = schema()["properties"][field]
    for option in found.get("anyOf", ()):
        if option.get("type") != "null":
            found = option
    if "$ref" in found:
        found = schema()["$defs"][found["$ref"].rpartition("/")[2]]
    return found


def _reason(value: Any, rule: Mapping[str, Any]) -> str:
    if "maximum" in rule:
        expected = f"a whole number from {rule['exclusiveMinimum'] + 1} to {rule['maximum']}"
        found = repr(value) if type(value) in {int, float} else json_kind(value)
        return f"should be {expected}, not {found}"
    expected, kinds = _KINDS[rule["type"]]
    if not isinstance(value, kinds):
        return f"should be {expected}, not {json_kind(value)}"
    if "enum" in rule:
        *most, last = rule["enum"]
        return f"{shown(value)} should be {', '.join(most)} or {last}"
    if len(value) > rule.get("maxLength", len(value)):
        return f"has {len(value)} characters; at most {rule['maxLength']} are allowed"
    pattern = rule["pattern"].removeprefix("^").removesuffix("$")
    verb = "must match" if rule["title"] == pattern else "must be"
    return f"{shown(value)} {verb} {rule['title']} ({_fault(value, re.compile(pattern))})"


def _fault(text: str, pattern: re.Pattern[str]) -> str:
    """Name the place where a text leaves the pattern."""
    if not text:
        return "empty"
    ends = range(1, min(len(text), _MAX_SEARCHED))
    good = max((end for end in ends if pattern.fullmatch(text[:end])), default=0)
    odd = text[good]
    if good and pattern.fullmatch(text[: good - 1] + odd):
        return f"{len(text)} characters"
    return "upper-case letter" if odd.isupper() else f"{odd!r} at character {good + 1}"


def _contradictions(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find fields that name different places for one model."""
    source, parent, key = (
        _place_in(data, field)
        for field in ("source_model_id", "destination_parent_model", "kms_key_name")
    )
    yield from _different(
        "project", source_model_id=source["project"], source_project=data.get("source_project")
    )
    yield from _different(
        "location", source_model_id=source["location"], source_location=data.get("source_location")
    )
    yield from _different(
        "project",
        target_project=data.get("target_project"),
        destination_parent_model=parent["project"],
        custom_service_account=_project_of_account(data),
    )
    yield from _different(
        "location",
        target_location=data.get("target_location"),
        destination_parent_model=parent["location"],
        kms_key_name=key["location"],
    )


def _different(part: str, **named: str | None) -> Iterator[tuple[str, str]]:
    given = [(field, value) for field, value in named.items() if value is not None]
    for (first, expected), (field, value) in combinations(given, 2):
        # A number and an id may be of one project; only the service can know.
        if value != expected and value.isdigit() is expected.isdigit():
            yield field, f"is in {part} {value!r}, but {first} names {expected!r}"


def _place_in(data: Mapping[str, Any], field: str) -> Mapping[str, str | None]:
    named = _NAME.match(data.get(field) or "")
    return named.groupdict() if named else {"project": None, "location": None}


def _project_of_account(data: Mapping[str, Any]) -> str | None:
    """Return the project that a service account is in, where its address says so."""
    named = _ACCOUNT.fullmatch(data.get("custom_service_account") or "")
    if named is None:
        return None
    domain = f"{named['domain']}:" if named["domain"] else ""
    return str(named["app"] or f"{domain}{named['project']}")


def shown(text: str) -> str:
    """Return a text for a sentence: quoted, and a long one cut."""
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}...")
