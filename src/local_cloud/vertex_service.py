"""The calls of the local Vertex AI: Google's messages in and out, whatever carries them.

Both faces (gRPC and REST) come through ``Service.call``, so a fault, a log line or a
rule is the same on each. It knows the time and waits; it opens no socket.
"""

# Google's message classes carry no types:
# mypy: disable-error-code="no-untyped-call"

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.protobuf import empty_pb2, json_format

from local_cloud.registry import Registry
from local_cloud.vertex_chance import Chance, Fate
from local_cloud.vertex_faults import Faults
from local_cloud.vertex_knobs import Knobs
from local_cloud.vertex_lists import model_filter, operation_filter, page, refuse_order
from local_cloud.vertex_messages import (
    evaluations_page,
    model_message,
    models_page,
    operation_message,
    operations_page,
    versions_page,
)
from local_cloud.vertex_methods import resource_of
from local_cloud.vertex_quotas import Quotas
from local_cloud.vertex_records import LOCATION_NAME, Code, VertexError
from local_cloud.vertex_refusals import worded
from local_cloud.vertex_versions import Versions
from local_cloud.vertex_view import View

# Google says that Wait may answer early; nobody is kept longer than this.
WAIT_LIMIT_SECONDS = 60.0
# A cloud left running for weeks must not fill the machine; a test never gets near.
LOG_LIMIT = 10_000

EMPTY: Any = empty_pb2.Empty()  # type: ignore[attr-defined]  # protobuf makes it at import


@dataclass(slots=True, kw_only=True)
class CopyCall:
    """One CopyModel call as it came in; ``answer`` is what its caller got to see.

    "OK", the name of an error's code, "HELD" while the answer is kept back, or "GONE"
    when the caller went away first. ``operation`` is there whenever the copy was taken,
    spelled as ``Vertex.operations`` has it.
    """

    at: datetime
    face: str
    request: dict[str, Any]
    operation: str = ""
    answer: str = ""


class Service:
    """A registry with a clock, knobs, faults and a log of what was asked."""

    def __init__(
        self,
        *,
        registry: Registry,
        faults: Faults,
        clock: Callable[[], datetime],
        knobs: Knobs,
    ) -> None:
        self.registry = registry
        self.view = View(registry)
        self.faults = faults
        self.versions = Versions()
        self._clock = clock
        self._closing = False
        self._changed = asyncio.Event()
        self._answers: dict[str, Callable[[Any], Any]] = {
            "GetModel": self._get_model,
            "ListModels": self._list_models,
            "ListModelVersions": self._list_model_versions,
            "ListModelEvaluations": self._list_model_evaluations,
            "GetOperation": self._get_operation,
            "ListOperations": self._list_operations,
            "CancelOperation": self._cancel_operation,
            "DeleteOperation": self._delete_operation,
        }
        self._quotas = Quotas()
        self.knobs = knobs
        self._set(knobs, changed=set(Knobs.model_fields))
        self.copy_calls: deque[CopyCall] = deque(maxlen=LOG_LIMIT)

    async def call(self, method: str, request: Any, *, face: str) -> Any:
        """Answer one call of a method in ``SERVICES``; protobuf in, protobuf out.

        Raises:
            VertexError: the answer is this error.
        """
        match method:
            case "CopyModel":
                return await self._copy_model(request, face=face)
            case "WaitOperation":
                self._meet_trouble(method, request)
                return await self._wait_operation(request)
        self._meet_trouble(method, request)
        self.settle()
        return self._answers[method](request)

    def settle(self) -> datetime:
        """Bring the registry up to the clock, and return the time."""
        now = self._clock()
        self.registry.settle(now)
        return now

    def turn(self, changes: Mapping[str, Any]) -> None:
        """Set knobs anew; they hold from the next call on.

        Raises:
            pydantic.ValidationError: a name or a value is not one; nothing was changed.
        """
        self._set(self.knobs.turned(changes), changed=set(changes))
        self.wake()

    def wake(self) -> None:
        """Let every WaitOperation look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Let every call that waits answer now, and every later one not wait at all."""
        self._closing = True
        self.faults.clear()
        self.wake()

    def _set(self, knobs: Knobs, *, changed: set[str]) -> None:
        self.knobs = knobs
        self.registry.dialect = knobs.dialect
        self.registry.grants = knobs.grants
        if "seed" in changed:
            self._chance = Chance(knobs.seed)
        if "outages" in changed:
            self._outages_since = self._clock()

    def _meet_trouble(self, method: str, request: Any) -> Fate:
        """Refuse this call, if anything is to refuse it; else say what befalls it later."""
        fate = self._chance.next_fate(method, self.knobs)
        elapsed = (self._clock() - self._outages_since).total_seconds()
        if any(outage.covers(elapsed) for outage in self.knobs.outages):
            raise worded(Code.UNAVAILABLE)
        self.view.serve(method)
        self._spend_quota(method, request)
        if refusal := self.faults.refusal(method) or fate.refusal:
            raise refusal
        return fate

    def _spend_quota(self, method: str, request: Any) -> None:
        submits = method == "CopyModel"
        limit = self.knobs.submissions_per_minute if submits else self.knobs.reads_per_minute
        place = LOCATION_NAME.match(resource_of(request))
        if limit and place:
            self._quotas.spend(
                limit,
                project=self.registry.number_of(place["project"]),
                location=place["location"],
                submits=submits,
                now=self._clock(),
            )

    # ModelService

    async def _copy_model(self, request: Any, *, face: str) -> Any:
        asked = json_format.MessageToDict(request)
        call = CopyCall(at=self._clock(), face=face, request=asked)
        self.copy_calls.append(call)
        try:
            answer = await self._copy(request, call)
        except VertexError as error:
            call.answer = error.code.name
            raise
        except asyncio.CancelledError:
            call.answer = "GONE"
            raise
        call.answer = "OK"
        return answer

    async def _copy(self, request: Any, call: CopyCall) -> Any:
        fate = self._meet_trouble("CopyModel", request)
        taken = self.registry.copy(
            parent=request.parent,
            source_model=request.source_model,
            model_id=request.model_id,
            parent_model=request.parent_model,
            kms_key_name=request.encryption_spec.kms_key_name,
            custom_service_account=request.custom_service_account,
            now=self.settle(),
            takes=timedelta(seconds=fate.copy_seconds),
        )
        failure = self.faults.copy_failure(request.source_model)
        if fate.failure and not failure:
            failure = worded(fate.failure.code, fate.failure.message, model=request.source_model)
        if failure and not taken.refused:
            taken = self.registry.doom(taken, failure)
        answer = operation_message(taken, spelled=self.registry.spelled)
        call.operation = taken.name
        if self.faults.hold_armed and not self._closing:
            call.answer = "HELD"
            await self.faults.held_back()
        if lost := self.faults.lost_answer() or fate.lost_answer:
            raise lost
        return answer

    def _get_model(self, request: Any) -> Any:
        return model_message(self.view.model(request.name), spelled=self.registry.spelled)

    def _list_models(self, request: Any) -> Any:
        refuse_order(request.order_by)
        wanted = model_filter(request.filter)
        found = [version for version in self.view.models(request.parent) if wanted(version)]
        records, token = page(found, request, key=lambda version: str(version.name.unversioned))
        return models_page(records, token, spelled=self.registry.spelled)

    def _list_model_versions(self, request: Any) -> Any:
        refuse_order(request.order_by)
        wanted = model_filter(request.filter)
        found = [version for version in self.view.versions(request.name) if wanted(version)]
        records, token = page(found, request, key=lambda version: version.name.version)
        return versions_page(records, token, spelled=self.registry.spelled)

    def _list_model_evaluations(self, request: Any) -> Any:
        found = self.view.model(request.parent)
        names, token = page(sorted(found.evaluations), request, key=str)
        return evaluations_page(found, names, token, spelled=self.registry.spelled)

    # Operations

    def _get_operation(self, request: Any) -> Any:
        found = self.view.operation(request.name)
        return operation_message(found, spelled=self.registry.spelled)

    def _list_operations(self, request: Any) -> Any:
        wanted = operation_filter(request.filter)
        found = self.view.operations(request.name)
        records, token = page(found, request, key=lambda each: each.number, wanted=wanted)
        return operations_page(records, token, spelled=self.registry.spelled)

    def _cancel_operation(self, request: Any) -> Any:
        found = self.view.operation(request.name)
        self.registry.cancel(found.name, now=self.settle())
        self.wake()
        return EMPTY

    def _delete_operation(self, request: Any) -> Any:
        self.registry.delete(self.view.operation(request.name).name)
        self.wake()
        return EMPTY

    async def _wait_operation(self, request: Any) -> Any:
        limit = WAIT_LIMIT_SECONDS
        if request.HasField("timeout"):
            # Not ToTimedelta: a caller may send more than a timedelta holds.
            limit = min(limit, request.timeout.seconds + request.timeout.nanos / 1e9)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + limit
        while True:
            now = self.settle()
            found = self.view.operation(request.name)
            left = give_up_at - loop.time()
            if found.done or left <= 0 or self._closing:
                return operation_message(found, spelled=self.registry.spelled)
            # One sleep to the end of the copy; only a cancel or a moved clock ends it before.
            to_the_end = (found.ends_at - now).total_seconds()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, to_the_end))
