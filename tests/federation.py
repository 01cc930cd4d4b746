"""Amazon and Google, as far as a machine without keys meets them.

Plays the instance metadata service (version 2), the container endpoint, Google's token
service, which checks the signature of the signed request as AWS does, IAM Credentials and
Pub/Sub's Publish. Google's hosts are reached by their own names, over TLS, through a proxy.
"""

import asyncio
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.pubsub_v1.types import PublishRequest, PublishResponse

PUBSUB, STS, IAM = "pubsub.googleapis.com", "sts.googleapis.com", "iamcredentials.googleapis.com"
POOL = "projects/123/locations/global/workloadIdentityPools/aws"
AUDIENCE = f"//iam.googleapis.com/{POOL}/providers/ec2"
ACCOUNT = "publisher@team-models.iam.gserviceaccount.com"
ROLE, REGION, SESSION_TOKEN = "pipeline", "eu-west-1", "session-token"
KEYS = {"instance": ("AKIAINSTANCE", "instance/secret"), "container": ("AKIACONTAINER", "c+secret")}


class Mint(Protocol):
    """Makes an ID token."""

    def __call__(self, account: str, audience: str, *, with_email: bool) -> str: ...


@dataclass
class Federation:
    """The servers, and what they were asked for."""

    folder: Path
    bound: bool = True
    instance_says: tuple[int, str] | None = None  # to whoever asks for the role's name
    impersonation_says: tuple[int, str] | None = None
    asked: list[str] = field(default_factory=list)  # METHOD path
    connects: list[str] = field(default_factory=list)  # hosts, of the proxy
    signed_by: list[str] = field(default_factory=list)  # access keys
    published: list[tuple[Any, dict[str, str]]] = field(default_factory=list)
    plain: str = ""  # URL of the endpoints of AWS
    proxy: str = ""
    mint: Mint | None = None

    def credentials_file(
        self, *, impersonate: bool = True, audience: str = AUDIENCE, instance: str = "/latest"
    ) -> Path:
        """What ``gcloud iam workload-identity-pools create-cred-config`` writes."""
        info: dict[str, Any] = {
            "type": "external_account",
            "audience": audience,
            "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
            "token_url": f"https://{STS}/v1/token",
            "credential_source": {
                "environment_id": "aws1",
                "region_url": f"{self.plain}{instance}/meta-data/placement/availability-zone",
                "url": f"{self.plain}{instance}/meta-data/iam/security-credentials",
                "regional_cred_verification_url": "https://sts.{region}.amazonaws.com"
                "?Action=GetCallerIdentity&Version=2011-06-15",
                "imdsv2_session_token_url": f"{self.plain}{instance}/api/token",
            },
        }
        if impersonate:
            info["service_account_impersonation_url"] = (
                f"https://{IAM}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
            )
        file = self.folder / "credentials.json"
        file.write_text(json.dumps(info))
        return file

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process on such a machine."""
        return {
            "PUBSUB_EMULATOR_HOST": "",
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.credentials_file()),
            "HTTPS_PROXY": self.proxy,
            "NO_PROXY": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(self.folder / "ca.pem"),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(self.folder / "ca.pem"),
        }

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, str]:
        """Answer one HTTP request; a status of 4xx says what is wrong with it."""
        self.asked.append(f"{method} {path}")
        if path.startswith("/latest/"):
            return self._instance(method, path.rstrip("/").removeprefix("/latest/"), headers)
        if path == "/container":
            known = headers.get("Authorization") == "container-token"
            return (200, json.dumps(_keys("container"))) if known else (401, "not this container")
        if path == "/v1/token":
            return self._exchange(dict(parse_qsl(body.decode())))
        if path.endswith(":generateIdToken"):
            return self._sign_in(path, headers.get("Authorization"), json.loads(body))
        if path.endswith(f"{ACCOUNT}:generateAccessToken"):
            return self._impersonate(headers.get("Authorization"))
        return 404, f"nothing at {path}"

    def _instance(self, method: str, name: str, headers: Any) -> tuple[int, str]:
        if (method, name) == ("PUT", "api/token"):
            return 200, "imds-token"
        if headers.get("X-aws-ec2-metadata-token") != "imds-token":
            return 401, "IMDSv2 wants a session token"
        return self._metadata(name.removeprefix("meta-data/"))

    def _metadata(self, name: str) -> tuple[int, str]:
        if name == "iam/security-credentials" and self.instance_says:
            return self.instance_says
        answers = {
            "placement/availability-zone": f"{REGION}b",
            "iam/security-credentials": ROLE,
            f"iam/security-credentials/{ROLE}": json.dumps({"Code": "Success"} | _keys("instance")),
        }
        return (200, answers[name]) if name in answers else (404, name)

    def _exchange(self, form: dict[str, str]) -> tuple[int, str]:
        try:
            self.signed_by.append(verify_caller_identity(form["subject_token"]))
        except AssertionError as error:
            return _refused(400, "invalid_grant", f"the signature is not AWS's: {error}")
        assert form["audience"] == AUDIENCE
        return 200, json.dumps(
            {
                "access_token": "federated-token",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 3600,
            }
        )

    def _impersonate(self, authorization: str | None) -> tuple[int, str]:
        if self.impersonation_says:
            return self.impersonation_says
        if authorization != "Bearer federated-token":
            return 401, "who?"
        if not self.bound:
            message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource"
            status = {"code": 403, "message": message, "status": "PERMISSION_DENIED"}
            return 403, json.dumps({"error": status})
        expires = datetime.now(UTC) + timedelta(hours=1)
        token = {"accessToken": "account-token", "expireTime": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}
        return 200, json.dumps(token)

    def _sign_in(
        self, path: str, authorization: str | None, asked: dict[str, Any]
    ) -> tuple[int, str]:
        """IAM Credentials: without ``includeEmail`` a token names no account."""
        if authorization != "Bearer federated-token":
            return 401, "who?"
        account = path.rpartition("/")[2].partition(":")[0]
        if not self.bound or account != ACCOUNT:
            message = "Permission 'iam.serviceAccounts.getOpenIdToken' denied on resource"
            status = {"code": 403, "message": message, "status": "PERMISSION_DENIED"}
            return 403, json.dumps({"error": status})
        assert self.mint is not None
        token = self.mint(account, asked["audience"], with_email=asked.get("includeEmail") is True)
        return 200, json.dumps({"token": token})


def verify_caller_identity(subject_token: str) -> str:
    """Check a signed GetCallerIdentity as AWS does, and return who signed it.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    signed = json.loads(unquote(subject_token))
    headers = {each["key"].lower(): each["value"] for each in signed["headers"]}
    url = urlsplit(signed["url"])
    assert (signed["method"], url.hostname) == ("POST", f"sts.{REGION}.amazonaws.com")
    assert headers["x-goog-cloud-target-resource"] == AUDIENCE, "meant for somebody else"
    assert headers["x-amz-security-token"] == SESSION_TOKEN
    scheme, _, fields = headers["authorization"].partition(" ")
    assert scheme == "AWS4-HMAC-SHA256"
    parts = dict(each.strip().split("=", 1) for each in fields.split(","))
    access_key, day, region, service, end = parts["Credential"].split("/")
    secret = dict(KEYS.values())[access_key]

    names = parts["SignedHeaders"].split(";")
    assert {"host", "x-amz-date", "x-amz-security-token"} <= {*names}
    query = "&".join(sorted(url.query.split("&")))
    canonical = "\n".join(
        [
            signed["method"],
            url.path or "/",
            query,
            *(f"{name}:{headers[name].strip()}" for name in names),
            "",
            parts["SignedHeaders"],
            hashlib.sha256(b"").hexdigest(),
        ]
    )
    scope = f"{day}/{region}/{service}/{end}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join([scheme, headers["x-amz-date"], scope, digest])
    key = f"AWS4{secret}".encode()
    for step in (day, region, service, end, to_sign):
        key = hmac.digest(key, step.encode(), "sha256")
    assert key.hex() == parts["Signature"], "it was not made with the role's secret"
    return str(access_key)


@asynccontextmanager
async def federation(folder: Path) -> AsyncIterator[Federation]:
    """All of it, running."""
    whole = Federation(folder)
    context = _make_certificates(folder)
    async with AsyncExitStack() as stack:
        port = stack.enter_context(_Http(whole, None)).port
        whole.plain = f"http://127.0.0.1:{port}"
        secure = stack.enter_context(_Http(whole, context)).port
        pubsub = await _serve_pubsub(whole, folder)
        stack.push_async_callback(pubsub[0].stop, None)
        ports = {PUBSUB: pubsub[1], STS: secure, IAM: secure}
        proxy = await asyncio.start_server(_Proxy(whole, ports).serve, "127.0.0.1", 0)
        await stack.enter_async_context(proxy)
        whole.proxy = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        yield whole


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, whole: Federation, context: ssl.SSLContext | None) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = whole.answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                kind = "application/json" if answer.startswith("{") else "text/plain"
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(answer.encode())

            do_GET = do_POST = do_PUT = _serve  # noqa: N815  http.server's names

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Proxy:
    """CONNECT, and nothing else, to the hosts that there are."""

    def __init__(self, whole: Federation, ports: dict[str, int]) -> None:
        self._whole = whole
        self._ports = ports

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        host = head.split()[1].partition(":")[0]
        self._whole.connects.append(host)
        if not head.startswith("CONNECT ") or host not in self._ports:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self._ports[host])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, forth), _pump(back, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while content := await reader.read(65_536):
            writer.write(content)
            await writer.drain()
    writer.close()


async def _serve_pubsub(whole: Federation, folder: Path) -> tuple[grpc.aio.Server, int]:
    async def publish(body: bytes, context: Any) -> bytes:
        request = PublishRequest.deserialize(body)
        whole.published.append((request, dict(context.invocation_metadata())))
        ids = [str(n) for n, _ in enumerate(request.messages)]
        return bytes(PublishResponse.serialize(PublishResponse(message_ids=ids)))

    server = grpc.aio.server()
    handlers: Any = {"Publish": grpc.unary_unary_rpc_method_handler(publish)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", handlers),)
    )
    pair = ((folder / "key.pem").read_bytes(), (folder / "google.pem").read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    return server, port


def _make_certificates(folder: Path) -> ssl.SSLContext:
    """An authority of our own, and a certificate of it for Google's names."""
    now, day = datetime.now(UTC), timedelta(days=1)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - day,
        not_valid_after=now + day,
    )
    hosts = x509.SubjectAlternativeName([x509.DNSName(each) for each in (PUBSUB, STS, IAM)])
    made = made.add_extension(hosts, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "ca.pem").write_bytes(signed)
    (folder / "google.pem").write_bytes(signed)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "google.pem", folder / "key.pem")
    return context


def _keys(whose: str) -> dict[str, str]:
    access_key, secret = KEYS[whose]
    expires = datetime.now(UTC) + timedelta(hours=6)
    return {
        "AccessKeyId": access_key,
        "SecretAccessKey": secret,
        "Token": SESSION_TOKEN,
        "Expiration": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
    }


def _refused(status: int, error: str, description: str) -> tuple[int, str]:
    return status, json.dumps({"error": error, "error_description": description})
