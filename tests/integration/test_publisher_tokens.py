"""``model-copy token``: an ID token from a role on AWS, an account, or a machine of Google's."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.auth import jwt

from command_line import Run
from federation import ACCOUNT, IAM, STS, Federation, Mint, federation
from local_cloud.tokens import TokenSigner
from metadata_server import metadata_server

AUDIENCE = "https://my-copy-api-xxxxx-uc.a.run.app/v1/models/copy"
TOKEN = ["token", "--audience", AUDIENCE]


@pytest.fixture
async def cloud(tmp_path: Path, signer: TokenSigner) -> AsyncIterator[Federation]:
    async with federation(tmp_path) as cloud:
        cloud.mint = minting(signer)
        yield cloud


def minting(signer: TokenSigner) -> Mint:
    def mint(account: str, audience: str, *, with_email: bool) -> str:
        claims = {} if with_email else {"email": None}
        return signer.mint(email=account, audience=audience, claims=claims)

    return mint


@pytest.fixture
def signer() -> TokenSigner:

    return TokenSigner(clock=time.time)


def claims_of(output: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(output.strip(), verify=False)
    return claims


async def test_a_role_on_aws_gets_a_token_with_its_email(cloud: Federation, run: Run):
    """``fetch_id_token`` cannot: it knows no external accounts."""
    command = await run(TOKEN, **cloud.env)
    code, output = await command.ends()

    assert code == 0, command.errors
    claims = claims_of(output)
    assert (claims["aud"], claims["email"], claims["email_verified"]) == (AUDIENCE, ACCOUNT, True)
    assert cloud.signed_by == ["AKIAINSTANCE"]
    assert cloud.connects == [STS, IAM]
    assert not any("generateAccessToken" in each for each in cloud.asked)


async def test_a_direct_binding_names_its_account(cloud: Federation, run: Run):
    env = cloud.env
    cloud.credentials_file(impersonate=False)

    nameless = await run(TOKEN, **env)
    assert await nameless.ends() == (4, "")
    assert "--account" in nameless.errors
    command = await run([*TOKEN, "--account", ACCOUNT], **env)
    code, output = await command.ends()

    assert code == 0, command.errors
    assert claims_of(output)["email"] == ACCOUNT


async def test_a_missing_grant_is_told_with_its_command(cloud: Federation, run: Run):
    cloud.bound = False
    command = await run(TOKEN, **cloud.env)

    assert await command.ends() == (4, "")
    assert "iam.serviceAccounts.getOpenIdToken" in command.errors
    assert f"add-iam-policy-binding {ACCOUNT}" in command.errors


async def test_a_machine_of_google_asks_its_metadata(signer: TokenSigner, run: Run):
    with metadata_server(
        lambda audience: minting(signer)(ACCOUNT, audience, with_email=True)
    ) as env:
        command = await run(TOKEN, PUBSUB_EMULATOR_HOST="", **env)
        code, output = await command.ends()

    assert code == 0, command.errors
    assert claims_of(output)["aud"] == AUDIENCE


async def test_a_token_without_an_email_is_not_printed(signer: TokenSigner, run: Run):
    with metadata_server(
        lambda audience: minting(signer)(ACCOUNT, audience, with_email=False)
    ) as env:
        command = await run(TOKEN, PUBSUB_EMULATOR_HOST="", **env)

        assert await command.ends() == (4, "")
    assert "names no account (email)" in command.errors


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["token"], "audience: is missing"),
        (["token", "--audience", "two words"], "audience: 'two words' should be one word"),
        (
            [*TOKEN, "--account", "x; rm -rf /"],
            "account: 'x; rm -rf /' is not the address of a service account",
        ),
    ],
)
async def test_wrong_usage_names_the_option(run: Run, words: list[str], told: str):
    command = await run(words)

    assert await command.ends() == (2, "")
    assert told in command.errors


async def test_credentials_of_a_person_are_told_what_to_name(run: Run, tmp_path: Path):
    file = tmp_path / "credentials.json"
    person = {"type": "authorized_user", "client_id": "i", "client_secret": "s"}
    file.write_text(json.dumps(person | {"refresh_token": "r"}))
    command = await run([*TOKEN, "--credentials-file", str(file)])

    assert await command.ends() == (4, "")
    assert "'authorized_user' have no ID token of their own" in command.errors
    assert "--account" in command.errors
