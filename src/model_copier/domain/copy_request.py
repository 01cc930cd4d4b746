"""What was asked for, parsed: names are whole, defaults are filled in; and its source as found.

Pure values. What must not break: the same request always names the same destination.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from model_copier.domain.resource_names import ModelName


class RequireKmsKey(StrEnum):
    """When a request must name a key for its copy; without one a copy is not encrypted by any."""

    NEVER = "never"
    WHEN_SOURCE_HAS_ONE = "when-source-has-one"
    ALWAYS = "always"


class IfExists(StrEnum):
    """What to do when the destination model is there already."""

    FAIL = "fail"
    SKIP = "skip"
    NEW_VERSION = "new_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """What was asked for, parsed: names are whole, defaults are filled in."""

    source: ModelName  # version: number, alias, or None for the default one
    target_project: str
    target_location: str
    destination: str | None = None  # model id; None: derived from the source
    new_version: bool = False  # destination is a parent that must exist
    if_exists: IfExists = IfExists.FAIL
    kms_key_name: str = ""
    require_kms_key: RequireKmsKey = RequireKmsKey.NEVER  # the operator's rule at acceptance
    custom_service_account: str = ""
    deadline_seconds: float | None = None
    correlation: Mapping[str, Any] | None = None
    reply_tag: str = ""
    validate_only: bool = False  # never becomes a job

    @property
    def target_location_name(self) -> str:
        return f"projects/{self.target_project}/locations/{self.target_location}"

    def goes_elsewhere(self, other: Self) -> bool:
        """Tell whether source or destination differ."""

        def way(asked: CopyRequest) -> tuple[object, ...]:
            return (
                asked.source,
                asked.target_project,
                asked.target_location,
                asked.destination,
                asked.new_version,
            )

        return way(self) != way(other)

    def target(self, source: ModelName) -> ModelName:
        """Name the destination model; ``source`` has its version resolved to a number."""
        return ModelName(
            project=self.target_project,
            location=self.target_location,
            model=self.destination or derived_model_id(source),
        )


def derived_model_id(source: ModelName) -> str:
    """Make ``m-<id>-v<n>``; where that is no legal id, or not unique, a hash tells them apart."""
    plain = f"m-{source.model}-v{source.version}"
    if source.model.isdigit() and len(plain) <= 63:
        return plain
    digest = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    tail = f"-v{source.version}-{digest}"
    return f"m-{source.model.lower()}"[: 63 - len(tail)] + tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source as Vertex AI knows it, when it was asked."""

    name: ModelName  # as requested, with the version's number
    known_as: ModelName  # as GetModel gave it: the project may be a number
    copy_of: ModelName | None = None  # the source's own original, when it is a copy itself
    kind: str = ""  # GENIE, CUSTOM, BQML, ...
    container_image: str = ""
    kms_key_name: str = ""  # that it is encrypted with
    deployed: bool = False  # to an endpoint, at least

    def is_origin(self, original: ModelName | None) -> bool:
        """Tell whether a model whose `original_model_info` says ``original`` is our copy."""
        if original is None:
            return False
        return any(original.may_be(n) for n in (self.name, self.known_as, self.copy_of) if n)

    def may_be_taken_for(self, other: Self) -> bool:
        """Tell whether copies of the two cannot be told apart by what they name as origin."""
        return any(self.is_origin(name) for name in (other.name, other.known_as, other.copy_of))


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The request's message as it came: what a dead letter holds."""

    data: bytes
    attributes: Mapping[str, str]
