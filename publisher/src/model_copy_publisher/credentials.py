"""Google credentials of this machine, without keys where it is on AWS.

A machine on AWS has a role, and Workload Identity Federation takes it for an account
of Google's: the file that GOOGLE_APPLICATION_CREDENTIALS names says how, and holds no
secret. google-auth finds the role of an EC2 instance (IMDSv2); on ECS, Fargate, EKS and
MWAA the role comes another way, which botocore knows (the extra ``aws``).

No call to Resource Manager is ever made: ``google.auth.default`` asks it
for the name of the project, which nobody here needs and few machines are allowed to do.
"""

import functools
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google.auth
import google.auth.exceptions
import google.auth.transport.requests
import grpc
from google.auth.transport.grpc import AuthMetadataPlugin

from model_copy_publisher.causes import advice_on_aws, advice_on_refusal
from model_copy_publisher.errors import RefusedError, UnreachableError

SCOPES = ["https://www.googleapis.com/auth/pubsub"]
AWS_TOKEN_TYPE = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105  the name of a kind
# Where AWS says how else than from the instance a role is to be had: ECS, Fargate and EKS Pod
# Identity; IRSA on EKS; a developer's own machine.
ELSEWHERE = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_PROFILE",
)


class Credentials:
    """Those of the file ``named``, or the application default ones; they have no token yet.

    Raises:
        RefusedError: there are none, or they cannot be used as they are.
    """

    def __init__(self, named: str | None, *, host: str) -> None:
        self._google = _find(named)
        self._host = host
        self._request = google.auth.transport.requests.Request()

    def of_channel(self) -> grpc.ChannelCredentials:
        """Return what makes a gRPC channel use them."""
        plugin = AuthMetadataPlugin(self._google, self._request, default_host=self._host)
        return grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(), grpc.metadata_call_credentials(plugin)
        )

    def check(self, *, within_seconds: float, offline_advice: str) -> None:
        """Get a token, unless it is made here without a call.

        Raises:
            UnreachableError: the token endpoint does not answer.
            RefusedError: the credentials were refused.
        """
        if _signs_itself(self._google):
            return
        try:
            self._google.refresh(functools.partial(self._request, timeout=within_seconds))
        except google.auth.exceptions.TransportError as error:
            raise UnreachableError(
                f"Cannot get a token for Pub/Sub: {error}.",
                (self._on_aws and advice_on_aws(str(error))) or offline_advice,
            ) from error
        except google.auth.exceptions.GoogleAuthError as error:
            raise RefusedError(
                f"Cannot get a token for Pub/Sub: the credentials were refused ({error}).",
                (self._on_aws and advice_on_aws(str(error)))
                or advice_on_refusal(str(error), "iamcredentials.googleapis.com")
                or self.advice(),
            ) from error

    @property
    def account(self) -> str:
        """The service account of these credentials, or "" if they do not name it."""
        name = getattr(self._google, "service_account_email", None) or ""
        return name if "@" in name else ""  # a machine of Google's says "default" until it is asked

    def advice(self) -> str:
        """Return the likely fix for credentials that Google refused."""
        return _advice(self._info)

    @property
    def _info(self) -> Mapping[str, Any]:
        return getattr(self._google, "info", None) or {}

    @property
    def _on_aws(self) -> bool:
        return self._info.get("subject_token_type") == AWS_TOKEN_TYPE


def _find(named: str | None) -> Any:
    file = Path(named) if named else default_file(os.environ)
    try:
        info = read_info(file) if file else {}
        if info.get("type") == "external_account":
            found = federated(info, SCOPES)
        elif named:
            found, _ = google.auth.load_credentials_from_file(named, scopes=SCOPES)
        else:
            found, _ = google.auth.default(scopes=SCOPES)
    except google.auth.exceptions.GoogleAuthError as error:
        raise RefusedError(
            "No usable Google credentials were found on this machine"
            + (f" ({file}: {error})." if file else "."),
            "Set GOOGLE_APPLICATION_CREDENTIALS to a credentials file (on AWS: the one that gcloud"
            " iam workload-identity-pools create-cred-config writes), run gcloud auth"
            " application-default login, or set PUBSUB_EMULATOR_HOST.",
        ) from error
    return found.with_always_use_jwt_access(True) if _signs_itself(found) else found  # noqa: FBT003


def _signs_itself(found: Any) -> bool:
    """A service account's key signs its token here, without a call."""
    return hasattr(found, "with_always_use_jwt_access")


def default_file(env: Mapping[str, str]) -> Path | None:
    """Return the file that google-auth would read, if there is one."""
    if named := env.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    try:
        folder = Path(env.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    except RuntimeError:  # no HOME, and a user whom this machine does not know
        return None
    of_gcloud = folder / "application_default_credentials.json"
    return of_gcloud if of_gcloud.is_file() else None


def _advice(info: Mapping[str, Any]) -> str:
    audience = str(info.get("audience", ""))
    pool = audience.removeprefix("//iam.googleapis.com/").partition("/providers/")[0]
    if not pool:
        return "Log in again (gcloud auth application-default login), or check the role binding."
    who = (
        f"principalSet://iam.googleapis.com/{pool}/attribute.aws_role/"
        "arn:aws:sts::ACCOUNT:assumed-role/ROLE"
        if info.get("subject_token_type") == AWS_TOKEN_TYPE
        else f"principalSet://iam.googleapis.com/{pool}/*"
    )
    account = str(info.get("service_account_impersonation_url", ""))
    account = account.rpartition("/serviceAccounts/")[2].partition(":")[0]
    if account:
        return (
            "The role of this machine is not bound, or the provider rejects it. To bind it:"
            f" gcloud iam service-accounts add-iam-policy-binding {account}"
            f" --role=roles/iam.workloadIdentityUser --member={who}"
        )
    return f"The provider rejects this machine: see the condition of {audience}, for {who}."


def read_info(file: Path | str) -> Mapping[str, Any]:
    """Return what a credentials file says; nothing where google-auth will say what is wrong.

    Raises:
        RefusedError: it cannot be read.
    """
    try:
        info = json.loads(Path(file).read_bytes())
    except OSError as error:
        raise RefusedError(
            f"The credentials file {file} cannot be read: {error.strerror}.",
            "Correct --credentials-file, or GOOGLE_APPLICATION_CREDENTIALS.",
        ) from error
    except ValueError:
        return {}
    return info if isinstance(info, dict) else {}


def federated(info: Mapping[str, Any], scopes: Sequence[str]) -> Any:
    """Return credentials of an external account: a role on AWS, or another provider's token."""
    source = info.get("credential_source") or {}
    try:
        if info.get("subject_token_type") == AWS_TOKEN_TYPE:
            return _of_aws_role(info, scopes)
        if "executable" in source:
            from google.auth import pluggable  # noqa: PLC0415  seldom needed

            return pluggable.Credentials.from_info(info, scopes=scopes)
        from google.auth import identity_pool  # noqa: PLC0415  seldom needed

        return identity_pool.Credentials.from_info(info, scopes=scopes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise google.auth.exceptions.DefaultCredentialsError(str(error)) from error


def _of_aws_role(info: Mapping[str, Any], scopes: Sequence[str]) -> Any:
    from google.auth import aws  # noqa: PLC0415  only on AWS

    elsewhere = next((name for name in ELSEWHERE if os.environ.get(name)), None)
    if elsewhere is None and info.get("credential_source"):
        return aws.Credentials.from_info(info, scopes=scopes)
    if importlib.util.find_spec("botocore") is None:
        raise RefusedError(
            f"The AWS role of this machine is not the instance's ({elsewhere or 'see the file'}),"
            " and the package that finds it (botocore) is not installed.",
            "pip install './publisher[aws]', from a checkout of the copier: docs/install.md",
        )
    from model_copy_publisher.aws_role import AwsRole  # noqa: PLC0415  needs botocore

    own = {name: value for name, value in info.items() if name != "credential_source"}
    return aws.Credentials.from_info(
        own | {"aws_security_credentials_supplier": AwsRole()}, scopes=scopes
    )
