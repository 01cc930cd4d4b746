"""What callers are told of the registry, in its dialect: the same facts, later or not at all.

Pure. The registry knows what is; this is the only way by which a face, or a simulator,
may read it for a caller. It changes nothing but what an answer says.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from local_cloud.registry import Registry
from local_cloud.vertex_records import (
    LOCATION_NAME,
    Code,
    CopyOperation,
    Dialect,
    ModelVersion,
    Origin,
    VertexError,
)
from local_cloud.vertex_refusals import worded


class View:
    """A caller's reads; all answer as of ``registry.now``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def serve(self, method: str) -> None:
        """Let a call of ``method`` pass, or not.

        Raises:
            VertexError: UNIMPLEMENTED or PERMISSION_DENIED in this dialect.
        """
        if method in self._dialect.unimplemented:
            raise VertexError(Code.UNIMPLEMENTED, f"{method} is not implemented.")
        if method == "CancelOperation" and self._dialect.denies_cancel:
            raise worded(
                Code.PERMISSION_DENIED,
                model="(no name)",
                reason="IAM_PERMISSION_DENIED",
                metadata={"permission": "aiplatform.models.update"},
            )

    # Models

    def model(self, name: str) -> ModelVersion:
        """As ``Registry.model``."""
        return self._told(self._registry.model(name, self._as_of))

    def models(self, parent: str) -> list[ModelVersion]:
        """As ``Registry.models``."""
        return [self._told(version) for version in self._registry.models(parent, self._as_of)]

    def versions(self, name: str) -> list[ModelVersion]:
        """As ``Registry.versions``."""
        return [self._told(version) for version in self._registry.versions(name, self._as_of)]

    # Operations

    def operation(self, name: str) -> CopyOperation:
        """As ``Registry.operation``; one that does not show yet is NOT_FOUND."""
        found = self._registry.operation(name)
        if not self._shows(found):
            raise VertexError(Code.NOT_FOUND, f"The Operation {name} was not found.")
        return found

    def operations(self, parent: str) -> list[CopyOperation]:
        """As ``Registry.operations``; those of a location in the way of this dialect."""
        if LOCATION_NAME.fullmatch(parent.removesuffix("/operations")):
            if self._dialect.lists_by_location is None:
                raise VertexError(
                    Code.UNIMPLEMENTED, "ListOperations of a location is not implemented."
                )
            if not self._dialect.lists_by_location:
                return []
        return [found for found in self._registry.operations(parent) if self._shows(found)]

    # Inside

    @property
    def _dialect(self) -> Dialect:
        return self._registry.dialect  # may change at any time

    @property
    def _as_of(self) -> datetime:
        return self._registry.now - timedelta(seconds=self._dialect.stale_seconds)

    def _shows(self, operation: CopyOperation) -> bool:
        fresh = timedelta(seconds=self._dialect.operation_after_seconds)
        shows_at = max(operation.shows_at, operation.created_at + fresh)
        return not operation.deleted and shows_at <= self._registry.now

    def _told(self, version: ModelVersion) -> ModelVersion:
        late = self._dialect.proof_after_seconds
        proven = late is not None and version.created_at + timedelta(seconds=late) <= self._as_of
        if not proven:
            return replace(version, copied_from=None, root=None)
        if self._dialect.origin is Origin.ROOT:
            return replace(version, copied_from=version.root)
        return version
