"""Advice for a refused call, derived from the text of the error; "" if the cause is unknown.

The same status has causes that a role fixes and causes that it does not: a disabled API, a
perimeter, a machine on AWS without a role. Advice for the wrong cause leads to needless grants.
"""

import re
from typing import Any

_PROJECT = re.compile(r"project[/ #s]+(?P<project>[a-z0-9][a-z0-9.:-]{0,62})")
_API = re.compile(r"apis/api/(?P<api>[a-z0-9-]+\.googleapis\.com)/")
_DETAILS = "grpc-status-details-bin"
# A path of the instance metadata service, in whatever words a failed call is told.
_METADATA = re.compile(r"169\.254\.169\.254|fd00:ec2::254|/latest/(?:api/token|meta-data)")
_OF_INSTANCE = "aws ec2 modify-instance-metadata-options --instance-id INSTANCE"


def advice_on_refusal(message: str, api: str) -> str:
    """Return the fix for a refusal that no role fixes; ``api`` is the one that was called."""
    project = _PROJECT.search(message)
    named = project["project"].rstrip(".:-") if project else "PROJECT"
    if "SERVICE_DISABLED" in message or "has not been used in project" in message:
        found = _API.search(message)
        return (
            f"Enable the API: gcloud services enable {found['api'] if found else api}"
            f" --project={named}, and wait a few minutes."
        )
    if "BILLING_DISABLED" in message or "billing to be enabled" in message:
        return f"Enable billing: gcloud billing projects describe {named} shows its account."
    if "SECURITY_POLICY_VIOLATED" in message or "vpcServiceControls" in message:
        return (
            "A VPC Service Controls perimeter forbids it: its administrator adds an ingress rule."
        )
    return ""


def told_by(error: Any) -> str:
    """Return the text of a gRPC error, with the reason from its details."""
    told = error.details() or ""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            told += " " + " ".join(
                re.findall(r"[A-Z]+(?:_[A-Z]+)+", value.decode(errors="replace"))
            )
    return told


def advice_on_aws(message: str) -> str:
    """Return the fix for an AWS error; such an error occurs before any call to Google."""
    if "Unable to retrieve AWS role name" in message:
        if _is_forbidden(message):
            return f"Instance metadata is disabled: {_OF_INSTANCE} --http-endpoint enabled"
        return (
            "This instance has no role: attach an instance profile, aws ec2"
            " associate-iam-instance-profile --instance-id INSTANCE --iam-instance-profile"
            " Name=PROFILE"
        )
    if "no AWS role" in message:
        return (
            "This machine has no AWS role: give the instance an instance profile, the ECS task a"
            " task role, or the pod's service account a role."
        )
    if re.search(r"Unable to (?:retrieve|determine) (?:the )?AWS", message):
        return (
            "The instance metadata service (IMDS) refused the call. If it is disabled:"
            f" {_OF_INSTANCE} --http-endpoint enabled"
        )
    if _METADATA.search(message):
        return (
            "The instance metadata service (IMDS) does not respond. In a container, hop limit 1"
            f" drops its response: {_OF_INSTANCE} --http-put-response-hop-limit 2. It may also be"
            " disabled (--http-endpoint enabled), and outside EC2 it does not exist."
        )
    return ""


def _is_forbidden(message: str) -> bool:
    return bool(re.search(r"\b403\b|[Ff]orbidden", message))
