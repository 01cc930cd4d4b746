"""Knowledge of the source that decides before CopyModel: refusals, and what the copy will lack.

Pure. Vertex AI would refuse these a minute later in fewer words, or would copy and lose a
key without a word. Google's list: https://cloud.google.com/vertex-ai/docs/model-registry/copy-model
"""

from model_copier.domain.copy_request import CopyRequest, RequireKmsKey, Source
from model_copier.domain.errors import Code, Failure
from model_copier.domain.hints import (
    COPY_DOC,
    TUNED,
    TWO_HOPS,
    cannot_be_copied,
    goes_two_ways,
    shown,
)

_MULTI_REGIONS = frozenset({"us", "eu"})


def refusal_before_copy(request: CopyRequest, source: Source) -> Failure | None:
    """Say why this source cannot be copied as requested, or None where it may be."""
    if kind := cannot_be_copied(source, request):
        return Failure(
            code=Code.FAILED_PRECONDITION,
            message=f"source_model_id: {source.name}: {kind}",
            hint=f"see {COPY_DOC}",
        )
    if not request.kms_key_name and _key_is_required(request, source):
        return Failure(
            code=Code.FAILED_PRECONDITION,
            message=(
                "kms_key_name: is required by the operator"
                + (f"; the source has {shown(source.kms_key_name)}" if source.kms_key_name else "")
            ),
            hint=f"name a key in {request.target_location}",
        )
    return None


def warnings_before_copy(request: CopyRequest, source: Source) -> tuple[str, ...]:
    """Say what a dry run should tell: what the copy will lack, and what Google advises against."""
    found: list[str] = []
    if goes_two_ways(request, source):
        found.append(TWO_HOPS)
    if source.kind == TUNED and request.kms_key_name and request.target_location in _MULTI_REGIONS:
        found.append(
            "Google supports no kms_key_name for tuned Gemini 3 models, which lie in us and eu"
        )
    return (*losses(request, source), *found)


def losses(request: CopyRequest, source: Source) -> tuple[str, ...]:
    """Say what the copy does not have that the source has."""
    found: list[str] = []
    if source.kms_key_name and not request.kms_key_name:
        found.append(
            f"the source is encrypted with the key {shown(source.kms_key_name)}, and a copy without"
            f" kms_key_name is not: name a key in {request.target_location}"
        )
    if source.deployed:
        found.append("the source is deployed to an endpoint, and a copy is not: deploy it yourself")
    return tuple(found)


def _key_is_required(request: CopyRequest, source: Source) -> bool:
    match request.require_kms_key:
        case RequireKmsKey.ALWAYS:
            return True
        case RequireKmsKey.WHEN_SOURCE_HAS_ONE:
            return bool(source.kms_key_name)
        case RequireKmsKey.NEVER:
            return False
