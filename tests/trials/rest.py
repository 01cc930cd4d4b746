"""Reports about those who call the REST api: tokens, headers, bodies."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from e2e.conftest import quick_stack
from local_cloud.stack import AUDIENCE, CALLER, SOURCE_MODEL, Stack
from trials.ground import Ground, says, trial

ASK = {"source_model_id": SOURCE_MODEL, "validate_only": "true"}
_CHECKED = asyncio.Lock()


@asynccontextmanager
async def checked(on: Ground) -> AsyncIterator[Stack]:
    """A second cloud, that lets nobody in without a token."""
    async with _CHECKED:
        folder = on.folder / f"checked-{time.monotonic_ns()}"
        async with quick_stack(folder, with_api=True, check_tokens=True) as stack:
            yield stack


async def answered(on: Ground, stack: Stack, *tokens: str) -> httpx.Response:
    """Ask with these tokens, each in a header of its own."""
    names = ("Authorization", "X-Serverless-Authorization")
    headers = [(name, f"Bearer {each}") for name, each in zip(names, tokens, strict=False)]
    url = f"{stack.api.url}/v1/models/copy"
    return await on.http.post(url, params=ASK, headers=headers)


@trial(
    30,
    "googleapis/google-auth-library-python#462",
    "a token without an email is refused by that name",
)
async def token_without_email(on: Ground) -> None:
    async with checked(on) as stack:
        token = stack.pubsub.signer.mint(email=CALLER, audience=AUDIENCE, claims={"email": None})
        answer = await answered(on, stack, token)

    assert answer.status_code == 401, answer.text
    says(answer.text, "names no account (email)")


@trial(
    31,
    "google-github-actions/auth#144",
    "a wrong audience is told with those that are right; the endpoint's URL is one of them",
)
async def wrong_audience(on: Ground) -> None:
    async with checked(on) as stack:
        mint = stack.pubsub.signer.mint
        wrong = await answered(on, stack, mint(email=CALLER, audience="32555940559.apps"))
        access = await answered(on, stack, "ya29.c.c0ASRK0Gb")
        right = [
            (await answered(on, stack, mint(email=CALLER, audience=each))).status_code
            for each in (AUDIENCE, stack.api.url, f"{stack.api.url}/v1/models/copy")
        ]

    assert (wrong.status_code, access.status_code, right) == (401, 401, [200, 200, 200])
    says(wrong.text, AUDIENCE, f"{stack.api.url}/v1/models/copy")
    says(access.text, "JWT")


@trial(32, "clock skew: a token used too early", "a few seconds are borne, half a minute is not")
async def clock_skew(on: Ground) -> None:
    # The clouds here allow 0.2 s between two clocks, so that tests need not wait.
    async with checked(on) as stack:
        mint, now = stack.pubsub.signer.mint, int(time.time())
        near = await answered(on, stack, mint(email=CALLER, audience=AUDIENCE))
        early = mint(email=CALLER, audience=AUDIENCE, claims={"iat": now + 30})
        far = await answered(on, stack, early)

    assert (near.status_code, far.status_code) == (200, 401)
    says(far.text, "not valid yet")


@trial(
    33,
    "https://cloud.google.com/run/docs/authenticating/service-to-service",
    "two identities are none",
)
async def two_headers(on: Ground) -> None:
    async with checked(on) as stack:
        answer = await answered(on, stack, stack.token(), stack.token())

    assert answer.status_code == 401, answer.text
    says(answer.text, "two tokens")


@trial(25, "encode/starlette#2748", "a path is right or wrong: no redirect to http://")
async def no_redirects(on: Ground) -> None:
    for path in ("/v1/models/copy/", "//v1/models/copy", "/v1/copies/a%0Ab", "/v1/copies/x/"):
        answer = await on.http.post(f"{on.stack.api.url}{path}", params=ASK)
        assert answer.status_code in {404, 405}, (path, answer.status_code)
        assert answer.headers["content-type"] == "application/problem+json", path
        assert answer.headers["x-request-id"], path


@trial(36, "habits of curl", "a body that is no JSON is told what to send")
async def curl_habits(on: Ground) -> None:
    form = await on.copy(data=ASK)
    multipart = await on.copy(files={"source_model_id": b"7"})
    text = await on.copy(content=b"{}", headers={"Content-Type": "text/json"})

    for answer in (form, multipart, text):
        assert answer.status_code == 415, answer.text
        says(answer.text, "Content-Type: application/json")


@trial(37, "varieties of HTTP", "chunks, Expect, HTTP/1.0 and gzip are read")
async def http_varieties(on: Ground) -> None:
    body = json.dumps({"source_model_id": SOURCE_MODEL, "validate_only": True}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield body[:10]
        yield body[10:]

    chunked = await on.copy(content=chunks(), headers={"Content-Type": "application/json"})
    expecting = await on.copy(content=body, headers={"Expect": "100-continue"})
    packed = await on.copy(content=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    bomb = await on.copy(content=gzip.compress(bytes(10**7)), headers={"Content-Encoding": "gzip"})
    old = await on.ended(
        *("curl", "--silent", "--http1.0", "--request", "POST"),
        f"{on.stack.api.url}/v1/models/copy?source_model_id={SOURCE_MODEL}&validate_only=True",
    )

    assert [each.status_code for each in (chunked, expecting, packed, bomb)] == [200, 200, 200, 413]
    says(old.out, '"outcome":"validated"')


@trial(38, "envelopes of EventBridge", "fields that are unknown are listed; `Prefer: wait` is kept")
async def eventbridge(on: Ground) -> None:
    envelope = {"version": "0", "detail-type": "x", "detail": {"source_model_id": SOURCE_MODEL}}
    answer = await on.copy(json=envelope)
    soon = await on.copy(
        json={"source_model_id": SOURCE_MODEL, "destination_model_id": "prefer"},
        headers={"Prefer": "wait=0"},
    )

    assert answer.status_code == 400, answer.text
    says(answer.text, "source_model_id: is required", "detail-type", "unknown fields")
    assert (soon.status_code, soon.headers["preference-applied"]) == (202, "wait=0")


@trial(
    18,
    "signalapp/Signal-Desktop#74",
    "an id as a JSON number is refused by its field, at every door",
)
async def numbers_for_ids(on: Ground) -> None:
    data = {"source_model_id": int(SOURCE_MODEL)}
    words = f"source_model_id: should be a string, not {SOURCE_MODEL}"

    answer = await on.copy(json=data)
    told = await on.ask(data)
    file = on.folder / "numbers.jsonl"
    file.write_text(json.dumps(data) + "\n")
    row = await on.cli("publish", "--from-file", str(file))

    assert answer.status_code == 400, answer.text
    says(answer.json()["detail"], words)
    says(told["error"], words)
    assert row.code == 2, row.all
    says(row.errors, "source_model_id: should be a string")
