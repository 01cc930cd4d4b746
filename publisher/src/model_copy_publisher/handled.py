"""What was handled already, so that repeats and older runs are dropped.

Bounded: the oldest are forgotten. What comes again after that is handled again, as
it would be after a restart; whoever must never do a thing twice keeps its event ids.
"""

import threading
from collections import OrderedDict
from enum import Enum, auto
from typing import Any

from model_copy_publisher.events import Reply

REMEMBERED = 100_000
FIRST_DELAY_SECONDS = 1
LONGEST_DELAY_SECONDS = 60


class Verdict(Enum):
    """What to do with a delivery."""

    HANDLE = auto()
    SETTLE = auto()  # nothing to do any more
    LEAVE = auto()  # it is being handled: the result decides, should it come again


class Handled:
    """Used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: OrderedDict[str, None] = OrderedDict()
        self._in_hand: set[str] = set()
        self._newest: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._failures: OrderedDict[str, int] = OrderedDict()

    def take(self, reply: Reply) -> Verdict:
        """Decide about a delivery; HANDLE marks it as being handled."""
        with self._lock:
            if reply.event_id in self._in_hand:
                return Verdict.LEAVE
            if reply.event_id in self._done or self._is_older(reply):
                return Verdict.SETTLE
            self._in_hand.add(reply.event_id)
            return Verdict.HANDLE

    def done(self, reply: Reply) -> None:
        """Remember that it was handled."""
        with self._lock:
            self._in_hand.discard(reply.event_id)
            self._failures.pop(reply.event_id, None)
            _remember(self._done, reply.event_id, None)

    def failed(self, reply: Reply) -> int:
        """Remember that it was not, and return in how many seconds to try again."""
        with self._lock:
            self._in_hand.discard(reply.event_id)
            failures = self._failures.get(reply.event_id, 0)
            _remember(self._failures, reply.event_id, failures + 1)
            return int(min(FIRST_DELAY_SECONDS * 2**failures, LONGEST_DELAY_SECONDS))

    def put_back(self, reply: Reply) -> None:
        """Forget that it was taken."""
        with self._lock:
            self._in_hand.discard(reply.event_id)

    def _is_older(self, reply: Reply) -> bool:
        if reply.run is None or reply.request_id is None:
            return False
        request = (reply.request_source or "", reply.request_id)
        newest = self._newest.get(request, 0)
        _remember(self._newest, request, max(newest, reply.run))
        return reply.run < newest


def _remember(memory: OrderedDict[Any, Any], key: object, value: object) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
