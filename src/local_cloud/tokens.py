"""Identity tokens as Google signs them, by a key of this process, and the key to check them by.

For a push subscription that asks for one, and for whoever calls a service under test. Google's
own libraries check them, told where the certificates are:
``google.oauth2.id_token.verify_token(token, request, audience, certs_url=...)``.

The private key never leaves the process, and lives no longer.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt

# What Google's tokens carry: cloud.google.com/pubsub/docs/authenticate-push-subscriptions.
ISSUER = "https://accounts.google.com"
LIFETIME_SECONDS = 3_600


class TokenSigner:
    """A key that is made on first use, since not every run needs one."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock

    def mint(
        self,
        *,
        email: str,
        audience: str,
        lifetime_seconds: float = LIFETIME_SECONDS,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Sign a token of ``email`` for ``audience``, valid from now on.

        ``claims`` are added or replaced as they are, so that bad tokens can be made as well:
        ``{"email_verified": False}``, ``{"iss": "https://example.com"}``; a negative lifetime
        makes one that has expired.
        """
        now = int(self._clock())
        subject = _number_of(email)
        payload = {
            "aud": audience,
            "azp": subject,
            "email": email,
            "email_verified": True,
            "exp": int(now + lifetime_seconds),
            "iat": int(min(now, now + lifetime_seconds)),
            "iss": ISSUER,
            "sub": subject,
        }
        return bytes(jwt.encode(self._signer, payload | dict(claims or {}))).decode()

    def certificates(self) -> dict[str, str]:
        """The certificate in PEM by key id, as https://www.googleapis.com/oauth2/v1/certs."""
        return {self.key_id: self._certificate}

    def jwks(self) -> dict[str, Any]:
        """The same key as a JSON Web Key Set, as https://www.googleapis.com/oauth2/v3/certs."""
        numbers = self._key.public_key().public_numbers()
        return {
            "keys": [
                {
                    "kty": "RSA",
                    "use": "sig",
                    "alg": "RS256",
                    "kid": self.key_id,
                    "n": _base64url(numbers.n),
                    "e": _base64url(numbers.e),
                }
            ]
        }

    @cached_property
    def key_id(self) -> str:
        public = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(public).hexdigest()[:40]

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)

    @cached_property
    def _signer(self) -> Any:
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return crypt.RSASigner.from_string(pem, self.key_id)

    @cached_property
    def _certificate(self) -> str:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local-cloud")])
        now = datetime.fromtimestamp(self._clock(), UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _number_of(email: str) -> str:
    """Google's accounts have numbers; the same account has the same one in every run."""
    return str(10**20 + int(hashlib.sha256(email.encode()).hexdigest(), 16) % 10**20)


def _base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
