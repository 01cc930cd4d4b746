"""Hints name the thing, the project, and the command or role that mends it."""

from dataclasses import replace

import pytest

from model_copier.domain.copy_request import CopyRequest, Source
from model_copier.domain.errors import Code
from model_copier.domain.failure_messages import cancel_refused, failure, source_failure
from model_copier.domain.resource_names import ModelName

EXPORT = "Permission 'aiplatform.models.export' denied on resource '//x' (or it may not exist)."
NAME = ModelName(project="tuning", location="us-central1", model="7", version="1")
REQUEST = CopyRequest(source=NAME, target_project="serving", target_location="us-central1")
SOURCE = Source(name=NAME, known_as=NAME)


def test_a_missing_grant_names_the_service_agent_and_both_projects():
    hint = failure(Code.PERMISSION_DENIED, EXPORT, REQUEST, SOURCE).hint

    assert "gcloud projects add-iam-policy-binding tuning" in hint
    assert "gcloud projects describe serving --format='value(projectNumber)'" in hint
    assert "@gcp-sa-aiplatform.iam.gserviceaccount.com" in hint
    assert "--role=roles/aiplatform.serviceAgent" in hint


def test_with_an_account_of_its_own_the_grants_are_others():
    request = replace(REQUEST, custom_service_account="copier@serving.iam.gserviceaccount.com")

    hint = failure(Code.PERMISSION_DENIED, EXPORT, request, SOURCE).hint

    assert "serviceAccount:copier@serving.iam.gserviceaccount.com" in hint
    assert "roles/aiplatform.user" in hint
    assert "roles/iam.serviceAccountTokenCreator" in hint


@pytest.mark.parametrize("code", [Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT])
def test_a_bigquery_model_is_said_to_be_one(code):
    source = replace(SOURCE, kind="BQML")

    hint = failure(code, "not supported", REQUEST, source).hint

    assert hint.startswith("BigQuery ML models cannot be copied")
    assert "https://" in hint


def test_a_third_party_container_is_named_when_the_copy_leaves_its_project():
    source = replace(SOURCE, kind="CUSTOM", container_image="docker.io/acme/server:1")

    hint = failure(Code.FAILED_PRECONDITION, "not supported", REQUEST, source).hint

    assert "docker.io/acme/server:1" in hint
    assert "upload it to serving" in hint


@pytest.mark.parametrize(
    ("image", "target"),
    [
        ("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest", "serving"),
        ("docker.io/acme/server:1", "tuning"),
    ],
)
def test_googles_container_or_the_same_project_is_not_blamed(image, target):
    source = replace(SOURCE, kind="CUSTOM", container_image=image)
    request = replace(REQUEST, target_project=target)

    assert failure(Code.FAILED_PRECONDITION, "no", request, source).hint == ""


def test_a_key_without_a_grant_is_named_with_its_role():
    key = "projects/serving/locations/us-central1/keyRings/r/cryptoKeys/k"
    request = replace(REQUEST, kms_key_name=key)

    hint = failure(Code.PERMISSION_DENIED, "Cloud KMS CryptoKey denied", request, SOURCE).hint

    assert f"gcloud kms keys add-iam-policy-binding {key}" in hint
    assert "roles/cloudkms.cryptoKeyEncrypterDecrypter" in hint


def test_a_quota_is_named_with_its_project_and_region():
    hint = failure(Code.RESOURCE_EXHAUSTED, "quota", REQUEST, SOURCE).hint

    assert "project serving has used up a quota in us-central1" in hint


def test_a_taken_id_shows_the_ways_out():
    hint = failure(Code.ALREADY_EXISTS, "taken", REQUEST, SOURCE).hint

    assert "if_exists: skip or new_version" in hint
    assert "gcloud ai models list --project=serving --region=us-central1" in hint


def test_an_unknown_alias_is_looked_up_among_the_versions():
    found = source_failure(Code.NOT_FOUND, "not found", replace(REQUEST, source=NAME.at("golden")))

    assert found.message == (
        "source_model_id: projects/tuning/locations/us-central1/models/7@golden does not exist"
    )
    assert "gcloud ai models list-version 7 --project=tuning --region=us-central1" in found.hint


def test_a_source_that_may_not_be_read_names_the_role():
    denied = EXPORT.replace("export", "get")

    found = source_failure(Code.PERMISSION_DENIED, denied, REQUEST)

    assert "roles/aiplatform.viewer on project tuning" in found.hint


def test_what_nobody_knows_a_cause_for_gets_no_hint():
    assert failure(Code.DATA_LOSS, "gone", REQUEST, SOURCE).hint == ""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (Code.PERMISSION_DENIED, "lacks aiplatform.models.update on the target project"),
        (Code.UNIMPLEMENTED, "does not cancel copies there"),
        (Code.NOT_FOUND, "does not know the operation"),
        (Code.FAILED_PRECONDITION, "the copy goes on"),
    ],
)
def test_refused_cancel_is_worded_by_its_code(code, told):
    warning = cancel_refused(code)

    assert warning.startswith(f"a cancel was requested and refused ({code}): ")
    assert told in warning
