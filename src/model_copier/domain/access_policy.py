"""Who may call the REST endpoints, and what senders may do: the operator's file, read at start.

Pure, but for reading the file; only the standard library. What must not break: a file that
says anything unknown or unclear lets nobody in, because the service does not start with it.

    [[caller]]
    account = "airflow@pipelines.iam.gserviceaccount.com"
    source_projects = ["tuning"]     # optional; without it: all that the service allows
    target_projects = ["serving"]    # likewise
    weight = 2                       # likewise: twice the starts of a sender of weight 1
    max_unfinished = 50000           # likewise, in place of the settings of these names
    requests_per_minute = 1200
    max_waits = 100

    [[sender]]                       # of messages, by their `ce-source`
    source = "//ec2/pipeline"
    weight = 0.5
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_copier.domain.senders import REST_SOURCE, SenderLimits, SenderPolicy, rest_sender

_ACCOUNT = re.compile(r"[a-z0-9._%+-]{1,64}@[a-z0-9.-]{1,190}\.[a-z]{2,24}")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,62}")
_LIMITS = ("source_projects", "target_projects")
# Of a sender, with the least and the most: see senders.SenderLimits.
_LOADS: Mapping[str, tuple[float, float]] = {
    "weight": (0.01, 100),
    "max_unfinished": (1, 1_000_000),
    "requests_per_minute": (1, 1_000_000),
    "max_waits": (0, 100_000),
}
_MAX_SOURCE = 1024  # bytes of an attribute's value


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An account that may call, and the projects it may name; None: all that are allowed."""

    account: str
    source_projects: frozenset[str] | None = None
    target_projects: frozenset[str] | None = None
    loads: Mapping[str, float] = field(default_factory=dict)  # limits that the file changes

    def refusal(self, *, source_project: str, target_project: str) -> str | None:
        """Say which of the two this caller may not name, if any."""
        for name, project, allowed in (
            ("source_project", source_project, self.source_projects),
            ("target_project", target_project, self.target_projects),
        ):
            if allowed is not None and project not in allowed:
                listed = ", ".join(sorted(allowed))
                return f"{name}: {project!r} is not for {self.account}; it may name {listed}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A source of messages, and the limits that the file changes for it."""

    source: str
    loads: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersFile:
    """All that the file says."""

    callers: tuple[Caller, ...] = ()
    senders: tuple[Sender, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.callers or self.senders)

    def policy(self, default: SenderLimits) -> SenderPolicy:
        """Return the limits of every sender: the settings', with what the file changes."""
        accounts = {rest_sender(caller.account): caller.loads for caller in self.callers}
        changed = accounts | {sender.source: sender.loads for sender in self.senders}
        named = {name: default.changed(loads) for name, loads in changed.items()}
        return SenderPolicy(default=default, named=named)


def read_callers(file: str) -> CallersFile:
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


def callers_of(found: Mapping[str, Any]) -> CallersFile:
    """Turn parsed TOML into callers and senders.

    Raises:
        ValueError: all that is wrong with it.
    """
    wrong = [
        f"{name!r} is unknown; known are [[caller]] and [[sender]]"
        for name in found.keys() - {"caller", "sender"}
    ]
    callers, senders = (found.get(kind, []) for kind in ("caller", "sender"))
    if not (isinstance(callers, list) and isinstance(senders, list) and (callers or senders)):
        wrong.append("should hold at least one [[caller]] or [[sender]]")
        callers, senders = [], []
    for number, entry in enumerate(callers, 1):
        wrong += [f"caller {number}: {what}" for what in _wrong_with_caller(entry)]
    for number, entry in enumerate(senders, 1):
        wrong += [f"sender {number}: {what}" for what in _wrong_with_sender(entry)]
    wrong += [f"{name} is there twice" for name in _twice(callers, "account")]
    wrong += [f"{name!r} is there twice" for name in _twice(senders, "source")]
    if wrong:
        raise ValueError("; ".join(wrong))
    return CallersFile(
        callers=tuple(
            Caller(
                account=entry["account"],
                loads=_loads_of(entry),
                **{name: frozenset(entry[name]) for name in _LIMITS if name in entry},
            )
            for entry in callers
        ),
        senders=tuple(Sender(source=entry["source"], loads=_loads_of(entry)) for entry in senders),
    )


def _loads_of(entry: Mapping[str, Any]) -> Mapping[str, float]:
    return {name: entry[name] for name in _LOADS if name in entry}


def _twice(entries: Sequence[object], field_name: str) -> list[str]:
    names = [entry.get(field_name) for entry in entries if isinstance(entry, dict)]
    return sorted({name for name in names if isinstance(name, str) and names.count(name) > 1})


def _wrong_with_caller(entry: object) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "should be a table, [[caller]]"
        return
    account = entry.get("account")
    if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
        yield "account should be an e-mail address in small letters"
    yield from _unknown(entry, ("account", *_LIMITS, *_LOADS))
    for name in _LIMITS:
        projects = entry.get(name, ["any"])
        if not isinstance(projects, list) or not projects or not all(map(_is_project, projects)):
            yield f"{name} should be a list of project ids, at least one"
    yield from _wrong_loads(entry)


def _wrong_with_sender(entry: object) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "should be a table, [[sender]]"
        return
    source = entry.get("source")
    if not isinstance(source, str) or not 0 < len(source.encode()) <= _MAX_SOURCE:
        yield f"source should be the ce-source of messages, 1 to {_MAX_SOURCE} bytes"
    elif source.startswith(f"{REST_SOURCE}/"):
        yield "source is an account's, which is a [[caller]]"
    known = [name for name in _LOADS if name != "max_waits"]  # messages do not wait
    yield from _unknown(entry, ("source", *known))
    yield from _wrong_loads(entry)


def _unknown(entry: Mapping[str, object], known: Sequence[str]) -> Iterator[str]:
    for name in entry.keys() - {*known}:
        yield f"{name!r} is unknown; known are {', '.join(known)}"


def _wrong_loads(entry: Mapping[str, object]) -> Iterator[str]:
    for name, (least, most) in _LOADS.items():
        if name not in entry:
            continue
        value = entry[name]
        kinds = (int, float) if name == "weight" else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            number = "a number" if name == "weight" else "a whole number"
            yield f"{name} should be {number} from {least:g} to {most:g}"


def _is_project(value: object) -> bool:
    return isinstance(value, str) and bool(_PROJECT.fullmatch(value))
