"""A front before Firestore's emulator that counts what Firestore would bill, and plays outages.

It passes every call on as the bytes that came. What it can do to a call: have it done and
answer UNAVAILABLE, or refuse it as Google does where something is not set up.
"""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from google.cloud.firestore_v1.types import (
    BatchGetDocumentsResponse,
    CommitRequest,
    RunAggregationQueryRequest,
    RunAggregationQueryResponse,
    RunQueryRequest,
    RunQueryResponse,
)

COMMIT, GET, QUERY, COUNT = (
    f"/google.firestore.v1.Firestore/{method}"
    for method in ("Commit", "BatchGetDocuments", "RunQuery", "RunAggregationQuery")
)
_RESPONSES: dict[str, Any] = {
    GET: BatchGetDocumentsResponse,
    QUERY: RunQueryResponse,
    COUNT: RunAggregationQueryResponse,
}
# Of the entries of an index that a count looks at, so many are one read.
_COUNTED_AT_ONCE = 1000


@dataclass(kw_only=True)
class FirestoreFront(grpc.GenericRpcHandler):
    """``async with FirestoreFront(emulator=address) as front``: then ``front.address``."""

    emulator: str
    billed: Counter[str] = field(default_factory=Counter)  # reads, writes, deletes
    answers_to_lose: int = 0  # of the next commits
    refusal: tuple[grpc.StatusCode, str] | None = None  # of every call
    missing_index: str = ""  # a field: queries that ask it are refused, as by Firestore
    asked: list[set[str]] = field(default_factory=list)  # the fields of each query
    address: str = ""

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.emulator)
        self._server = grpc.aio.server(handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.stop(None)
        await self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = str(details.method)

        async def once(request: bytes, context: Any) -> bytes:
            return await self._once(method, request, context)

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async for part in self._stream(method, request, context):
                yield part

        if method in _RESPONSES:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(once)

    async def _once(self, method: str, request: bytes, context: Any) -> bytes:
        await self._refuse(context)
        call: Any = self._channel.unary_unary(method)
        try:
            answer: bytes = await call(request, metadata=context.invocation_metadata())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
            raise
        if method == COMMIT:
            for write in CommitRequest.deserialize(request).writes:
                self.billed["deletes" if write.delete else "writes"] += 1
            if self.answers_to_lose:
                self.answers_to_lose -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "done, and the answer is lost")
        return answer

    async def _stream(self, method: str, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._refuse(context)
        if method in (QUERY, COUNT):
            fields = _fields(_query(method, request))
            self.asked.append(fields)
            if self.missing_index in fields:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "requires an index")
        call: Any = self._channel.unary_stream(method)
        parts: list[bytes] = []
        try:
            async for part in call(request, metadata=context.invocation_metadata()):
                parts.append(part)  # noqa: PERF401  what came before an error counts for nothing
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        documents = sum(_billed(method, _RESPONSES[method].deserialize(part)) for part in parts)
        # What finds nothing is billed as one read; counted before the caller has its answer.
        self.billed["reads"] += max(documents, 1)
        for part in parts:
            yield part

    async def _refuse(self, context: Any) -> None:
        if self.refusal is not None:
            await context.abort(*self.refusal)


def _query(method: str, request: bytes) -> Any:
    if method == QUERY:
        return RunQueryRequest.deserialize(request).structured_query
    counting = RunAggregationQueryRequest.deserialize(request)
    return counting.structured_aggregation_query.structured_query


def _billed(method: str, answer: Any) -> int:
    if method == GET:
        return bool(answer.found)
    if method == QUERY:
        return bool(answer.document)
    (counted,) = answer.result.aggregate_fields.values()
    return -(-int(counted.integer_value) // _COUNTED_AT_ONCE)


def _fields(query: Any) -> set[str]:
    """What a query filters and orders by: what an index must be there for."""
    ordered = {order.field.field_path for order in query.order_by} - {"__name__"}
    return ordered | _filtered(query.where)


def _filtered(where: Any) -> set[str]:
    if where.field_filter.field.field_path:
        return {where.field_filter.field.field_path}
    return {name for each in where.composite_filter.filters for name in _filtered(each)}
