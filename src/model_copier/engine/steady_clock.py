"""Wall time that is believed only while it agrees with time that never goes back.

A clock that is set by hours for two seconds would expire every record, or make a copy that
just began look hopeless. So a jump is an outage, not a fact: whoever asks for the time is
told to come again. What must not break: once a clock has jumped, nothing is decided by it
until it is back, or has stood by its new time for long.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from model_copier.domain.errors import UnavailableError

# A clock that somebody corrected stays corrected; one that is broken moves again.
STEADY_SECONDS = 300.0
# Nobody looked for longer than that: it may have been right in between, and jumped again.
UNSEEN_SECONDS = 120.0


@dataclass(kw_only=True)
class SteadyClock:
    """See ``ports.Clock``. ``elapsed`` is in seconds and goes on while the machine sleeps."""

    wall: Callable[[], datetime]
    elapsed: Callable[[], float]
    max_skew: float  # seconds; a smaller step is what clocks do
    on_adopted: Callable[[float], None] = lambda _seconds: None
    _offset: float = field(init=False)
    _jumped_to: float = field(default=0.0, init=False)
    _jumped_at: float | None = field(default=None, init=False)
    _seen_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._offset = self.wall().timestamp() - self.elapsed()

    def monotonic(self) -> float:
        return self.elapsed()

    def now(self) -> datetime:
        """Return the wall time.

        Raises:
            UnavailableError: it has jumped.
        """
        wall, elapsed = self.wall(), self.elapsed()
        offset = wall.timestamp() - elapsed
        moved = offset - self._offset
        if abs(moved) > self.max_skew:
            self._note_jump(offset, elapsed, moved)
        else:
            self._jumped_at = None
        self._offset = offset
        return wall

    def _note_jump(self, offset: float, elapsed: float, moved: float) -> None:
        is_same = abs(offset - self._jumped_to) <= self.max_skew
        unseen = elapsed - self._seen_at > UNSEEN_SECONDS
        self._seen_at = elapsed
        if self._jumped_at is None or unseen or not is_same:
            self._jumped_at, self._jumped_to = elapsed, offset
        left = STEADY_SECONDS - (elapsed - self._jumped_at)
        if left > 0:
            raise UnavailableError(
                f"clock: this machine's time was set by {moved:.0f} s; it is believed again once"
                f" it is back, or in {left:.0f} s"
            )
        self._jumped_at = None
        self.on_adopted(moved)
