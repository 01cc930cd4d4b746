"""Reports about Vertex AI: names, kinds, keys, refusals."""

import shlex
from typing import Any

from local_cloud.stack import SOURCE_MODEL
from local_cloud.vertex import Code
from trials.ground import SOURCE, Ground, model, says, says_not, trial

KEY = "projects/gemini-fine-tuning-source/locations/us-central1/keyRings/r/cryptoKeys/k"
NUMBER = "110495173025"
# Of Google's ErrorInfo.
DISABLED: dict[str, Any] = {
    "reason": "SERVICE_DISABLED",
    "metadata": {"consumer": "projects/123456789012", "service": "aiplatform.googleapis.com"},
}
PERIMETER: dict[str, Any] = {
    "reason": "SECURITY_POLICY_VIOLATED",
    "metadata": {"uid": "x", "service": "aiplatform.googleapis.com"},
}


@trial(1, "googleapis/python-monitoring#523", "a model of a type that is not known yet is copied")
async def unknown_type(on: Ground) -> None:
    on.stack.vertex.add_model(model("5000000000000000042"), kind="NEW")

    told = await on.ask({"source_model_id": "5000000000000000042"})

    assert told["outcome"] == "succeeded", told


@trial(2, "googleapis/python-aiplatform#1068", "a project's number names the project of that id")
async def number_for_id(on: Ground) -> None:
    name = SOURCE.replace("gemini-fine-tuning-source", NUMBER)

    told = await on.ask({"source_model_id": name, "destination_model_id": "by-number"})

    assert told["outcome"] == "succeeded", told


@trial(3, "data-integrations/google-cloud#773", "a lost encryption key is told, by its name")
async def key_is_lost(on: Ground) -> None:
    on.stack.vertex.add_model(model("5000000000000000003"), kms_key_name=KEY)
    data = {"source_model_id": "5000000000000000003"}

    checked = await on.ask({**data, "validate_only": True})
    told = await on.ask(data)

    assert told["outcome"] == "succeeded", told
    says({"warnings": told["warnings"]}, KEY, "kms_key_name")
    says(checked, KEY)


@trial(
    8,
    "GoogleCloudPlatform/vertex-ai-samples#476",
    "a disabled API is told with the command that enables it, and no grant",
    alone=True,
)
async def api_is_disabled(on: Ground) -> None:
    on.stack.vertex.faults.refuse(
        "CopyModel",
        Code.PERMISSION_DENIED,
        "Vertex AI API has not been used in project 123456789012 before or it is disabled.",
        **DISABLED,
    )

    told = await on.ask({"destination_model_id": "api-disabled"})

    assert told["outcome"] == "failed", told
    says(told["error"], "gcloud services enable aiplatform.googleapis.com")
    says_not(told["error"], "roles/")


@trial(
    9,
    "googleapis/python-aiplatform#5132",
    "a perimeter's refusal is told as one, and advises no grant",
    alone=True,
)
async def perimeter(on: Ground) -> None:
    on.stack.vertex.faults.refuse(
        "CopyModel",
        Code.PERMISSION_DENIED,
        "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: x",
        **PERIMETER,
    )

    told = await on.ask({"destination_model_id": "perimeter"})

    assert told["outcome"] == "failed", told
    says_not(told["error"], "add-iam-policy-binding", "roles/aiplatform")
    says(told["error"], "perimeter")


@trial(10, "langchain4j/langchain4j#5865", "a zone or a typo is refused by its field")
async def no_such_location(on: Ground) -> None:
    for field in ("source_location", "target_location"):
        for wrong in ("us-central1-a", "us-centrall1"):
            told = await on.ask({field: wrong})
            assert told["outcome"] == "rejected", told
            says(told["error"], f"{field}: '{wrong}'", "us-central1")


@trial(
    12,
    "GoogleCloudPlatform/generative-ai#1308",
    "service agents that are being made are waited for",
    alone=True,
)
async def agents_are_being_made(on: Ground) -> None:
    on.stack.vertex.faults.refuse(
        "CopyModel",
        Code.FAILED_PRECONDITION,
        "Service agents are being provisioned (https://cloud.google.com/vertex-ai/docs/general/"
        "access-control#service-agents). Service agents are needed to read the Cloud Storage file"
        " provided. So please try again in a few minutes.",
    )

    told = await on.ask({"destination_model_id": "agents-late"})

    assert told["outcome"] == "succeeded" or "replay" in str(told.get("error")), told


@trial(
    13,
    "https://cloud.google.com/vertex-ai/docs/model-registry/copy-model",
    "a dry run says what is known to be refused: BigQuery ML, a third party's container",
)
async def dry_run_knows(on: Ground) -> None:
    on.stack.vertex.add_model(model("5000000000000000051"), kind="BQML")
    on.stack.vertex.add_model(
        model("5000000000000000052"), kind="CUSTOM", container_image="ghcr.io/acme/serving:1"
    )

    for name, words in (
        ("5000000000000000051", "BigQuery ML"),
        ("5000000000000000052", "ghcr.io/acme/serving:1"),
    ):
        told = await on.ask({"source_model_id": name, "validate_only": True})
        says(told, words)
        assert told["outcome"] == "rejected" or told.get("warnings"), told


@trial(
    7,
    "apache/airflow#63181",
    "a failed outcome says how to try again once its cause is gone, and that copies",
    alone=True,
)
async def retry_after_failure(on: Ground) -> None:
    on.stack.vertex.faults.refuse("CopyModel", Code.PERMISSION_DENIED)
    words = ("publish", SOURCE_MODEL, "retried", "--request-id", "airflow-0123", "--wait")

    first = await on.cli(*words)
    [line] = [each for each in first.out.splitlines() if each.startswith("again ")]
    command = line.partition("model-copy ")[2]
    again = await on.cli(*shlex.split(command), "--yes", "--wait")

    assert first.code == 1, first.all
    assert again.code == 0, again.all
    says(again.out, "succeeded")
