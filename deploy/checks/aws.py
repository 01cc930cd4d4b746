"""The AWS side: roles that may do nothing in AWS, and a credential file that holds no secret.

cfn-lint, where it is found, tells whether the template is one; here it is what the roles may.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from deploy.checks.problem import Problem

TEMPLATE, CREDENTIALS = "publisher.yaml", "credentials.json"
_SERVICES = frozenset({"ec2.amazonaws.com", "ecs-tasks.amazonaws.com"})
_SECRET = re.compile(r"key|secret(?!_session)|password|AKIA|BEGIN ", re.IGNORECASE)
# Of the account that runs the workload; ECS takes on tasks for everybody.
_ACCOUNT = "aws:SourceAccount"


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's own tags, which are kept as text."""


def _tag(loader: yaml.Loader, suffix: str, node: yaml.Node) -> str:
    del loader
    return f"!{suffix} {node.value}"


_Loader.add_multi_constructor("!", _tag)


def problems(folder: Path) -> Iterator[Problem]:
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    template: Mapping[str, Any] = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    roles = {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    }
    for name, role in roles.items():
        for granted in ("Policies", "ManagedPolicyArns"):
            if granted in role:
                yield Problem(TEMPLATE, name, f"{granted}: the role needs no rights in AWS")
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            yield from _trusted(name, statement)
    yield from _credentials((folder / CREDENTIALS).read_text(encoding="utf-8"))


def _trusted(role: str, statement: Mapping[str, Any]) -> Iterator[Problem]:
    principal = statement.get("Principal")
    service = principal.get("Service") if isinstance(principal, Mapping) else None
    if not isinstance(principal, Mapping) or set(principal) != {"Service"}:
        yield Problem(TEMPLATE, role, f"Principal {principal} should be one service of AWS")
    elif service not in _SERVICES:
        yield Problem(TEMPLATE, role, f"{service} should be one of {', '.join(sorted(_SERVICES))}")
    if statement.get("Action") != "sts:AssumeRole":
        yield Problem(TEMPLATE, role, "Action should be sts:AssumeRole and nothing else")
    if service == "ecs-tasks.amazonaws.com":
        condition = statement.get("Condition", {}).get("StringEquals", {})
        if condition.get(_ACCOUNT) != "!Ref AWS::AccountId":
            yield Problem(TEMPLATE, role, f"Condition should hold {_ACCOUNT} to this account")


def _credentials(text: str) -> Iterator[Problem]:
    try:
        about = json.loads(text)
    except ValueError as error:
        yield Problem(CREDENTIALS, "", f"is not JSON: {error}")
        return
    if about.get("type") != "external_account":
        yield Problem(CREDENTIALS, "type", "should be external_account: anything else holds a key")
    for name in about:
        if _SECRET.search(name):
            yield Problem(CREDENTIALS, name, "looks like a secret")
    source = about.get("credential_source", {})
    if not str(source.get("imdsv2_session_token_url", "")).endswith("/latest/api/token"):
        place = "credential_source.imdsv2_session_token_url"
        yield Problem(CREDENTIALS, place, "is missing: IMDSv1 answers whoever makes us ask")
