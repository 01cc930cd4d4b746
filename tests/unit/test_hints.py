"""Hints come from the cause of an error, never from its code; their values are quoted."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_cloud.vertex import Code as VertexCode
from local_cloud.vertex import Vertex
from model_copier.adapters.vertex import VertexModelService
from model_copier.app import request_defaults
from model_copier.contract.request_schema import read_copy_data
from model_copier.domain.copy_request import CopyRequest, Source
from model_copier.domain.errors import (
    NO_CAUSE,
    Cause,
    Code,
    RefusedError,
    RejectedError,
    UnavailableError,
    outcome_of_copy_call,
    outcome_of_read,
)
from model_copier.domain.failure_messages import failure, source_failure
from model_copier.domain.hints import REASONS, hint_of
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall
from model_copier.settings import Settings

NAME = ModelName(project="tuning", location="us-central1", model="7", version="1")
REQUEST = CopyRequest(source=NAME, target_project="serving", target_location="us-central1")
SOURCE = Source(name=NAME, known_as=NAME)
DISABLED = (
    "Vertex AI API has not been used in project 8675309 before or it is disabled. Enable it by"
    " visiting https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview"
)
PERIMETER = (
    "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: aB-1_c"
)
API = {"service": "aiplatform.googleapis.com", "consumer": "projects/8675309"}
ENABLE = "gcloud services enable aiplatform.googleapis.com --project=8675309"


def denied(permission: str) -> str:
    return f"Permission '{permission}' denied on resource '//x' (or it may not exist)."


@pytest.mark.parametrize(
    ("message", "cause", "told"),
    [
        (DISABLED, NO_CAUSE, ENABLE),
        ("no", Cause(reason="SERVICE_DISABLED", metadata=API), ENABLE),
        ("no", Cause(reason="BILLING_DISABLED", metadata=API), "billing projects describe 8675309"),
        (
            "This API method requires billing to be enabled. Please enable billing on project #12",
            NO_CAUSE,
            "gcloud billing projects link 12",
        ),
        (PERIMETER, NO_CAUSE, "unique id aB-1_c"),
        ("no", Cause(reason="SECURITY_POLICY_VIOLATED", metadata={"uid": "u"}), "unique id u"),
        ("no", Cause(violations=("VPC_SERVICE_CONTROLS",)), "a VPC Service Controls perimeter"),
        (
            "Constraint constraints/gcp.resourceLocations violated for projects/serving",
            NO_CAUSE,
            "gcloud org-policies describe gcp.resourceLocations --project=serving --effective",
        ),
        (
            "no",
            Cause(violations=("constraints/gcp.restrictNonCmekServices",)),
            "name one of the target's region, kms_key_name",
        ),
        (
            "no",
            Cause(
                reason="IAM_PERMISSION_DENIED", metadata={"permission": "aiplatform.models.upload"}
            ),
            "grant roles/aiplatform.user on project serving to the copier's own service account",
        ),
        (denied("aiplatform.models.export"), NO_CAUSE, "--role=roles/aiplatform.serviceAgent"),
        (denied("a.b.c"), NO_CAUSE, "the permission a.b.c is missing"),
        ("no", Cause(reason="CONSUMER_INVALID", metadata=API), "project 8675309 does not exist"),
        ("no", Cause(reason="ACCOUNT_STATE_INVALID"), "the copier's own credentials"),
        ("Received http2 header with status: 404", NO_CAUSE, "no host of Vertex AI serves models"),
    ],
)
def test_hint_comes_from_the_cause(message: str, cause: Cause, told: str):
    hint = failure(Code.PERMISSION_DENIED, message, REQUEST, SOURCE, cause=cause).hint

    assert told in hint
    of_source = source_failure(Code.PERMISSION_DENIED, message, REQUEST, cause=cause).hint
    if cause is not NO_CAUSE and "IAM" not in cause.reason:
        assert told in of_source


@pytest.mark.parametrize("cause", [NO_CAUSE, Cause(reason="NEW_REASON"), Cause(violations=("X",))])
@pytest.mark.parametrize("code", [Code.PERMISSION_DENIED, Code.UNAUTHENTICATED, Code.INTERNAL])
def test_unknown_cause_has_no_hint(code: Code, cause: Cause):
    """A role that is granted for nothing is worse than no hint."""
    assert failure(code, "The caller may not do that.", REQUEST, SOURCE, cause=cause).hint == ""
    assert source_failure(code, "The caller may not do that.", REQUEST, cause=cause).hint == ""


@pytest.mark.parametrize(
    "reason", sorted(REASONS.keys() - {"IAM_PERMISSION_DENIED", "ORG_POLICY_VIOLATED"})
)
def test_only_a_missing_permission_advises_a_grant(reason: str):
    hint = hint_of(
        Code.PERMISSION_DENIED, denied("x.y.z"), REQUEST, SOURCE, cause=Cause(reason=reason)
    )

    assert hint
    assert "add-iam-policy-binding" not in hint


def test_missing_act_as_names_account_and_role():
    request = replace(REQUEST, custom_service_account="copier@serving.iam.gserviceaccount.com")

    hint = failure(
        Code.PERMISSION_DENIED, denied("iam.serviceAccounts.actAs"), request, SOURCE
    ).hint

    assert "service-accounts add-iam-policy-binding copier@serving.iam.gserviceaccount.com" in hint
    assert "--role=roles/iam.serviceAccountUser" in hint
    assert "roles/aiplatform" not in hint


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("A CMEK is required in this project.", "the target demands a key"),
        (
            denied("cloudkms.cryptoKeyVersions.useToDecrypt"),
            "the permission cloudkms.cryptoKeyVersions.useToDecrypt is missing",
        ),
        ("Cloud KMS is not available now.", ""),
    ],
)
def test_key_that_the_request_does_not_name(message: str, told: str):
    hint = failure(Code.FAILED_PRECONDITION, message, REQUEST, SOURCE).hint

    assert told in hint
    assert bool(hint) is bool(told)


@pytest.mark.parametrize(
    "message", ["The Cloud KMS key version is disabled.", "CryptoKey k is destroyed"]
)
def test_key_that_is_off_needs_no_grant(message: str):
    key = "projects/serving/locations/us-central1/keyRings/r/cryptoKeys/k"

    hint = failure(
        Code.FAILED_PRECONDITION, message, replace(REQUEST, kms_key_name=key), SOURCE
    ).hint

    assert hint == "enable the key's version, or name another key as kms_key_name"


@given(st.text(min_size=1, max_size=40), st.sampled_from([*REASONS, "", "x"]), st.booleans())
def test_no_value_escapes_its_word(text: str, reason: str, of_source: bool):  # noqa: FBT001
    """Whatever a request or an error holds, a hint's command has no more words for it."""
    evil = f"{text};$(touch x)`id`"
    name = ModelName(project=evil, location=evil, model=evil, version=evil)
    request = CopyRequest(
        source=name,
        target_project=evil,
        target_location=evil,
        kms_key_name=evil,
        custom_service_account=evil,
    )
    cause = Cause(
        reason=reason, metadata={"service": evil, "consumer": evil, "permission": evil, "uid": evil}
    )

    for code in Code:
        for message in (evil, f"kms denied {evil}", denied("aiplatform.models.export")):
            hint = hint_of(code, message, request, cause=cause, of_source=of_source)
            for command in re.split(r"(?=gcloud )", hint)[1:]:
                assert evil not in command.replace(shlex.quote(evil), "")


def test_image_with_control_characters_is_shown_escaped():
    source = replace(SOURCE, kind="CUSTOM", container_image="docker.io/\x1b[2Jx")

    hint = failure(Code.FAILED_PRECONDITION, "no", REQUEST, source).hint

    assert "\x1b" not in hint


@pytest.mark.parametrize(
    "key",
    [
        "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k;touch x",
        "projects/p/locations/us-central1/keyRings/r/cryptoKeys/$(id)",
        "projects/p/locations/us-central1/keyRings/`id`/cryptoKeys/k",
        "projects/p q/locations/us-central1/keyRings/r/cryptoKeys/k",
        "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k\n",
        "projects/p/locations/us-central1/keyRings/r/cryptoKeys/\x1b[2J",
        f"projects/p/locations/us-central1/keyRings/r/cryptoKeys/{'k' * 64}",
    ],
)
def test_key_outside_googles_alphabet_is_rejected(key: str):
    defaults = request_defaults(
        Settings.from_env(
            {
                "SOURCE_PROJECT": "tuning",
                "TARGET_PROJECT": "serving",
                "STORE": "sqlite:///jobs.db",
                "TOKEN_CHECKS": "none",
                "HOST": "127.0.0.1",
            }
        )
    )

    with pytest.raises(RejectedError, match="kms_key_name: "):
        read_copy_data({"source_model_id": "7", "kms_key_name": key}, defaults)


PROVISIONING = (
    "Service agents are being provisioned (https://x). Please try again in a few minutes."
)


def test_agents_that_are_being_provisioned_are_a_later():
    """Google answers FAILED_PRECONDITION; a second call in some minutes works."""
    assert type(outcome_of_copy_call(Code.FAILED_PRECONDITION, PROVISIONING)) is UnavailableError
    assert type(outcome_of_read(Code.FAILED_PRECONDITION, PROVISIONING)) is UnavailableError


async def test_reasons_come_through_from_vertex_ai():
    """Over gRPC in the details of the error, and in the error of an operation."""
    vertex = Vertex(copy_seconds=0)
    vertex.add_model(str(NAME.at(None)))
    call = CopyCall(
        source=NAME, target_location="projects/serving/locations/us-central1", model_id="m"
    )
    async with vertex:
        models = VertexModelService(call_seconds=5, endpoint=f"http://{vertex.address}")
        vertex.faults.refuse("GetModel", VertexCode.PERMISSION_DENIED, reason="SERVICE_DISABLED")
        vertex.faults.refuse(
            "CopyModel", VertexCode.PERMISSION_DENIED, "no", violations=("VPC_SERVICE_CONTROLS",)
        )
        with pytest.raises(RefusedError) as read:
            await models.get_model(NAME)
        with pytest.raises(RefusedError) as asked:
            await models.copy_model(call)
        vertex.faults.copy_fails(reason="IAM_PERMISSION_DENIED", times=1)
        failed = await models.get_operation((await models.copy_model(call)).name)
        vertex.faults.copy_fails(VertexCode.FAILED_PRECONDITION, PROVISIONING, times=1)
        later = await models.get_operation((await models.copy_model(call)).name)
        await models.close()

    assert (read.value.reason, read.value.cause.domain) == ("SERVICE_DISABLED", "googleapis.com")
    assert read.value.metadata["service"] == "aiplatform.googleapis.com"
    assert asked.value.cause.violations == ("VPC_SERVICE_CONTROLS",)
    assert failed.cause.metadata["permission"] == "aiplatform.models.export"
    assert later.code is Code.UNAVAILABLE


def test_page_has_every_reason():
    page = (Path(__file__).parents[2] / "docs" / "failures.md").read_text()

    assert {reason for reason in REASONS if f"`{reason}`" in page} == REASONS.keys()
