"""Which letters are meant: the same choice for every command.

Pure: ``now`` is a value.
"""

import fnmatch
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.letters import Letter, Origin

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGE = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[smhd])", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is left empty leaves nothing out; all that is given must hold.

    ``source`` and ``target`` are patterns (``faker*``) for the models as asked for.
    """

    codes: Collection[str] = ()
    source: str | None = None
    target: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    request_ids: Collection[str] = ()
    origin: Origin | None = None
    limit: int | None = None

    def includes(self, letter: Letter, *, now: datetime) -> bool:
        """Tell whether the letter is meant; ``limit`` is for whoever counts."""
        age = now - letter.died_at
        return (
            (not self.codes or letter.code in self.codes)
            and _is_like(letter.source, self.source)
            and _is_like(letter.target, self.target)
            and (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
            and (
                not self.request_ids
                or letter.request_id in self.request_ids
                or letter.message_id in self.request_ids  # one of bare JSON has no other
            )
            and (self.origin is None or letter.origin is self.origin)
        )


def parse_age(option: str, text: str) -> timedelta:
    """Read ``90s``, ``15m``, ``2h`` or ``3d``.

    Raises:
        InvalidRequestError: it is none of these.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        raise InvalidRequestError(option, f"{text!r} is not an age such as 90s, 15m, 2h or 3d")
    return timedelta(**{_UNITS[found["unit"]]: int(found["number"])})


def _is_like(model: str, pattern: str | None) -> bool:
    return pattern is None or any(
        fnmatch.fnmatchcase(name, pattern) for name in (model, model.rpartition("/")[2])
    )
