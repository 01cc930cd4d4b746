"""What the data of a copy request may hold: each field, its limits, and the words of a refusal.

JSON comes in here and leaves as a ``CopyRequest`` that cannot be wrong. Refusals name
every field that is wrong, what was found and what would be right. The types are the
contract: ``docs/schemas`` is written from them, with as much as JSON Schema can say.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from model_copier.domain.copy_request import CopyRequest, IfExists, RequireKmsKey
from model_copier.domain.errors import RejectedError
from model_copier.domain.locations import LOCATIONS, explain_unknown_location
from model_copier.domain.resource_names import (
    CHOSEN_ID,
    LOCATION,
    MODEL_NAME,
    PROJECT,
    ModelName,
    ProjectNumbers,
    explain_bad_location,
    explain_bad_model_id,
    explain_bad_project,
)

MAX_CORRELATION_BYTES = 4096
# A week: the longest that anybody may want a stuck copy to be waited for.
MAX_DEADLINE_SECONDS = 604_800
MAX_SOURCE_CHARACTERS = 512
MAX_REQUEST_ID = 128
# No form goes deeper; the JSON reader of the stored records stops at 200.
MAX_DEPTH = 32

_VERSIONED_ID = re.compile(r"(?P<model>[A-Za-z0-9_-]{1,63})(?:@(?P<version>[A-Za-z0-9_-]{1,128}))?")
_EXISTING_ID = re.compile(r"[A-Za-z0-9_-]{1,63}")
_EXISTING_NAME = re.compile(MODEL_NAME.pattern.partition("(?:@")[0])
_ACCOUNT_ADDRESS = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+")
# Google's own alphabet, so that the name is one word in whatever command it is put into:
# https://cloud.google.com/kms/docs/resource-hierarchy
_KMS_KEY = re.compile(
    r"projects/[a-z0-9][a-z0-9.:-]{0,62}/locations/(?P<location>[a-z][a-z0-9-]{0,30})"
    r"/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}"
)


def _explain_bad_source(text: str) -> str | None:
    if "/" in text:
        return _explain_bad_name(text)
    if _VERSIONED_ID.fullmatch(text):
        return None
    return f"{_shown(text)} is neither an id, id@version, id@alias nor a full resource name"


def _explain_bad_parent(text: str) -> str | None:
    if "/" in text:
        unversioned = text.partition("@")[0]
        if unversioned != text and _explain_bad_name(text) is None:
            return f"name the model without a version: {_shown(unversioned)}"
        return _explain_bad_name(text)
    return None if _EXISTING_ID.fullmatch(text) else f"{_shown(text)} must be a model id"


def _explain_bad_name(text: str) -> str | None:
    try:
        ModelName.parse(text)
    except ValueError as error:
        return str(error)
    return None


def _explain_bad_key(text: str) -> str | None:
    if _KMS_KEY.fullmatch(text):
        return None
    return f"{_shown(text)} should read projects/P/locations/L/keyRings/R/cryptoKeys/K"


def _explain_bad_account(text: str) -> str | None:
    if _ACCOUNT_ADDRESS.fullmatch(text):
        return None
    return f"{_shown(text)} must be the e-mail address of a service account"


def _rule(explain: Callable[[str], str | None]) -> AfterValidator:
    """Make pydantic collect our own sentence with the other fields' errors."""

    def check(text: str) -> str:
        if bad := explain(text):
            raise ValueError(bad)
        return text

    return AfterValidator(check)


def _shape(*patterns: re.Pattern[str], form: str) -> Any:
    """Return the patterns as one in JSON Schema, without Python's named groups.

    ``form`` completes "must be ..." for a person; JSON Schema's ``title`` carries it.
    """
    plain = [re.sub(r"\?P<\w+>", "?:", pattern.pattern) for pattern in patterns]
    pattern = plain[0] if len(plain) == 1 else f"(?:{'|'.join(plain)})"
    return Field(json_schema_extra={"pattern": f"^{pattern}$", "title": form})


_Location = Annotated[
    str, _rule(explain_bad_location), _shape(LOCATION, form="a region such as us-central1")
]
_Project = Annotated[
    str, _rule(explain_bad_project), _shape(PROJECT, form="a project id or number")
]


def _is_given(field: str) -> dict[str, Any]:
    """In JSON Schema: the field is there, and not null, which would be the same as left out."""
    return {"properties": {field: {"not": {"type": "null"}}}, "required": [field]}


_ONE_PLACE = "destination_parent_model: give this or destination_model_id, not both"
_IF_EXISTS = "if_exists: goes with destination_model_id only"


class CopyData(BaseModel):
    """dev.modelcopier.copy.requested.v1: copy one model. What is null counts as left out."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={
            "allOf": [
                {
                    "if": _is_given("destination_parent_model"),
                    "then": {"not": _is_given("destination_model_id"), "title": _ONE_PLACE},
                },
                {
                    "if": _is_given("if_exists"),
                    "then": _is_given("destination_model_id") | {"title": _IF_EXISTS},
                },
            ],
        },
    )

    source_model_id: Annotated[
        str,
        _rule(_explain_bad_source),
        _shape(
            _VERSIONED_ID,
            MODEL_NAME,
            form="an id, id@version, id@alias or projects/P/locations/L/models/M",
        ),
    ] = Field(
        min_length=1,
        max_length=MAX_SOURCE_CHARACTERS,
        description="id, id@version, id@alias, or a full resource name",
    )
    destination_model_id: (
        Annotated[str, _rule(explain_bad_model_id), _shape(CHOSEN_ID, form=CHOSEN_ID.pattern)]
        | None
    ) = Field(
        None,
        description="id of the model to make; default: m-ID-vVERSION, from the source's",
    )
    destination_parent_model: (
        Annotated[
            str,
            _rule(_explain_bad_parent),
            _shape(
                _EXISTING_ID,
                _EXISTING_NAME,
                form="an id or projects/P/locations/L/models/M, without a version",
            ),
        ]
        | None
    ) = Field(
        None,
        description=(
            "existing model in the target that gets a new version: id or full name, without a"
            " version; not together with destination_model_id"
        ),
    )
    if_exists: IfExists | None = Field(
        None,
        strict=False,
        description=(
            "with destination_model_id, when it is there already; default: fail, unless what is"
            " there is a copy of this very source"
        ),
    )
    source_project: _Project | None = Field(
        None, description="project that the model is in, one that the service allows"
    )
    source_location: _Location | None = Field(None, description="region that the model is in")
    target_project: _Project | None = Field(
        None, description="project that the copy goes to, one that the service allows"
    )
    target_location: _Location | None = Field(None, description="region that the copy goes to")
    kms_key_name: (
        Annotated[
            str,
            _rule(_explain_bad_key),
            _shape(_KMS_KEY, form="projects/P/locations/L/keyRings/R/cryptoKeys/K"),
        ]
        | None
    ) = Field(None, description="key that the copy is encrypted with, in the region it goes to")
    custom_service_account: (
        Annotated[
            str,
            _rule(_explain_bad_account),
            _shape(_ACCOUNT_ADDRESS, form="the e-mail address of a service account"),
        ]
        | None
    ) = Field(None, description="account that Vertex AI copies as, one that the service allows")
    deadline_seconds: int | None = Field(
        None, gt=0, le=MAX_DEADLINE_SECONDS, description="budget of the copy, from the first ask"
    )
    correlation: dict[str, Any] | None = Field(
        None,
        description=(
            f"any object up to {MAX_CORRELATION_BYTES} bytes as canonical JSON, echoed in the reply"
        ),
    )
    validate_only: bool = Field(
        default=False, description="check, change nothing, reply with what would be sent"
    )


class NamedRequest(BaseModel):
    """dev.modelcopier.copy.cancel.requested.v1 and ...status.requested.v1: which request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    request_id: str = Field(
        min_length=1,
        max_length=MAX_REQUEST_ID,
        description="CloudEvent id of the copy request; of bare JSON, its message id",
    )
    request_source: str | None = Field(
        None,
        min_length=1,
        description="CloudEvent source of the copy request; default: this message's own",
    )


_Form = TypeVar("_Form", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a request leaves out, and whom it may name."""

    source_project: str
    target_project: str
    location: str
    source_projects: frozenset[str]
    target_projects: frozenset[str]
    service_accounts: frozenset[str]
    locations: frozenset[str] = LOCATIONS
    require_kms_key: RequireKmsKey = RequireKmsKey.NEVER
    numbers: ProjectNumbers = dataclasses.field(default_factory=ProjectNumbers)


def read_copy_data(data: object, defaults: Defaults, *, reply_tag: str = "") -> CopyRequest:
    """Turn parsed JSON into a request with all names whole.

    Raises:
        RejectedError: naming each field that is wrong.
    """
    asked = _parsed(CopyData, data)
    source = _source(asked, defaults)
    # One spelling, before anything is compared, stored or locked.
    spelled = defaults.numbers.spelled
    target_project = spelled(_given(asked.target_project, defaults.target_project))
    target_location = _given(asked.target_location, defaults.location)
    if wrong := [
        *_wrong_together(asked, defaults),
        *_wrong_place(asked, target_project, target_location, defaults),
        *_not_allowed(asked, source, target_project, defaults),
        *_unknown_locations(asked, source, target_location, defaults),
        *_wrong_account(asked, target_project),
    ]:
        raise RejectedError("; ".join(wrong))
    parent = asked.destination_parent_model
    return CopyRequest(
        source=source,
        target_project=target_project,
        target_location=target_location,
        destination=asked.destination_model_id if parent is None else _parent_id(parent),
        new_version=parent is not None,
        if_exists=asked.if_exists or IfExists.FAIL,
        kms_key_name=asked.kms_key_name or "",
        require_kms_key=defaults.require_kms_key,
        custom_service_account=asked.custom_service_account or "",
        deadline_seconds=asked.deadline_seconds,
        correlation=asked.correlation,
        reply_tag=reply_tag,
        validate_only=asked.validate_only,
    )


def check_copy_data(data: object) -> None:
    """Refuse what no request may hold, before anything is made of it.

    Raises:
        RejectedError: naming each field that is wrong.
    """
    _parsed(CopyData, data)


def read_named_request(data: object) -> NamedRequest:
    """Turn parsed JSON into whom a cancel or status request is about.

    Raises:
        RejectedError: naming each field that is wrong.
    """
    return _parsed(NamedRequest, data)


def _parsed(form: type[_Form], data: object) -> _Form:
    if not isinstance(data, dict):
        raise RejectedError(f"data: should be a JSON object, not {_kind(data)}")
    if _is_deeper(data, MAX_DEPTH):
        raise RejectedError(f"data: is nested deeper than {MAX_DEPTH} levels")
    try:
        return form.model_validate(data)
    except ValidationError as error:
        raise RejectedError("; ".join(_in_our_words(error, form))) from None


def _source(asked: CopyData, defaults: Defaults) -> ModelName:
    text = asked.source_model_id
    if "/" in text:
        return defaults.numbers.name(ModelName.parse(text))
    model, _, version = text.partition("@")
    return ModelName(
        project=defaults.numbers.spelled(_given(asked.source_project, defaults.source_project)),
        location=_given(asked.source_location, defaults.location),
        model=model,
        version=version or None,
    )


def _given(asked: str | None, default: str) -> str:
    return default if asked is None else asked


def _parent_id(parent: str) -> str:
    return ModelName.parse(parent).model if "/" in parent else parent


def _wrong_together(asked: CopyData, defaults: Defaults) -> Iterator[str]:
    """Fields that are right by themselves and contradict each other."""
    if asked.destination_model_id is not None and asked.destination_parent_model is not None:
        yield _ONE_PLACE
    if asked.if_exists is not None and asked.destination_model_id is None:
        yield _IF_EXISTS
    if "/" in asked.source_model_id:
        name = ModelName.parse(asked.source_model_id)
        for field, given, named in (
            ("source_project", asked.source_project, name.project),
            ("source_location", asked.source_location, name.location),
        ):
            spelled = defaults.numbers.spelled
            if given is not None and spelled(given) != spelled(named):
                yield f"{field}: {_shown(given)}, but source_model_id names {named!r}"


def _wrong_place(asked: CopyData, project: str, location: str, defaults: Defaults) -> Iterator[str]:
    """A parent and a key must be where the copy goes.

    For keys see https://docs.cloud.google.com/vertex-ai/docs/general/cmek
    """
    parent = asked.destination_parent_model
    if parent and "/" in parent:
        name = defaults.numbers.name(ModelName.parse(parent))
        if (name.project, name.location) != (project, location):
            yield (
                f"destination_parent_model: lies in {name.location_name}, but the target is"
                f" projects/{project[:80]}/locations/{location}"
            )
    if defaults.require_kms_key is RequireKmsKey.ALWAYS and not asked.kms_key_name:
        yield f"kms_key_name: is required by the operator; name a key in {location!r}"
    key = _KMS_KEY.fullmatch(asked.kms_key_name or "")
    if key and key["location"] != location:
        yield (
            f"kms_key_name: the key is in {_shown(key['location'])},"
            f" but the copy goes to {location!r}; name a key in {location!r}"
        )


def _not_allowed(
    asked: CopyData, source: ModelName, target_project: str, defaults: Defaults
) -> Iterator[str]:
    account = asked.custom_service_account
    for field, given, allowed in (
        ("source_project", source.project, defaults.source_projects),
        ("target_project", target_project, defaults.target_projects),
        ("custom_service_account", account, defaults.service_accounts),
    ):
        if given is not None and given not in allowed:
            listed = ", ".join(sorted(allowed)) or "none"
            told = f"{field}: {_shown(given)} is not allowed; allowed are {listed}"
            if given.isdigit():
                told += "; it is a project's number: name the id, or list it as ID=NUMBER"
            yield told


# Whose account it is, where its address says so; CopyModel takes one of the target's only.
_ACCOUNT = re.compile(
    r"[^@]+@(?P<project>[a-z0-9-]+)(?:\.(?P<domain>[a-z0-9.-]+))?\.iam\.gserviceaccount\.com"
    r"|(?P<app>[^@]+)@appspot\.gserviceaccount\.com"
)


def _wrong_account(asked: CopyData, target_project: str) -> Iterator[str]:
    """Vertex AI copies as an account of the target project, or as its own agent.

    https://docs.cloud.google.com/vertex-ai/docs/general/custom-service-account
    """
    found = _ACCOUNT.fullmatch(asked.custom_service_account or "")
    if not found or target_project.isdigit():
        return
    domain = f"{found['domain']}:" if found["domain"] else ""
    owner = found["app"] or f"{domain}{found['project']}"
    if owner != target_project:
        yield (
            f"custom_service_account: {_shown(asked.custom_service_account)} is of project"
            f" {owner!r}; it must be of the target, {target_project!r}"
        )


def _unknown_locations(
    asked: CopyData, source: ModelName, target_location: str, defaults: Defaults
) -> Iterator[str]:
    field = "source_model_id" if "/" in asked.source_model_id else "source_location"
    for name, location in ((field, source.location), ("target_location", target_location)):
        if bad := explain_unknown_location(location, defaults.locations):
            yield f"{name}: {bad}"


_EXPECTED = {
    "if_exists": f"{', '.join(list(IfExists)[:-1])} or {list(IfExists)[-1]}",
    "deadline_seconds": f"a whole number from 1 to {MAX_DEADLINE_SECONDS}",
    "correlation": "an object",
    "validate_only": "true or false",
}


def _in_our_words(error: ValidationError, form: type[BaseModel]) -> Iterator[str]:
    """One sentence for each wrong field, and one for all fields that are unknown."""
    problems = error.errors(include_url=False)
    for problem in problems:
        if problem["type"] != "extra_forbidden":
            # No place: it is the name of a field that is no text.
            field = str(problem["loc"][0]) if problem["loc"] else "data"
            yield f"{field}: {_what_is_wrong(field, problem)}"
    if unknown := [p for p in problems if p["type"] == "extra_forbidden"]:
        names = [str(problem["loc"][0])[:80] for problem in unknown]
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" * (len(names) > 10))
        known = ", ".join(form.model_fields)
        yield f"{listed}: unknown field{'s' * (len(names) > 1)}; known are {known}"


def _what_is_wrong(field: str, problem: ErrorDetails) -> str:
    match problem["type"]:
        case "missing":
            return "is required"
        case "value_error":
            return str(problem["ctx"]["error"])
        case "string_too_short":
            return "is empty"
        case "string_too_long":
            found = len(problem["input"])
            return f"has {found} characters; at most {problem['ctx']['max_length']} are allowed"
        case "string_unicode":
            return f"{_shown(problem['input'])} holds half of a surrogate pair"
        case _:
            expected = _EXPECTED.get(field, "a string")
            return f"should be {expected}, not {_shown(problem['input'])}"


def _is_deeper(data: object, levels: int) -> bool:
    """Look level by level: whatever calls itself would fail on the very data it looks for."""
    inside = [data]
    for _ in range(levels):
        inside = [
            value
            for outer in inside
            if isinstance(outer, dict | list)
            for value in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(value, dict | list) for value in inside)


def _shown(value: object) -> str:
    """Name a value as JSON would; a long one by its kind."""
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else value[:77] + "...")
    text = json.dumps(value)
    return text if len(text) <= 80 else _kind(value)


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
