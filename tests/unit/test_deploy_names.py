"""What is deployed and what is programmed name the same things."""

import re
from dataclasses import fields

import pytest
from click.testing import CliRunner
from deploy.checks.__main__ import DEPLOY
from deploy.checks.configuration import Configuration, text_of

from model_copier.settings import Settings
from model_copy_publisher.cli import main
from model_copy_publisher.settings import NAMES

TERRAFORM = Configuration.read(DEPLOY / "terraform")
GRANTED = (
    ("jobs", "Jobs"),
    ("target", "Target"),
    ("cancel", "Cancel"),
    ("source", "Source"),
    ("waiter", "Waiter"),
)
# Set by Cloud Run, or only for tests or one machine, or on the api alone.
NOT_FOR_ALL = {"K_SERVICE", "HOST", "VERTEX_ENDPOINT", "CERTS_URL", "CALLERS_FILE"}


def resource(address: str):
    [block] = [block for block in TERRAFORM.of("resource") if block.address == address]
    return block


def test_every_setting_is_set_or_can_be():
    known = {setting.name.upper() for setting in fields(Settings)}
    meant = {name for name in known if not name.endswith("_EMULATOR_HOST")} - NOT_FOR_ALL
    [block] = [b for b in TERRAFORM.of("variable") if b.labels == ("settings",)]
    [validation] = block.inner("validation")

    free = {name for name in known if f'"{name}"' in str(validation["condition"])}
    merged = text_of(TERRAFORM.locals["settings"])
    fixed = {name for name in known if f"{name} =" in merged or f"{name}=" in merged}
    assert free | fixed == meant
    assert not free & fixed
    assert all(name in text_of(validation["error_message"]) for name in free)


def test_gcloud_sets_what_terraform_sets():
    script = (DEPLOY / "gcloud.sh").read_text()
    merged = text_of(TERRAFORM.locals["settings"])
    fixed = {s.name.upper() for s in fields(Settings) if f"{s.name.upper()} =" in merged}

    left_out = {name for name in fixed if f'"{name}=' not in script}
    assert left_out == {"ALLOWED_SERVICE_ACCOUNTS"}  # copy_accounts are Terraform's alone


def test_the_job_store_is_indexed_as_its_adapter_asks():
    adapter = pytest.importorskip(
        "model_copier.adapters.firestore_documents", reason="the store in Firestore is not here yet"
    )
    names = TERRAFORM.locals

    assert [text_of(name) for name in names["collections"]] == list(adapter.COLLECTIONS)
    assert {k: text_of(v) for k, v in names["indexed"].items() if k[0] != "_"} == adapter.INDEXED
    assert text_of(names["expiry_field"]) == adapter.TTL_FIELD


def test_gcloud_indexes_what_terraform_indexes():
    script = (DEPLOY / "gcloud.sh").read_text()
    names = TERRAFORM.locals

    for field, kind in names["indexed"].items():
        how = text_of(kind).lower()
        index = f"array-config={how}" if how == "contains" else f"order={how}"
        assert f" {field}:{index}" in script
    assert f"for collection in {' '.join(map(text_of, names['collections']))};" in script
    assert f"ttls update {text_of(names['expiry_field'])}" in script


def test_gcloud_grants_what_terraform_grants():
    script = (DEPLOY / "gcloud.sh").read_text()

    for name, role in GRANTED:
        permissions = resource(f"google_project_iam_custom_role.{name}").body["permissions"]
        listed = ",".join(text_of(each) for each in permissions)
        assert f'"${{ROLE}}{role}" {listed}\n' in script.replace(f'"{listed}"', listed)


def test_both_have_the_same_aws_mapping():
    mapping = resource("google_iam_workload_identity_pool_provider.aws").body["attribute_mapping"]
    [role] = [text_of(v) for k, v in mapping.items() if text_of(k) == "attribute.aws_role"]

    assert f"attribute.aws_role={role}" in (DEPLOY / "gcloud.sh").read_text()


def output(name: str) -> str:
    [block] = [block for block in TERRAFORM.of("output") if block.labels == (name,)]
    return text_of(block.body["value"])


def test_the_publisher_s_settings_are_ones_that_it_reads():
    written = set(re.findall(r'"(\w+) = ', output("publisher_config")))

    assert written >= {"project", "request_topic", "reply_topic"}
    assert written <= set(NAMES)


def test_the_publisher_s_environment_is_one_that_its_commands_read():
    written = set(re.findall(r"export (\w+)=", output("publisher_env")))

    doctor = CliRunner().invoke(main, ["doctor", "--help"]).output
    assert "MODEL_COPY_DEAD_LETTER_SUBSCRIPTION" in written
    assert written <= set(re.findall(r"MODEL_COPY_\w+", doctor))
