"""From options and files to the requests that are wanted. Nothing is sent here."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from model_copy_publisher import batch, rows, settings
from model_copy_publisher.batch import Destination
from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.messages import CopyRequest, IfExists
from model_copy_publisher.strict_json import DuplicateFieldError, json_kind, parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The requests, and what is wrong with rows that are none."""

    requests: list[CopyRequest] = field(default_factory=list)
    request_id: str = ""  # that all ids begin with, where no file was read
    bad: list[rows.BadRow] = field(default_factory=list)
    repeated: int = 0
    file_name: str = ""
    journal_file: Path | None = None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Make the requests.

    Raises:
        InvalidRequestError: an option breaks the contract, or contradicts another.
    """
    destinations = [Destination.parse(each) for each in options["to"]]
    if options["from_file"] is not None:
        return _of_file(options, destinations)
    for name in ("batch", "kind", "resume", "journal", "keep_going"):
        if options[name]:
            raise InvalidRequestError(name, "requires --from-file")
    if options["source_model_id"] is None:
        raise InvalidRequestError("source_model_id", "is missing: give SOURCE, or --from-file")
    if destinations and options["destination_model_id"]:
        raise InvalidRequestError(
            "destination_model_id", "--to names the destinations; omit DESTINATION"
        )
    request_id = uuid4().hex if options["request_id"] is None else options["request_id"]
    values = _given(options)
    if destinations:
        requests = batch.to_many(values, request_id=request_id, destinations=destinations)
    else:
        requests = [CopyRequest(**values, request_id=request_id)]
    return Wanted(requests=requests, request_id=request_id)


def _of_file(options: Mapping[str, Any], destinations: list[Destination]) -> Wanted:
    for name in ("source_model_id", "destination_model_id", "request_id"):
        if options[name] is not None:
            raise InvalidRequestError(name, "is a column of the file; omit it with --from-file")
    file = options["from_file"]
    text = _read(file)
    name = batch.check_name(options["batch"] or batch.name_of("stdin" if file == "-" else file))
    made = batch.of_rows(
        rows.read_rows(text, options["kind"] or rows.kind_of(file, text)),
        name=name,
        defaults=_given(options),
        destinations=destinations,
    )
    if not made.requests and not made.bad:
        raise InvalidRequestError("from_file", f"{file} has no rows")
    # What was only checked is not yet copied: a batch's own journal stays as it is.
    end = ".validate-only.jsonl" if options["validate_only"] else ".jsonl"
    journal = options["journal"] or settings.state_folder(os.environ) / f"{name}{end}"
    if _is_same(journal, file):
        raise InvalidRequestError("journal", f"{journal} is the file of the rows; name another")
    return Wanted(
        requests=made.requests,
        bad=made.bad,
        repeated=made.repeated,
        file_name="standard input" if file == "-" else file,
        journal_file=journal,
    )


def _is_same(journal: Path, file: str) -> bool:
    try:
        return journal.samefile(file)
    except OSError:  # one of them is not there
        return False


def _read(file: str) -> str:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InvalidRequestError("from_file", f"{file}: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidRequestError("from_file", f"{file}:{line}: is not UTF-8") from error


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that options give, for every request."""
    source, location = options["source_model_id"] or "", options["location"]
    values = {
        "source_model_id": options["source_model_id"],
        "destination_model_id": options["destination_model_id"],
        "destination_parent_model": options["parent_model"],
        "if_exists": options["if_exists"] and IfExists(options["if_exists"]),
        "source_project": options["source_project"],
        # A full resource name says its own region.
        "source_location": options["source_location"] or (None if "/" in source else location),
        "target_project": options["target_project"],
        "target_location": options["target_location"] or location,
        "kms_key_name": options["kms_key_name"],
        "custom_service_account": options["custom_service_account"],
        "deadline_seconds": options["deadline_seconds"],
        "correlation": _correlation(options["correlation"]),
        "validate_only": options["validate_only"] or None,
        "request_source": options["request_source"],
        "reply_tag": options["reply_tag"],
    }
    return {name: value for name, value in values.items() if value is not None}


def _correlation(text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = parse_json(text)
    except DuplicateFieldError as error:
        raise InvalidRequestError("correlation", str(error)) from error
    except ValueError as error:
        raise InvalidRequestError("correlation", f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        # ``null`` would be None, and count as not given.
        raise InvalidRequestError("correlation", f"must be a JSON object, not {json_kind(value)}")
    return value
