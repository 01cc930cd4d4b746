"""A model registry: models, their versions and aliases, and the operations that copy them.

Pure: no I/O, no threads, no clock. Time comes in through ``settle(now)``, which ends
every copy that is due; all other calls answer from what was settled last. So one
history of calls always gives the same registry, whichever face or clock drives it.

A copy takes a name for its operation at once and makes its model when it ends::

    copy() -> RUNNING -> SUCCEEDED   the model (or version) exists from this moment
                      -> FAILED      the source was missing, the id taken, or doomed
                      -> CANCELLED   nothing was made

What Google documents is a rule here; what it leaves open is a field of ``Dialect``, or,
where nobody has needed the other answer yet, settled here: a new version leaves the
default where it was, a cancel that works does so at once.
Reads tell the truth; what a caller is told of it, and when, is ``vertex_view``'s.
Refused: with ``VertexError``, whose code is one of Google's canonical codes.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from local_cloud.vertex_history import History
from local_cloud.vertex_ledger import Happening, Ledger
from local_cloud.vertex_projects import Projects
from local_cloud.vertex_records import (
    DEFAULT_ALIAS,
    KINDS,
    LOCATION_NAME,
    Code,
    CopyOperation,
    CopyState,
    Dialect,
    ModelName,
    ModelVersion,
    VertexError,
)
from local_cloud.vertex_refusals import Transfer


class Registry:
    """All models and operations of a small cloud, every project and region in one place."""

    def __init__(
        self,
        *,
        dialect: Dialect | None = None,
        project_numbers: Mapping[str, str] | None = None,
        first_number: int = 1_000_000_000_000_000_001,
    ) -> None:
        """Start empty.

        Args:
            dialect: the undocumented answers.
            project_numbers: the number of each project id that must have a certain one.
            first_number: generated ids count up from here; two runs that start apart
                never name two operations alike.
        """
        self.dialect = dialect or Dialect()
        # When it was settled last, or told of anything.
        self.now = datetime.fromtimestamp(0, UTC)
        # See ``Transfer.objection``. None: everybody may copy from everywhere.
        self.grants: frozenset[str] | None = None
        self._projects = Projects(project_numbers or {})
        self._numbers = itertools.count(first_number)
        self._history = History()
        self._operations = Ledger()

    # Names

    def spelled(self, name: str) -> str:
        """Spell a resource name for a caller; the only way by which names leave."""
        return self._projects.spelled(name, self.dialect.names)

    def canonical(self, name: str) -> str:
        """Spell a caller's resource name as it is kept here."""
        return self._projects.canonical(name)

    def number_of(self, project: str) -> str:
        return self._projects.number_of(project)

    # Models

    def add_model(
        self,
        name: str,
        *,
        now: datetime,
        version: str = "1",
        display_name: str = "",
        aliases: Iterable[str] = (DEFAULT_ALIAS,),
        **described: Any,
    ) -> ModelVersion:
        """Put a version there as if it had been trained or uploaded; every read knows of it.

        ``described`` are further fields of ``ModelVersion``: labels, kind, evaluations, ...

        Raises:
            VertexError: INVALID_ARGUMENT, or ALREADY_EXISTS if the version is there.
        """
        model = ModelName.parse(self.canonical(name))
        if model.version:
            raise VertexError(Code.INVALID_ARGUMENT, f"name: {name!r} takes no @version.")
        if not _NUMBER.fullmatch(version):
            raise VertexError(Code.INVALID_ARGUMENT, f"version: {version!r} is no number.")
        if described.get("kind", "GENIE") not in KINDS:
            raise VertexError(Code.INVALID_ARGUMENT, f"kind: there are {', '.join(KINDS)}.")
        self._tell(now)
        if version in self._history.versions(model):
            raise VertexError(Code.ALREADY_EXISTS, f"{model.at(version)} already exists.")
        return self._history.put(
            ModelVersion(
                name=model.at(version),
                display_name=display_name or model.model,
                **described,
                aliases=tuple(aliases),
                model_created_at=now,
                created_at=now,
                updated_at=now,
            ),
            shows_at=now - timedelta(seconds=self.dialect.stale_seconds),
        )

    def model(self, name: str, at: datetime | None = None) -> ModelVersion:
        """Find a model's default version, or the ``@version`` or ``@alias`` of the name.

        The one that is, or that showed ``at`` a time; ``models`` and ``versions`` alike.

        Raises:
            VertexError: NOT_FOUND, or INVALID_ARGUMENT if the name is none.
        """
        wanted = ModelName.parse(self.canonical(name))
        found = self._history.find(wanted, at)
        if found is None:
            raise VertexError(Code.NOT_FOUND, f"The Model {wanted} was not found.")
        return found

    def models(self, parent: str = "", at: datetime | None = None) -> list[ModelVersion]:
        """Return the default version of each model of a region (or of all), by name."""
        region = self.canonical(parent)
        if parent and not LOCATION_NAME.fullmatch(region):
            raise VertexError(Code.INVALID_ARGUMENT, f"parent: {parent!r} is no location.")
        names = [name for name in self._history.models(at) if not parent or name.parent == region]
        defaults = (self._history.find(name, at) for name in names)
        return [version for version in defaults if version]

    def versions(self, name: str, at: datetime | None = None) -> list[ModelVersion]:
        """Return every version of a model, oldest number first.

        Raises:
            VertexError: NOT_FOUND, or INVALID_ARGUMENT if the name is none.
        """
        model = ModelName.parse(self.canonical(name)).unversioned
        found = self._history.versions(model, at)
        if not found:
            raise VertexError(Code.NOT_FOUND, f"The Model {model} was not found.")
        return sorted(found.values(), key=lambda version: int(version.name.version))

    # Copies

    def copy(
        self,
        *,
        parent: str,
        source_model: str,
        model_id: str = "",
        parent_model: str = "",
        kms_key_name: str = "",
        custom_service_account: str = "",
        now: datetime,
        takes: timedelta,
        shows_after: timedelta | None = None,
    ) -> CopyOperation:
        """Take a copy that will end at ``now + takes``.

        It shows nowhere before ``now + shows_after``; without that, the dialect says when.

        A missing source is taken too and fails in the operation:
        https://github.com/GoogleCloudPlatform/magic-modules/pull/12074

        Raises:
            VertexError: refused, and nothing was started.
        """
        self._tell(now)
        if shows_after is None:
            shows_after = timedelta(seconds=self.dialect.shows_after_seconds)
        early = self.dialect.model_after_seconds
        wanted = ModelName.parse(self.canonical(source_model), field_name="source_model")
        found = self._history.find(wanted)
        transfer = Transfer(
            source=found.name if found else wanted,
            destination=self._destination(self.canonical(parent), model_id, parent_model),
            kms_key_name=kms_key_name,
            custom_service_account=custom_service_account,
        )
        transfer.check_arguments()
        error = transfer.objection(found, grants=self.grants, projects=self._projects)
        if error and not (self.dialect.refuses_in_operation or error.code is Code.NOT_FOUND):
            raise error
        self._refuse_taken(transfer.destination, adds_version=bool(parent_model))
        operation = CopyOperation(
            number=str(next(self._numbers)),
            source=transfer.source,
            destination=transfer.destination,
            adds_version=bool(parent_model),
            kms_key_name=kms_key_name,
            created_at=now,
            ends_at=now + takes,
            shows_at=now + shows_after,
            error=error,
            refused=bool(error),
        )
        appears_at = None if early is None else now + timedelta(seconds=early)
        return self._operations.begin(operation, appears_at=appears_at)

    def doom(self, operation: CopyOperation, error: VertexError) -> CopyOperation:
        """Let a running copy end with ``error`` when its time comes."""
        assert not operation.done
        return self._operations.save(replace(operation, error=error))

    def settle(self, now: datetime) -> None:
        """Let everything happen that is due by ``now``, in the order of its times."""
        self._tell(now)
        for operation, happening, at in self._operations.due(now):
            if happening is Happening.END:
                self._end(operation)
            else:
                self._appear(operation, at)

    # Operations

    def operation(self, name: str) -> CopyOperation:
        """Find an operation by its own name, or by its region and number alone.

        Raises:
            VertexError: NOT_FOUND, or INVALID_ARGUMENT if the name is none.
        """
        return self._operations.named(self.canonical(name))

    def operations(self, parent: str = "") -> list[CopyOperation]:
        """Return the operations of a region or of a model (or all), oldest first.

        The name may end in ``/operations``. A model that does not exist (yet, or never
        will) has operations all the same: the name is enough.
        """
        return self._operations.below(self.canonical(parent).removesuffix("/operations"))

    def cancel(self, name: str, *, now: datetime) -> None:
        """End a running copy as CANCELLED, in most dialects; a finished one stays as it ended."""
        self._tell(now)
        operation = self.operation(name)
        if self.dialect.cancels and not operation.done:
            self._clear_away(operation, at=now)
            self._operations.save(
                replace(
                    operation,
                    state=CopyState.CANCELLED,
                    error=VertexError(Code.CANCELLED, "The operation was cancelled."),
                    ends_at=now,
                )
            )

    def delete(self, name: str) -> None:
        """Tell callers of an operation no more; a running copy goes on and makes its model."""
        self._operations.save(replace(self.operation(name), deleted=True))

    # Inside

    def _tell(self, now: datetime) -> None:
        self.now = max(self.now, now)

    def _destination(self, parent: str, model_id: str, parent_model: str) -> ModelName:
        region = LOCATION_NAME.fullmatch(parent)
        if not region:
            raise VertexError(Code.INVALID_ARGUMENT, f"parent: {parent!r} is no location.")
        if model_id and parent_model:
            raise VertexError(
                Code.INVALID_ARGUMENT, "model_id and parent_model exclude each other."
            )
        if parent_model:
            model = ModelName.parse(self.canonical(parent_model), field_name="parent_model")
            if model.version or model.parent != parent:
                raise VertexError(
                    Code.INVALID_ARGUMENT, f"parent_model: {model} is no model below {parent}."
                )
            return model
        if model_id and not _MODEL_ID.fullmatch(model_id):
            raise VertexError(
                Code.INVALID_ARGUMENT,
                f"model_id: {model_id!r} must be 1 to 63 of [a-z0-9_-], "
                "the first a letter or an underscore.",
            )
        return ModelName(
            region["project"], region["location"], model_id or str(next(self._numbers))
        )

    def _refuse_taken(self, model: ModelName, *, adds_version: bool) -> None:
        versions = self._history.versions(model)
        if adds_version and not versions:
            raise VertexError(Code.NOT_FOUND, f"parent_model: the Model {model} was not found.")
        if adds_version:
            return
        if self._operations.any_running_to(model):
            code, what = self.dialect.in_flight_id, f"{model} is already being copied to."
        elif versions:
            code, what = self.dialect.existing_id, f"the Model {model} already exists."
        else:
            return
        if code is not None:
            raise VertexError(code, f"model_id: {what}")

    def _end(self, operation: CopyOperation) -> None:
        obstacle = self._obstacle(operation)
        error = operation.error or obstacle
        if error is not None:
            self._clear_away(operation, at=operation.ends_at)
            if self.dialect.leaves_wreck and not obstacle:
                self._make(operation, at=operation.ends_at, wreck=True)
            self._operations.save(
                replace(operation, state=CopyState.FAILED, version="", error=error)
            )
            return
        if not operation.version:
            operation = self._make(operation, at=operation.ends_at)
        self._operations.save(replace(operation, state=CopyState.SUCCEEDED))

    def _appear(self, operation: CopyOperation, at: datetime) -> None:
        """Make the version of a running copy before its end, if one can be made."""
        if not self._obstacle(operation):
            self._operations.save(self._make(operation, at=at))

    def _obstacle(self, operation: CopyOperation) -> VertexError | None:
        """What keeps a copy that was taken from making its version."""
        if operation.refused:
            return operation.error
        destination = operation.destination
        there = self._history.versions(destination).keys() - {operation.version}
        if not self._history.find(operation.source):
            return VertexError(Code.NOT_FOUND, "NOT_FOUND")
        if operation.adds_version and not there:
            return VertexError(Code.NOT_FOUND, f"The Model {destination} was not found.")
        if there and not operation.adds_version:
            return VertexError(Code.ALREADY_EXISTS, f"The Model {destination} already exists.")
        return None

    def _make(
        self, operation: CopyOperation, *, at: datetime, wreck: bool = False
    ) -> CopyOperation:
        """Make the version that a copy is for, and return the copy with its number."""
        source = self._history.find(operation.source)
        assert source is not None, "an obstacle otherwise"
        versions = self._history.versions(operation.destination)
        number = str(max(map(int, versions), default=0) + 1)
        keeps = self.dialect.keeps_labels
        self._history.put(
            ModelVersion(
                name=operation.destination.at(number),
                display_name=source.display_name if keeps else operation.destination.model,
                description=source.description if keeps else "",
                labels=source.labels if keeps else {},
                kind="NEW" if self.dialect.copies_are_new_kind else source.kind,
                container_image=source.container_image,
                model_created_at=at,
                created_at=at,
                updated_at=at,
                # Google: aliases are not retained, and a first copy becomes the default.
                copied_from=None if wreck else source.name,
                root=None if wreck else source.root or source.name,
                wreck=wreck,
                kms_key_name=operation.kms_key_name,
            ),
            shows_at=max(at, operation.shows_at),
        )
        return replace(operation, version=number)

    def _clear_away(self, operation: CopyOperation, *, at: datetime) -> None:
        """Take back what a copy showed before its end."""
        if operation.version:
            self._history.remove(operation.destination.at(operation.version), shows_at=at)


_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
