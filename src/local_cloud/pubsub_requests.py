"""What any request may say: names, messages to publish, lease times, pages of a list.

Each function reads one thing out of a request and gives it back in a form that cannot be
wrong, or raises InvalidArgumentError or UnimplementedError with a sentence that begins with
the field's name. None changes what it reads.
"""

import re
from collections.abc import Iterable
from typing import Any

from local_cloud.pubsub_records import Content, InvalidArgumentError, UnimplementedError

# Documented limits: cloud.google.com/pubsub/quotas#resource_limits.
MAX_PUBLISH_BYTES = 10_000_000
MAX_PUBLISH_MESSAGES = 1_000
MAX_ATTRIBUTES = 100
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 1_024
MAX_ORDERING_KEY_BYTES = 1_024
MAX_SECONDS = 600  # of an ack deadline and of a backoff

PAGE_SIZE = 100
ANSWER_MESSAGES = 1_000

_RESOURCE_ID = r"(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}"
_NAMES = {
    "topics": re.compile(rf"projects/[^/\s]+/topics/{_RESOURCE_ID}"),
    "subscriptions": re.compile(rf"projects/[^/\s]+/subscriptions/{_RESOURCE_ID}"),
}
_PROJECT = re.compile(r"projects/[^/\s]+")


def resource_name(kind: str, value: str, *, field: str = "name") -> str:
    if not _NAMES[kind].fullmatch(value):
        raise InvalidArgumentError(
            f"{field}: {value!r} is not projects/PROJECT/{kind}/ID, where ID has 3 to 255 of "
            "letters, digits and -_.~+%, begins with a letter, and not with goog."
        )
    return value


def refuse_unbuilt(record: Any, unbuilt: frozenset[str], *, field: str = "") -> None:
    for descriptor, _ in record.ListFields():
        if descriptor.name in unbuilt:
            raise UnimplementedError(
                f"{field}{descriptor.name}: is not built into the local Pub/Sub."
            )


def contents_of(request: Any) -> list[Content]:
    """Every message of a publish request, or none of them."""
    if request.ByteSize() > MAX_PUBLISH_BYTES:
        raise InvalidArgumentError(
            f"messages: a request has at most {MAX_PUBLISH_BYTES} bytes, not {request.ByteSize()}."
        )
    if not 1 <= len(request.messages) <= MAX_PUBLISH_MESSAGES:
        raise InvalidArgumentError(
            f"messages: 1 to {MAX_PUBLISH_MESSAGES} of them, not {len(request.messages)}."
        )
    keys = {message.ordering_key for message in request.messages}
    if len(keys) > 1:
        raise InvalidArgumentError(
            f"messages: all of a request have the same ordering_key, not {len(keys)} of them."
        )
    return [
        _content(message, where=f"messages[{index}]")
        for index, message in enumerate(request.messages)
    ]


def _content(message: Any, *, where: str) -> Content:
    if not message.data and not message.attributes:
        raise InvalidArgumentError(f"{where}: is empty; it needs data or an attribute.")
    if len(message.attributes) > MAX_ATTRIBUTES:
        raise InvalidArgumentError(f"{where}.attributes: more than {MAX_ATTRIBUTES}.")
    for key, value in message.attributes.items():
        if not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
            raise InvalidArgumentError(
                f"{where}.attributes: a key has 1 to {MAX_KEY_BYTES} bytes: {key[:40]!r}."
            )
        # The exception is how Google's own clients carry their trace context.
        if key.startswith("goog") and not key.startswith("googclient_"):
            raise InvalidArgumentError(f"{where}.attributes: {key!r} begins with goog.")
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise InvalidArgumentError(
                f"{where}.attributes: the value of {key!r} is over {MAX_VALUE_BYTES} bytes."
            )
    if len(message.ordering_key.encode()) > MAX_ORDERING_KEY_BYTES:
        raise InvalidArgumentError(f"{where}.ordering_key: over {MAX_ORDERING_KEY_BYTES} bytes.")
    return Content(
        data=message.data,
        attributes=dict(message.attributes),
        ordering_key=message.ordering_key,
    )


def lease_seconds(seconds: int, *, field: str) -> int:
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidArgumentError(f"{field}: 0 to {MAX_SECONDS}, not {seconds}.")
    return seconds


def ack_deadline(seconds: int, *, minimum: float, field: str) -> int:
    if not minimum <= seconds <= MAX_SECONDS:
        raise InvalidArgumentError(f"{field}: {minimum:g} to {MAX_SECONDS}, not {seconds}.")
    return seconds


def in_project(names: Iterable[str], request: Any) -> list[str]:
    if not _PROJECT.fullmatch(request.project):
        raise InvalidArgumentError(f"project: {request.project!r} is not projects/PROJECT.")
    return [name for name in names if name.startswith(f"{request.project}/")]


def page(names: Iterable[str], request: Any) -> tuple[list[str], str]:
    """One page by name, and the token of the next: the last name of this one."""
    if request.page_size < 0:
        raise InvalidArgumentError("page_size: must not be negative.")
    size = min(request.page_size or PAGE_SIZE, ANSWER_MESSAGES)
    rest = sorted(name for name in names if name > request.page_token)
    return rest[:size], rest[size - 1] if len(rest) > size else ""
