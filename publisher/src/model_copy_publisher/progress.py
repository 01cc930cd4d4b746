"""What a person sees while requests are sent and copies run.

On a terminal, lines that are drawn anew: a line for each copy, as many as fit, and a bar.
Elsewhere, plain lines: one for each change, and one that sums up now and then. Both on
standard error: standard output belongs to the results, which ``result`` prints without
disturbing the rest. Each copy's seconds are its own.
"""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from model_copy_publisher.terminal import lines, printable, say, tell

# A sign of life where nothing changes.
PLAIN_LINE_SECONDS = 10.0
# So many copies are named when the wait begins.
NAMED_COPIES = 20
LABEL_WIDTH = 48
BAR_WIDTH, SHORTEST_BAR = 40, 10
# Those at work are shown first.
LAST_SHOWN = ("accepted", "waiting")

Key = tuple[str, str]


@dataclass(slots=True)
class Progress:
    """What is known of the copies; each change is shown. Used by several threads."""

    labels: Mapping[Key, str]
    result: Callable[[str], None] = tell
    news: deque[str] = field(default_factory=deque)  # lines for where every line stays
    _began_at: float = field(default_factory=time.monotonic)
    _phase: str = "publishing"
    _failed: int = 0
    _ended: int = 0
    _label_width: int = field(init=False)
    _since: dict[Key, float] = field(default_factory=dict)
    _states: dict[Key, str] = field(default_factory=dict)
    _by_state: dict[str, dict[Key, None]] = field(default_factory=dict)
    _trouble: str = ""
    _changed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        longest = max(map(len, self.labels.values()), default=0)
        self._label_width = min(longest, LABEL_WIDTH)

    def published(self, key: Key, at: datetime) -> None:
        """It was confirmed: its seconds count from ``at``."""
        with self._lock:
            self._count_from(key, at)

    def waiting(self, keys: Iterable[Key], *, said: bool = True) -> None:
        """From here on these are waited for; ``said`` at once, or only if it takes long."""
        with self._lock:
            self._phase = "waiting"
            for key in keys:
                self._put(key, "waiting")
            self._ended = len(self.labels) - len(self._states)
            if said:
                few = len(self._states) <= NAMED_COPIES
                self._tell(*map(self._line_of, self._states) if few else [self._summary()])

    def stands(self, key: Key, state: str, *, since: datetime | None = None) -> None:
        """A copy has got so far; it was there at ``since`` already, or before."""
        state = printable(state)
        with self._lock:
            if key not in self._states:
                return
            if since is not None:
                self._count_from(key, since)
            if self._states[key] != state:
                self._put(key, state)
                self._tell(self._line_of(key))

    def ended(self, key: Key, *, ok: bool) -> None:
        """A copy has ended."""
        with self._lock:
            self._ended += 1
            self._failed += not ok
            state = self._states.pop(key, None)
            if state is not None:
                del self._by_state[state][key]

    def trouble(self, text: str) -> None:
        """Say what is wrong, or "" that it is over."""
        with self._lock:
            self._trouble = printable(text)
            self._tell(self._summary())

    # Plain lines

    def speak(self, ended: threading.Event) -> None:
        """Print plain lines until ``ended``: what changes, and a sign of life now and then."""
        while True:
            if not self._changed.wait(PLAIN_LINE_SECONDS):
                with self._lock:
                    self._tell(self._summary())
            self._changed.clear()
            while self.news:
                say(self.news.popleft())
            if ended.is_set():
                return

    def wake(self) -> None:
        """End a pause of ``speak``."""
        self._changed.set()

    # A terminal

    def drawing(self, *, width: int, height: int) -> Any:
        """Return what to draw on a terminal of this size."""
        from rich.console import Group  # noqa: PLC0415  only a terminal pays for it
        from rich.text import Text  # noqa: PLC0415  see above

        with self._lock:
            if len(self.labels) == 1:
                lines, bar = [self._summary()], []
            else:
                # Beside the bar, and the newest result above all.
                lines, bar = self._copy_lines(max(0, height - 2)), [self._bar(width)]
        return Group(*(Text(each, no_wrap=True, overflow="ellipsis") for each in lines), *bar)

    def _copy_lines(self, room: int) -> list[str]:
        states = [state for state in self._by_state if self._by_state[state]]
        states.sort(key=lambda state: state in LAST_SHOWN and 1 + LAST_SHOWN.index(state))
        shown = max(0, room if len(self._states) <= room else room - 1)
        keys = islice(chain.from_iterable(self._by_state[state] for state in states), shown)
        lines = [self._line_of(key) for key in keys]
        if not room or len(lines) == len(self._states):
            return lines
        rest = []
        for state in states:
            count = len(self._by_state[state])
            above = min(count, shown)
            shown -= above
            if count > above:
                rest.append(f"{count - above:,} {state}")
        return [*lines, f"and {len(self._states) - len(lines):,} more: {', '.join(rest)}"]

    def _bar(self, width: int) -> Any:
        from rich.progress_bar import ProgressBar  # noqa: PLC0415  see above
        from rich.table import Table  # noqa: PLC0415  see above
        from rich.text import Text  # noqa: PLC0415  see above

        done = len(self._since) if self._phase == "publishing" else self._ended
        text = f"{self._counted()}  {self._elapsed()}"
        room = min(BAR_WIDTH, width - len(f"{self._phase:<10}") - len(text) - 2)
        row = Table.grid(padding=(0, 1))
        bar = [ProgressBar(total=len(self.labels), completed=done, width=room)]
        row.add_row(
            Text(f"{self._phase:<10}"),
            *(bar if room >= SHORTEST_BAR else []),
            Text(text, no_wrap=True, overflow="ellipsis"),
        )
        return row

    # Used under the lock

    def _count_from(self, key: Key, at: datetime) -> None:
        began_at = time.monotonic() - max(0.0, (datetime.now(UTC) - at).total_seconds())
        self._since[key] = min(began_at, self._since.get(key, began_at))

    def _put(self, key: Key, state: str) -> None:
        if key in self._states:
            del self._by_state[self._states[key]][key]
        self._states[key] = state
        self._by_state.setdefault(state, {})[key] = None

    def _tell(self, *lines: str) -> None:
        self.news.extend(lines)
        self._changed.set()

    def _line_of(self, key: Key) -> str:
        label = f"{self.labels[key]:<{self._label_width}}  " if len(self.labels) > 1 else ""
        return f"{self._states[key]:<10} {label}{self._seconds_of(key)}"

    def _summary(self) -> str:
        if len(self.labels) > 1:
            counts = [f"{len(keys):,} {state}" for state, keys in self._by_state.items() if keys]
            known = (
                f": {', '.join(counts)}"
                if counts and counts[0] != f"{len(self._states):,} waiting"
                else ""
            )
            return f"{self._phase:<10} {self._counted()}{known}  {self._elapsed()}"
        for key in self._states:
            return f"{self._line_of(key)}{self._wrong()}"
        return f"{self._phase:<10} {self._elapsed()}"

    def _counted(self) -> str:
        total = len(self.labels)
        if self._phase == "publishing":
            return f"{len(self._since):,} of {total:,}"
        failed = f", {self._failed:,} failed" if self._failed else ""
        return f"{self._ended:,} of {total:,} ended{failed}"

    def _elapsed(self) -> str:
        return f"{spell(time.monotonic() - self._began_at)}{self._wrong()}"

    def _wrong(self) -> str:
        return f"  ({self._trouble})" if self._trouble else ""

    def _seconds_of(self, key: Key) -> str:
        return spell(time.monotonic() - self._since.get(key, self._began_at))


@contextmanager
def progress(labels: Mapping[Key, str]) -> Iterator[Progress]:
    """Show the progress for as long as the block runs; ``labels`` name the copies."""
    # A dumb terminal cannot draw a line anew.
    dumb = os.environ.get("TERM", "").lower() in {"dumb", "unknown"}
    if sys.stderr.isatty() and not dumb:
        shown = Progress(labels, news=deque(maxlen=0))
        with _live(shown):
            yield shown
        return
    shown, ended = Progress(labels), threading.Event()
    speaker = threading.Thread(target=shown.speak, args=[ended], daemon=True)
    speaker.start()
    try:
        yield shown
    finally:
        ended.set()
        shown.wake()
        speaker.join()


@contextmanager
def _live(shown: Progress) -> Iterator[None]:
    # Only a terminal pays for their import.
    from rich.console import Console  # noqa: PLC0415  see above
    from rich.live import Live  # noqa: PLC0415  see above
    from rich.text import Text  # noqa: PLC0415  see above

    console = Console(stderr=True)
    if sys.stdout.isatty():
        # Above the drawing; whole, for a name that was broken cannot be pasted.
        shown.result = lambda line: console.print(Text(lines(line)), soft_wrap=True)

    def drawing() -> Any:
        width, height = console.size
        return shown.drawing(width=width, height=height)

    with Live(
        get_renderable=drawing,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield
    shown.result = tell


def spell(seconds: float) -> str:
    """Write a duration as a person reads it: ``12 s``, ``4 min 05 s``, ``1 h 02 min``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
