"""JSON as the service reads it: no field twice, no NaN, no infinity, and not too deep.

Pure. One parser for all that others wrote: files, options, dead letters and replies.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

# Far below what Python can read: it must be written again, from wherever that is called.
MAX_DEPTH_READ = 200


class DuplicateFieldError(ValueError):
    """An object of JSON has a field twice."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is given twice")
        self.field = field


def parse_json(data: bytes | str) -> Any:
    """Parse one document.

    Raises:
        DuplicateFieldError: an object, at any level, has a field twice.
        ValueError: it is no JSON, or is nested deeper than MAX_DEPTH_READ levels.
    """
    too_deep = ValueError(f"nested deeper than {MAX_DEPTH_READ} levels")
    try:
        found = json.loads(
            data, object_pairs_hook=_each_once, parse_constant=_finite, parse_float=_finite
        )
    except RecursionError:
        raise too_deep from None
    if is_deeper(found, MAX_DEPTH_READ):
        raise too_deep
    return found


def is_deeper(data: object, levels: int) -> bool:
    """Tell whether lists and objects are nested deeper than so many levels."""
    inside = [data]
    for _ in range(levels):
        if not inside:
            return False
        inside = [
            value
            for outer in inside
            if isinstance(outer, Mapping | list | tuple)
            for value in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
    return any(isinstance(value, Mapping | list | tuple) for value in inside)


def json_kind(value: object) -> str:
    """Name the kind of a JSON value for a person."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateFieldError(next(name for name in names if names.count(name) > 1))
    return values


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number
