"""What goes wrong on purpose in the local Vertex AI, and when.

A fault is armed for the next N calls and used up by them; what happens by chance is a
matter of ``vertex_knobs``. Arm it in the serving event loop, or from any process as a
``FaultOrders`` over the control endpoint. A call meets faults in this order: refused
before it acts; taken, but doomed in its operation; taken, and the answer held back;
taken, and answered with an error.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt

from local_cloud.vertex_methods import MethodName, known_method
from local_cloud.vertex_records import Code, CodeName, Seconds, VertexError
from local_cloud.vertex_refusals import worded

_Why = Mapping[str, Any]


class Faults:
    """The faults that are armed now."""

    def __init__(self) -> None:
        self._refusals: deque[tuple[str, Code, str, _Why]] = deque()
        self._failures: deque[tuple[Code, str, _Why]] = deque()
        self._lasting_failure: tuple[Code, str, _Why] | None = None
        self._lost_answers: deque[Code] = deque()
        self._holds: deque[float | None] = deque()
        self._released = asyncio.Event()
        self._held = 0
        self._held_more = asyncio.Event()

    # For those who arm them

    def copy_fails(
        self,
        code: Code = Code.PERMISSION_DENIED,
        message: str = "",
        *,
        times: int | None = None,
        **why: Any,
    ) -> None:
        """Let copies be taken and end with ``code``: the next ``times``, or all from now on.

        ``why`` are ``reason``, ``metadata`` and ``violations`` of the error's details.
        """
        if times is None:
            self._lasting_failure = (code, message, why)
        else:
            self._failures.extend([(code, message, why)] * times)

    def refuse(
        self, method: str, code: Code, message: str = "", *, times: int = 1, **why: Any
    ) -> None:
        """Answer the next ``times`` calls of ``method`` ("CopyModel", ...) with ``code`` only.

        ``why`` is as in ``copy_fails``.
        """
        self._refusals.extend([(known_method(method), code, message, why)] * times)

    def take_then_fail(self, code: Code = Code.UNAVAILABLE, *, times: int = 1) -> None:
        """Take the next ``times`` copies and answer ``code``: they run, the caller cannot know."""
        self._lost_answers.extend([code] * times)

    def hold(self, *, seconds: float | None = None, times: int = 1) -> None:
        """Take the next ``times`` copies; keep the answers for ``seconds``, or until released."""
        self._holds.extend([seconds] * times)

    async def until_held(self, calls: int = 1) -> None:
        """Return when ``calls`` answers are kept back at once; set your own deadline."""
        while self._held < calls:
            self._held_more.clear()
            await self._held_more.wait()

    def release(self) -> None:
        """Send every answer that is kept back now."""
        self._released.set()
        self._released = asyncio.Event()

    def clear(self) -> None:
        """Disarm everything and release what is held."""
        self._refusals.clear()
        self._failures.clear()
        self._lasting_failure = None
        self._lost_answers.clear()
        self._holds.clear()
        self.release()

    # For the service that meets them

    def refusal(self, method: str) -> VertexError | None:
        """Take the error that this call of ``method`` is answered with, if there is one."""
        for armed in self._refusals:
            if armed[0] == method:
                self._refusals.remove(armed)
                return worded(*armed[1:3], **armed[3])
        return None

    def copy_failure(self, source_model: str) -> VertexError | None:
        """Take the end that awaits the copy just taken, if it is to fail."""
        armed = self._failures.popleft() if self._failures else self._lasting_failure
        return worded(*armed[:2], model=source_model, **armed[2]) if armed else None

    def lost_answer(self) -> VertexError | None:
        """Take the error that hides the copy just taken, if there is one."""
        return worded(self._lost_answers.popleft()) if self._lost_answers else None

    @property
    def hold_armed(self) -> bool:
        return bool(self._holds)

    async def held_back(self) -> None:
        """Wait out the hold that is armed."""
        seconds = self._holds.popleft()
        self._held += 1
        self._held_more.set()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), seconds)
        finally:
            self._held -= 1


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Refusal(_Order):
    # Of the error's details: ErrorInfo, and the types of a PreconditionFailure's violations.
    reason: str = ""
    metadata: dict[str, str] = {}
    violations: tuple[str, ...] = ()


class _CopyFails(_Refusal):
    code: CodeName = Code.PERMISSION_DENIED
    message: str = ""
    times: PositiveInt | None = None


class _Refuse(_Refusal):
    method: MethodName
    code: CodeName
    message: str = ""
    times: PositiveInt = 1


class _TakeThenFail(_Order):
    code: CodeName = Code.UNAVAILABLE
    times: PositiveInt = 1


class _Hold(_Order):
    seconds: Seconds | None = None
    times: PositiveInt = 1


class FaultOrders(_Order):
    """``Faults`` as JSON: one member for each method, carried out from top to bottom."""

    clear: bool = False
    release: bool = False
    copy_fails: _CopyFails | None = None
    refuse: list[_Refuse] = []
    take_then_fail: _TakeThenFail | None = None
    hold: _Hold | None = None

    def carry_out(self, faults: Faults) -> None:
        if self.clear:
            faults.clear()
        if self.release:
            faults.release()
        if self.copy_fails:
            faults.copy_fails(**dict(self.copy_fails))
        for refusal in self.refuse:
            faults.refuse(**dict(refusal))
        if self.take_then_fail:
            faults.take_then_fail(**dict(self.take_then_fail))
        if self.hold:
            faults.hold(**dict(self.hold))
