"""A model registry: models, their versions and aliases, and the operations that copy them.

Pure: no I/O, no threads, no clock. Time comes in through ``settle(now)``, which ends
every copy that is due; all other calls answer from what was settled last. So one
history of calls always gives the same registry, whichever face or clock drives it.

A copy takes a name for its operation at once and makes its model when it ends::

    copy() -> RUNNING -> SUCCEEDED   the model (or version) exists from this moment
                      -> FAILED      the source was missing, or ``doom`` said so
                      -> CANCELLED   nothing was made

What Google documents is a rule here; what it leaves open is a field of ``Dialect``, or,
where nobody has needed the other answer yet, settled here: display name and labels
come along, a new version leaves the default where it was, a cancel works at once.
Refused: with ``VertexError``, whose code is one of Google's canonical codes.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from local_cloud.vertex_records import (
    DEFAULT_ALIAS,
    LOCATION_NAME,
    MODEL_NAME,
    Code,
    CopyOperation,
    CopyState,
    Dialect,
    ModelName,
    ModelVersion,
    Names,
    VertexError,
)


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
            project_numbers: the number of each project id that has one.
            first_number: generated ids count up from here; two runs that start apart
                never name two operations alike.
        """
        self._dialect = dialect or Dialect()
        self._number_of = dict(project_numbers or {})
        self._id_of = {number: project for project, number in self._number_of.items()}
        self._numbers = itertools.count(first_number)
        self._models: dict[ModelName, dict[str, ModelVersion]] = {}
        self._operations: dict[str, CopyOperation] = {}
        self._running: set[str] = set()
        self._deleted: set[str] = set()

    # Names

    def spelled(self, name: str) -> str:
        """Spell a resource name for a caller; the only way by which names leave."""
        if self._dialect.names is Names.IDS:
            return name
        return _with_project(name, self._number_of)

    def canonical(self, name: str) -> str:
        """Spell a caller's resource name as it is kept here: with the project's id."""
        return _with_project(name, self._id_of)

    # Models

    def add_model(
        self,
        name: str,
        *,
        now: datetime,
        version: str = "1",
        display_name: str = "",
        labels: Mapping[str, str] | None = None,
        aliases: Iterable[str] = (DEFAULT_ALIAS,),
    ) -> ModelVersion:
        """Put a version there as if it had been trained or uploaded.

        Raises:
            VertexError: INVALID_ARGUMENT, or ALREADY_EXISTS if the version is there.
        """
        model = ModelName.parse(self.canonical(name))
        if model.version or not version.isdecimal():
            raise VertexError(
                Code.INVALID_ARGUMENT, f"{name!r} takes no @, and {version!r} must be a number."
            )
        if version in self._models.get(model, {}):
            raise VertexError(Code.ALREADY_EXISTS, f"{model.at(version)} already exists.")
        return self._put(
            model.at(version),
            display_name=display_name or model.model,
            labels=labels or {},
            aliases=tuple(aliases),
            now=now,
        )

    def model(self, name: str) -> ModelVersion:
        """Find a model's default version, or the ``@version`` or ``@alias`` of the name.

        Raises:
            VertexError: NOT_FOUND, or INVALID_ARGUMENT if the name is none.
        """
        wanted = ModelName.parse(self.canonical(name))
        found = self._find(wanted)
        if found is None:
            raise VertexError(Code.NOT_FOUND, f"The Model {wanted} was not found.")
        return found

    def models(self, parent: str = "") -> list[ModelVersion]:
        """Return the default version of each model of a region (or of all), by name."""
        region = self.canonical(parent)
        if parent and not LOCATION_NAME.fullmatch(region):
            raise VertexError(Code.INVALID_ARGUMENT, f"{parent!r} is not the name of a location.")
        names = (name for name in self._models if not parent or name.parent == region)
        return [self.model(str(name)) for name in sorted(names, key=str)]

    def versions(self, name: str) -> list[ModelVersion]:
        """Return every version of a model, oldest number first.

        Raises:
            VertexError: NOT_FOUND, or INVALID_ARGUMENT if the name is none.
        """
        model = ModelName.parse(self.canonical(name)).unversioned
        if model not in self._models:
            raise VertexError(Code.NOT_FOUND, f"The Model {model} was not found.")
        return sorted(self._models[model].values(), key=lambda version: int(version.name.version))

    # Copies

    def copy(
        self,
        *,
        parent: str,
        source_model: str,
        model_id: str = "",
        parent_model: str = "",
        kms_key_name: str = "",
        now: datetime,
        takes: timedelta,
    ) -> CopyOperation:
        """Take a copy that will end at ``now + takes``.

        A missing source is taken too and fails in the operation, with nothing but
        "NOT_FOUND" to say: https://github.com/GoogleCloudPlatform/magic-modules/pull/12074

        Raises:
            VertexError: refused, and nothing was started.
        """
        wanted = ModelName.parse(self.canonical(source_model))
        found = self._find(wanted)
        operation = CopyOperation(
            number=str(next(self._numbers)),
            source=found.name if found else wanted,
            destination=self._destination(self.canonical(parent), model_id, parent_model),
            adds_version=bool(parent_model),
            kms_key_name=kms_key_name,
            created_at=now,
            ends_at=now + takes,
            error=None if found else VertexError(Code.NOT_FOUND, "NOT_FOUND"),
        )
        self._operations[operation.number] = operation
        self._running.add(operation.number)
        return operation

    def doom(self, operation: CopyOperation, error: VertexError) -> CopyOperation:
        """Let a running copy end with ``error`` when its time comes."""
        assert not operation.done
        return self._save(replace(operation, error=error))

    def settle(self, now: datetime) -> None:
        """End every copy that is due by ``now``, in the order of their ends."""
        running = (self._operations[number] for number in self._running)
        due = [operation for operation in running if operation.ends_at <= now]
        for operation in sorted(due, key=lambda due: (due.ends_at, int(due.number))):
            self._end(operation)

    # Operations

    def operation(self, name: str) -> CopyOperation:
        """Find an operation by its own name, or by its region and number alone.

        Raises:
            VertexError: NOT_FOUND, or INVALID_ARGUMENT if the name is none.
        """
        wanted = self.canonical(name)
        named = _OPERATION_NAME.fullmatch(wanted)
        if not named:
            raise VertexError(Code.INVALID_ARGUMENT, f"{name!r} is not the name of an operation.")
        found = self._operations.get(named["number"])
        short = f"{found.destination.parent}/operations/{found.number}" if found else ""
        if found is None or found.number in self._deleted or wanted not in (found.name, short):
            raise VertexError(Code.NOT_FOUND, f"The Operation {wanted} was not found.")
        return found

    def operations(self, parent: str = "") -> list[CopyOperation]:
        """Return the operations of a region or of a model (or all), oldest first.

        The name may end in ``/operations``. A model that does not exist (yet, or never
        will) has operations all the same: the name is enough.
        """
        above = self.canonical(parent).removesuffix("/operations")
        if parent and not (LOCATION_NAME.fullmatch(above) or MODEL_NAME.fullmatch(above)):
            raise VertexError(
                Code.INVALID_ARGUMENT, f"{parent!r} is not the name of a location or a model."
            )
        return [
            operation
            for operation in self._operations.values()
            if operation.number not in self._deleted
            and above in ("", operation.destination.parent, str(operation.destination))
        ]

    def cancel(self, name: str, *, now: datetime) -> None:
        """End a running copy as CANCELLED; a finished one stays as it ended."""
        operation = self.operation(name)
        if not operation.done:
            self._save(
                replace(
                    operation,
                    state=CopyState.CANCELLED,
                    error=VertexError(Code.CANCELLED, "The operation was cancelled."),
                    ends_at=now,
                )
            )

    def delete(self, name: str) -> None:
        """Forget an operation; a running copy goes on and makes its model unseen."""
        self._deleted.add(self.operation(name).number)

    # Inside

    def _find(self, name: ModelName) -> ModelVersion | None:
        versions = self._models.get(name.unversioned, {})
        wanted = name.version or DEFAULT_ALIAS
        return versions.get(wanted) or next(
            (version for version in versions.values() if wanted in version.aliases), None
        )

    def _destination(self, parent: str, model_id: str, parent_model: str) -> ModelName:
        region = LOCATION_NAME.fullmatch(parent)
        if not region:
            raise VertexError(Code.INVALID_ARGUMENT, f"{parent!r} is not the name of a location.")
        if model_id and parent_model:
            raise VertexError(
                Code.INVALID_ARGUMENT, "model_id and parent_model exclude each other."
            )
        if parent_model:
            model = ModelName.parse(self.canonical(parent_model))
            if model.version or model.parent != parent:
                raise VertexError(
                    Code.INVALID_ARGUMENT, f"parent_model {model} is no model below {parent}."
                )
            if model not in self._models:
                raise VertexError(Code.NOT_FOUND, f"The Model {model} was not found.")
            return model
        model = ModelName(
            region["project"], region["location"], model_id or str(next(self._numbers))
        )
        if not model_id:
            return model
        if not _MODEL_ID.fullmatch(model_id):
            raise VertexError(
                Code.INVALID_ARGUMENT,
                f"model_id {model_id!r} must be 1 to 63 of [a-z0-9_-], "
                "the first a letter or an underscore.",
            )
        if model in self._models:
            raise VertexError(self._dialect.existing_id, f"The Model {model} already exists.")
        if any(self._operations[number].destination == model for number in self._running):
            raise VertexError(self._dialect.in_flight_id, f"{model} is already being copied to.")
        return model

    def _end(self, operation: CopyOperation) -> None:
        error = operation.error
        versions = self._models.get(operation.destination, {})
        if error is None and versions and not operation.adds_version:
            error = VertexError(
                Code.ALREADY_EXISTS, f"The Model {operation.destination} already exists."
            )
        if error is not None:
            self._save(replace(operation, state=CopyState.FAILED, error=error))
            return
        source = self._find(operation.source)
        assert source is not None, "a source found at the start stays"
        version = str(max(map(int, versions), default=0) + 1)
        self._put(
            operation.destination.at(version),
            display_name=source.display_name,
            labels=source.labels,
            # Google: aliases are not retained, and a first copy becomes the default.
            aliases=() if versions else (DEFAULT_ALIAS,),
            copied_from=source.name,
            kms_key_name=operation.kms_key_name,
            now=operation.ends_at,
        )
        self._save(replace(operation, state=CopyState.SUCCEEDED, version=version))

    def _save(self, operation: CopyOperation) -> CopyOperation:
        self._operations[operation.number] = operation
        if operation.done:
            self._running.discard(operation.number)
        return operation

    def _put(
        self,
        name: ModelName,
        *,
        display_name: str,
        labels: Mapping[str, str],
        aliases: tuple[str, ...],
        now: datetime,
        copied_from: ModelName | None = None,
        kms_key_name: str = "",
    ) -> ModelVersion:
        versions = self._models.setdefault(name.unversioned, {})
        # An alias points at one version; and every model has a default.
        for number, version in versions.items():
            kept = tuple(alias for alias in version.aliases if alias not in aliases)
            versions[number] = replace(version, aliases=kept)
        if not versions and DEFAULT_ALIAS not in aliases:
            aliases = (DEFAULT_ALIAS, *aliases)
        first = next(iter(versions.values()), None)
        versions[name.version] = ModelVersion(
            name=name,
            display_name=display_name,
            labels=dict(labels),
            aliases=aliases,
            model_created_at=first.model_created_at if first else now,
            created_at=now,
            updated_at=now,
            copied_from=copied_from,
            kms_key_name=kms_key_name,
        )
        return versions[name.version]


_OPERATION_NAME = re.compile(
    LOCATION_NAME.pattern + r"(?:/models/[^/@:]+)?/operations/(?P<number>[^/:]+)"
)
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")


def _with_project(name: str, spelling: Mapping[str, str]) -> str:
    head, _, rest = name.removeprefix("projects/").partition("/")
    if not name.startswith("projects/") or head not in spelling:
        return name
    return f"projects/{spelling[head]}/{rest}"
