"""The records of the local Vertex AI: names, model versions, copies, codes and the dialect.

Values only: frozen, compared by content, and they do nothing. ``registry.py`` makes
them and is the only one to change what is true.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, IntEnum, auto
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, with_config

DEFAULT_ALIAS = "default"
# How a model came to be, as ModelSourceInfo.ModelSourceType has it; GENIE: a tuned Gemini.
KINDS = (
    "GENIE",
    "CUSTOM",
    "AUTOML",
    "BQML",
    "MODEL_GARDEN",
    "CUSTOM_TEXT_EMBEDDING",
    "MARKETPLACE",
    # A value that Google adds one day: no client of today has a name for it.
    "NEW",
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The details of an error of Google's: its ErrorInfo, and the types of violations."""

    reason: str = ""
    domain: str = "googleapis.com"
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[str, ...] = ()


class VertexError(Exception):
    """A call was refused, or a copy ended badly, with this code and message."""

    def __init__(self, code: Code, message: str, why: "Why | None" = None) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.why = why


def code_named(name: object) -> Code:
    """Read a code from its name.

    Raises:
        ValueError: there is none of that name; the sentence has those that there are.
    """
    if isinstance(name, Code):
        return name
    if name not in Code.__members__:
        raise ValueError(
            f"{name!r} is not a canonical code; codes are {', '.join(Code.__members__)}"
        )
    return Code[str(name)]


# A code as it stands in JSON: by name.
CodeName = Annotated[Code, BeforeValidator(code_named), PlainSerializer(lambda code: code.name)]


# Thirty years: a time that far away is still a time.
Seconds = Annotated[float, Field(ge=0, le=1e9)]


class Names(Enum):
    """How projects are spelled in the names that come out; both spellings are read."""

    IDS = "IDS"
    NUMBERS = "NUMBERS"


class Origin(Enum):
    """What a copy of a copy names as the model that it is a copy of."""

    SOURCE = "SOURCE"
    ROOT = "ROOT"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The answers that Google does not document; the defaults are the likeliest ones.

    ``vertex_dialects.DIALECTS`` has a named one for each answer that is not the default,
    and the docs a table, which is made from the words here.
    """

    # One operation seen in public carried the project's number, the documented sample an id.
    names: Annotated[Names, "form of projects in returned names: id or number"] = Names.IDS
    existing_id: Annotated[
        CodeName | None,
        "answer to the `model_id` of an existing model; none: accepted, and fails in the operation",
    ] = Code.ALREADY_EXISTS
    # ABORTED is what AIP-151 suggests.
    in_flight_id: Annotated[
        CodeName | None,
        "the same while the first copy to that id runs; none: both accepted, and the later to end"
        " fails",
    ] = Code.ALREADY_EXISTS
    # A third party saw 403 "or an error". AIP-151: what prevents the start is a normal error.
    refuses_in_operation: Annotated[
        bool, "a copy of an uncopyable source is accepted, and fails in the operation"
    ] = False
    # google.longrunning allows it for all but GetOperation.
    unimplemented: Annotated[frozenset[str], "methods answered UNIMPLEMENTED"] = frozenset()
    # Both paths are in Google's bindings; what each of them lists is not said.
    lists_by_location: Annotated[
        bool | None,
        "ListOperations of a location lists the operations of its models; no: it is empty; "
        "none: it is UNIMPLEMENTED",
    ] = True
    # Google: a cancel is not guaranteed.
    cancels: Annotated[bool, "a cancel ends the copy; no: it is accepted, and the copy goes on"] = (
        True
    )
    # Google names aiplatform.models.update for an upload's operation, and nothing for a copy's:
    # its page of IAM permissions. A copier's role may lack it.
    denies_cancel: Annotated[
        bool, "a cancel is refused with PERMISSION_DENIED for aiplatform.models.update"
    ] = False
    # "The Model this Model is a copy of": read literally, the immediate source.
    origin: Annotated[
        Origin, "`original_model_info` of a copy of a copy: its source, or the root"
    ] = Origin.SOURCE
    proof_after_seconds: Annotated[
        Seconds | None,
        "seconds from the creation of a version to its `original_model_info`; none: never",
    ] = 0.0
    model_after_seconds: Annotated[
        Seconds | None,
        "seconds from the acceptance of a copy until its version is visible; none: at its end",
    ] = None
    leaves_wreck: Annotated[
        bool, "a failed copy leaves a permanent version without `original_model_info`"
    ] = False
    stale_seconds: Annotated[
        Seconds, "age of the responses of GetModel, ListModels, ListModelVersions"
    ] = 0.0
    operation_after_seconds: Annotated[
        Seconds, "seconds for which the operation of a new copy is NOT_FOUND and not listed"
    ] = 0.0
    shows_after_seconds: Annotated[
        Seconds,
        "seconds for which an accepted copy is invisible everywhere, even if it ends meanwhile",
    ] = 0.0
    # Not in Google's list of what a copy loses, and not said to be kept.
    keeps_labels: Annotated[bool, "a copy keeps display name, description and labels"] = True
    # The enum has grown before: https://github.com/googleapis/python-monitoring/issues/523
    copies_are_new_kind: Annotated[
        bool, "a copy's `model_source_info.source_type` is a value unknown to every client"
    ] = False


@dataclass(frozen=True, slots=True)
class ModelName:
    """``projects/P/locations/L/models/M``, with ``@V`` where a version or alias was given."""

    project: str
    location: str
    model: str
    version: str = ""

    @classmethod
    def parse(cls, text: str, *, field_name: str = "name") -> "ModelName":
        """Read a resource name.

        Raises:
            VertexError: INVALID_ARGUMENT, ``text`` is no name of a model.
        """
        found = MODEL_NAME.fullmatch(text)
        if not found:
            raise VertexError(
                Code.INVALID_ARGUMENT, f"{field_name}: {text!r} is not the name of a model."
            )
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
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    model_created_at: datetime
    created_at: datetime
    updated_at: datetime
    copied_from: ModelName | None = None
    root: ModelName | None = None  # where a chain of copies began
    wreck: bool = False  # left behind by a copy that failed
    kms_key_name: str = ""
    deployed: bool = False  # to an endpoint; a copy is not
    kind: str = "GENIE"  # one of KINDS
    container_image: str = ""
    # Metrics by the name of the evaluation; a copy has none.
    evaluations: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


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
    refused: bool = False  # hopeless from the start: nothing is ever made
    version: str = ""
    deleted: bool = False  # callers are told of it no more

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
