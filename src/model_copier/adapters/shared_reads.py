"""Lets many who ask the same of Vertex AI at once share one answer.

A wrapper around ``ports.ModelService`` with the same promises. What must not break: a source
is never told as it was before it was asked for (a pipeline that moves an alias and then
publishes copies what it tuned last), so whoever comes while a read is on its way shares the
next one; and what is FRESH is shared with nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from model_copier.adapters.operation_scan import OperationScan
from model_copier.adapters.pool import Pool
from model_copier.domain.errors import CopierError
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall, Model, Operation, OperationsPage
from model_copier.engine.ports import Clock, ModelService
from model_copier.engine.read_priority import Reading, reading

KEPT_SECONDS = 10.0  # a numbered version, which does not change
MOST_SOURCES = 256
MOST_SCANS = 64


@dataclass(slots=True, kw_only=True)
class _Source:
    name: ModelName
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    reads_begun: int = 0
    found: Model | CopierError | None = None  # an error is shared, too
    found_by: int = 0  # the number of the read that found it
    found_at: float = 0.0


class SharedReads:
    """See ``ports.ModelService``."""

    def __init__(
        self,
        models: ModelService,
        *,
        clock: Clock,
        reads_per_minute: int,
        on_listed: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """``on_listed`` is told of each operation that a list answered for."""
        self._models = models
        self._on_listed = on_listed
        self._clock = clock
        self._reads_per_minute = reads_per_minute
        self._sources = Pool(lambda name: _Source(name=ModelName.parse(name)), most=MOST_SOURCES)
        self._scans = Pool(self._scan, most=MOST_SCANS)

    async def get_model(self, name: ModelName) -> Model:
        if reading() is not Reading.SOURCE:
            return await self._models.get_model(name)
        async with self._sources.use(str(name)) as source:
            return await self._read_source(source)

    async def get_operation(self, name: str) -> Operation:
        if reading() is Reading.FRESH:
            return await self._models.get_operation(name)
        async with self._scans.use("/".join(name.split("/")[:4])) as scan:
            if listed := await scan.find(name):
                if self._on_listed:
                    await self._on_listed(name)
                return listed
            found = await self._models.get_operation(name)
            scan.asked_by_name(found)
            return found

    async def list_versions(self, name: ModelName) -> Sequence[Model]:
        return await self._models.list_versions(name)

    async def list_operations(self, name: ModelName) -> Sequence[Operation] | None:
        return await self._models.list_operations(name)

    async def list_location(
        self, location: str, page_token: str = "", *, running_only: bool = True
    ) -> OperationsPage | None:
        return await self._models.list_location(location, page_token, running_only=running_only)

    async def copy_model(self, call: CopyCall) -> Operation:
        return await self._models.copy_model(call)

    async def cancel_operation(self, name: str) -> None:
        await self._models.cancel_operation(name)

    async def _read_source(self, source: _Source) -> Model:
        begun = source.reads_begun
        async with source.turn:
            if source.found_by <= begun and not self._is_kept(source):
                source.reads_begun += 1
                number = source.reads_begun
                try:
                    source.found = await self._models.get_model(source.name)
                except CopierError as error:
                    source.found = error
                source.found_by, source.found_at = number, self._clock.monotonic()
            if isinstance(source.found, CopierError):
                raise source.found.with_traceback(None)
            assert source.found is not None
            return source.found

    def _is_kept(self, source: _Source) -> bool:
        numbered = (source.name.version or "").isdecimal()
        young = self._clock.monotonic() - source.found_at < KEPT_SECONDS
        return numbered and young and isinstance(source.found, Model)

    def _scan(self, location: str) -> OperationScan:
        return OperationScan(
            read_page=lambda token, running_only: self._models.list_location(
                location, token, running_only=running_only
            ),
            reads_per_minute=self._reads_per_minute,
            clock=self._clock,
        )
