"""``model-copy`` without keys: an AWS role is taken for an account of Google's."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from command_line import COPY, Run
from federation import ACCOUNT, AUDIENCE, IAM, POOL, PUBSUB, STS, Federation, federation
from model_copy_publisher.credentials import Credentials


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Federation]:
    async with federation(tmp_path) as cloud:
        yield cloud


def container(cloud: Federation) -> dict[str, str]:
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{cloud.plain}/container",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "container-token",
        "AWS_REGION": "eu-west-1",
    }


async def test_the_role_of_an_instance_publishes_through_a_proxy(cloud: Federation, run: Run):
    command = await run(COPY, **cloud.env)
    code, output = await command.ends()

    assert code == 0, command.errors
    assert output.startswith("published  request ")
    assert cloud.asked[:2] == [
        "PUT /latest/api/token",
        "GET /latest/meta-data/placement/availability-zone",
    ]
    assert cloud.signed_by == ["AKIAINSTANCE"]
    [(request, metadata)] = cloud.published
    assert metadata["authorization"] == "Bearer account-token"
    assert metadata["x-goog-request-params"].startswith("topic=projects%2Fteam-models")
    assert json.loads(request.messages[0].data)["source_model_id"] == "7704127342733426688@1"


async def test_nobody_else_is_asked(cloud: Federation, run: Run):
    """Above all not Resource Manager, which few machines may ask and none needs."""
    command = await run(COPY, **cloud.env)

    assert (await command.ends())[0] == 0
    assert set(cloud.connects) == {STS, IAM, PUBSUB}


async def test_they_tell_whose_they_are(cloud: Federation):
    file = cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]

    assert Credentials(file, host=PUBSUB).account == ACCOUNT


async def test_the_role_of_a_container_is_found_too(cloud: Federation, run: Run):
    """ECS, Fargate, EKS and MWAA have no instance role; botocore knows where to look."""
    command = await run(COPY, **cloud.env, **container(cloud))

    assert (await command.ends())[0] == 0, command.errors
    assert cloud.signed_by == ["AKIACONTAINER"]
    assert not any("latest" in each for each in cloud.asked)


async def test_a_role_may_be_bound_itself_without_an_account(cloud: Federation, run: Run):
    env = cloud.env
    cloud.credentials_file(impersonate=False)
    command = await run(COPY, **env)

    assert (await command.ends())[0] == 0, command.errors
    assert cloud.published[0][1]["authorization"] == "Bearer federated-token"


async def test_a_role_that_is_not_bound_is_told_with_the_command_that_binds_it(
    cloud: Federation, run: Run
):
    cloud.bound = False
    command = await run(COPY, **cloud.env)

    assert await command.ends() == (4, "")
    assert "iam.serviceAccounts.getAccessToken" in command.errors
    assert f"gcloud iam service-accounts add-iam-policy-binding {ACCOUNT}" in command.errors
    assert f"principalSet://iam.googleapis.com/{POOL}/attribute.aws_role/" in command.errors
    assert not cloud.published


async def test_what_the_provider_does_not_admit_is_told(cloud: Federation, run: Run):
    """Here because the request is signed for another audience."""
    env = cloud.env
    cloud.credentials_file(impersonate=False, audience=AUDIENCE.replace("ec2", "other"))
    command = await run(COPY, **env)

    assert await command.ends() == (4, "")
    assert "invalid_grant" in command.errors
    assert "rejects this machine" in command.errors


async def test_a_machine_without_a_role_is_told_what_was_missing(cloud: Federation, run: Run):
    env = cloud.env
    cloud.credentials_file(instance="/nothing")
    command = await run(COPY, **env)

    assert await command.ends() == (4, "")
    assert "Cannot get a token for Pub/Sub" in command.errors


@pytest.mark.parametrize(
    ("says", "advice"),
    [
        ((404, "404 - Not Found"), "attach an instance profile"),
        ((403, "403 - Forbidden"), "--http-endpoint enabled"),
    ],
)
async def test_instance_without_a_profile_is_told_so(
    cloud: Federation, run: Run, says: tuple[int, str], advice: str
):
    """Google was never asked: no role of Google's mends it."""
    cloud.instance_says = says
    command = await run(COPY, **cloud.env)

    assert await command.ends() == (4, "")
    assert advice in command.errors
    assert "gcloud iam" not in command.errors


async def test_disabled_api_of_tokens_is_told_as_such(cloud: Federation, run: Run):
    cloud.impersonation_says = (
        403,
        "IAM Service Account Credentials API has not been used in project 8675309 before",
    )
    command = await run(COPY, **cloud.env)

    assert await command.ends() == (4, "")
    assert "services enable iamcredentials.googleapis.com --project=8675309" in command.errors
    assert "add-iam-policy-binding" not in command.errors


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not a valid json file"),
        ('{"type": "external_account"}', "No usable Google credentials"),
        ('{"type": "unheard_of"}', "does not have a valid type"),
    ],
)
async def test_a_file_that_is_no_credentials_is_told(
    run: Run, tmp_path: Path, content: str, sentence: str
):
    file = tmp_path / "credentials.json"
    file.write_text(content)
    command = await run([*COPY, "--credentials-file", str(file)], PUBSUB_EMULATOR_HOST="")

    assert await command.ends() == (4, "")
    assert sentence in command.errors
    assert "Traceback" not in command.errors


async def test_no_credentials_at_all_says_what_to_set(run: Run):
    command = await run(COPY, PUBSUB_EMULATOR_HOST="")

    assert await command.ends() == (4, "")
    assert "No usable Google credentials were found on this machine." in command.errors
    assert "create-cred-config" in command.errors


async def test_hosts_that_need_no_proxy_get_none(cloud: Federation, run: Run):
    """Without the proxy nobody reaches Google's names from here."""
    command = await run([*COPY, "--debug"], **cloud.env | {"NO_PROXY": f"127.0.0.1,{STS}"})

    assert (await command.process.wait()) == 4
    assert STS not in cloud.connects
