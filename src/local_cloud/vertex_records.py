"""The records of the local Vertex AI: names, model versions, copies, codes and the dialect.

Values only: frozen, compared by content, and they do nothing. ``registry.py`` makes
them and is the only one to change what is true.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, IntEnum, auto

DEFAULT_ALIAS = "default"


class Code(IntEnum):
    """Canonical codes, named and numbered as in google.rpc.Code."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class VertexError(Exception):
    """A call was refused, or a copy ended badly, with this code and message."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class Names(Enum):
    """How projects are spelled in the names that come out; both spellings are read."""

    IDS = auto()
    NUMBERS = auto()


class Origin(Enum):
    """What a copy of a copy names as the model that it is a copy of."""

    SOURCE = auto()
    ROOT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The answers that Google does not document; the defaults are the likeliest ones.

    ``vertex_dialects.DIALECTS`` has a named one for each answer that is not the default.
    """

    # One operation seen in public carried the project's number, the documented sample an id.
    names: Names = Names.IDS
    # The answer to a copy whose model_id already names a model. None: the copy is taken, and
    # fails with ALREADY_EXISTS in its operation.
    existing_id: Code | None = Code.ALREADY_EXISTS
    # The same while the first copy to that id still runs; ABORTED is what AIP-151 suggests.
    # None: both are taken, the one that ends last fails in its operation.
    in_flight_id: Code | None = Code.ALREADY_EXISTS
    # Methods answered UNIMPLEMENTED, which google.longrunning allows for all but GetOperation.
    unimplemented: frozenset[str] = frozenset()
    # "The Model this Model is a copy of": read literally, the immediate source.
    origin: Origin = Origin.SOURCE
    # When `original_model_info` is there, counted from when the version was made. None: never.
    proof_after_seconds: float | None = 0.0
    # When the version is there, counted from when the copy was taken. None: with its end.
    model_after_seconds: float | None = None
    # Whether a copy that failed leaves a version behind, which names no origin and stays.
    leaves_wreck: bool = False
    # GetModel, ListModels and ListModelVersions answer as things were so long ago.
    stale_seconds: float = 0.0
    # For so long the operations of a copy just taken are NOT_FOUND, and not listed.
    operation_after_seconds: float = 0.0
    # For so long a copy just taken shows nowhere at all, not even when it has ended.
    shows_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelName:
    """``projects/P/locations/L/models/M``, with ``@V`` where a version or alias was given."""

    project: str
    location: str
    model: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Read a resource name.

        Raises:
            VertexError: INVALID_ARGUMENT, ``text`` is no name of a model.
        """
        found = MODEL_NAME.fullmatch(text)
        if not found:
            raise VertexError(Code.INVALID_ARGUMENT, f"{text!r} is not the name of a model.")
        return cls(found["project"], found["location"], found["model"], found["version"] or "")

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def unversioned(self) -> "ModelName":
        return replace(self, version="")

    def at(self, version: str) -> "ModelName":
        return replace(self, version=version)

    def __str__(self) -> str:
        suffix = f"@{self.version}" if self.version else ""
        return f"{self.parent}/models/{self.model}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a model; ``name`` carries its number."""

    name: ModelName
    display_name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    model_created_at: datetime
    created_at: datetime
    updated_at: datetime
    copied_from: ModelName | None = None
    root: ModelName | None = None  # where a chain of copies began
    wreck: bool = False  # left behind by a copy that failed
    kms_key_name: str = ""


class CopyState(Enum):
    """Where a copy stands; only RUNNING is ever left."""

    RUNNING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELLED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOperation:
    """One copy. While it runs, ``ends_at`` is a plan and ``error`` is its fate, not yet told.

    Nobody is told of it, or of what it made, before ``shows_at``.
    """

    number: str
    source: ModelName
    destination: ModelName
    adds_version: bool
    kms_key_name: str
    created_at: datetime
    ends_at: datetime
    shows_at: datetime
    state: CopyState = CopyState.RUNNING
    error: VertexError | None = None
    version: str = ""

    @property
    def name(self) -> str:
        return f"{self.destination}/operations/{self.number}"

    @property
    def done(self) -> bool:
        return self.state is not CopyState.RUNNING


LOCATION_NAME = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)")
MODEL_NAME = re.compile(
    LOCATION_NAME.pattern + r"/models/(?P<model>[^/@:]+)(?:@(?P<version>[^/@:]+))?"
)
