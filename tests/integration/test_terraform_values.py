"""What the expressions come to, and what the variables refuse: by Terraform, without a provider.

The variables and those locals that need nothing else are planned in a folder of their own.
"""

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from deploy.checks.__main__ import DEPLOY
from deploy.checks.configuration import Configuration, text_of

from model_copier.callers import callers_of

pytestmark = pytest.mark.skipif(
    not shutil.which("terraform"), reason="terraform is not installed on this machine"
)
# Locals by name, with what stands in for other locals.
PLANNED = ("aws_roles", "callers_file", "role_prefix", "audience", "agents_in_sources")
REQUIRED = {
    "project": "serving-models",
    "source_projects": ["tuning-models", "serving-models"],
    "target_projects": ["serving-models", "other-serving"],
    "image": f"us-central1-docker.pkg.dev/serving-models/copier/copier@sha256:{'0' * 64}",
}
Plan = Callable[..., Mapping[str, Any]]


class RefusedError(Exception):
    """Terraform's own words."""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    shutil.copy(DEPLOY / "terraform/variables.tf", tmp_path)
    values = Configuration.read(DEPLOY / "terraform").locals
    outputs = {name: {"value": "${" + text_of(values[name]) + "}"} for name in PLANNED}
    (tmp_path / "planned.tf.json").write_text(json.dumps({"output": outputs}))

    def run(**variables: Any) -> Mapping[str, Any]:
        (tmp_path / "a.auto.tfvars.json").write_text(json.dumps(REQUIRED | variables))
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CHECKPOINT_DISABLE": "1"}
        terraform = ["terraform", f"-chdir={tmp_path}"]
        planned = subprocess.run(
            [*terraform, "plan", "-no-color", "-input=false", "-out=plan"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if planned.returncode:
            raise RefusedError(" ".join(planned.stderr.split()))
        shown = subprocess.run(
            [*terraform, "show", "-json", "plan"], env=env, capture_output=True, check=True
        )
        changes = json.loads(shown.stdout)["output_changes"]
        return {name: change["after"] for name, change in changes.items()}

    return run


def test_the_role_of_a_machine_on_aws_is_told_as_its_session_names_it(plan):
    arn = "arn:aws:iam::123456789012:role/teams/ml/pipeline"

    planned = plan(aws={"account": "123456789012", "role_arns": [arn]})

    assert planned["aws_roles"] == ["arn:aws:sts::123456789012:assumed-role/pipeline"]


def test_the_callers_file_is_one_that_the_service_reads(plan):
    callers = [
        {"account": "airflow@tuning.iam.gserviceaccount.com", "source_projects": ["tuning-models"]},
        {"account": "ci@tuning.iam.gserviceaccount.com"},
    ]

    planned = plan(callers=callers)

    airflow, ci = callers_of(tomllib.loads(planned["callers_file"]))
    assert airflow.account == "airflow@tuning.iam.gserviceaccount.com"
    assert airflow.source_projects == frozenset({"tuning-models"})
    assert airflow.target_projects is None
    assert (ci.account, ci.source_projects) == ("ci@tuning.iam.gserviceaccount.com", None)


def test_a_service_agent_reads_other_projects_only_and_only_without_an_account(plan):
    account = "copier@other-serving.iam.gserviceaccount.com"

    by_agents = plan()["agents_in_sources"]
    with_account = plan(copy_accounts={"other-serving": account})["agents_in_sources"]

    assert set(by_agents) == {
        "tuning-models/serving-models",
        "tuning-models/other-serving",
        "serving-models/other-serving",
    }
    assert set(with_account) == {"tuning-models/serving-models"}


def test_names_follow_from_the_name(plan):
    planned = plan(name="copy-team-a")

    assert planned["role_prefix"] == "CopyTeamA"
    assert planned["audience"] == "https://copy-team-a.serving-models.example"


def test_the_example_is_accepted(plan, tmp_path):
    shutil.copy(DEPLOY / "terraform/terraform.tfvars.example", tmp_path / "z.auto.tfvars")

    planned = plan()

    assert planned["aws_roles"] == ["arn:aws:sts::123456789012:assumed-role/model-copy-publisher"]


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
        "waiter_project": "Waiting",
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
    {"aws": {"account": "123456789012", "role_arns": ["arn:aws:iam::123456789012:role/*"]}},
    {"aws": {"account": "123456789012", "role_arns": ["arn:aws:iam::210987654321:role/a"]}},
)


@pytest.mark.parametrize("wrong", WRONG, ids=len)
def test_what_is_wrong_is_refused_by_name(wrong, plan):
    with pytest.raises(RefusedError) as refused:
        plan(**wrong)

    told = str(refused.value)
    assert [name for name in wrong if f"var.{name} is " not in told.replace(".account", "")] == []
