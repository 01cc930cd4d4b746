"""Many requests from one text: CSV with a header, or JSON Lines, with the fields of a request.

Pure. Every bad row is told by line and column, all at once; the good ones are
returned beside them, for whoever wants to go on without the bad.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.messages import CopyRequest
from model_copy_publisher.request_schema import no_such_field
from model_copy_publisher.strict_json import DuplicateFieldError, json_kind, parse_json

MAX_ROWS = 100_000
FIELDS = tuple(each.name for each in fields(CopyRequest) if each.init)
_NUMBERS, _FLAGS = frozenset({"deadline_seconds"}), frozenset({"validate_only"})
# 7704127342733426688 as a spreadsheet writes it, in its languages; no model has such an id.
_ROUNDED = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE]\+?[0-9]+")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The fields that a line gives, by the names of ``CopyRequest``."""

    line: int
    values: Mapping[str, Any]
    columns: Mapping[str, int]  # where each stands: a CSV column, or a JSON line's character

    def bad(self, error: InvalidRequestError) -> "BadRow":
        """Say where in the row the field is that ``error`` names."""
        return BadRow(self.line, self.columns.get(error.field, 1), str(error))


@dataclass(frozen=True, slots=True)
class BadRow:
    """What is wrong, and where. Lines and columns count from 1."""

    line: int
    column: int
    reason: str


def read_rows(text: str, kind: str) -> Iterator[Row | BadRow]:
    """Read ``text``; ``kind`` is ``csv`` or ``jsonl``. Empty lines are skipped."""
    return _csv(text) if kind == "csv" else _jsonl(text)


def kind_of(name: str, text: str) -> str:
    """Tell CSV from JSON Lines, by the file's name or else by how it begins."""
    suffix = name.rpartition(".")[2].lower()
    if suffix in {"jsonl", "ndjson", "json"}:
        return "jsonl"
    if suffix == "csv":
        return "csv"
    return "jsonl" if text.lstrip()[:1] in {"{", "["} else "csv"


def _csv(text: str) -> Iterator[Row | BadRow]:
    # Not splitlines: cells may hold other line separators than those of a file.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(line, 1, f"is not CSV: {error}")
            return  # where the next row begins is not known
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            wrong = list(_wrong_header(header, line))
            yield from wrong
            if wrong:
                return
        elif len(cells) != len(header):
            yield BadRow(
                line,
                min(len(cells), len(header)) + 1,
                f"has {len(cells)} columns, but the header has {len(header)}",
            )
        else:
            yield _csv_row(line, header, cells)


def _wrong_header(header: Sequence[str], line: int) -> Iterator[BadRow]:
    for mark in ";\t|":
        if len(header) == 1 and mark in header[0]:
            yield BadRow(line, header[0].index(mark) + 1, f"{mark!r} is no comma between columns")
            return
    for column, name in enumerate(header, 1):
        if name not in FIELDS:
            yield BadRow(line, column, f"{name!r} is {no_such_field(name, FIELDS)}")
        elif name in header[: column - 1]:
            yield BadRow(line, column, f"{name} is given twice")
    if "source_model_id" not in header:
        yield BadRow(line, 1, "source_model_id is missing: the first line names the columns")


def _csv_row(line: int, header: Sequence[str], cells: Sequence[str]) -> Row | BadRow:
    values: dict[str, Any] = {}
    columns = {name: column for column, name in enumerate(header, 1)}
    for name, cell in zip(header, (cell.strip() for cell in cells), strict=True):
        if not cell:
            continue
        try:
            values[name] = from_text(name, cell)
        except ValueError as error:
            return BadRow(line, columns[name], f"{name}: {error}")
        if _ROUNDED.fullmatch(cell) and name not in {"correlation", "request_id", "reply_tag"}:
            reason = f"{name}: {cell!r} was rounded by a spreadsheet: format the column as text"
            return BadRow(line, columns[name], reason)
    return Row(line=line, values=values, columns=columns)


def from_text(name: str, cell: str) -> Any:
    if name in _NUMBERS:
        if not cell.isascii() or not cell.isdigit():
            raise ValueError(f"{cell!r} is not a whole number")
        return int(cell)
    if name in _FLAGS:
        if cell.lower() not in _BOOLEANS:
            raise ValueError(f"{cell!r} is neither true nor false")
        return _BOOLEANS[cell.lower()]
    if name == "correlation":
        try:
            return parse_json(cell)
        except DuplicateFieldError:
            raise
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}") from error
    return cell


def _jsonl(text: str) -> Iterator[Row | BadRow]:
    # Not splitlines: JSON strings may hold other line separators than \n.
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            values = parse_json(content)
        except json.JSONDecodeError as error:
            yield BadRow(line, error.colno, f"is not JSON: {error.msg}")
            continue
        except DuplicateFieldError as error:
            yield BadRow(line, _column(content, error.field), f"{error.field}: is given twice")
            continue
        except ValueError as error:
            yield BadRow(line, 1, f"is not JSON: {error}")
            continue
        if not isinstance(values, dict):
            hint = "; jq -c '.[]' turns a list into lines" if isinstance(values, list) else ""
            yield BadRow(line, 1, f"should be a JSON object, not {json_kind(values)}{hint}")
            continue
        yield _jsonl_row(line, content, values)


def _jsonl_row(line: int, content: str, values: dict[str, Any]) -> Row | BadRow:
    columns = {name: _column(content, name) for name in values}
    for name in values:
        if name not in FIELDS:
            return BadRow(line, columns[name], f"{name}: {no_such_field(name, FIELDS)}")
    given = {name: value for name, value in values.items() if value is not None}
    return Row(line=line, values=given, columns=columns)


def _column(content: str, name: str) -> int:
    return content.find(json.dumps(name)) + 1 or 1
