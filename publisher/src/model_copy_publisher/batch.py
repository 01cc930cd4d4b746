"""A batch: many requests under one name, with ids that are the same each time.

Pure. The id of a row is made of the batch's name and the row's content, not its place: the
same file published again is the same requests, and so it is harmless, also after rows were
added, removed or moved. A row that was mended is another request. The same row twice is one
request.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.messages import CopyRequest
from model_copy_publisher.rows import MAX_ROWS, BadRow, Row

MAX_NAME = 100
_DIGEST = 16  # hex digits: of 100,000 rows, two are taken for one once in billions of batches
_NAME = re.compile(rf"[A-Za-z0-9._~-]{{1,{MAX_NAME}}}")
_TO = re.compile(r"(?P<project>[^/\s]+)/(?P<location>[^/\s]+)(/(?P<model>[^/\s]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a copy goes: ``project/location`` or ``project/location/model``."""

    target_project: str
    target_location: str
    destination_model_id: str | None

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Read what stands after ``--to``.

        Raises:
            InvalidRequestError: it has another form.
        """
        found = _TO.fullmatch(text)
        if found is None:
            raise InvalidRequestError("to", f"{text!r} is not project/location[/model]")
        return cls(
            target_project=found["project"],
            target_location=found["location"],
            destination_model_id=found["model"],
        )

    def fields(self) -> dict[str, Any]:
        """Return it as fields of a request."""
        model = {"destination_model_id": self.destination_model_id}
        return {
            "target_project": self.target_project,
            "target_location": self.target_location,
        } | (model if self.destination_model_id else {})


@dataclass(slots=True)
class Batch:
    """The requests in the order of the rows, and what is wrong with other rows."""

    requests: list[CopyRequest] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    repeated: int = 0


def check_name(name: str) -> str:
    """Return ``name`` if ids can begin with it.

    Raises:
        InvalidRequestError: they cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidRequestError(
            "batch", f"{name!r} is not 1 to {MAX_NAME} characters of A-Z, a-z, 0-9, . _ ~ and -"
        )
    return name


def name_of(file_name: str) -> str:
    """Make a batch's name out of a file's: its stem, with - for what an id may not hold."""
    stem = file_name.rpartition("/")[2].partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._~-]", "-", stem)[:MAX_NAME] or "batch"


def of_rows(
    rows: Iterable[Row | BadRow],
    *,
    name: str,
    defaults: Mapping[str, Any],
    destinations: Sequence[Destination] = (),
) -> Batch:
    """Make the requests of ``rows``; what a row leaves out is taken from ``defaults``.

    Each row goes to each of ``destinations``, unless it says itself where it goes.
    """
    batch = Batch()
    seen: dict[tuple[str, str], tuple[int, str]] = {}
    for count, row in enumerate(rows):
        if count == MAX_ROWS:
            line = row.line
            batch.bad.append(BadRow(line, 1, f"is too much: a batch has at most {MAX_ROWS:,} rows"))
            break
        if isinstance(row, BadRow):
            batch.bad.append(row)
            continue
        try:
            requests = _of_row(row, name, defaults, destinations)
        except InvalidRequestError as error:
            batch.bad.append(row.bad(error))
            continue
        for request in requests:
            identity = (request.request_source, request.request_id)
            line, digest = seen.setdefault(identity, (row.line, request.digest))
            if digest != request.digest:
                clash = InvalidRequestError(
                    "request_id", f"{request.request_id!r} has other content in line {line}"
                )
                batch.bad.append(row.bad(clash))
            elif line != row.line:
                batch.repeated += 1
            else:
                batch.requests.append(request)
    return batch


def to_many(
    values: Mapping[str, Any], *, request_id: str, destinations: Sequence[Destination]
) -> list[CopyRequest]:
    """Make one request for each destination; several get ids of their own from ``request_id``.

    Raises:
        InvalidRequestError: as ``CopyRequest``.
    """
    requests = [
        CopyRequest(**{**values, **each.fields(), "request_id": request_id})
        for each in destinations
    ]
    unique = list({request.digest: request for request in requests}.values())
    if len(unique) == 1:
        return unique
    return [replace(each, request_id=f"{request_id}-{each.digest[:8]}") for each in unique]


def _of_row(
    row: Row, name: str, defaults: Mapping[str, Any], destinations: Sequence[Destination]
) -> list[CopyRequest]:
    values = {**defaults, **row.values}
    if "source_model_id" not in values:
        raise InvalidRequestError("source_model_id", "is missing")
    full = "/" in str(values["source_model_id"])
    if full and "source_location" not in row.values:
        values.pop("source_location", None)  # a full resource name says its own region
    own = row.values.get("request_id")
    places = ("target_project", "target_location", "destination_model_id")
    if destinations and not any(place in row.values for place in places):
        if own is not None:
            return to_many(values, request_id=own, destinations=destinations)
        return [_named(CopyRequest(**{**values, **to.fields()}), name) for to in destinations]
    request = CopyRequest(**values)
    return [request if own is not None else _named(request, name)]


def _named(request: CopyRequest, batch: str) -> CopyRequest:
    return replace(request, request_id=f"{batch}-{request.digest[:_DIGEST]}")
