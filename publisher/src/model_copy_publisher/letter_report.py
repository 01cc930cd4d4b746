"""What is printed about dead letters: a table, a summary by code, one letter whole.

Pure: the command decides where it goes. Texts of others lose their control characters.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from model_copy_publisher.letters import Letter, Origin
from model_copy_publisher.messages import rfc3339
from model_copy_publisher.replays import Left, Replay
from model_copy_publisher.terminal import printable

REASON_WIDTH = 60
NAME_WIDTH = 36
_HEADER = ("REQUEST", "SOURCE", "DESTINATION", "CODE", "AGE", "ATTEMPTS", "BY", "REASON")
_BY = {Origin.COPIER: "copier", Origin.PUBSUB: "Pub/Sub", Origin.STRANGER: "?"}


def table(letters: Sequence[Letter], *, now: datetime) -> list[str]:
    """Return a line for each letter, under a header."""
    return _aligned([_HEADER, *(_row(each, now) for each in letters)])


def summary(letters: Sequence[Letter], *, now: datetime) -> list[str]:
    """Return a line for each code: how many, how old, and one of the reasons."""
    groups: dict[str, list[Letter]] = {}
    for letter in letters:
        groups.setdefault(letter.code, []).append(letter)
    rows = [
        (
            f"{len(group):,}",
            code,
            age(now - max(group, key=lambda each: each.died_at).died_at),
            age(now - min(group, key=lambda each: each.died_at).died_at),
            _cut(group[0].reason or group[0].unreadable, REASON_WIDTH),
        )
        for code, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return _aligned([("LETTERS", "CODE", "NEWEST", "OLDEST", "FOR EXAMPLE"), *rows])


def whole(letter: Letter, *, now: datetime) -> list[str]:
    """Return everything about one letter."""
    facts = [
        ("request", letter.request_id or "(bare JSON without an id)"),
        ("source", letter.request_source),
        ("code", letter.code),
        ("reason", letter.reason),
        ("died", f"{rfc3339(letter.died_at)}, {age(now - letter.died_at)} ago"),
        ("written by", _BY[letter.origin]),
        ("attempts", None if letter.attempts is None else str(letter.attempts)),
        ("replays", str(letter.replays)),
        ("outcome", letter.outcome_id),
        ("letter", letter.message_id),
        ("unreadable", letter.unreadable),
    ]
    lines = [f"{name:<10}  {printable(value)}" for name, value in facts if value]
    lines += ["attributes"]
    lines += [f"  {printable(k)}: {printable(v)}" for k, v in sorted(letter.attributes.items())]
    lines += ["content"]
    if letter.content is None:
        return [*lines, f"  {printable(letter.data[:2000].decode(errors='replace'))}"]
    shown = json.dumps(letter.content, indent=2, ensure_ascii=True)
    return [*lines, *(f"  {line}" for line in shown.splitlines())]


def replay_line(replay: Replay) -> str:
    """Say what would be sent."""
    content = printable(replay.data.decode(errors="replace"))
    change = "repaired" if replay.repaired else "unchanged"
    return f"{printable(replay.request_id)}  {change}  {content}"


def left_line(left: Left) -> str:
    """Say which letter stays, and why."""
    name = left.letter.request_id or f"letter {left.letter.message_id}"
    return f"left       {printable(name)}: {printable(left.reason)}"


def age(span: timedelta) -> str:
    """Tell an age in its largest unit."""
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _row(letter: Letter, now: datetime) -> tuple[str, ...]:
    return (
        _cut(letter.request_id or f"(letter {letter.message_id})", NAME_WIDTH),
        _cut(letter.source.rpartition("/")[2], NAME_WIDTH),
        _cut(letter.target.rpartition("/")[2], NAME_WIDTH),
        _cut(letter.code, NAME_WIDTH),
        age(now - letter.died_at),
        "" if letter.attempts is None else str(letter.attempts),
        _BY[letter.origin],
        _cut(letter.reason or letter.unreadable, REASON_WIDTH),
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _cut(text: str, width: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= width else f"{shown[: width - 3]}..."
