"""The roles on AWS may do nothing, and the credential file is the one that gcloud writes."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from string import Template

import pytest
from deploy.checks.__main__ import DEPLOY
from deploy.checks.aws import problems

PROVIDER = "projects/123/locations/global/workloadIdentityPools/model-copy-aws/providers/roles"
ACCOUNT = "model-copy-aws@serving.iam.gserviceaccount.com"
MISTAKES = {
    "everybody": ("publisher.yaml", "Service: ec2.amazonaws.com", 'AWS: "*"', "InstanceRole"),
    "another service": ("publisher.yaml", "ec2.amazonaws", "lambda.amazonaws", "InstanceRole"),
    "any action": ("publisher.yaml", "Action: sts:AssumeRole", 'Action: "sts:*"', "InstanceRole"),
    "rights": (
        "publisher.yaml",
        "      MaxSessionDuration: 3600\n",
        "      ManagedPolicyArns: [arn:aws:iam::aws:policy/AdministratorAccess]\n",
        "InstanceRole",
    ),
    "tasks of others": ("publisher.yaml", "aws:SourceAccount: !Ref AWS::AccountId", "a: b", "Task"),
    "a key": (
        "credentials.json",
        '"type": "external_account"',
        '"type": "authorized_user"',
        "type",
    ),
    "a secret": ("credentials.json", '"universe_domain"', '"private_key"', "private_key"),
    "IMDSv1": ("credentials.json", "imdsv2_session_token_url", "other", "imdsv2"),
    "no JSON": ("credentials.json", "{\n", "{,\n", "is not JSON"),
}


def test_the_aws_side_has_no_problem():
    assert [str(problem) for problem in problems(DEPLOY / "aws")] == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_on_the_aws_side_is_found(mistake, tmp_path):
    file, old, new, place = MISTAKES[mistake]
    folder = Path(shutil.copytree(DEPLOY / "aws", tmp_path / "aws"))
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))

    found = [str(problem) for problem in problems(folder)]

    assert len(found) == 1, found
    assert found[0].startswith(file)
    assert place in found[0]


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
def test_the_credential_file_is_the_one_that_gcloud_writes(tmp_path):
    subprocess.run(
        [
            *("gcloud", "iam", "workload-identity-pools", "create-cred-config", PROVIDER),
            *(f"--service-account={ACCOUNT}", "--aws", "--enable-imdsv2"),
            f"--output-file={tmp_path / 'written.json'}",
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path)},
        capture_output=True,
        check=True,
    )

    ours = Template((DEPLOY / "aws/credentials.json").read_text())
    written = json.loads((tmp_path / "written.json").read_text())
    assert json.loads(ours.substitute(provider=PROVIDER, account=ACCOUNT)) == written
