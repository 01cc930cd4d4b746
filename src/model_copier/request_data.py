"""What the data of a copy request may hold: each field, its limits, and the words of a refusal.

JSON comes in here and leaves as a ``CopyRequest`` that cannot be wrong. Refusals name
every field that is wrong, what was found and what would be right.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_copier.errors import RejectedError
from model_copier.job import CopyRequest, IfExists
from model_copier.resource_names import ModelName, explain_bad_model_id
from model_copier.settings import Settings

MAX_CORRELATION_BYTES = 4096
# A week: the longest that anybody may want a stuck copy to be waited for.
MAX_DEADLINE_SECONDS = 604_800

_VERSIONED_ID = re.compile(r"(?P<model>[A-Za-z0-9_-]{1,63})(?:@(?P<version>[A-Za-z0-9_-]{1,128}))?")
_EXISTING_ID = re.compile(r"[A-Za-z0-9_-]{1,63}")
_KMS_KEY = re.compile(
    r"projects/[^/]+/locations/(?P<location>[^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+"
)


class CopyData(BaseModel):
    """The data of `dev.modelcopier.copy.requested.v1`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    source_model_id: str = Field(
        min_length=1,
        max_length=512,
        description="id, id@version, id@alias, or a full resource name",
    )
    destination_model_id: str | None = Field(
        None, description="id of the model to make: [a-z_][a-z0-9_-]{0,62}"
    )
    destination_parent_model: str | None = Field(
        None, description="existing model in the target that gets a new version: id or full name"
    )
    if_exists: IfExists | None = Field(
        None,
        strict=False,
        description="with destination_model_id, when it is there already; default: fail",
    )
    source_project: str | None = None
    source_location: str | None = None
    target_project: str | None = None
    target_location: str | None = None
    kms_key_name: str | None = Field(None, description="key in the target's region")
    custom_service_account: str | None = None
    deadline_seconds: int | None = Field(
        None, gt=0, le=MAX_DEADLINE_SECONDS, description="budget of the copy, from the first ask"
    )
    correlation: dict[str, Any] | None = Field(
        None, description=f"any object up to {MAX_CORRELATION_BYTES} bytes, echoed in the reply"
    )
    validate_only: bool = Field(
        default=False, description="check, change nothing, reply with what would be sent"
    )

    @model_validator(mode="after")
    def _one_destination(self) -> Self:
        if self.destination_model_id is not None and self.destination_parent_model is not None:
            raise ValueError(
                "destination_model_id and destination_parent_model: give one of them, not both"
            )
        if self.if_exists is not None and self.destination_model_id is None:
            raise ValueError("if_exists: goes with destination_model_id only")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a request leaves out, and whom it may name."""

    source_project: str
    target_project: str
    location: str
    source_projects: frozenset[str]
    target_projects: frozenset[str]
    service_accounts: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            source_project=settings.source_project,
            target_project=settings.target_project,
            location=settings.location,
            source_projects=settings.source_projects,
            target_projects=settings.target_projects,
            service_accounts=settings.allowed_service_accounts,
        )


def read_copy_data(data: object, defaults: Defaults, *, reply_tag: str = "") -> CopyRequest:
    """Turn parsed JSON into a request with all names whole.

    Raises:
        RejectedError: naming each field that is wrong.
    """
    if not isinstance(data, dict):
        raise RejectedError(f"data: should be a JSON object, not {_kind(data)}")
    try:
        asked = CopyData.model_validate(data)
    except ValidationError as error:
        raise RejectedError("; ".join(_in_our_words(error))) from None
    wrong: list[str] = []
    source = _source(asked, defaults, wrong)
    target_project = asked.target_project or defaults.target_project
    target_location = asked.target_location or defaults.location
    destination = _destination(asked, target_project, target_location, wrong)
    wrong += _not_allowed(asked, source, target_project, defaults)
    wrong += _wrong_key(asked.kms_key_name, target_location)
    if wrong:
        raise RejectedError("; ".join(wrong))
    assert source is not None
    return CopyRequest(
        source=source,
        target_project=target_project,
        target_location=target_location,
        destination=destination,
        new_version=asked.destination_parent_model is not None,
        if_exists=asked.if_exists or IfExists.FAIL,
        kms_key_name=asked.kms_key_name or "",
        custom_service_account=asked.custom_service_account or "",
        deadline_seconds=asked.deadline_seconds,
        correlation=asked.correlation,
        reply_tag=reply_tag,
        validate_only=asked.validate_only,
    )


def _source(asked: CopyData, defaults: Defaults, wrong: list[str]) -> ModelName | None:
    text = asked.source_model_id
    if "/" in text:
        try:
            name = ModelName.parse(text)
        except ValueError as error:
            wrong.append(f"source_model_id: {error}")
            return None
        for field, given, named in (
            ("source_project", asked.source_project, name.project),
            ("source_location", asked.source_location, name.location),
        ):
            if given is not None and given != named:
                wrong.append(f"{field}: {given!r}, but source_model_id names {named!r}")
        return name
    found = _VERSIONED_ID.fullmatch(text)
    if found is None:
        wrong.append(
            f"source_model_id: {text[:80]!r} is neither an id, id@version, id@alias"
            " nor a full resource name"
        )
        return None
    return ModelName(
        project=asked.source_project or defaults.source_project,
        location=asked.source_location or defaults.location,
        model=found["model"],
        version=found["version"],
    )


def _destination(asked: CopyData, project: str, location: str, wrong: list[str]) -> str | None:
    if asked.destination_model_id is not None:
        if bad := explain_bad_model_id(asked.destination_model_id):
            wrong.append(f"destination_model_id: {bad}")
        return asked.destination_model_id
    parent = asked.destination_parent_model
    if parent is None:
        return None
    if "/" not in parent:
        if not _EXISTING_ID.fullmatch(parent):
            wrong.append(f"destination_parent_model: {parent[:80]!r} is no model id")
        return parent
    try:
        name = ModelName.parse(parent)
    except ValueError as error:
        wrong.append(f"destination_parent_model: {error}")
        return None
    if name.version:
        wrong.append("destination_parent_model: name the model, without a version")
    if (name.project, name.location) != (project, location):
        wrong.append(
            f"destination_parent_model: lies in {name.location_name}, but the target is"
            f" projects/{project}/locations/{location}"
        )
    return name.model


def _not_allowed(
    asked: CopyData, source: ModelName | None, target_project: str, defaults: Defaults
) -> Iterable[str]:
    if source is not None and source.project not in defaults.source_projects:
        yield (
            f"source_project: {source.project!r} is not allowed;"
            f" allowed are {_listed(defaults.source_projects)}"
        )
    if target_project not in defaults.target_projects:
        yield (
            f"target_project: {target_project!r} is not allowed;"
            f" allowed are {_listed(defaults.target_projects)}"
        )
    account = asked.custom_service_account
    if account is not None and account not in defaults.service_accounts:
        yield (
            f"custom_service_account: {account!r} is not allowed;"
            f" allowed are {_listed(defaults.service_accounts)}"
        )


def _wrong_key(key: str | None, location: str) -> Iterable[str]:
    """A key must be in the region of the copy:
    https://docs.cloud.google.com/vertex-ai/docs/general/cmek
    """
    if key is None:
        return
    found = _KMS_KEY.fullmatch(key)
    if found is None:
        yield (
            f"kms_key_name: {key[:120]!r} should read"
            " projects/P/locations/L/keyRings/R/cryptoKeys/K"
        )
    elif found["location"] != location:
        yield (
            f"kms_key_name: the key is in {found['location']!r},"
            f" but the copy goes to {location!r}; name a key in {location!r}"
        )


def _in_our_words(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"])
        match problem["type"]:
            case "extra_forbidden":
                known = ", ".join(CopyData.model_fields)
                yield f"{field[:80]}: unknown field; known are {known}"
            case "missing":
                yield f"{field}: is required"
            case "value_error":
                yield str(problem["ctx"]["error"])
            case _:
                yield f"{field}: {_lower(problem['msg'])}, not {_shown(problem['input'])}"


def _lower(text: str) -> str:
    return text.removeprefix("Input ")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{_kind(value)} of {len(text)} characters"


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
        bytes: "bytes",
    }
    return names.get(type(value), "a number")


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"
