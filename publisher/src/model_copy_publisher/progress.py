"""What a person sees while a copy runs: one live line, or plain lines now and then.

Speaks to standard error only: standard output belongs to the result.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click

PLAIN_LINE_SECONDS = 5.0


@dataclass(slots=True)
class Progress:
    """The present line. Setting ``trouble`` ("" for none) changes it at once."""

    _began_at: float = field(default_factory=time.monotonic)
    _trouble: str = ""
    _changed: threading.Event = field(default_factory=threading.Event)

    def trouble(self, text: str) -> None:
        """Say what is wrong beside the time, or "" that it is over."""
        self._trouble = text
        self._changed.set()

    def line(self) -> str:
        """Return what to show now."""
        line = f"copying    {spell(time.monotonic() - self._began_at)}"
        return f"{line}  ({self._trouble})" if self._trouble else line

    def speak(self, ended: threading.Event) -> None:
        """Print plain lines until ``ended``: at once, at each change, and every few seconds."""
        while not ended.is_set():
            self._changed.clear()
            click.echo(self.line(), err=True)
            self._changed.wait(PLAIN_LINE_SECONDS)

    def wake(self) -> None:
        """End a pause of ``speak``."""
        self._changed.set()


@contextmanager
def progress() -> Iterator[Progress]:
    """Show the progress for as long as the block runs."""
    shown = Progress()
    if sys.stderr.isatty():
        # Only a terminal pays for their import.
        from rich.console import Console  # noqa: PLC0415  see above
        from rich.live import Live  # noqa: PLC0415  see above
        from rich.text import Text  # noqa: PLC0415  see above

        with Live(
            get_renderable=lambda: Text(shown.line()),
            console=Console(stderr=True),
            transient=True,
        ):
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


def spell(seconds: float) -> str:
    """Write a duration as a person reads it: ``12 s``, ``4 min 05 s``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
