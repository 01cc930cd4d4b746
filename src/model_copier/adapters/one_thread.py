"""Blocking calls one after the other, in a thread of their own, each with a time limit.

What must not break: a call that hangs (a disk that does not answer) costs one thread, whatever
else is asked meanwhile; those who wait are told in time, and are never more than MOST_WAITING.
The order is kept, so a read that comes after a write sees it, or is told nothing.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from model_copier.domain.errors import UnavailableError

# As many as one instance has requests; each is a closure and a future.
MOST_WAITING = 1000

_T = TypeVar("_T")
_Call = tuple["Future[Any]", Callable[[], Any]]


class OneThread:
    """``seconds``: how long a caller waits for its answer, the time in the queue included.

    A daemon thread: the end of the process does not wait for a disk.
    """

    def __init__(self, name: str, *, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._calls: queue.Queue[_Call | None] = queue.Queue(MOST_WAITING)
        self._began_at: float | None = None  # the call that runs now
        self._ended = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """Return what the call returns.

        Raises:
            UnavailableError: no answer in time. What had begun may still happen.
        """
        asked = self.begin(call, *arguments)
        try:
            async with asyncio.timeout(self._seconds):
                return await asked
        except TimeoutError as error:
            raise self._too_late() from error

    def begin(self, call: Callable[..., _T], *arguments: Any) -> "asyncio.Future[_T]":
        """Return what will be there once the call has returned, however long that takes."""
        return asyncio.wrap_future(self._ask(call, arguments))

    def run_and_wait(self, call: Callable[..., _T], *arguments: Any, seconds: float) -> _T:
        """Do the same without a loop.

        Raises:
            UnavailableError: no answer in time. What had begun may still happen.
        """
        asked = self._ask(call, arguments)
        try:
            return asked.result(seconds)
        except TimeoutError as error:
            asked.cancel()
            raise self._too_late() from error

    def end(self) -> None:
        """Take no more calls, and let the thread go once it has done what was asked so far."""
        self._ended = True
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            return  # a daemon: it ends with the process

    def _ask(self, call: Callable[..., _T], arguments: tuple[Any, ...]) -> "Future[_T]":
        if self._ended:
            raise UnavailableError(f"{self._name}: closed")
        began_at = self._began_at
        if began_at is not None and time.monotonic() > began_at + self._seconds:
            # Whoever asks now would only wait as long as the others did.
            raise self._too_late()
        asked: Future[_T] = Future()
        try:
            self._calls.put_nowait((asked, lambda: call(*arguments)))
        except queue.Full as error:
            raise UnavailableError(f"{self._name}: {MOST_WAITING} calls wait already") from error
        return asked

    def _too_late(self) -> UnavailableError:
        return UnavailableError(f"{self._name}: no answer in {self._seconds:g} s")

    def _work(self) -> None:
        while (next_call := self._calls.get()) is not None:
            asked, call = next_call
            if not asked.set_running_or_notify_cancel():
                continue  # its caller has gone
            self._began_at = time.monotonic()
            try:
                asked.set_result(call())
            except BaseException as error:  # noqa: BLE001  it is the caller's
                asked.set_exception(error)
            finally:
                self._began_at = None
            del asked, call, next_call
