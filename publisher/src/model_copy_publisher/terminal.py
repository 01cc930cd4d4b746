"""The one way out to a terminal or a CI log: texts of others cannot steer either.

Replies, dead letters, rows of files, settings files, paths and errors of libraries hold what
others wrote. What must not break: a line that is printed has no control character, does not
begin a workflow command of GitHub Actions (``::error::``) and has no marker of an older one
(``##[error]``, Azure's ``##vso[...]``), whoever wrote its parts.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

import json
import re
from typing import Any

import click

# These are commands anywhere in a line.
_MARKER = re.compile(r"##(?=\[|vso\[)", re.IGNORECASE)
_COMMAND = re.compile(r"( *):(?=:)")  # only where a line begins


def printable(text: str | None) -> str:
    """Return the text as one line, with everything escaped that is more than text.

    Escaping it once more changes nothing.
    """
    line = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text or ""
    )
    line = _MARKER.sub(r"#\\x23", line)
    found = _COMMAND.match(line)
    return f"{found[1]}\\x3a{line[found.end() :]}" if found else line


def lines(text: str) -> str:
    """Escape each line by itself: those line breaks are ours."""
    return "\n".join(printable(line) for line in text.split("\n"))


def json_line(value: Any) -> str:
    """Write a value for a program: ASCII on one line, which JSON readers undo."""
    return _MARKER.sub(r"#\\u0023", json.dumps(value))


def tell(text: str) -> None:
    """Print a result."""
    click.echo(lines(text))


def say(text: str) -> None:
    """Tell a person; programs read only standard output."""
    click.echo(lines(text), err=True)


def tell_json(value: Any) -> None:
    """Print a result for a program."""
    click.echo(json_line(value))
