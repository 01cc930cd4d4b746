"""What is known of a source before CopyModel: refusals, and what the copy will lack."""

import json
from dataclasses import replace
from typing import Any

import pytest

from model_copier.app import request_defaults
from model_copier.contract.request_schema import read_copy_data
from model_copier.domain.copy_request import CopyRequest, RequireKmsKey, Source
from model_copier.domain.errors import Code, RejectedError
from model_copier.domain.failure_messages import failure
from model_copier.domain.hints import TWO_HOPS
from model_copier.domain.planning import plan
from model_copier.domain.preconditions import losses, refusal_before_copy, warnings_before_copy
from model_copier.domain.resource_names import ModelName
from model_copier.settings import Settings, SettingsError
from world import REQUEST as REQUEST_DATA
from world import SOURCE as SOURCE_NAME
from world import World, request

NAME = ModelName(project="tuning", location="us-central1", model="7", version="1")
SOURCE = Source(name=NAME, known_as=NAME, kind="GENIE")
REQUEST = CopyRequest(source=NAME, target_project="serving", target_location="us-central1")
KEYED = SOURCE_NAME.rpartition("/")[0] + "/8"
KEY = "projects/keys/locations/us-central1/keyRings/r/cryptoKeys/k"
ENV = {
    "SOURCE_PROJECT": "tuning",
    "TARGET_PROJECT": "serving",
    "STORE": "sqlite:///jobs.db",
    "TOKEN_CHECKS": "none",
    "HOST": "127.0.0.1",
}


def test_bigquery_model_is_refused_before_it_is_asked_for():
    refusal = refusal_before_copy(REQUEST, replace(SOURCE, kind="BQML"))

    assert refusal
    assert refusal.code is Code.FAILED_PRECONDITION
    assert "BigQuery ML models cannot be copied" in refusal.message
    assert plan(REQUEST, replace(SOURCE, kind="BQML"), []) == refusal


@pytest.mark.parametrize(
    ("image", "refused"),
    [
        ("ghcr.io/acme/server:1", True),
        ("us-central1-docker.pkg.dev/acme/vertex-ai/server", True),
        ("docker.io/x-docker.pkg.dev/vertex-ai/y", True),
        ("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest", False),
        ("us-docker.pkg.dev/vertex-ai-restricted/prediction/x:1", False),
        ("europe-west4-docker.pkg.dev/vertex-ai/vertex-vision-model-garden-dockers/x", False),
        ("us.gcr.io/cloud-aiplatform/prediction/x", False),
        ("", False),
    ],
)
def test_only_a_third_party_container_is_refused(image: str, refused: bool):  # noqa: FBT001
    source = replace(SOURCE, kind="CUSTOM", container_image=image)
    inside = replace(REQUEST, target_project="tuning")

    assert bool(refusal_before_copy(REQUEST, source)) is refused
    assert refusal_before_copy(inside, source) is None


@pytest.mark.parametrize(
    ("rule", "source_key", "given", "refused"),
    [
        (RequireKmsKey.NEVER, KEY, "", False),
        (RequireKmsKey.WHEN_SOURCE_HAS_ONE, KEY, "", True),
        (RequireKmsKey.WHEN_SOURCE_HAS_ONE, KEY, KEY, False),
        (RequireKmsKey.WHEN_SOURCE_HAS_ONE, "", "", False),
        (RequireKmsKey.ALWAYS, "", "", True),
        (RequireKmsKey.ALWAYS, "", KEY, False),
    ],
)
def test_key_is_required_as_the_operator_says(
    rule: RequireKmsKey,
    source_key: str,
    given: str,
    refused: bool,  # noqa: FBT001
):
    request = replace(REQUEST, require_kms_key=rule, kms_key_name=given)

    refusal = refusal_before_copy(request, replace(SOURCE, kms_key_name=source_key))

    assert bool(refusal) is refused
    if refusal:
        assert refusal.message.startswith("kms_key_name: is required by the operator")


def test_lost_key_and_deployment_are_warned_of():
    source = replace(SOURCE, kms_key_name=KEY, deployed=True)

    key, deployment = warnings_before_copy(REQUEST, source)

    assert KEY in key
    assert "name a key in us-central1" in key
    assert "a copy is not: deploy it" in deployment
    assert warnings_before_copy(replace(REQUEST, kms_key_name=KEY), source) == (deployment,)
    assert warnings_before_copy(REQUEST, SOURCE) == ()


def test_two_hops_are_advised_for_a_tuned_model():
    """Google's guide does, where project and location both change."""
    away = replace(REQUEST, target_location="europe-west4")

    assert warnings_before_copy(away, SOURCE) == (TWO_HOPS,)
    assert warnings_before_copy(away, replace(SOURCE, kind="CUSTOM")) == ()
    assert warnings_before_copy(replace(away, target_project="tuning"), SOURCE) == ()
    refused = failure(
        Code.FAILED_PRECONDITION,
        "Cross-project and cross-region copy is not supported",
        away,
        SOURCE,
    )
    assert refused.hint == TWO_HOPS
    assert losses(away, SOURCE) == ()


def test_key_in_a_multi_region_is_warned_of():
    request = replace(REQUEST, target_location="us", kms_key_name=KEY)
    source = replace(SOURCE, name=NAME, known_as=NAME)

    assert any("supports no kms_key_name" in told for told in warnings_before_copy(request, source))


@pytest.mark.parametrize(
    ("account", "owner"),
    [
        ("copier@serving.iam.gserviceaccount.com", None),
        ("serving@appspot.gserviceaccount.com", None),
        ("12-compute@developer.gserviceaccount.com", None),
        ("copier@tuning.iam.gserviceaccount.com", "tuning"),
        ("tuning@appspot.gserviceaccount.com", "tuning"),
        ("copier@serving.example.com.iam.gserviceaccount.com", "example.com:serving"),
    ],
)
def test_account_of_another_project_is_rejected(account: str, owner: str | None):
    """CopyModel takes an account of the target project only."""
    settings = Settings.from_env(ENV | {"ALLOWED_SERVICE_ACCOUNTS": account})
    data = {"source_model_id": "7", "custom_service_account": account}
    if owner is None:
        assert read_copy_data(data, request_defaults(settings)).custom_service_account == account
        return

    with pytest.raises(RejectedError, match="custom_service_account: ") as refusal:
        read_copy_data(data, request_defaults(settings))

    assert f"is of project '{owner}'; it must be of the target, 'serving'" in str(refusal.value)


def test_key_that_is_always_required_is_asked_for_at_the_door():
    settings = Settings.from_env(ENV | {"REQUIRE_KMS_KEY": "always"})

    with pytest.raises(RejectedError, match="kms_key_name: is required by the operator"):
        read_copy_data({"source_model_id": "7"}, request_defaults(settings))


def test_unknown_rule_stops_the_start():
    with pytest.raises(SettingsError, match="never, when-source-has-one, always"):
        Settings.from_env(ENV | {"REQUIRE_KMS_KEY": "sometimes"})


def told(world: World) -> dict[str, Any]:
    """The data of the last reply."""
    found: dict[str, Any] = json.loads(world.topics.replies[-1].data)
    return found


async def test_key_of_the_source_is_warned_of_in_every_reply():
    """Once validated and once copied; a record tells the same again."""
    world = World()
    world.models.add(KEYED, kms_key_name=KEY, deployed=True)
    data = REQUEST_DATA | {"source_model_id": "8", "destination_model_id": "plain"}

    await world.deliver(request(data | {"validate_only": True}))
    validated = told(world)
    await world.deliver(request(data))
    await world.pass_time(600)
    copied = told(world)

    assert validated["outcome"] == "validated"
    assert copied["outcome"] == "succeeded"
    assert validated["warnings"] == copied["warnings"]
    assert KEY in copied["warnings"][0]


@pytest.mark.parametrize(
    "described", [{"kind": "BQML"}, {"kind": "CUSTOM", "container_image": "ghcr.io/a/b:1"}]
)
async def test_what_is_known_to_be_refused_is_never_asked_for(described: dict[str, str]):
    world = World()
    world.models.add(KEYED, **described)
    data = REQUEST_DATA | {"source_model_id": "8", "destination_model_id": "m"}

    await world.deliver(request(data | {"validate_only": True}))
    validated = told(world)
    await world.deliver(request(data))
    failed = told(world)

    assert (validated["outcome"], failed["outcome"]) == ("rejected", "failed")
    assert validated["error"] == failed["error"]
    assert failed["error"]["code"] == "FAILED_PRECONDITION"
    assert world.models.copies_asked == 0
