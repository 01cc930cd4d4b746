"""Who may call the REST endpoints, and for which projects: the operator's file, read at start.

Pure, but for reading the file; only the standard library. What must not break: a file that
says anything unknown or unclear lets nobody in, because the service does not start with it.

    [[caller]]
    account = "airflow@pipelines.iam.gserviceaccount.com"
    source_projects = ["tuning"]     # optional; without it: all that the service allows
    target_projects = ["serving"]    # likewise
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ACCOUNT = re.compile(r"[a-z0-9._%+-]{1,64}@[a-z0-9.-]{1,190}\.[a-z]{2,24}")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,62}")
_LIMITS = ("source_projects", "target_projects")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An account that may call, and the projects it may name; None: all that are allowed."""

    account: str
    source_projects: frozenset[str] | None = None
    target_projects: frozenset[str] | None = None

    def refusal(self, *, source_project: str, target_project: str) -> str | None:
        """Say which of the two this caller may not name, if any."""
        for field, project, allowed in (
            ("source_project", source_project, self.source_projects),
            ("target_project", target_project, self.target_projects),
        ):
            if allowed is not None and project not in allowed:
                listed = ", ".join(sorted(allowed))
                return f"{field}: {project!r} is not for {self.account}; it may name {listed}"
        return None


def read_callers(file: str) -> tuple[Caller, ...]:
    """Read the file of callers.

    Raises:
        ValueError: all that is wrong with it, in one sentence.
    """
    import tomllib  # noqa: PLC0415  only whoever has such a file pays for the reader

    try:
        found = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, not TOML
        raise ValueError(f"is not TOML: {error}") from error
    return callers_of(found)


def callers_of(found: Mapping[str, Any]) -> tuple[Caller, ...]:
    """Turn parsed TOML into callers.

    Raises:
        ValueError: all that is wrong with it.
    """
    entries = found.get("caller")
    wrong = [f"{name!r} is unknown; known is [[caller]]" for name in found if name != "caller"]
    if not isinstance(entries, list) or not entries:
        wrong.append("should hold at least one [[caller]]")
        entries = []
    for number, entry in enumerate(entries, 1):
        wrong += [f"caller {number}: {what}" for what in _wrong_with(entry)]
    accounts = [entry.get("account") for entry in entries if isinstance(entry, dict)]
    twice = sorted({a for a in accounts if isinstance(a, str) and accounts.count(a) > 1})
    wrong += [f"{account} is there twice" for account in twice]
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(
        Caller(
            account=entry["account"],
            **{name: frozenset(entry[name]) for name in _LIMITS if name in entry},
        )
        for entry in entries
    )


def _wrong_with(entry: object) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "should be a table, [[caller]]"
        return
    account = entry.get("account")
    if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
        yield "account should be an e-mail address in small letters"
    for name in entry.keys() - {"account", *_LIMITS}:
        yield f"{name!r} is unknown; known are account, {', '.join(_LIMITS)}"
    for name in _LIMITS:
        projects = entry.get(name, ["any"])
        if not isinstance(projects, list) or not projects or not all(map(_is_project, projects)):
            yield f"{name} should be a list of project ids, at least one"


def _is_project(value: object) -> bool:
    return isinstance(value, str) and bool(_PROJECT.fullmatch(value))
