"""The spellings of a CloudEvent: its attributes under the names that the contract gives them.

Pure. Attribute names are case-insensitive in CloudEvents over Pub/Sub, and relays write them
as HTTP headers (``Ce-Id``). What must not break: one identity, or none. A message that tries to
name itself and fails is refused; it never counts as one without a name. See ADR 0026.
"""

import re
from collections.abc import Iterator, Mapping

REQUIRED = ("specversion", "id", "source", "type")
STRUCTURED = "application/cloudevents+json"
# Attributes of the contract besides those that begin with `ce-`.
_OURS = frozenset(
    {
        *("content-type", "reply_tag", "replay_of"),
        *("outcome_id", "outcome_unknown", "dead_letter_code"),
    }
)
_JSON_EVENT = re.compile(r"application/cloudevents(?:\+json)?\s*(?:;.*)?", re.IGNORECASE)
# The names that other bindings give: Kafka `ce_id`, AMQP `cloudEvents:id`, MQTT `specversion`;
# and `ceId`, as programs spell it.
_FOREIGN = re.compile(
    r"\s*(?:(?i:ce|cloud[_-]?events?)(?:[\W_]+(?i:specversion|id|source|type)"
    r"|(?:Spec[vV]ersion|I[dD]|Source|Type))|(?i:spec_?version))\s*"
)


def folded(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes with the contract's own names in lower case.

    One that is given in two spellings is left out, unless both say the same.
    """
    found: dict[str, str] = {}
    unclear: set[str] = set()
    for name, value in attributes.items():
        known = _known(name)
        if found.setdefault(known, value) != value:
            unclear.add(known)
    return {name: value for name, value in found.items() if name not in unclear}


def explain_bad_spelling(attributes: Mapping[str, str]) -> str | None:
    """Say why these attributes name no event, or None where nothing is wrong with them."""
    seen: dict[str, str] = {}
    for name in attributes:
        first = seen.setdefault(_known(name), name)
        if first != name:
            return f"{_known(name)}: is given twice, as {first[:80]!r} and {name[:80]!r}; give one"
    if any(name.startswith("ce-") for name in seen) or is_structured(folded(attributes)):
        return None
    for name in attributes:
        if _FOREIGN.fullmatch(name):
            needed = ", ".join(f"ce-{each}" for each in REQUIRED)
            return (
                f"{name.strip()[:80]}: is no attribute of a CloudEvent over Pub/Sub;"
                f" these are {needed}"
            )
    return None


def is_structured(attributes: Mapping[str, str]) -> bool:
    """Tell whether folded attributes say that the data are the whole event."""
    return attributes.get("content-type", "").strip().lower().startswith("application/cloudevents")


def explain_bad_format(attributes: Mapping[str, str]) -> str | None:
    """Say why a structured event cannot be read here, or None where it is JSON."""
    kind = attributes.get("content-type", "").strip()
    if not is_structured(attributes) or _JSON_EVENT.fullmatch(kind):
        return None
    one = "one event in a message, " if "batch" in kind.lower() else ""
    return f"content-type: {kind[:80]!r} is not read here; send {one}{STRUCTURED}"


def is_event(data: object) -> bool:
    """Tell whether parsed JSON is an event, whole or in part: no request has such fields."""
    return isinstance(data, dict) and (
        "specversion" in data or {"id", "source", "type"} <= data.keys()
    )


def contradictions(attributes: Mapping[str, str], event: Mapping[str, object]) -> Iterator[str]:
    """Name what the attributes of a structured event and the event itself say differently."""
    for name in ("id", "source", "type"):
        given = attributes.get(f"ce-{name}")
        if given is not None and given != event.get(name):
            yield f"ce-{name}: is {given[:80]!r}, but the event in the data says otherwise"


def _known(name: str) -> str:
    lower = name.lower()
    return lower if lower.startswith("ce-") or lower in _OURS else name
