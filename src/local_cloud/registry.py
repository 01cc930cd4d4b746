"""A model registry: models, their versions and aliases, and the operations that copy them.

Pure: no I/O, no threads, no clock. Time comes in through ``settle(now)``, which ends
every copy that is due; all other calls answer from what was settled last. So one
history of calls always gives the same registry, whichever face or clock drives it.

A copy takes a name for its operation at once and makes its model when it ends::

    copy() -> RUNNING -> SUCCEEDED   the model (or version) exists from this moment
                      -> FAILED      the source was missing, the id taken, or doomed
                      -> CANCELLED   nothing was made

What Google documents is a rule here; what it leaves open is a field of ``Dialect``, or,
where nobody has needed the other answer yet, settled here: display name and labels
come along, a new version leaves the default where it was, a cancel works at once.
Reads tell the truth; what a caller is told of it, and when, is ``vertex_view``'s.
Refused: with ``VertexError``, whose code is one of Google's canonical codes.
"""

import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from local_cloud.vertex_history import History
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
            project_numbers: the number of each project id that must have a certain one.
            first_number: generated ids count up from here; two runs that start apart
                never name two operations alike.
        """
        self.dialect = dialect or Dialect()
        # When it was settled last, or told of anything.
        self.now = datetime.fromtimestamp(0, UTC)
        self._number_of = dict(project_numbers or {})
        self._id_of = {number: project for project, number in self._number_of.items()}
        self._numbers = itertools.count(first_number)
        self._history = History()
        self._operations: dict[str, CopyOperation] = {}
        self._running: set[str] = set()
        self._deleted: set[str] = set()

    # Names

    def spelled(self, name: str) -> str:
        """Spell a resource name for a caller; the only way by which names leave."""
        if self.dialect.names is Names.IDS:
            return name
        project = name.split("/")[1]
        return name.replace(project, self.number_of(project), 1)

    def number_of(self, project: str) -> str:
        """The number of a project: the one it was given, or one that its id always gets."""
        if project.isdecimal():
            return project
        number = self._number_of.setdefault(project, str(10**11 + zlib.crc32(project.encode())))
        self._id_of[number] = project
        return number

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
        """Put a version there as if it had been trained or uploaded; every read knows of it.

        Raises:
            VertexError: INVALID_ARGUMENT, or ALREADY_EXISTS if the version is there.
        """
        model = ModelName.parse(self.canonical(name))
        if model.version or not version.isdecimal():
            raise VertexError(
                Code.INVALID_ARGUMENT, f"{name!r} takes no @, and {version!r} must be a number."
            )
        self._tell(now)
        if version in self._history.versions(model):
            raise VertexError(Code.ALREADY_EXISTS, f"{model.at(version)} already exists.")
        return self._put(
            ModelVersion(
                name=model.at(version),
                display_name=display_name or model.model,
                labels=dict(labels or {}),
                aliases=tuple(aliases),
                model_created_at=now,
                created_at=now,
                updated_at=now,
            ),
            shows_at=now - timedelta(seconds=self.dialect.stale_seconds),
        )

    def model(self, name: str, at: datetime | None = None) -> ModelVersion:
        """Find a model's default version, or the ``@version`` or ``@alias`` of the name.

        As these three reads do: the one that is, or that showed ``at`` a time.

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
            raise VertexError(Code.INVALID_ARGUMENT, f"{parent!r} is not the name of a location.")
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
        now: datetime,
        takes: timedelta,
        shows_after: timedelta | None = None,
    ) -> CopyOperation:
        """Take a copy that will end at ``now + takes``.

        It shows nowhere before ``now + shows_after``; without that, the dialect says when.

        A missing source is taken too and fails in the operation, with nothing but
        "NOT_FOUND" to say: https://github.com/GoogleCloudPlatform/magic-modules/pull/12074

        Raises:
            VertexError: refused, and nothing was started.
        """
        self._tell(now)
        if shows_after is None:
            shows_after = timedelta(seconds=self.dialect.shows_after_seconds)
        wanted = ModelName.parse(self.canonical(source_model))
        found = self._history.find(wanted)
        operation = CopyOperation(
            number=str(next(self._numbers)),
            source=found.name if found else wanted,
            destination=self._destination(self.canonical(parent), model_id, parent_model),
            adds_version=bool(parent_model),
            kms_key_name=kms_key_name,
            created_at=now,
            ends_at=now + takes,
            shows_at=now + shows_after,
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
        """Let everything happen that is due by ``now``, in the order of its times."""
        self._tell(now)
        moments: list[tuple[datetime, int, Callable[[CopyOperation], None]]] = []
        for operation in map(self._operations.__getitem__, self._running):
            number = int(operation.number)
            moments.append((operation.ends_at, number, self._end))
            early = self.dialect.model_after_seconds
            if early is not None and not operation.version:
                appears_at = operation.created_at + timedelta(seconds=early)
                if appears_at < operation.ends_at:
                    moments.append((appears_at, number, self._appear))
        for at, number, happen in sorted(moments, key=lambda moment: moment[:2]):
            if at <= now:
                happen(self._operations[str(number)])

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
        self._tell(now)
        operation = self.operation(name)
        if not operation.done:
            self._clear_away(operation, at=now)
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

    def _tell(self, now: datetime) -> None:
        self.now = max(self.now, now)

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
            if not self._history.versions(model):
                raise VertexError(Code.NOT_FOUND, f"The Model {model} was not found.")
            return model
        if not model_id:
            return ModelName(region["project"], region["location"], str(next(self._numbers)))
        if not _MODEL_ID.fullmatch(model_id):
            raise VertexError(
                Code.INVALID_ARGUMENT,
                f"model_id {model_id!r} must be 1 to 63 of [a-z0-9_-], "
                "the first a letter or an underscore.",
            )
        model = ModelName(region["project"], region["location"], model_id)
        self._refuse_taken(model)
        return model

    def _refuse_taken(self, model: ModelName) -> None:
        if any(self._operations[number].destination == model for number in self._running):
            code, what = self.dialect.in_flight_id, f"{model} is already being copied to."
        elif self._history.versions(model):
            code, what = self.dialect.existing_id, f"The Model {model} already exists."
        else:
            return
        if code is not None:
            raise VertexError(code, what)

    def _end(self, operation: CopyOperation) -> None:
        obstacle = self._obstacle(operation)
        error = operation.error or obstacle
        if error is not None:
            self._clear_away(operation, at=operation.ends_at)
            if self.dialect.leaves_wreck and not obstacle:
                self._make(operation, at=operation.ends_at, wreck=True)
            self._save(replace(operation, state=CopyState.FAILED, version="", error=error))
            return
        if not operation.version:
            operation = self._make(operation, at=operation.ends_at)
        self._save(replace(operation, state=CopyState.SUCCEEDED))

    def _appear(self, operation: CopyOperation) -> None:
        """Make the version of a running copy before its end, if one can be made."""
        assert self.dialect.model_after_seconds is not None
        early = timedelta(seconds=self.dialect.model_after_seconds)
        if not self._obstacle(operation):
            self._save(self._make(operation, at=operation.created_at + early))

    def _obstacle(self, operation: CopyOperation) -> VertexError | None:
        """What keeps a copy that was taken from making its version."""
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
        self._put(
            ModelVersion(
                name=operation.destination.at(number),
                display_name=source.display_name,
                labels=source.labels,
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
        if not operation.version:
            return
        self._history.remove(operation.destination.at(operation.version), shows_at=at)
        left = self._history.versions(operation.destination)
        if left and not self._history.find(operation.destination):
            oldest = next(iter(left.values()))
            aliases = (DEFAULT_ALIAS, *oldest.aliases)
            self._history.put(replace(oldest, aliases=aliases), shows_at=at)

    def _save(self, operation: CopyOperation) -> CopyOperation:
        self._operations[operation.number] = operation
        if operation.done:
            self._running.discard(operation.number)
        return operation

    def _put(self, version: ModelVersion, *, shows_at: datetime) -> ModelVersion:
        """Add a version to its model; aliases move to it, and every model has a default."""
        others = self._history.versions(version.name)
        for other in others.values():
            kept = tuple(alias for alias in other.aliases if alias not in version.aliases)
            if kept != other.aliases:
                self._history.put(replace(other, aliases=kept), shows_at=shows_at)
        if others:
            first = next(iter(others.values()))
            version = replace(version, model_created_at=first.model_created_at)
        elif DEFAULT_ALIAS not in version.aliases:
            version = replace(version, aliases=(DEFAULT_ALIAS, *version.aliases))
        self._history.put(version, shows_at=shows_at)
        return version


_OPERATION_NAME = re.compile(
    LOCATION_NAME.pattern + r"(?:/models/[^/@:]+)?/operations/(?P<number>[^/:]+)"
)
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")


def _with_project(name: str, spelling: Mapping[str, str]) -> str:
    head, _, rest = name.removeprefix("projects/").partition("/")
    if not name.startswith("projects/") or head not in spelling:
        return name
    return f"projects/{spelling[head]}/{rest}"
