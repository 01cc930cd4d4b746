"""Who gets in: every bad token, on every route of the real application, of both targets.

The routes are taken from the app; tokens are signed by the local cloud, whose certificates
are fetched over a socket.
"""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.auth import jwt
from starlette.routing import Route

from local_cloud.pubsub import PubSub, TokenSigner
from model_copier.app import build_app, routes_of
from model_copier.domain.access_policy import Caller, CallersFile
from model_copier.engine.outcome_waiter import OutcomeWaiter
from model_copier.settings import Settings, TokenChecks
from model_copier.web.identity import MARKER, MAX_TOKEN
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

AUDIENCE = "https://copier.example"
ENDPOINT = "https://copier-0-uc.a.run.app/v1/models/copy"
PUSHER = "pusher@serving.iam.gserviceaccount.com"
CALLER = "pipeline@ec2.iam.gserviceaccount.com"
STRANGER = "stranger@elsewhere.iam.gserviceaccount.com"
# What anybody may call, and why: probes carry no token, and the documents say nothing of anybody.
OPEN = {"/health", "/ready", "/openapi.json", "/docs"}
ASK = "source_model_id=7704127342733426688&destination_model_id=target-model-260213"
OTHER_KEY = TokenSigner(clock=time.time)
Headers = list[tuple[str, str]]


@dataclass
class Tokens:
    """Tokens of one account, good and bad, by the local cloud's key."""

    signer: TokenSigner
    account: str

    def good(self, **more: Any) -> str:
        return self.signer.mint(**{"email": self.account, "audience": AUDIENCE, **more})

    def claiming(self, **claims: Any) -> str:
        return self.good(claims=claims)

    def without(self, name: str) -> str:
        """Signed rightly, but for one claim that is not there."""
        token = self.good()
        claims = {k: v for k, v in _part(token, 1).items() if k != name}
        return bytes(jwt.encode(self.signer._signer, claims)).decode()

    def with_header(self, *, signature: str | None = None, **header: Any) -> str:
        """The header changed, and the signature left as it is or replaced."""
        head, claims, signed = self.good().split(".")
        changed = _part(f"{head}.", 0) | header
        parts = [_encoded(changed), claims, signed if signature is None else signature]
        return ".".join(parts)

    def with_marker(self) -> str:
        head, claims, _ = self.good().split(".")
        return f"{head}.{claims}.{MARKER}"


def _part(token: str, number: int) -> dict[str, Any]:
    text = token.split(".")[number]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def _encoded(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


def _one(token: str) -> Headers:
    return [("Authorization", f"Bearer {token}")]


# 401: nobody can be told from it.
NOBODY: dict[str, Callable[[Tokens], Headers]] = {
    "absent": lambda _: [],
    "empty": lambda _: [("Authorization", "")],
    "no bearer": lambda t: [("Authorization", t.good())],
    "basic": lambda _: [("Authorization", "Basic dXNlcjpwYXNz")],
    "malformed": lambda _: _one("a.b.c"),
    "two parts": lambda t: _one(".".join(t.good().split(".")[:2])),
    "four parts": lambda t: _one(t.good() + ".x"),
    "far too long": lambda t: _one(t.claiming(x="x" * MAX_TOKEN)),
    "not an object": lambda t: _one(f"{_encoded([])}.{_encoded([])}.{t.good().split('.')[2]}"),
    "wrong audience": lambda t: _one(t.good(audience="https://elsewhere.example")),
    "audience in other case": lambda t: _one(t.good(audience=AUDIENCE.upper())),
    "audience in a list": lambda t: _one(t.claiming(aud=[AUDIENCE])),
    "no audience": lambda t: _one(t.without("aud")),
    "wrong issuer": lambda t: _one(t.claiming(iss="https://accounts.example.com")),
    "no issuer": lambda t: _one(t.without("iss")),
    "expired": lambda t: _one(t.good(lifetime_seconds=-60)),
    "no expiry": lambda t: _one(t.without("exp")),
    "expiry in words": lambda t: _one(t.claiming(exp="tomorrow")),
    "expiry without end": lambda t: _one(t.claiming(exp=float("inf"))),
    "issued later": lambda t: _one(t.claiming(iat=int(time.time()) + 600)),
    "not yet valid": lambda t: _one(t.claiming(nbf=int(time.time()) + 600)),
    "unsigned": lambda t: _one(t.with_header(signature="")),
    "alg none": lambda t: _one(t.with_header(alg="none", signature="")),
    "alg None signed": lambda t: _one(t.with_header(alg="None")),
    "alg HS256 with the public key": lambda t: _one(t.with_header(alg="HS256")),
    "alg ES256": lambda t: _one(t.with_header(alg="ES256")),
    "alg a list": lambda t: _one(t.with_header(alg=["RS256"])),
    "no key named": lambda t: _one(t.with_header(kid="")),
    "unknown key named": lambda t: _one(t.with_header(kid="0" * 40)),
    "header changed after signing": lambda t: _one(t.with_header(typ="jwt")),
    "another key": lambda t: _one(OTHER_KEY.mint(email=t.account, audience=AUDIENCE)),
    "another key under the known name": lambda t: _one(_forged(t)),
    "email_verified false": lambda t: _one(t.claiming(email_verified=False)),
    "email_verified in words": lambda t: _one(t.claiming(email_verified="true")),
    "not said whether verified": lambda t: _one(t.without("email_verified")),
    "no email": lambda t: _one(t.without("email")),
    "email empty": lambda t: _one(t.claiming(email="")),
    "email a list": lambda t: _one(t.claiming(email=[t.account])),
    "both headers": lambda t: [("X-Serverless-Authorization", "Bearer x"), *_one(t.good())],
    "both headers, one empty": lambda t: [*_one(t.good()), ("X-Serverless-Authorization", "")],
    "one header twice": lambda t: _one(t.good()) * 2,
    "two tokens in one header": lambda t: [("Authorization", f"Bearer {t.good()}, Bearer x")],
    "the marker typed by hand": lambda t: _one(t.with_marker()),
}  # fmt: skip


def _forged(tokens: Tokens) -> str:
    head, claims, _ = tokens.good().split(".")
    signature = base64.urlsafe_b64encode(OTHER_KEY._signer.sign(f"{head}.{claims}".encode()))
    return f"{head}.{claims}.{signature.decode().rstrip('=')}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[PubSub]:
    async with PubSub() as pubsub:
        yield pubsub


@pytest.fixture
def settings(cloud: PubSub) -> Settings:
    return Settings(
        source_project="gemini-fine-tuning-source",
        target_project="gemini-fine-tuning-target",
        store="sqlite:///unused",
        audience=(AUDIENCE, ENDPOINT),
        push_account=PUSHER,
        callers_file=CallersFile(callers=(Caller(account=CALLER),)),
        certs_url=cloud.certs_url,
        follow_seconds=0,
        wait_seconds=0,
    )


@dataclass
class Door:
    """The application of a target, and its routes."""

    settings: Settings
    target: str = "all"

    def __post_init__(self) -> None:
        world = World()
        world.clock.at = datetime.now(UTC)
        parts = (self.target, world.deliveries, world.ticks, self.settings)
        self.world = world
        self.app = build_app(*parts)
        self.routes = routes_of(*parts, OutcomeWaiter(store=world.store))

    def ways(self) -> Iterator[tuple[str, str]]:
        """Each method of each route, with an id where one is due."""
        for route in self.routes:
            assert isinstance(route, Route)
            for method in sorted(route.methods or ()):
                yield method, route.path.replace("{id:copy_id}", "some-id")

    async def call(self, method: str, path: str, headers: Headers) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://copier") as client:
            return await client.request(method, path, headers=headers)


def guarded(door: Door) -> list[tuple[str, str]]:
    return [(method, path) for method, path in door.ways() if path not in OPEN]


def of_route(path: str) -> str:
    """Whose token a path is for."""
    return CALLER if path.startswith("/v1/") else PUSHER


@pytest.mark.parametrize("trick", NOBODY)
async def test_a_token_that_proves_nothing_is_401_on_every_route(settings, cloud, trick, capsys):
    door = Door(settings)

    for method, path in guarded(door):
        headers = NOBODY[trick](Tokens(cloud.signer, of_route(path)))
        answer = await door.call(method, path, headers)

        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert_says_nothing_of(headers, answer.text + capsys.readouterr().out)
    assert door.world.store.jobs == {}
    assert door.world.topics.letters == door.world.topics.replies == []


async def test_the_right_signature_of_another_account_is_403_on_every_route(settings, cloud):
    door = Door(settings)

    for method, path in guarded(door):
        for account in {CALLER, PUSHER, STRANGER} - {of_route(path)}:
            answer = await door.call(method, path, _one(Tokens(cloud.signer, account).good()))

            assert answer.status_code == 403, (method, path, account)
    assert door.world.store.jobs == {}


async def test_the_right_token_gets_in_on_every_route(settings, cloud):
    door = Door(settings)

    for method, path in guarded(door):
        for header in ("Authorization", "x-serverless-authorization"):
            token = Tokens(cloud.signer, of_route(path)).good()
            answer = await door.call(method, path, [(header, f"Bearer {token}")])

            assert answer.status_code not in {401, 403, 500}, (method, path)


async def test_each_audience_of_the_list_is_accepted(settings, cloud):
    """Google's samples mint a token for the URL that they call, with its path."""
    for audience in (AUDIENCE, ENDPOINT):
        token = Tokens(cloud.signer, CALLER).good(audience=audience)

        assert (await Door(settings).call("GET", "/v1/copies", _one(token))).status_code == 200


async def test_a_refusal_names_the_audiences_that_are_accepted(settings, cloud):
    token = Tokens(cloud.signer, CALLER).good(audience="https://elsewhere.example")

    answer = await Door(settings).call("GET", "/v1/copies", _one(token))

    assert answer.json()["detail"] == (
        f"the token is for another audience (aud); accepted is {AUDIENCE} or {ENDPOINT}"
    )


@pytest.mark.parametrize("other", [f"{ENDPOINT}/", ENDPOINT.removesuffix("/copy"), ""])
async def test_a_part_of_an_audience_is_another(settings, cloud, other):
    token = Tokens(cloud.signer, CALLER).good(audience=other)

    assert (await Door(settings).call("GET", "/v1/copies", _one(token))).status_code == 401


async def test_only_the_exceptions_are_open(settings):
    door = Door(settings)

    found = {path for method, path in door.ways() if (await door.call(method, path, [])).is_success}

    assert found == OPEN


@pytest.mark.parametrize("path", ["/V1/copies", "//v1/copies", "/v1", "/x", "/health/", "/ready/x"])
async def test_a_path_that_nobody_thought_of_is_not_open(settings, path):
    assert (await Door(settings).call("GET", path, [])).status_code == 401


@pytest.mark.parametrize("target", ["api", "worker", "all"])
async def test_every_target_has_routes_that_ask_who_calls(settings, target):
    door = Door(settings, target)

    assert {(await door.call(method, path, [])).status_code for method, path in guarded(door)} == {
        401
    }


async def test_401_and_403_have_one_shape(settings, cloud):
    door = Door(settings)
    stranger = _one(Tokens(cloud.signer, STRANGER).good())

    unknown, refused = [await door.call("GET", "/v1/copies", headers) for headers in ([], stranger)]

    assert unknown.json().keys() == refused.json().keys()
    assert {a.headers["content-type"] for a in (unknown, refused)} == {"application/problem+json"}
    assert unknown.json()["request_id"] == unknown.headers["x-request-id"]


async def test_a_caller_s_copies_are_their_own(settings, cloud):
    both = (Caller(account=CALLER), Caller(account=STRANGER))
    door = Door(replace(settings, callers_file=CallersFile(callers=both)))
    mine, theirs = (_one(Tokens(cloud.signer, a).good()) for a in (CALLER, STRANGER))
    key = [("Idempotency-Key", "nightly")]

    asked = await door.call("POST", f"/v1/models/copy?{ASK}", [*mine, *key])
    seen = await door.call("GET", "/v1/copies/nightly", mine)
    unseen = [
        await door.call(method, f"/v1/copies/nightly{what}", theirs)
        for method, what in (("GET", ""), ("POST", ":cancel"), ("POST", ":replay"))
    ]
    also = await door.call("POST", f"/v1/models/copy?{ASK}-2", [*theirs, *key])
    listed = await door.call("GET", "/v1/copies", theirs)

    assert (asked.status_code, seen.json()["requested_by"]) == (202, CALLER)
    assert [answer.status_code for answer in unseen] == [404] * 3
    assert also.status_code == 202  # the same key, of another account
    assert [copy["requested_by"] for copy in listed.json()["copies"]] == [STRANGER]


@pytest.mark.parametrize(
    ("caller", "field"),
    [
        (Caller(account=CALLER, source_projects=frozenset({"another"})), "source_project"),
        (Caller(account=CALLER, target_projects=frozenset({"another"})), "target_project"),
    ],
)
async def test_a_caller_with_limits_names_no_other_project(settings, cloud, caller, field):
    door = Door(replace(settings, callers_file=CallersFile(callers=(caller,))))

    token = _one(Tokens(cloud.signer, CALLER).good())
    answer = await door.call("POST", f"/v1/models/copy?{ASK}", token)

    assert answer.status_code == 403
    assert answer.json()["detail"].startswith(f"{field}: ")
    assert door.world.store.jobs == {}


@pytest.mark.parametrize(
    ("checks", "k_service", "status"),
    [
        (TokenChecks.VERIFY, "", 401),
        (TokenChecks.VERIFY, "model-copier", 401),
        (TokenChecks.TRUST_CLOUD_RUN, "", 401),
        (TokenChecks.TRUST_CLOUD_RUN, "model-copier", 200),
    ],
)
async def test_the_marker_counts_only_with_the_setting_and_on_cloud_run(
    settings, cloud, checks, k_service, status
):
    door = Door(replace(settings, token_checks=checks, k_service=k_service))

    answer = await door.call("GET", "/v1/copies", _one(Tokens(cloud.signer, CALLER).with_marker()))

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("beside", "status"),
    [
        ([("Authorization", "")], 200),
        ([("Authorization", "  ")], 200),
        ([("Authorization", ""), ("Authorization", "")], 200),
        ([("Authorization", "Bearer")], 401),
        ([("Authorization", "Bearer x")], 401),
        ([("Authorization", ""), ("Authorization", "Bearer x")], 401),
        ([("X-Serverless-Authorization", "")], 401),
    ],
)
async def test_an_empty_authorization_is_no_token(settings, cloud, beside, status):
    """ADR 0024: Cloud Run is said to leave one beside the header that it has checked."""
    on_cloud_run = {"token_checks": TokenChecks.TRUST_CLOUD_RUN, "k_service": "copier"}
    tokens = Tokens(cloud.signer, CALLER)

    for token, more in ((tokens.good(), {}), (tokens.with_marker(), on_cloud_run)):
        door = Door(replace(settings, **more))
        headers = [("X-Serverless-Authorization", f"Bearer {token}"), *beside]
        for order in (headers, headers[::-1]):
            assert (await door.call("GET", "/v1/copies", order)).status_code == status


@pytest.mark.parametrize("marker", [MARKER.lower(), MARKER + "x", MARKER[:-1], ""])
async def test_only_the_exact_marker_counts(settings, cloud, marker):
    door = Door(
        replace(settings, token_checks=TokenChecks.TRUST_CLOUD_RUN, k_service="model-copier")
    )
    head, claims, _ = Tokens(cloud.signer, CALLER).good().split(".")

    answer = await door.call("GET", "/v1/copies", _one(f"{head}.{claims}.{marker}"))

    assert answer.status_code == 401


async def test_where_signatures_may_be_gone_those_that_are_there_are_verified(settings):
    trusting = replace(settings, token_checks=TokenChecks.TRUST_CLOUD_RUN, k_service="copier")
    forged = OTHER_KEY.mint(email=CALLER, audience=AUDIENCE)

    assert (await Door(trusting).call("GET", "/v1/copies", _one(forged))).status_code == 401


async def test_every_decision_is_in_the_log_with_caller_and_request_id(settings, cloud, capsys):
    door = Door(settings)
    good, stranger = (_one(Tokens(cloud.signer, a).good()) for a in (CALLER, STRANGER))

    answers = [await door.call("GET", "/v1/copies", headers) for headers in (good, stranger, [])]

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(x["message"], x.get("caller"), x.get("status"), x["request_id"]) for x in lines] == [
        ("admitted", CALLER, None, answers[0].headers["x-request-id"]),
        ("refused", STRANGER, 403, answers[1].headers["x-request-id"]),
        ("refused", None, 401, answers[2].headers["x-request-id"]),
    ]


async def test_without_certificates_nobody_is_let_in_and_everybody_may_try_again(settings, cloud):
    door = Door(replace(settings, certs_url="http://127.0.0.1:9/certs"))

    answer = await door.call("GET", "/v1/copies", _one(Tokens(cloud.signer, CALLER).good()))

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def assert_says_nothing_of(headers: Headers, text: str) -> None:
    for _, value in headers:
        for part in value.split():
            assert len(part) < 20 or part not in text


@pytest.mark.parametrize("host", ["[", "a b", "x" * 5000, ":99999999"])
async def test_a_host_that_is_none_changes_nothing(settings, host):
    answer = await Door(settings).call("GET", "/v1/copies", [("Host", host)])

    assert answer.status_code == 401
    assert host not in answer.text
