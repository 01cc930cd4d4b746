"""What the local Vertex AI refuses, in words as a person would meet them.

Pure. Google documents what a copy is refused for, but neither codes nor sentences; these
are the likeliest. Each sentence names the field that it is about, and what would mend it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from local_cloud.vertex_projects import Projects
from local_cloud.vertex_records import Code, ModelName, ModelVersion, VertexError, Why

# In Google's words as far as they are known; {model} is the source as the caller named it.
_WORDS = {
    Code.PERMISSION_DENIED: "Permission 'aiplatform.models.export' denied on resource "
    "'//aiplatform.googleapis.com/{model}' (or it may not exist).",
    Code.FAILED_PRECONDITION: "The Model {model} cannot be copied in its present state.",
    Code.RESOURCE_EXHAUSTED: "Quota exceeded for quota metric 'Job or LRO submission requests' "
    "of service 'aiplatform.googleapis.com'.",
    Code.INTERNAL: "Internal error encountered.",
    Code.UNAVAILABLE: "The service is currently unavailable.",
}
# Vertex AI's own serving images: its docs, "Prebuilt containers for inference".
_OWN_IMAGE = re.compile(r"(?:[a-z]+-docker\.pkg\.dev/vertex-ai|gcr\.io/cloud-aiplatform)/.+")
_KEY = re.compile(r"projects/[^/]+/locations/(?P<location>[^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")
_ACCOUNT = re.compile(r"[^@/\s]+@(?P<project>[^@/\s]+)\.iam\.gserviceaccount\.com")


# What Google says, by the reason in its ErrorInfo; {model}, and the metadata by name.
# googleapis/google/api/error_reason.proto, and reports of those who met them.
_API = {"service": "aiplatform.googleapis.com", "consumer": "projects/123456789012"}
_REASONS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "SERVICE_DISABLED": (
        "Vertex AI API has not been used in project 123456789012 before or it is disabled.",
        "googleapis.com",
        _API,
    ),
    "BILLING_DISABLED": (
        "This API method requires billing to be enabled on project #123456789012.",
        "googleapis.com",
        _API,
    ),
    "SECURITY_POLICY_VIOLATED": (
        "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: abc-1",
        "googleapis.com",
        {"uid": "abc-1", "service": "aiplatform.googleapis.com"},
    ),
    "IAM_PERMISSION_DENIED": (
        "Permission '{permission}' denied on resource '{resource}' (or it may not exist).",
        "iam.googleapis.com",
        {
            "permission": "aiplatform.models.export",
            "resource": "//aiplatform.googleapis.com/{model}",
        },
    ),
}


def worded(
    code: Code,
    message: str = "",
    *,
    model: str = "(no name)",
    reason: str = "",
    metadata: Mapping[str, str] | None = None,
    violations: tuple[str, ...] = (),
) -> VertexError:
    """An error in ``message``, or else in Google's usual words for such a reason or code."""
    words, domain, known = _REASONS.get(reason, (_WORDS.get(code, code.name), "googleapis.com", {}))
    told = {
        name: value.replace("{model}", model)
        for name, value in {**known, **(metadata or {})}.items()
    }
    words = (message or words).replace("{model}", model)
    for name, value in told.items():
        words = words.replace(f"{{{name}}}", value)
    why = Why(reason=reason, domain=domain, metadata=told, violations=violations)
    return VertexError(code, words, why if reason or violations else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A copy as far as anybody could object to it."""

    source: ModelName
    destination: ModelName
    kms_key_name: str = ""
    custom_service_account: str = ""

    def check_arguments(self) -> None:
        """Look at what no model needs to be read for.

        Raises:
            VertexError: INVALID_ARGUMENT.
        """
        key = _KEY.fullmatch(self.kms_key_name)
        if self.kms_key_name and not key:
            raise VertexError(
                Code.INVALID_ARGUMENT,
                f"encryption_spec.kms_key_name: {self.kms_key_name!r} is not of the form "
                "projects/P/locations/L/keyRings/R/cryptoKeys/K.",
            )
        if key and key["location"] != self.destination.location:
            raise VertexError(
                Code.INVALID_ARGUMENT,
                f"encryption_spec.kms_key_name: the key {self.kms_key_name} is in "
                f"{key['location']}, but must be in {self.destination.location}, where the copy "
                "is made.",
            )
        account = _ACCOUNT.fullmatch(self.custom_service_account)
        owner = account["project"] if account else ""
        if self.custom_service_account and owner != self.destination.project:
            raise VertexError(
                Code.INVALID_ARGUMENT,
                f"custom_service_account: {self.custom_service_account!r} is no service account "
                f"of the destination project {self.destination.project}.",
            )

    def objection(
        self, found: ModelVersion | None, *, grants: frozenset[str] | None, projects: Projects
    ) -> VertexError | None:
        """What keeps this source from being copied there, if anything does.

        Args:
            found: the source, if it exists.
            grants: who may read models of which project, as ``reader->source``; a reader is
                a destination project or a service account. None: everybody.
            projects: for the number in the name of a service agent.
        """
        here, there = self.source.project, self.destination.project
        reader = self.custom_service_account or there
        if here != there and grants is not None and f"{reader}->{here}" not in grants:
            denied = worded(
                Code.PERMISSION_DENIED, model=str(self.source), reason="IAM_PERMISSION_DENIED"
            )
            message = f"{denied.message} {self._mend(projects)}"
            return VertexError(Code.PERMISSION_DENIED, message, denied.why)
        if found is None:
            # With nothing more to say: GoogleCloudPlatform/magic-modules#12074
            return VertexError(Code.NOT_FOUND, "NOT_FOUND")
        if found.kind == "BQML":
            return VertexError(
                Code.FAILED_PRECONDITION,
                f"source_model: {found.name} is a BigQuery ML model; BigQuery ML models cannot "
                "be copied.",
            )
        image = found.container_image
        if here != there and image and not _OWN_IMAGE.fullmatch(image):
            return VertexError(
                Code.FAILED_PRECONDITION,
                f"source_model: {found.name} uses the third-party container image {image}; such "
                "a Model cannot be copied to another project.",
            )
        return None

    def _mend(self, projects: Projects) -> str:
        if self.custom_service_account:
            return (
                f"custom_service_account: grant roles/aiplatform.user on project "
                f"{self.source.project} to {self.custom_service_account}."
            )
        number = projects.number_of(self.destination.project)
        return (
            "source_model: grant roles/aiplatform.serviceAgent (Vertex AI Service Agent) on "
            f"project {self.source.project} to "
            f"service-{number}@gcp-sa-aiplatform.iam.gserviceaccount.com."
        )
