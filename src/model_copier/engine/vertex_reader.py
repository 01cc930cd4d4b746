"""Reads of Vertex AI, in the workflow's words: nothing here changes anything.

What must not break: "no answer" is never taken for an answer. A read that is refused for
good, while a call is open, says as little as one that timed out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model_copier.domain.copy_request import Source
from model_copier.domain.errors import Code, RefusedError, UnavailableError
from model_copier.domain.job import Job
from model_copier.domain.reconciliation import DestinationSnapshot
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import Model, Operation
from model_copier.engine.ports import JobStore, ModelService
from model_copier.engine.read_priority import Reading, reading_as


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy that was read back."""

    version: str
    verified: bool  # it names our source as its origin
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexReader:
    """Every method may raise ``UnavailableError``."""

    models: ModelService
    store: JobStore

    async def source(self, name: ModelName) -> Source:
        """Fix an alias or the default version to a number.

        Raises:
            RefusedError: the source is not there, or not for us.
        """
        with reading_as(Reading.SOURCE):
            model = await self.models.get_model(name)
        return Source(
            name=name.at(model.name.version),
            known_as=model.name,
            copy_of=model.copy_of,
            kind=model.kind,
            container_image=model.container_image,
            kms_key_name=model.kms_key_name,
            deployed=model.deployed,
        )

    async def operation(self, name: str) -> Operation | None:
        """None: Vertex AI does not know it, any more or yet."""
        try:
            return await self.models.get_operation(name)
        except RefusedError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise UnavailableError(
                str(error), told=f"Vertex AI refused a read ({error.code})"
            ) from error

    async def exists(self, name: ModelName) -> bool:
        try:
            await self.models.get_model(name)
        except RefusedError as error:
            if error.code is Code.NOT_FOUND:
                return False
            raise UnavailableError(
                str(error), told=f"Vertex AI refused a read ({error.code})"
            ) from error
        return True

    async def before_copy(
        self, target: ModelName
    ) -> tuple[Sequence[Operation] | None, Sequence[Model]]:
        """Read operations, then versions: a copy that ends in between is in both.

        Raises:
            RefusedError: the versions cannot be read, for good.
        """
        operations = await self._operations(target)
        return operations, await self.models.list_versions(target)

    async def snapshot(self, job: Job) -> DestinationSnapshot:
        """Read what ``DestinationSnapshot`` holds, in its order."""
        assert job.target is not None
        assert job.call is not None
        operations = await self._operations(job.target)
        try:
            versions = await self.models.list_versions(job.target)
        except RefusedError as error:
            raise UnavailableError(
                str(error), told=f"Vertex AI refused a read ({error.code})"
            ) from error
        numbers = {model.name.version for model in versions} - {*job.call.known_versions}
        numbers |= {operation.model.version for operation in operations or () if operation.model}
        names = {str(job.target), *(str(job.target.at(number)) for number in numbers)}
        claiming = await self.store.with_traces(names)
        return DestinationSnapshot(
            operations=operations,
            versions=versions,
            neighbours=[other for other in claiming if other.key != job.key],
        )

    async def copy(self, job: Job, operation: Operation) -> Copy:
        """Read back what an operation made; a missing proof is a warning, never a failure."""
        assert job.source is not None
        assert job.target is not None
        made = job.target.at(operation.model.version if operation.model else None)
        try:
            found = await self.models.get_model(made)
        except RefusedError as error:
            warning = f"the copy could not be read back: {error}"
            return Copy(version=made.version or "", verified=False, warnings=(warning,))
        version = made.version or found.name.version or ""
        if job.source.is_origin(found.copy_of):
            return Copy(version=version, verified=True)
        origin = found.copy_of or "nothing"
        warning = f"the copy names {origin} as its origin, not {job.source.name}"
        return Copy(version=version, verified=False, warnings=(warning,))

    async def _operations(self, target: ModelName) -> Sequence[Operation] | None:
        try:
            return await self.models.list_operations(target)
        except RefusedError as error:
            raise UnavailableError(
                str(error), told=f"Vertex AI refused a read ({error.code})"
            ) from error
