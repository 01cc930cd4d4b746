"""ID tokens for the REST api, from whatever credentials this machine has.

``google.oauth2.id_token.fetch_id_token`` knows keys and Google's own machines. A machine on AWS
exchanges its role at Google's token service and asks IAM Credentials for the token of an account.
What must not break: the token names an account (``email``), or there is none.
"""

import json
import os
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import google.auth
import google.auth.exceptions
import google.auth.transport.requests
from google.auth import jwt

from model_copy_publisher.credentials import default_file, federated, read_info
from model_copy_publisher.errors import InvalidRequestError, RefusedError, UnreachableError

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
LONGEST_SECONDS = 30.0
# https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateIdToken
GENERATE = (
    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:generateIdToken"
)
_AUDIENCE = re.compile(r"[!-~]{1,512}")
_ACCOUNT = re.compile(r"[a-z0-9._-]+@[a-z0-9.-]+\.gserviceaccount\.com")


class _NoAccountError(Exception):
    """These credentials have no ID token of their own, and no account was named."""


def id_token(audience: str, *, credentials_file: str | None = None, account: str = "") -> str:
    """Return an ID token for ``audience`` with the email of its account.

    ``account``: the service account to impersonate; by default the one that the credentials name.

    Raises:
        InvalidRequestError: the audience or the account is none.
        RefusedError: there are no credentials, or Google refused them.
        UnreachableError: the token endpoint does not answer.
    """
    if not _AUDIENCE.fullmatch(audience):
        raise InvalidRequestError(
            "audience",
            f"{audience[:80]!r} should be one word, such as https://model-copier.example",
        )
    if account and not _ACCOUNT.fullmatch(account):
        raise InvalidRequestError(
            "account", f"{account[:80]!r} is not the address of a service account"
        )
    try:
        token = _token(audience, credentials_file, account)
    except google.auth.exceptions.TransportError as error:
        raise UnreachableError(
            f"Cannot get an ID token: {error}.",
            "Check the network, HTTPS_PROXY, and on AWS the instance metadata service"
            " (in a container its hop limit must be 2 or more).",
        ) from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise RefusedError(
            f"Cannot get an ID token: the credentials were refused ({error}).",
            "To see the account of these credentials: model-copy doctor.",
        ) from error
    except _NoAccountError as error:
        raise RefusedError(
            f"Cannot get an ID token: {error}.",
            "Name a service account that may call the api, and that these credentials may"
            " impersonate: --account NAME@PROJECT.iam.gserviceaccount.com",
        ) from error
    return _with_email(token)


def _token(audience: str, named: str | None, account: str) -> str:
    request = google.auth.transport.requests.Request()
    file = named or default_file(os.environ)
    info = read_info(file) if file else {}
    kind = info.get("type")
    if kind == "external_account":
        own = str(info.get("service_account_impersonation_url", ""))
        own = own.rpartition("/serviceAccounts/")[2].partition(":")[0]
        if not (account or own):
            raise _NoAccountError("a federated identity has no ID token of its own")
        # Not by way of the account's access token: an account may seldom impersonate itself.
        plain = {k: v for k, v in info.items() if k != "service_account_impersonation_url"}
        return _generated(federated(plain, SCOPES), request, audience, account or own)
    if account:
        found, _ = (
            google.auth.load_credentials_from_file(str(file), scopes=SCOPES)
            if file
            else google.auth.default(scopes=SCOPES)
        )
        return _generated(found, request, audience, account)
    if kind == "service_account":
        from google.oauth2 import service_account  # noqa: PLC0415  seldom needed

        return _refreshed(
            service_account.IDTokenCredentials.from_service_account_info(
                info, target_audience=audience
            ),
            request,
        )
    if kind == "impersonated_service_account":
        found, _ = google.auth.load_credentials_from_file(str(file), scopes=SCOPES)
        source = found._source_credentials  # noqa: SLF001  google-auth names it nowhere else
        return _generated(source, request, audience, found.service_account_email)
    if kind:
        raise _NoAccountError(
            f"credentials of the type {str(kind)[:40]!r} have no ID token of their own"
        )
    return _of_this_machine(audience, request)


def _of_this_machine(audience: str, request: Any) -> str:
    """Ask the metadata server of a machine of Google's."""
    from google.auth import compute_engine  # noqa: PLC0415  only on Google's machines
    from google.auth.compute_engine import _metadata  # noqa: PLC0415

    if not _metadata.ping(request):
        raise google.auth.exceptions.DefaultCredentialsError(
            "this machine has none; set GOOGLE_APPLICATION_CREDENTIALS"
        )
    return _refreshed(
        compute_engine.IDTokenCredentials(request, audience, use_metadata_identity_endpoint=True),
        request,
    )


def _refreshed(credentials: Any, request: Any) -> str:
    credentials.refresh(request)
    return str(credentials.token)


def _generated(credentials: Any, request: Any, audience: str, account: str) -> str:
    """Have IAM Credentials sign a token of ``account``."""
    access = _refreshed(credentials, request)
    answer = request(
        GENERATE.format(account=account),
        method="POST",
        body=json.dumps({"audience": audience, "includeEmail": True}).encode(),
        headers={"Authorization": f"Bearer {access}", "Content-Type": "application/json"},
        timeout=LONGEST_SECONDS,
    )
    told = _object(answer.data)
    if answer.status == HTTPStatus.OK and isinstance(told.get("token"), str):
        return str(told["token"])
    why = str(_object_in(told, "error").get("message", f"status {answer.status}"))
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise UnreachableError(f"Cannot get an ID token: {why}.", "Try again in a minute.")
    raise RefusedError(
        f"Cannot get an ID token of {account}: {why}.",
        "The caller needs iam.serviceAccounts.getOpenIdToken on that account; the role"
        " roles/iam.workloadIdentityUser has it: gcloud iam service-accounts"
        f" add-iam-policy-binding {account} --role=roles/iam.workloadIdentityUser"
        " --member=PRINCIPAL",
    )


def _with_email(token: str) -> str:
    """Return the token if it names an account.

    Raises:
        RefusedError: it names none, and the api would refuse it.
    """
    try:
        claims = jwt.decode(token, verify=False)
    except ValueError:
        claims = {}
    if isinstance(claims.get("email"), str):
        return token
    raise RefusedError(
        "The ID token names no account (email), so the api would refuse it.",
        "Use a service account's credentials, or --account.",
    )


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _object_in(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}
