"""What the configuration comes to, evaluated by Terraform itself: see ``terraform_run``."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from deploy.checks.__main__ import DEPLOY

from model_copier.domain.access_policy import callers_of
from model_copier.settings import Settings
from model_copy_publisher.settings import read as publisher_reads
from terraform_run import Grant, RefusedError, Terraform, with_numbers

pytestmark = pytest.mark.skipif(
    not shutil.which("terraform"), reason="terraform is not installed on this machine"
)
AWS = {"account": "123456789012", "role_arns": ["arn:aws:iam::123456789012:role/teams/ml/pipeline"]}
ALL: Mapping[str, Any] = {
    "source_projects": ["tuning-models", "serving-models"],
    "target_projects": ["serving-models", "other-serving"],
    "publishers": ["serviceAccount:a@tuning.iam.gserviceaccount.com", "group:b@example.com"],
    "waiters": ["group:b@example.com"],
    "operators": ["group:ops@example.com"],
    "waiter_project": "waiting-models",
    "callers": [
        {"account": "airflow@tuning.iam.gserviceaccount.com", "source_projects": ["tuning-models"]},
        {"account": "ci@tuning.iam.gserviceaccount.com"},
    ],
    "copy_accounts": {"serving-models": "copier@serving-models.iam.gserviceaccount.com"},
    "reply_subscriptions": {"team-a": {"readers": ["group:a@example.com"]}},
    "aws": AWS,
    "bigquery_replies": True,
}


@pytest.fixture
def terraform(tmp_path: Path) -> Terraform:
    return Terraform.of(tmp_path)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """With everything that there is."""
    terraform = Terraform.of(tmp_path_factory.mktemp("all"))
    terraform.apply(**ALL)
    return terraform


def environment(terraform: Terraform, target: str) -> dict[str, str]:
    made = terraform.made
    [service] = [
        v for k, v in made.items() if k.startswith(f"google_cloud_run_v2_service.{target}")
    ]
    env: dict[str, str] = service["template"][0]["containers"][0]["env"]
    return env


def test_with_the_least_that_is_required_it_all_fits_together(terraform):
    planned = terraform.plan()

    assert set(planned.values()) == {("create",)}
    assert not [address for address in planned if "aws" in address or "bigquery_table" in address]


def test_the_services_may_do_this_and_nothing_else(terraform):
    terraform.apply()

    worker = "serviceAccount:model-copy-worker@serving-models.iam.gserviceaccount.com"
    assert {grant[:3] for grant in terraform.granted() if grant.member == worker} == {
        ("topic", "model-copy-replies", "roles/pubsub.publisher"),
        ("topic", "model-copy-dead-letters", "roles/pubsub.publisher"),
        ("topic", "model-copy-ticks", "roles/pubsub.publisher"),
        ("project", "serving-models", "projects/serving-models/roles/ModelCopyJobs"),
        ("project", "serving-models", "projects/serving-models/roles/ModelCopyTarget"),
        ("project", "tuning-models", "projects/tuning-models/roles/ModelCopySource"),
    }
    assert {grant[:3] for grant in terraform.granted() if "-push@" in grant.member} == {
        ("service", "model-copy-worker", "roles/run.invoker")
    }


def test_a_service_agent_reads_other_projects_only_and_only_without_an_account(applied):
    granted = applied.granted()

    agent = "serviceAccount:service-000000000000@gcp-sa-aiplatform.iam.gserviceaccount.com"
    account = "serviceAccount:copier@serving-models.iam.gserviceaccount.com"
    readers = {(g.on, g.member) for g in granted if g.role == "roles/aiplatform.serviceAgent"}
    assert readers == {("tuning-models", agent), ("serving-models", agent)}  # for other-serving
    assert {(g.on, g.role.rpartition("/")[2]) for g in granted if g.member == account} == {
        ("tuning-models", "ModelCopyExport"),
        ("serving-models", "ModelCopyExport"),
    }
    assert {
        g.member.partition("@")[0] for g in granted if g.role == "roles/iam.serviceAccountUser"
    } == {
        "serviceAccount:model-copy-worker",
        "serviceAccount:model-copy-api",
    }


def test_a_role_on_aws_is_admitted_as_its_session_is_named(applied):
    made, granted = applied.made, applied.granted()

    session = "arn:aws:sts::123456789012:assumed-role/pipeline"
    provider = made['google_iam_workload_identity_pool_provider.aws["publisher"]']
    assert provider["attribute_condition"] == f'attribute.aws_role in ["{session}"]'
    [member] = [g.member for g in granted if g.role == "roles/iam.workloadIdentityUser"]
    assert member.endswith(f"/workloadIdentityPools/model-copy-aws/attribute.aws_role/{session}")


READER = "serviceAccount:model-copy-aws@serving-models.iam.gserviceaccount.com"


def test_machines_on_aws_wait_without_a_project(terraform):
    """By a subscription that is always there: they can read it, and delete nothing."""
    terraform.apply(aws=AWS, reply_subscriptions={"replies-for-aws": {"readers": [READER]}})

    assert {grant[:3] for grant in terraform.granted() if grant.member == READER} == {
        ("topic", "model-copy-requests", "roles/pubsub.publisher"),
        ("subscription", "replies-for-aws", "roles/pubsub.subscriber"),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"aws": AWS},
        {"waiters": ["group:b@example.com"]},
        {"aws": AWS, "waiter_project": "serving-models"},
        {"waiters": ["group:b@example.com"], "reply_subscriptions": {"a": {"readers": [READER]}}},
        {"aws": AWS, "reply_subscriptions": {"a": {"readers": ["group:b@example.com"]}}},
    ],
)
def test_waiting_beside_the_requests_is_refused(wrong, terraform):
    """F8: the shipped example let EC2 delete the subscription to the requests."""
    with pytest.raises(RefusedError, match=r"waiter_project (is missing|should be another)"):
        terraform.plan(**wrong)


def test_waiters_are_kept_from_requests_and_letters_by_a_project_of_their_own(applied):
    granted = applied.granted()

    waiting = {grant.on for grant in granted if grant.role.endswith("/ModelCopyWaiter")}
    assert waiting == {"waiting-models"}
    publishers = {grant for grant in granted if grant.member == "group:b@example.com"}
    assert publishers == {
        Grant("topic", "model-copy-requests", "roles/pubsub.publisher", "group:b@example.com"),
        Grant("topic", "model-copy-replies", "roles/pubsub.subscriber", "group:b@example.com"),
        Grant(
            "project",
            "waiting-models",
            "projects/waiting-models/roles/ModelCopyWaiter",
            "group:b@example.com",
        ),
    }


def test_the_callers_file_is_one_that_the_service_reads(applied):
    [version] = [v for k, v in applied.made.items() if "secret_version" in k]

    airflow, ci = callers_of(tomllib.loads(version["secret_data"])).callers
    assert airflow.account == "airflow@tuning.iam.gserviceaccount.com"
    assert airflow.source_projects == frozenset({"tuning-models"})
    assert airflow.target_projects is None
    assert (ci.account, ci.source_projects) == ("ci@tuning.iam.gserviceaccount.com", None)


def test_the_services_start_with_the_settings_that_they_are_given(applied, tmp_path):
    pytest.importorskip(
        "model_copier.adapters.firestore_documents", reason="the store in Firestore is not here yet"
    )
    callers = tmp_path / "callers.toml"
    callers.write_text('[[caller]]\naccount = "ci@tuning.iam.gserviceaccount.com"\n')

    for target in ("worker", "api"):
        env = with_numbers(environment(applied, target))
        assert ("CALLERS_FILE" in env) == (target == "api")
        settings = Settings.from_env({**env, "CALLERS_FILE": str(callers), "K_SERVICE": target})
        assert settings.source_projects == {"tuning-models", "serving-models"}
        assert settings.target_projects == {"serving-models", "other-serving"}
        assert set(settings.project_ids.values()) == {
            "tuning-models",
            "serving-models",
            "other-serving",
        }
        assert settings.allowed_service_accounts == {ALL["copy_accounts"]["serving-models"]}
        assert settings.store == "firestore://serving-models/model-copy?collection=model-copy"
        assert settings.audience[0] == "https://model-copy.serving-models.example"
        # Google's samples mint tokens for the URL that they call, with or without its path.
        urls = [each for each in settings.audience[1:] if ".run.app" in each]
        assert len(urls) == (2 if target == "api" else 0)
        assert all("/model-copy-api-" in each.replace("https://", "/") for each in urls)
        assert [each.endswith("/v1/models/copy") for each in urls] == [False, True][: len(urls)]


def test_the_publisher_reads_the_settings_that_are_printed(applied, tmp_path):
    (tmp_path / "config.toml").write_text(applied.outputs["publisher_config"])

    assert publisher_reads(tmp_path / "config.toml") == {
        "project": "waiting-models",
        "request_topic": "projects/serving-models/topics/model-copy-requests",
        "reply_topic": "projects/serving-models/topics/model-copy-replies",
        "custom_service_account": ALL["copy_accounts"]["serving-models"],
    }


def test_taking_a_publisher_out_takes_away_its_grant_and_no_other(applied):
    planned = applied.plan(**{**ALL, "publishers": ALL["publishers"][1:]})

    assert planned == {
        "google_pubsub_topic_iam_member.publishers"
        '["serviceAccount:a@tuning.iam.gserviceaccount.com"]': ("delete",)
    }


def test_another_target_project_takes_nothing_away(applied):
    planned = applied.plan(**{**ALL, "target_projects": [*ALL["target_projects"], "third-serving"]})

    created = {address for address, actions in planned.items() if actions == ("create",)}
    assert set(planned.values()) == {("create",), ("update",)}
    assert created
    assert all("third-serving" in address for address in created)


def test_another_name_is_another_copier_that_shares_nothing(applied, terraform):
    terraform.apply(
        name="copy-team-b",
        aws=AWS,
        waiter_project="waiting-models",
        publishers=ALL["publishers"],
    )

    shared = {"google_project_service", "data_google_project", "google_monitoring_alert_policy"}
    naming = (
        "name",
        "account_id",
        "role_id",
        "secret_id",
        "collection",
        "workload_identity_pool_id",
    )
    names = [
        {
            (address.partition(".")[0], values[argument])
            for address, values in each.made.items()
            for argument in naming
            if address.partition(".")[0] not in shared and argument in values
        }
        for each in (applied, terraform)
    ]
    assert len(names[0]) > 20
    assert names[0] & names[1] == set()


def test_the_example_is_accepted(terraform):
    shutil.copy(DEPLOY / "terraform/terraform.tfvars.example", terraform.folder / "z.auto.tfvars")

    assert terraform.plan()


# One plan tells all that is wrong with it, so that a few are enough.
WRONG: tuple[Mapping[str, Any], ...] = (
    {
        "project": "Serving",
        "region": "us-central1-a",
        "name": "x",
        "source_projects": [],
        "target_projects": ["projects/serving"],
        "image": "copier:latest",
        "copy_accounts": {"serving-models": "copier@tuning-models.iam.gserviceaccount.com"},
        "vertex_role": "roles/owner",
        "publishers": ["allUsers"],
        "waiters": ["domain:example.com"],
        "operators": ["someone@example.com"],
        "reply_subscriptions": {"ours": {"readers": ["allUsers"]}},
        "callers": [{"account": "Airflow"}],
        "audience": "two words",
        "settings": {"STORE": "sqlite:///jobs.db"},
        "max_instances": 0,
        "firestore_location": "Europe",
        "aws": {"account": "1", "role_arns": ["arn:aws:iam::1:role/a"]},
        "alert_channels": ["ops@example.com"],
    },
    {
        "project": "123456789012",
        "publishers": ["allAuthenticatedUsers"],
        "callers": [{"account": "a@b.cd"}, {"account": "a@b.cd"}],
        "aws": {"account": "123456789012", "role_arns": []},
    },
    {"waiter_project": "Waiting"},
    {"aws": {"account": "123456789012", "role_arns": ["arn:aws:iam::123456789012:role/*"]}},
    {"aws": {"account": "123456789012", "role_arns": ["arn:aws:iam::210987654321:role/a"]}},
)


@pytest.mark.parametrize("wrong", WRONG, ids=len)
def test_what_is_wrong_is_refused_by_name(wrong, terraform):
    with pytest.raises(RefusedError) as refused:
        terraform.plan(**wrong)

    told = str(refused.value)
    assert [name for name in wrong if f"var.{name} is " not in told.replace(".account", "")] == []
