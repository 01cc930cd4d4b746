"""An event loop whose time is virtual: hours pass in seconds, the same on every machine."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

from simulators import START, SimulatedClock

_T = TypeVar("_T")


class _VirtualSelector(selectors.DefaultSelector):
    """Instead of waiting for the next timer, it makes that time now."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class LoopClock(SimulatedClock):
    """The wall clock of the virtual loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        self.at = START
        self.advance(self.monotonic())
        return self.at


async def pass_time(seconds: float) -> None:
    """Let virtual time pass; the machine's own does not."""
    assert isinstance(asyncio.get_running_loop(), VirtualLoop), "wait for a condition instead"
    await asyncio.sleep(seconds)


async def until(condition: Callable[[], object], *, seconds: float) -> None:
    """Let virtual time pass until the condition holds.

    Raises:
        TimeoutError: it does not within ``seconds``.
    """
    async with asyncio.timeout(seconds):
        while not condition():
            await pass_time(0.1)


def run_virtually(story: Coroutine[Any, Any, _T]) -> _T:
    """Live a story to its end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)
