"""Whether this process could do its work now: store, reply topic and clock.

What must not break: however often it is asked, what it looks at is asked once in
KEPT_SECONDS; it is open to everybody, and tells no names. What is not set up is told with
the command that mends it; the log has the names that go in there.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from google.auth.exceptions import TransportError

from model_copier.domain.errors import SetUpError, UnavailableError
from model_copier.engine.workflow import Workflow
from model_copier.logs import log
from model_copier.web.certificates import age_seconds, caller_of

KEPT_SECONDS = 5.0
LONGEST_SECONDS = 10.0
OK = "ok"
# What cannot be checked stops nobody, and says why.
NOT_CHECKED = "not checked: "
# An HTTP date has whole seconds, and so has the age of what comes from a cache.
_DATE_SECONDS = 2.0


class NoDateError(UnavailableError):
    """The server answers, and does not say what time it is."""


def wrong_with(found: Mapping[str, str]) -> dict[str, str]:
    """Which of the parts keep us from being ready."""
    return {
        part: what
        for part, what in found.items()
        if what != OK and not what.startswith(NOT_CHECKED)
    }


@dataclass(kw_only=True)
class Readiness:
    """One for each process. ``outside_now`` blocks; None: there is nothing to hold the clock to."""

    workflow: Workflow
    max_skew_seconds: float
    outside_now: Callable[[], datetime] | None = None
    _found: dict[str, str] = field(default_factory=dict)
    _until: float = float("-inf")
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> dict[str, str]:
        """Say of each part: ok, not checked, or what is wrong."""
        async with self._turn:
            if time.monotonic() >= self._until:
                self._found = await self._look()
                self._until = time.monotonic() + KEPT_SECONDS
            return self._found

    async def _look(self) -> dict[str, str]:
        parts = {"store": self._store, "reply_topic": self._reply_topic, "clock": self._clock}
        found: dict[str, str] = {}
        for name, look in parts.items():
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    found[name] = await look()
            except SetUpError as error:
                log("not_ready", severity="ERROR", part=name, why=str(error))
                found[name] = f"is not set up: {error.what}; this mends it: {error.mends}"
            except (UnavailableError, TimeoutError) as error:
                log("not_ready", severity="WARNING", part=name, why=str(error) or "no answer")
                found[name] = "cannot be reached"
        return found

    async def _store(self) -> str:
        await self.workflow.store.check()
        return OK

    async def _reply_topic(self) -> str:
        await self.workflow.topics.check()
        return OK

    async def _clock(self) -> str:
        if self.outside_now is None:
            return f"{NOT_CHECKED}TOKEN_CHECKS is none"
        asked = self.workflow.clock.now()
        try:
            outside = await asyncio.to_thread(self.outside_now)
        except NoDateError as error:
            log("clock_not_checked", severity="WARNING", why=str(error))
            return f"{NOT_CHECKED}the server of CERTS_URL sends no Date; see docs/rest.md"
        except UnavailableError as error:
            log("clock_not_checked", severity="WARNING", why=str(error))
            # That stops nobody else either: the keys that are at hand are used.
            return f"{NOT_CHECKED}CERTS_URL cannot be reached"
        # It was that time at some moment between the question and the answer.
        ahead, behind = asked - outside, outside - self.workflow.clock.now()
        skew = max(ahead, behind).total_seconds()
        if skew > self.max_skew_seconds + _DATE_SECONDS:
            log("not_ready", severity="ERROR", part="clock", why=f"{skew:.1f} s from Google's")
            return "is further from Google's than MAX_SKEW_SECONDS"
        return OK


def date_of(url: str) -> Callable[[], datetime]:
    """Read the time off the answer of a web server, or of a cache before it.

    Raises:
        NoDateError: there is none on it.
        UnavailableError: there is no answer.
    """

    def read() -> datetime:
        try:
            answer = caller_of(url)(url, method="GET", timeout=LONGEST_SECONDS / 2)
        except TransportError as error:
            raise UnavailableError(f"{url}: {error}") from error
        try:
            made = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
            return made + timedelta(seconds=age_seconds(answer.headers))
        except (KeyError, ValueError, OverflowError) as error:
            raise NoDateError(f"{url} tells no time: {error}") from error

    return read
