"""Failures in words that a person can act on: what went wrong, and what would mend it.

Google reports most of these in a few words, and documents none of them for CopyModel. So
the sentences name what is known to be the cause for such a code and such a source, with
the project and the command; they never claim more than that.
"""

import re

from model_copier.copy_request import CopyRequest, Source
from model_copier.errors import Code
from model_copier.job import Failure, Job

# Google's own serving images; https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers
_GOOGLE_IMAGES = ("-docker.pkg.dev/vertex-ai/", "gcr.io/cloud-aiplatform/", "gcr.io/deeplearning-")
# What CopyModel may answer to a model that it does not take.
_REFUSALS = frozenset({Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED})
_KEY_WORDS = re.compile(r"crypto\s?key|kms|cmek", re.IGNORECASE)
_COPY_DOC = "https://cloud.google.com/vertex-ai/docs/model-registry/copy-model"


def failure(
    code: Code, message: str, request: CopyRequest, source: Source | None = None
) -> Failure:
    """Say what failed, with the hint that fits."""
    return Failure(code=code, message=message, hint=_hint(code, message, request, source))


def source_failure(code: Code, message: str, request: CopyRequest) -> Failure:
    """The source could not be read."""
    name = request.source
    where = f"--project={name.project} --region={name.location}"
    if code is not Code.NOT_FOUND:
        return Failure(
            code=code,
            message=f"source_model_id: {name} cannot be read: {message}",
            hint=(
                f"grant roles/aiplatform.viewer on project {name.project} to the copier's own"
                f" service account: gcloud projects add-iam-policy-binding {name.project}"
                " --member=serviceAccount:COPIER --role=roles/aiplatform.viewer"
            ),
        )
    if name.version:
        hint = f"see its versions and aliases: gcloud ai models list-version {name.model} {where}"
    else:
        hint = f"see what is there: gcloud ai models list {where}"
    return Failure(code=code, message=f"source_model_id: {name} does not exist", hint=hint)


def conflict(job: Job) -> Failure:
    """A request id was used before, for something else."""
    return Failure(
        code=Code.ALREADY_EXISTS,
        message=f"request {job.request_id!r} was given before with other content",
        hint="use a new request id for a new request; the first one goes on unharmed",
    )


def cannot_go_elsewhere(job: Job) -> Failure:
    """A replay names another source or destination than an ask that may still come true."""
    return Failure(
        code=Code.FAILED_PRECONDITION,
        message=(
            f"request {job.request_id!r} was asked of Vertex AI and what came of it is unknown:"
            " a replay cannot change its source or destination"
        ),
        hint=f"replay it as it was, or look at {job.target} and use a new request id",
    )


def record_is_gone(request_id: str) -> Failure:
    """A dead letter outlived the record of a run that may have made a copy."""
    return Failure(
        code=Code.FAILED_PRECONDITION,
        message=(
            f"request {request_id!r} ended with an unknown outcome, and its record has expired:"
            " another copy could be the second one"
        ),
        hint="look at the destination; if nothing is there, publish it under a new request id",
    )


def not_the_callers(source: str, *, field: str = "ce-source") -> Failure:
    """A message names the identity of a REST caller, which no publisher can prove."""
    return Failure(
        code=Code.PERMISSION_DENIED,
        message=(
            f"{field}: {source[:200]!r} belongs to a caller of the REST API; a message cannot"
            " request, cancel or ask about a copy in that name"
        ),
        hint=(
            "use a ce-source of your own; the caller cancels and looks over REST, and only the"
            " present dead letter of a failed copy can be replayed by message"
        ),
    )


def beyond_the_caller(refusal: str) -> Failure:
    """A replay by message goes beyond the limits of the account whose request it was."""
    return Failure(
        code=Code.PERMISSION_DENIED,
        message=refusal,
        hint=(
            "a replay of a REST copy stays within the limits of its account in CALLERS_FILE,"
            " whoever publishes it"
        ),
    )


def given_up(deliveries: str) -> Failure:
    """Pub/Sub forwarded a request that the worker could not record."""
    return Failure(
        code=Code.UNAVAILABLE,
        message=f"the copier could not record the request in {deliveries} deliveries",
        hint="nothing was copied; replay the dead letter once the copier's store is back",
    )


def bug(error: Exception) -> Failure:
    """The copier itself is wrong."""
    return Failure(
        code=Code.INTERNAL,
        message=f"the copier met a bug: {type(error).__name__}",
        hint="the worker's log has the details; replay the dead letter once it is mended",
    )


def _hint(code: Code, message: str, request: CopyRequest, source: Source | None) -> str:
    kind = _cannot_be_copied(source, request) if source and code in _REFUSALS else ""
    if kind:
        return f"{kind}; see {_COPY_DOC}"
    if _KEY_WORDS.search(message):
        return _about_key(request)
    place = f"--project={request.target_project} --region={request.target_location}"
    return {
        Code.PERMISSION_DENIED: _about_grants(request),
        Code.UNAUTHENTICATED: _about_grants(request),
        Code.ALREADY_EXISTS: (
            "choose another destination_model_id, or say if_exists: skip or new_version;"
            f" see what is there: gcloud ai models list {place}"
        ),
        Code.RESOURCE_EXHAUSTED: (
            f"project {request.target_project} has used up a quota in {request.target_location};"
            " replay the dead letter later, or raise it:"
            f" https://console.cloud.google.com/iam-admin/quotas?project={request.target_project}"
        ),
        Code.NOT_FOUND: (
            f"source or destination is gone: gcloud ai models describe {request.source.model}"
            f" --project={request.source.project} --region={request.source.location}"
        ),
    }.get(code, "")


def _cannot_be_copied(source: Source, request: CopyRequest) -> str:
    """Google's list of what CopyModel does not take."""
    if source.kind == "BQML":
        return "BigQuery ML models cannot be copied; export the model and upload it to the target"
    image = source.container_image
    if image and request.source.project != request.target_project and not _is_googles(image):
        return (
            f"a custom model with a third-party container ({image}) cannot be copied to another"
            f" project; upload it to {request.target_project} instead"
        )
    return ""


def _is_googles(image: str) -> bool:
    return any(part in image for part in _GOOGLE_IMAGES)


def _about_key(request: CopyRequest) -> str:
    if not request.kms_key_name:
        return "the target may demand a key: name one of its region as kms_key_name"
    return (
        f"the Vertex AI service agent of {request.target_project} must be able to use the key:"
        f" gcloud kms keys add-iam-policy-binding {request.kms_key_name}"
        f" --member={_service_agent(request.target_project)}"
        " --role=roles/cloudkms.cryptoKeyEncrypterDecrypter"
    )


def _about_grants(request: CopyRequest) -> str:
    source, target = request.source.project, request.target_project
    account = request.custom_service_account
    if account:
        return (
            f"let {account} read the source: gcloud projects add-iam-policy-binding {source}"
            f" --member=serviceAccount:{account} --role=roles/aiplatform.user; and let the"
            f" Vertex AI service agent of {target} act for it: gcloud iam service-accounts"
            f" add-iam-policy-binding {account} --member={_service_agent(target)}"
            " --role=roles/iam.serviceAccountTokenCreator"
        )
    return (
        f"let the Vertex AI service agent of {target} read the source:"
        f" gcloud projects add-iam-policy-binding {source} --member={_service_agent(target)}"
        " --role=roles/aiplatform.serviceAgent; and see that the copier's own account has"
        f" roles/aiplatform.user on {target}"
    )


def _service_agent(project: str) -> str:
    number = f"$(gcloud projects describe {project} --format='value(projectNumber)')"
    return f"serviceAccount:service-{number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
