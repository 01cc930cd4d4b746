"""Who a call comes from, by its headers: the decision alone.

Pure: no clock, no network, and no signature checked; ``Claimed`` is what a token says, and
``auth`` sees to it that somebody trustworthy said so. What must not break: exactly one
header counts, and every claim is there, of its type, and right. Nothing of a token is ever
part of an error.

https://cloud.google.com/run/docs/authenticating/service-to-service
"""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
ALGORITHM = "RS256"  # the only one that Google signs ID tokens with
# What Cloud Run leaves in the place of a signature that it has checked, so that nobody who sees
# the token there can use it elsewhere: the text as https://github.com/apigee/registry quotes it.
# https://cloud.google.com/run/docs/troubleshooting#signature-removed
MARKER = "SIGNATURE_REMOVED_BY_GOOGLE"
MAX_TOKEN = 8192  # Google's have about 1,000 characters
_HEADERS = (b"x-serverless-authorization", b"authorization")
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")


class UnauthenticatedError(Exception):
    """401: nobody can be told from this call. The words are for the caller."""


class ForbiddenError(Exception):
    """403: we know who calls, and they may not."""


class Role(Enum):
    """Whom a path is for."""

    ANYBODY = auto()
    PUSH = auto()
    CALLER = auto()


# Probes carry no token; the documents are the same for everybody and say nothing of anybody.
OPEN_PATHS = frozenset({"/health", "/ready", "/openapi.json", "/docs"})


def role_of(path: str) -> Role:
    """Tell whom a path is for; what nobody thought of is for Pub/Sub, which never asks for it."""
    if path in OPEN_PATHS:
        return Role.ANYBODY
    return Role.CALLER if path == "/v1" or path.startswith("/v1/") else Role.PUSH


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a token says of itself; its form is sound."""

    token: str
    key_id: str
    claims: dict[str, Any]
    signature_removed: bool

    @classmethod
    def read(cls, headers: Iterable[tuple[bytes, bytes]]) -> Self:
        """Take the token from the one header that counts.

        Cloud Run checks only the first of two and passes the other on untouched: so two
        are none. It may add an empty Authorization to the first (ADR 0024): that names nobody,
        and is none.

        Raises:
            UnauthenticatedError: there is no such token.
        """
        found = [
            value
            for name, value in headers
            if name.lower() in _HEADERS and (value.strip() or name.lower() != b"authorization")
        ]
        if not found:
            raise UnauthenticatedError("no token: send `Authorization: Bearer ID_TOKEN`")
        if len(found) > 1:
            raise UnauthenticatedError("two tokens: send one identity header, once")
        parts = _BEARER.fullmatch(found[0].decode("latin-1"))
        if not parts or len(found[0]) > MAX_TOKEN:
            raise UnauthenticatedError("the header should read `Bearer ID_TOKEN`, a signed JWT")
        header, claims = _object(parts[1]), _object(parts[2])
        if header.get("alg") != ALGORITHM:
            raise UnauthenticatedError(f"the token should be signed with {ALGORITHM}")
        key_id = header.get("kid")
        if not isinstance(key_id, str) or not key_id:
            raise UnauthenticatedError("the token does not say which key signed it")
        return cls(
            token=".".join(parts.groups()),
            key_id=key_id,
            claims=claims,
            signature_removed=parts[3] == MARKER,
        )

    def email(self, *, audiences: Sequence[str], now: float, skew: float) -> str:
        """Return who the token is of, once every claim is right at ``now``.

        Raises:
            UnauthenticatedError: naming the first claim that is not.
        """
        claims = self.claims
        if claims.get("iss") not in ISSUERS:
            raise UnauthenticatedError("the token was not issued by Google (iss)")
        if claims.get("aud") not in audiences:
            accepted = " or ".join(audiences) or "none"
            raise UnauthenticatedError(
                f"the token is for another audience (aud); accepted is {accepted}"
            )
        if _seconds(claims, "exp") + skew <= now:
            raise UnauthenticatedError("the token has expired (exp)")
        begins = max(_seconds(claims, "iat"), _seconds(claims, "nbf") if "nbf" in claims else 0)
        if begins - skew > now:
            raise UnauthenticatedError("the token is not valid yet (iat, nbf)")
        email = claims.get("email")
        if not isinstance(email, str) or not email:
            raise UnauthenticatedError("the token names no account (email)")
        if claims.get("email_verified") is not True:
            raise UnauthenticatedError("the account is not verified (email_verified)")
        return email


def _seconds(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**53:
        raise UnauthenticatedError(f"the token does not say when it holds ({name})")
    return value


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnauthenticatedError("the token is no JWT")
    return found
