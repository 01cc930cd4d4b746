"""A real pseudo-terminal with a model of its screen: what a person would see of ``model-copy``."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pyte

from command_line import DEADLINE_SECONDS

MODEL_COPY = Path(sys.executable).with_name("model-copy")
# Ctrl-C is then typed here, and is no signal that a test sends.
AT_HOME = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """The command, and the screen it draws on."""

    def __init__(self, *, columns: int, lines: int) -> None:
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, self._theirs = pty.openpty()
        self._came = asyncio.Event()
        self._closed = False
        self._process: asyncio.subprocess.Process | None = None
        self._set_size(columns, lines)

    async def start(self, words: Sequence[str], *, env: dict[str, str], output: int | None) -> None:
        """Start the command; ``output`` is its standard output, if not the terminal."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", AT_HOME, MODEL_COPY),
            *words,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color"} | env,
            stdin=self._theirs,
            stdout=self._theirs if output is None else output,
            stderr=self._theirs,
            start_new_session=True,
        )
        os.close(self._theirs)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        os.close(self._ours)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without the empty lines at its end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n").split("\n")

    @property
    def all_lines(self) -> list[str]:
        """What a person sees who scrolls back too."""
        gone = [
            "".join(row[n].data for n in sorted(row)).rstrip() for row in self._screen.history.top
        ]
        return gone + self.lines

    @property
    def cursor_is_shown(self) -> bool:
        return not self._screen.cursor.hidden

    async def shows(self, seen: Callable[[list[str]], object]) -> list[str]:
        """Wait until the screen is so, and return it."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not seen(self.lines):
                    assert not self._closed, f"ended with {self.lines}"
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"never so: {self.lines}") from None
        return self.lines

    async def ends(self) -> int:
        """Wait for the end, and for all that was drawn; the exit code."""
        assert self._process is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self._closed:
                self._came.clear()
                await self._came.wait()
            return await self._process.wait()

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def resize(self, *, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        self._set_size(columns, lines)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # so Linux says that the last one has closed it
            data = b""
        if data:
            self._stream.feed(data)
        else:
            self._closed = True
            asyncio.get_running_loop().remove_reader(self._ours)
        self._came.set()


@asynccontextmanager
async def terminal(
    words: Sequence[str],
    *,
    env: dict[str, str],
    columns: int = 80,
    lines: int = 24,
    output: int | None = None,
) -> AsyncIterator[Terminal]:
    """Run the command on a terminal of this size."""
    shown = Terminal(columns=columns, lines=lines)
    await shown.start(words, env=env, output=output)
    try:
        yield shown
    finally:
        await shown.close()
