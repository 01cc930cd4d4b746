"""The tables of docs/local-cloud.md that are made from the code.

    python -m local_cloud.vertex_tables docs/local-cloud.md

writes them anew between their marks; a test holds the page to them.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

from local_cloud.vertex_dialects import DIALECTS
from local_cloud.vertex_knobs import Knobs
from local_cloud.vertex_records import Dialect

_TABLE = re.compile(
    r"(?P<mark><!-- table of (?P<name>\w+) -->\n).*?(?=<!-- end of table -->)", re.DOTALL
)


def dialect_table() -> str:
    """One row for each field: what it is, the default, and the dialects that differ in it."""
    plain = Dialect()
    other: dict[str, list[str]] = {field.name: [] for field in fields(Dialect)}
    for name, dialect in DIALECTS.items():
        changed = [key for key in other if getattr(dialect, key) != getattr(plain, key)]
        if len(changed) == 1:
            other[changed[0]].append(f"`{name}` ({_shown(getattr(dialect, changed[0]))})")
    return _table(
        ("field", "behaviour that Google does not document", "default", "other answers, by name"),
        (
            (f"`{key}`", meaning, _shown(getattr(plain, key)), ", ".join(other[key]))
            for key, meaning in _meanings(Dialect).items()
        ),
    )


def knob_table() -> str:
    """One row for each knob: what it does, and where it stands at the start."""
    plain = Knobs()
    return _table(
        ("knob", "description", "default"),
        (
            (f"`{key}`", meaning, _shown(getattr(plain, key)))
            for key, meaning in _meanings(Knobs).items()
        ),
    )


def with_tables(page: str) -> str:
    """Bring the tables of a page up to date."""
    tables = {"dialects": dialect_table(), "knobs": knob_table()}
    return _TABLE.sub(lambda found: found["mark"] + tables[found["name"]], page)


def _meanings(kind: type) -> Mapping[str, str]:
    """What is said of each field, beside its type."""
    hints: dict[str, Any] = get_type_hints(kind, include_extras=True)
    return {
        key: next(said for said in hint.__metadata__ if isinstance(said, str))
        for key, hint in hints.items()
        if get_origin(hint) is Annotated
    }


def _shown(value: object) -> str:
    match value:
        case Dialect():
            shown = "`default`"
        case Enum():
            shown = value.name
        case bool():
            shown = "yes" if value else "no"
        case float():
            shown = f"{value:g}"
        case frozenset() | tuple():
            shown = ", ".join(sorted(map(str, value)))
        case None:
            shown = ""
        case _:
            shown = str(value)
    return shown or "none"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *map(tuple, rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text()))
