"""What Vertex AI's model registry is asked and what it tells, in our own types."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from model_copier.domain.errors import NO_CAUSE, Cause, Code
from model_copier.domain.resource_names import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One version of a model."""

    name: ModelName  # as Vertex AI gave it, with the version's number
    copy_of: ModelName | None  # `original_model_info.model`
    kind: str = ""  # `model_source_info.source_type`: GENIE, CUSTOM, BQML, ...
    container_image: str = ""  # `container_spec.image_uri`
    kms_key_name: str = ""  # `encryption_spec.kms_key_name`
    deployed: bool = False  # has `deployed_models`


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A CopyModel operation."""

    name: str
    done: bool
    model: ModelName | None = None  # the copy, with its version: done, and it worked
    code: Code | None = None  # done, and it failed
    message: str = ""
    cause: Cause = NO_CAUSE  # of the failure
    started_at: datetime | None = None
    updated_at: datetime | None = None  # when done: the end


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsPage:
    """Some of the operations of a project and location."""

    operations: Sequence[Operation]
    next_page_token: str = ""


def operation_number(name: str) -> str:
    """What an operation's names have in common: a project may be spelled as id or number."""
    return name.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCall:
    """A CopyModel request: exactly one of ``model_id`` and ``parent_model`` is set."""

    source: ModelName
    target_location: str  # projects/P/locations/L
    model_id: str = ""
    parent_model: str = ""
    kms_key_name: str = ""
    custom_service_account: str = ""
