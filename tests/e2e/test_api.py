"""The api with tokens checked, as the callers of the first document meet it; and its end."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from e2e.conftest import quick_stack
from inbox import Inbox
from local_cloud.stack import CALLER, Stack
from local_cloud.topics import REPLIES, topic_path
from metadata_server import metadata_server
from world import TARGET

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = {
    "source_model_id": "7704127342733426688",
    "destination_model_id": "target-model-260213",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def checked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A local cloud whose pushes carry tokens, and whose copier checks all of them."""
    folder = tmp_path_factory.mktemp("checked")
    async with quick_stack(folder, with_api=True, check_tokens=True) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[Stack]:
    """A local cloud for a test that ends its api; it checks tokens too."""
    async with quick_stack(tmp_path, with_api=True, check_tokens=True) as running:
        running.vertex.copy_seconds = 6
        yield running


# The first document's client, word for word.
FIRST_CLIENT = """
import requests
import google.auth.transport.requests
import google.oauth2.id_token

API_URL = "https://my-copy-api-xxxxx-uc.a.run.app/v1/models/copy"
SOURCE_MODEL_ID = "7704127342733426688"
DEST_MODEL_ID = "target-model-260213"

# Google Cloud OIDC 토큰 발급 (서비스 계정 WIF나 키로 발급받음)
auth_req = google.auth.transport.requests.Request()
token = google.oauth2.id_token.fetch_id_token(auth_req, API_URL)

headers = {"Authorization": f"Bearer {token}"}
payload = {
    "source_model_id": SOURCE_MODEL_ID,
    "destination_model_id": DEST_MODEL_ID
}

print("Cloud Run으로 모델 복사를 지시합니다...")
response = requests.post(API_URL, headers=headers, params=payload)

if response.status_code == 200:
    print("✅ 성공:", response.json())
else:
    print("❌ 에러:", response.text)
"""


async def test_the_first_document_s_client_gets_its_copy(checked: Stack):
    """Word for word but for the URL: its token is for that URL, with the path."""
    program = FIRST_CLIENT.replace("https://my-copy-api-xxxxx-uc.a.run.app", checked.api.url)

    def mint(audience: str) -> str:
        return checked.pubsub.signer.mint(email=CALLER, audience=audience)

    with metadata_server(mint) as env:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program,
            env={"PYTHONUTF8": "1", **env},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()

    assert "✅ 성공: {'status': 'success'" in out.decode()
    assert f"'resource_name': '{TARGET}'" in out.decode()
    assert f"'requested_by': '{CALLER}'" in out.decode()
    assert checked.vertex.versions(TARGET)


async def test_the_readme_s_curl_gets_its_copy(checked: Stack):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = next(b for b in readme.split("```sh\n") if "control/tokens" in b).partition("```")[0]
    script = "\n".join(
        line for line in block.splitlines() if not line.startswith(("make", "source"))
    )

    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", script,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **checked.exports()},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()

    assert process.returncode == 0
    assert b'"status":"success"' in out


async def test_without_a_token_nothing_is_copied(checked: Stack):
    before = len(checked.vertex.copy_calls)

    async with httpx.AsyncClient(base_url=checked.api.url) as client:
        answer = await client.post("/v1/models/copy", params=ASK)

    assert answer.status_code == 401
    assert len(checked.vertex.copy_calls) == before


def calling(stack: Stack) -> httpx.AsyncClient:
    """A caller with a token of this moment."""
    headers = {"Authorization": f"Bearer {stack.token()}"}
    return httpx.AsyncClient(base_url=stack.api.url, headers=headers, timeout=60)


async def ask(stack: Stack, key: str) -> httpx.Response:
    async with calling(stack) as client:
        return await client.post(
            "/v1/models/copy",
            json=ASK | {"destination_model_id": key},
            headers={"Idempotency-Key": key},
        )


async def all_asked(stack: Stack, count: int) -> None:
    async with asyncio.timeout(60):
        while len(stack.vertex.copy_calls) < count:  # noqa: ASYNC110  a process moves it
            await asyncio.sleep(0.02)


async def test_a_killed_api_stops_no_copy_and_the_same_key_gets_the_outcome(own: Stack):
    """They end and are announced while no api is there, seen from outside; then it comes back."""
    keys = [f"m-{number}" for number in range(5)]
    replies = await Inbox.open(own.pubsub.address, topic_path(REPLIES), "outside")
    asking = [asyncio.create_task(ask(own, key)) for key in keys]
    await all_asked(own, 5)

    await own.api.kill()
    cut = await asyncio.gather(*asking, return_exceptions=True)
    told = [await replies.reply(key, seconds=60) for key in keys]
    await replies.close()
    await own.api.start(own.env)
    answers = await asyncio.gather(*(ask(own, key) for key in keys))

    assert all(isinstance(answer, httpx.TransportError) for answer in cut)
    assert [reply["outcome"] for reply in told] == ["succeeded"] * 5
    assert [answer.json()["status"] for answer in answers] == ["success"] * 5
    for reply, answer in zip(told, answers, strict=True):
        assert reply["resource_name"] == answer.json()["resource_name"]
        assert reply["requested_by"] == answer.json()["requested_by"] == CALLER
    assert len(own.vertex.copy_calls) == 5


async def test_a_caller_who_hangs_up_stops_nothing(own: Stack):
    own.vertex.copy_seconds = 2
    asking = asyncio.create_task(ask(own, "hung-up"))
    await all_asked(own, 1)
    asking.cancel()

    async with calling(own) as client:
        shown = await client.get("/v1/copies/hung-up", params={"wait": 60})

    assert shown.json()["outcome"] == "succeeded"


async def test_told_to_go_the_api_sends_a_hundred_waiters_away_with_an_answer(own: Stack):
    own.vertex.copy_seconds = 60
    asking = [asyncio.create_task(ask(own, "one-copy")) for _ in range(100)]
    await all_asked(own, 1)
    async with asyncio.timeout(30), calling(own) as client:
        # Answered behind those that came before it: by now they wait.
        await client.get("/v1/copies/one-copy")

    seconds = await own.api.stop()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    statuses = {a.status_code if isinstance(a, httpx.Response) else repr(a) for a in answers}
    assert statuses <= {202, 503}
    assert all(isinstance(a, httpx.Response) and a.headers["retry-after"] for a in answers)
    assert seconds < 5
