"""Hints: what a person can do about an error of Google's, decided by its cause.

The cause is the ErrorInfo and the violations of the error or, where Google sends none, its
well-known words; never the code alone. A wrong hint hands out rights, so nothing is said
where nothing is known. Every value that goes into a command is quoted for the shell.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from model_copier.domain.copy_request import CopyRequest, Source
from model_copier.domain.errors import NO_CAUSE, Cause, Code

COPY_DOC = "https://cloud.google.com/vertex-ai/docs/model-registry/copy-model"
# Google's own serving images; https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers
_GOOGLE_IMAGE = re.compile(
    r"(?:[a-z0-9-]+-docker\.pkg\.dev/(?:vertex-ai[a-z-]*|deeplearning-platform-release)"
    r"|(?:[a-z]+\.)?gcr\.io/(?:cloud-aiplatform|cloud-ml-algos|deeplearning-[a-z-]+|automl-[a-z-]+))/.+"
)
TUNED = "GENIE"  # a tuned Gemini, as `model_source_info` has it
# Google's guide for tuned models: https://github.com/google/skills, copy_deploy_guide.md
TWO_HOPS = (
    "Google advises two copies for a tuned model that changes project and location: first to the"
    " location, in the source project, then to the target project; see docs/tuned-gemini.md"
)
_PLACE_WORDS = re.compile(r"cross|region|location|project", re.IGNORECASE)
# What CopyModel may answer to a model that it does not take.
_REFUSALS = frozenset({Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED})
_KEY_WORDS = re.compile(r"crypto\s?key|kms|cmek", re.IGNORECASE)
_DENIED = re.compile(r"permission|denied|access|not authorized", re.IGNORECASE)
_DEMANDED = re.compile(r"requir|must|demand|constraint", re.IGNORECASE)
_KEY_IS_OFF = re.compile(r"disabled|destroyed|scheduled for destruction", re.IGNORECASE)
_NO_SUCH_HOST = re.compile(r"http2 header with status: 404|invalid hostname", re.IGNORECASE)
_PERMISSION = re.compile(r"[Pp]ermission '?(?P<permission>[a-z]+\.[A-Za-z]+\.[A-Za-z]+)'? denied")
_CONSTRAINT = re.compile(r"constraints/(?P<name>[A-Za-z0-9._-]+)")
_UNIQUE_ID = re.compile(r"vpcServiceControlsUniqueIdentifier: (?P<id>[A-Za-z0-9_-]{1,200})")
_PROJECT = re.compile(r"projects?[/ #]+(?P<project>[a-z0-9][a-z0-9.:-]{0,62})")
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}\.googleapis\.com")
_PLAIN = re.compile(r"[A-Za-z0-9._/:@#+-]{1,300}")
# Google's words for a cause, where an error comes without its ErrorInfo: through a proxy, over
# REST in an old form, or as the message of an operation.
_WORDS = (
    (re.compile(r"has not been used in project .* before or it is disabled"), "SERVICE_DISABLED"),
    (
        re.compile(r"billing (?:to be|is not|must be) enabled|billing .*disabled"),
        "BILLING_DISABLED",
    ),
    (
        re.compile(r"vpcServiceControlsUniqueIdentifier|VPC Service Controls"),
        "SECURITY_POLICY_VIOLATED",
    ),
    (_CONSTRAINT, "ORG_POLICY_VIOLATED"),
    (_PERMISSION, "IAM_PERMISSION_DENIED"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """An error and the request that met it."""

    message: str
    cause: Cause
    request: CopyRequest
    of_source: bool  # it was met when the copier read the source

    @property
    def project(self) -> str:
        """The project that the error is about, as far as it says so; "" otherwise."""
        told = self.cause.metadata.get("consumer") or self.message
        found = _PROJECT.search(told)
        return found["project"].rstrip(".:-") if found else ""

    @property
    def permission(self) -> str:
        """The permission that is missing, where it is named."""
        given = f"permission '{self.cause.metadata.get('permission', '')}' denied"
        found = _PERMISSION.search(given) or _PERMISSION.search(self.message)
        return found["permission"] if found else ""


def hint_of(
    code: Code,
    message: str,
    request: CopyRequest,
    source: Source | None = None,
    *,
    cause: Cause = NO_CAUSE,
    of_source: bool = False,
) -> str:
    """Say what would mend it; "" where the cause is not known."""
    case = _Case(message=message, cause=cause, request=request, of_source=of_source)
    if about := REASONS.get(reason_of(message, cause)):
        return about(case)
    kind = cannot_be_copied(source, request) if source and code in _REFUSALS else ""
    if kind:
        return f"{kind}; see {COPY_DOC}"
    two_ways = source and code in _REFUSALS and goes_two_ways(request, source)
    if two_ways and _PLACE_WORDS.search(message):
        return TWO_HOPS
    if _NO_SUCH_HOST.search(message):
        where = request.source.location if of_source else request.target_location
        return f"no host of Vertex AI serves models in {shown(where)}: name another location"
    if _KEY_WORDS.search(message):
        return _about_key(case)
    return _about_state(code, request)


def reason_of(message: str, cause: Cause) -> str:
    """Name the cause: Google's own reason, a violation's, or that of its well-known words."""
    if cause.reason in REASONS:
        return cause.reason
    for violation in cause.violations:
        if violation == "VPC_SERVICE_CONTROLS":
            return "SECURITY_POLICY_VIOLATED"
        if violation.startswith("constraints/"):
            return "ORG_POLICY_VIOLATED"
    if cause.reason:
        return cause.reason  # one that we do not know says at least that no other is meant
    return next((reason for words, reason in _WORDS if words.search(message)), "")


def cannot_be_copied(source: Source, request: CopyRequest) -> str:
    """Say why CopyModel does not take this source, by Google's list; "" where it may."""
    if source.kind == "BQML":
        return "BigQuery ML models cannot be copied; export the model and upload it to the target"
    image = source.container_image
    if image and request.source.project != request.target_project and not _is_googles(image):
        return (
            f"a custom model with a third-party container ({shown(image)}) cannot be copied to"
            f" another project; upload it to {_word(request.target_project)} instead"
        )
    return ""


def goes_two_ways(request: CopyRequest, source: Source) -> bool:
    """Tell whether a tuned model changes project and location at once."""
    return (
        source.kind == TUNED
        and request.source.project != request.target_project
        and request.source.location != request.target_location
    )


def shown(text: str) -> str:
    """Print what others wrote: as it is where it is plain, else so that it does nothing."""
    return text if _PLAIN.fullmatch(text) else repr(text[:300])


def _is_googles(image: str) -> bool:
    return bool(_GOOGLE_IMAGE.fullmatch(image))


def _about_service(case: _Case) -> str:
    given = case.cause.metadata.get("service", "")
    service = given if _SERVICE.fullmatch(given) else "aiplatform.googleapis.com"
    project = case.project or "THE_PROJECT_THAT_IT_NAMES"
    return (
        f"the API {service} is disabled: gcloud services enable {service}"
        f" --project={_word(project)}; wait some minutes, then replay the dead letter"
    )


def _about_billing(case: _Case) -> str:
    project = _word(case.project or "THE_PROJECT_THAT_IT_NAMES")
    return (
        f"billing is off: gcloud billing projects describe {project} shows the account, and"
        f" gcloud billing projects link {project} --billing-account=ACCOUNT turns it on"
    )


def _about_perimeter(case: _Case) -> str:
    found = _UNIQUE_ID.search(case.message)
    given = found["id"] if found else case.cause.metadata.get("uid", "")
    by_id = f" (unique id {shown(given)} in its audit log)" if given else ""
    return (
        f"a VPC Service Controls perimeter forbids it{by_id}, and no role helps: whoever runs the"
        f" perimeter adds a rule for {_word(case.request.source.project)} and"
        f" {_word(case.request.target_project)}"
    )


def _about_policy(case: _Case) -> str:
    told = " ".join((*case.cause.violations, *case.cause.metadata.values(), case.message))
    found = _CONSTRAINT.search(told)
    name = found["name"].rstrip(".") if found else ""
    if name == "gcp.restrictNonCmekServices":
        return "an organization policy demands a key: name one of the target's region, kms_key_name"
    look = (
        f": gcloud org-policies describe {_word(name)}"
        f" --project={_word(case.request.target_project)} --effective"
        if name
        else ""
    )
    return f"an organization policy forbids it, and no role helps{look}"


def _about_permission(case: _Case) -> str:
    permission, request = case.permission, case.request
    if permission.startswith("cloudkms."):
        return _about_key(case)
    if permission.startswith("iam.serviceAccounts."):
        return _about_account(case)
    if permission == "aiplatform.models.get" and case.of_source:
        return _grant(request.source.project, "roles/aiplatform.viewer")
    if permission in {"aiplatform.models.export", "aiplatform.models.get"}:
        return _about_agent(request)
    if permission.startswith("aiplatform."):
        project = request.source.project if case.of_source else request.target_project
        return _grant(project, "roles/aiplatform.user")
    return _about_other(permission)


def _about_account(case: _Case) -> str:
    """The copier acts as the request's account, and so does the target's service agent."""
    account = case.request.custom_service_account
    if not account:
        return _about_other(case.permission)
    if case.permission == "iam.serviceAccounts.actAs":
        return (
            "let the copier's own service account act as it: gcloud iam service-accounts"
            f" add-iam-policy-binding {_word(account)}"
            " --member=serviceAccount:COPIER --role=roles/iam.serviceAccountUser"
        )
    return _about_agent(case.request)


def _about_other(permission: str) -> str:
    return f"the permission {permission} is missing on what the message names" if permission else ""


def _grant(project: str, role: str) -> str:
    return (
        f"grant {role} on project {_word(project)} to the copier's own service account: gcloud"
        f" projects add-iam-policy-binding {_word(project)} --member=serviceAccount:COPIER"
        f" --role={role}"
    )


def _about_credentials(case: _Case) -> str:
    return (
        f"Vertex AI does not accept the copier's own credentials ({shown(case.cause.reason)}):"
        " see that its service account exists and is enabled"
    )


def _about_consumer(case: _Case) -> str:
    project = shown(case.project or case.request.target_project)
    return f"project {project} does not exist, was deleted, or may not be used by the copier"


def _about_quota(case: _Case) -> str:
    return _about_state(Code.RESOURCE_EXHAUSTED, case.request)


# https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto
REASONS: Mapping[str, Callable[[_Case], str]] = {
    "SERVICE_DISABLED": _about_service,
    "BILLING_DISABLED": _about_billing,
    "SECURITY_POLICY_VIOLATED": _about_perimeter,
    "ORG_POLICY_VIOLATED": _about_policy,
    "IAM_PERMISSION_DENIED": _about_permission,
    "CONSUMER_INVALID": _about_consumer,
    "USER_PROJECT_DENIED": _about_consumer,
    "RATE_LIMIT_EXCEEDED": _about_quota,
    "RESOURCE_QUOTA_EXCEEDED": _about_quota,
    "CREDENTIALS_MISSING": _about_credentials,
    "ACCESS_TOKEN_EXPIRED": _about_credentials,
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": _about_credentials,
    "ACCOUNT_STATE_INVALID": _about_credentials,
}


def _about_state(code: Code, request: CopyRequest) -> str:
    """Codes that say by themselves how things stand; none of these hints grants anything."""
    place = f"--project={_word(request.target_project)} --region={_word(request.target_location)}"
    name = request.source
    return {
        Code.ALREADY_EXISTS: (
            "choose another destination_model_id, or say if_exists: skip or new_version;"
            f" see what is there: gcloud ai models list {place}"
        ),
        Code.RESOURCE_EXHAUSTED: (
            f"project {_word(request.target_project)} has used up a quota in"
            f" {_word(request.target_location)};"
            " replay the dead letter later, or raise it:"
            " https://console.cloud.google.com/iam-admin/quotas?project="
            f"{quote(request.target_project, safe='')}"
        ),
        Code.NOT_FOUND: (
            f"source or destination is gone: gcloud ai models describe {_word(name.model)}"
            f" --project={_word(name.project)} --region={_word(name.location)}"
        ),
    }.get(code, "")


def _about_key(case: _Case) -> str:
    request = case.request
    if not request.kms_key_name:
        if _DEMANDED.search(case.message):
            return "the target demands a key: name one of its location as kms_key_name"
        return _about_other(case.permission)
    if _KEY_IS_OFF.search(case.message):
        return "enable the key's version, or name another key as kms_key_name"
    if not case.permission and not _DENIED.search(case.message):
        return ""
    return (
        f"the Vertex AI service agent of {_word(request.target_project)} must be able to use the"
        f" key: gcloud kms keys add-iam-policy-binding {_word(request.kms_key_name)}"
        f" --member={_service_agent(request.target_project)}"
        " --role=roles/cloudkms.cryptoKeyEncrypterDecrypter"
    )


def _about_agent(request: CopyRequest) -> str:
    """Vertex AI reads the source as the target's service agent, or as the request's account."""
    source, target = _word(request.source.project), _word(request.target_project)
    account = _word(request.custom_service_account)
    if request.custom_service_account:
        return (
            f"let {account} read the source: gcloud projects add-iam-policy-binding {source}"
            f" --member=serviceAccount:{account} --role=roles/aiplatform.user; and let the"
            f" Vertex AI service agent of {target} act for it: gcloud iam service-accounts"
            f" add-iam-policy-binding {account} --member={_service_agent(request.target_project)}"
            " --role=roles/iam.serviceAccountTokenCreator"
        )
    return (
        f"let the Vertex AI service agent of {target} read the source:"
        f" gcloud projects add-iam-policy-binding {source}"
        f" --member={_service_agent(request.target_project)} --role=roles/aiplatform.serviceAgent"
    )


def _service_agent(project: str) -> str:
    number = f"$(gcloud projects describe {_word(project)} --format='value(projectNumber)')"
    return f"serviceAccount:service-{number}@gcp-sa-aiplatform.iam.gserviceaccount.com"


def _word(value: str) -> str:
    """Make one word of a shell's command, whatever the value holds."""
    return shlex.quote(value)
