"""What a person sees while requests are sent and copies run.

On a terminal, lines that are drawn anew: a bar, and a line for each copy. Elsewhere, plain
lines when something changes and now and then. Both on standard error: standard output
belongs to the results, which ``result`` prints without disturbing the rest.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click

PLAIN_LINE_SECONDS = 5.0
# Of a large batch, a plain line less often.
MANY, MANY_LINE_SECONDS = 20, 15.0
SHOWN_COPIES = 12
BAR_WIDTH = 40

Key = tuple[str, str]


@dataclass(slots=True)
class Progress:
    """What is known of the copies; each change is shown."""

    labels: Mapping[Key, str]
    began_at: float = field(default_factory=time.monotonic)
    sent: int = 0
    failed: int = 0
    states: dict[Key, str] = field(default_factory=dict)
    result: Callable[[str], None] = click.echo
    _phase: str = "publishing"
    _trouble: str = ""
    _changed: threading.Event = field(default_factory=threading.Event)

    def published(self, count: int) -> None:
        """So many more were confirmed."""
        self.sent += count

    def waiting(self, keys: Iterable[Key], *, said: bool = True) -> None:
        """From here on these are waited for; ``said`` at once, or only if it takes long."""
        self._phase = "waiting"
        self.states = dict.fromkeys(keys, "waiting")
        if said:
            self._changed.set()

    def stands(self, key: Key, state: str) -> None:
        """A copy has got so far."""
        if self.states.get(key) not in {None, state}:
            self.states[key] = state
            self._changed.set()

    def ended(self, key: Key, *, ok: bool) -> None:
        """A copy has ended."""
        self.states.pop(key, None)
        self.failed += not ok

    def trouble(self, text: str) -> None:
        """Say what is wrong, or "" that it is over."""
        self._trouble = text
        self._changed.set()

    def lines(self) -> list[str]:
        """Return what to show now where every line stays."""
        tail = f"{self._elapsed()}{self._wrong()}"
        if self._phase == "publishing":
            count = f"{self.sent:,} of {len(self.labels):,}  " if len(self.labels) > 1 else ""
            return [f"publishing {count}{tail}"]
        if len(self.labels) == 1:
            return [f"{state:<10} {tail}" for state in list(self.states.values())]
        if len(self.labels) > MANY:
            return [f"waiting    {self._ended()}  {tail}"]
        return [
            f"{state:<10} {self.labels[key]}  {tail}" for key, state in list(self.states.items())
        ]

    def speak(self, ended: threading.Event) -> None:
        """Print plain lines until ``ended``: at each change, and every few seconds."""
        pause = PLAIN_LINE_SECONDS if len(self.labels) <= MANY else MANY_LINE_SECONDS
        self._changed.wait(pause)
        while not ended.is_set():
            self._changed.clear()
            for line in self.lines():
                click.echo(line, err=True)
            self._changed.wait(pause)

    def wake(self) -> None:
        """End a pause of ``speak``."""
        self._changed.set()

    def drawing(self) -> Any:
        """Return what to draw on a terminal."""
        from rich.console import Group  # noqa: PLC0415  only a terminal pays for it
        from rich.progress_bar import ProgressBar  # noqa: PLC0415  see above
        from rich.table import Table  # noqa: PLC0415  see above
        from rich.text import Text  # noqa: PLC0415  see above

        total = len(self.labels)
        if total == 1:
            return Text("\n".join(self.lines()))
        done = self.sent if self._phase == "publishing" else total - len(self.states)
        row = Table.grid(padding=(0, 1))
        text = f"{done:,} of {total:,}" if self._phase == "publishing" else self._ended()
        row.add_row(
            f"{self._phase:<10}",
            ProgressBar(total=total, completed=done, width=BAR_WIDTH),
            Text(f"{text}  {self._elapsed()}{self._wrong()}"),
        )
        shown = list(self.states.items())[:SHOWN_COPIES] if self._phase != "publishing" else []
        copies = [
            Text(f"{state:<10} {self.labels[key]}  {self._elapsed()}") for key, state in shown
        ]
        more = len(self.states) - len(copies) if copies else 0
        return Group(*copies, *([Text(f"           and {more:,} more")] if more else []), row)

    def _ended(self) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        total = len(self.labels)
        return f"{total - len(self.states):,} of {total:,} ended{failed}"

    def _elapsed(self) -> str:
        return spell(time.monotonic() - self.began_at)

    def _wrong(self) -> str:
        return f"  ({self._trouble})" if self._trouble else ""


@contextmanager
def progress(labels: Mapping[Key, str]) -> Iterator[Progress]:
    """Show the progress for as long as the block runs; ``labels`` name the copies."""
    shown = Progress(labels)
    if sys.stderr.isatty():
        with _live(shown):
            yield shown
        return
    ended = threading.Event()
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
        shown.result = lambda line: console.print(Text(line), soft_wrap=True)
    with Live(
        get_renderable=shown.drawing,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield
    shown.result = click.echo


def spell(seconds: float) -> str:
    """Write a duration as a person reads it: ``12 s``, ``4 min 05 s``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
