"""The whole configuration run by Terraform, with its built-in resource in the place of Google's.

``terraform_data`` needs no provider: it takes any values and gives them back, unknown until
they are applied, as a provider's are. So everything that Terraform itself decides is real:
variables and their rules, for_each and its keys, references and their order, outputs, what a
change would create and destroy. What Google would make of it is not.
"""

import json
import os
import re
import shutil
import subprocess
import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from deploy.checks.__main__ import DEPLOY
from deploy.checks.configuration import Block, Configuration, members, text_of

REQUIRED = {
    "project": "serving-models",
    "source_projects": ["tuning-models"],
    "target_projects": ["serving-models"],
    "image": f"us-central1-docker.pkg.dev/serving-models/copier/copier@sha256:{'0' * 64}",
}
# What Google gives that matters here; anything else is a word of its own. As gcloud.sh prints them.
NUMBER = "000000000000"
SINK = "serviceAccount:SINK"


def with_numbers(env: Mapping[str, str]) -> dict[str, str]:
    """Give each project a number of its own, where a run without Google has one for all."""

    def own(pair: re.Match[str]) -> str:
        return f"{pair['id']}={zlib.crc32(pair['id'].encode())}"

    return {
        name: re.sub(rf"(?P<id>[a-z0-9-]+)={NUMBER}", own, value) for name, value in env.items()
    }


_POOL = f"projects/{NUMBER}/locations/global/workloadIdentityPools/{{workload_identity_pool_id}}"
_ACCOUNT = "{account_id}@{project}.iam.gserviceaccount.com"
_GIVEN = {
    ("google_project", "number"): NUMBER,
    ("google_logging_project_sink", "writer_identity"): SINK,
    ("google_cloud_run_v2_service", "uri"): "https://{name}-1234.us-central1.run.app",
    ("google_service_account", "email"): _ACCOUNT,
    ("google_service_account", "name"): f"projects/{{project}}/serviceAccounts/{_ACCOUNT}",
    ("google_pubsub_topic", "id"): "projects/{project}/topics/{name}",
    ("google_pubsub_subscription", "id"): "projects/{project}/subscriptions/{name}",
    ("google_project_iam_custom_role", "id"): "projects/{project}/roles/{role_id}",
    ("google_iam_workload_identity_pool", "name"): _POOL,
    ("google_iam_workload_identity_pool_provider", "name"): f"{_POOL}/providers/roles",
}
# What grants name: the argument of each kind of them.
_GRANTS = {
    "google_project_iam_member": ("project", "project"),
    "google_pubsub_topic_iam_member": ("topic", "topic"),
    "google_pubsub_subscription_iam_member": ("subscription", "subscription"),
    "google_service_account_iam_member": ("account", "service_account_id"),
    "google_cloud_run_v2_service_iam_member": ("service", "name"),
    "google_secret_manager_secret_iam_member": ("secret", "secret_id"),
    "google_bigquery_table_iam_member": ("table", "table_id"),
}
_META = ("for_each", "depends_on")
_REFERENCE = re.compile(r"(?<![\w.\"/-])(data\.)?(google_\w+)\.(\w+)(\[[^\]]*\])?(?:\.([a-z]\w*))?")


class RefusedError(Exception):
    """Terraform's own words."""


class Grant(NamedTuple):
    kind: str
    on: str
    role: str
    member: str


@dataclass(slots=True)
class Terraform:
    """One folder with its own state."""

    folder: Path
    outputs: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)  # arguments by address

    @classmethod
    def of(cls, folder: Path) -> "Terraform":
        """Write the configuration down there."""
        configuration = Configuration.read(DEPLOY / "terraform")
        shutil.copytree(DEPLOY / "aws", folder / "aws")
        (folder / "terraform").mkdir()
        shutil.copy(DEPLOY / "terraform/variables.tf", folder / "terraform")
        written = json.dumps(_translated(configuration), indent=1)
        (folder / "terraform/main.tf.json").write_text(written)
        return cls(folder / "terraform")

    def plan(self, **variables: Any) -> Mapping[str, tuple[str, ...]]:
        """Return what would be done to what, by the address that it has with Google.

        Raises:
            RefusedError: a variable is wrong, or something does not fit together.
        """
        self._with(variables)
        self._run("plan", "-refresh=false", "-out=plan")
        changes = json.loads(self._run("show", "-json", "plan"))["resource_changes"]
        return {
            _with_google(change["address"]): tuple(change["change"]["actions"])
            for change in changes
            if change["change"]["actions"] != ["no-op"]
        }

    def apply(self, **variables: Any) -> None:
        """Make it: then there are outputs, and what was made."""
        self._with(variables)
        self._run("apply", "-refresh=false", "-auto-approve")
        values = json.loads(self._run("show", "-json"))["values"]
        self.outputs = {name: output["value"] for name, output in values["outputs"].items()}
        resources = values["root_module"]["resources"]
        self.made = {_with_google(each["address"]): each["values"]["output"] for each in resources}

    def granted(self) -> frozenset[Grant]:
        found = []
        for address, values in self.made.items():
            kind, argument = _GRANTS.get(address.partition(".")[0], ("", ""))
            if kind:
                name = values[argument].rpartition("/")[-1]
                found.append(Grant(kind, name, values["role"], values["member"]))
        return frozenset(found)

    def _with(self, variables: Mapping[str, Any]) -> None:
        (self.folder / "a.auto.tfvars.json").write_text(json.dumps(REQUIRED | dict(variables)))

    def _run(self, *arguments: str) -> str:
        if not (self.folder / ".terraform").exists() and arguments[0] != "init":
            self._run("init")
            (self.folder / ".terraform").mkdir(exist_ok=True)
        command, *more = arguments
        options = [] if command == "show" else ["-input=false"]
        ended = subprocess.run(
            ["terraform", f"-chdir={self.folder}", command, "-no-color", *options, *more],
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "CHECKPOINT_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RefusedError(" ".join((ended.stderr or ended.stdout).split()))
        return ended.stdout


def _translated(configuration: Configuration) -> dict[str, Any]:
    made = [*configuration.of("resource"), *configuration.of("data")]
    asked: dict[str, set[str]] = {}
    for block in configuration.blocks:
        for data, type_, name, _, attribute in _REFERENCE.findall(json.dumps(block.body)):
            if attribute:
                asked.setdefault(f"{data}{type_}.{name}", set()).add(attribute)
    # Of what is passed on whole, whoever takes it asks for these.
    asked.setdefault("google_logging_project_sink.ended", set()).add("writer_identity")
    asked.setdefault("data.google_project.target", set()).add("number")
    return {
        "locals": {name: _value(value) for name, value in configuration.locals.items()},
        "output": {
            b.labels[0]: {"value": _value(b.body["value"])} for b in configuration.of("output")
        },
        "resource": {
            "terraform_data": {
                _label(block): _resource(block, asked.get(block.address, set())) for block in made
            }
        },
    }


def _resource(block: Block, asked: set[str]) -> dict[str, Any]:
    body = _body(block.body)
    known = {name: value for name, value in body.items() if isinstance(value, str)}
    for attribute in sorted(asked - body.keys()):
        pattern = _GIVEN.get((block.type, attribute), f"{block.type}.{attribute}")
        body[attribute] = pattern.format_map(known)
    translated: dict[str, Any] = {"input": body}
    if "for_each" in block.body:
        translated["for_each"] = _value(block.body["for_each"])
    if "depends_on" in block.body:
        needed = _REFERENCE.findall(" ".join(block.body["depends_on"]))
        translated["depends_on"] = [
            f"terraform_data.{type_}__{name}" for _, type_, name, *_ in needed
        ]
    return translated


def _body(body: Mapping[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {}
    # In place of the blocks that a dynamic one would make: what it makes them of.
    for dynamic in body.get("dynamic", []):
        for name, about in dynamic.items():
            written[text_of(name)] = _value(about["for_each"])
    for name, value, is_block in members({k: v for k, v in body.items() if k != "dynamic"}):
        if is_block:
            written.setdefault(name, []).append(_body(value))
        elif name not in _META:
            written[name] = _value(value)
    return written


def _value(value: Any) -> Any:
    """Write a value as Terraform's JSON has it: every text is a template."""
    if isinstance(value, Mapping):
        return {_value(k): _value(v) for k, v in value.items() if not str(k).startswith("__")}
    if isinstance(value, list):
        return [_value(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith('"<<'):
        lines = value.strip('"').splitlines()
        value = textwrap.dedent("\n".join(lines[1:-1])) + "\n"
    elif value.startswith('"'):
        value = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), _outside(value[1:-1]))
    return _REFERENCE.sub(_reference, value)


def _outside(text: str) -> str:
    """Keep the escapes of expressions within a text: there they are the expression's own."""
    return re.sub(r"\$\{[^{}]*\}", lambda found: found[0].replace("\\", "\\\\"), text)


def _reference(found: re.Match[str]) -> str:
    data, type_, name, index, attribute = found.groups()
    made = f"terraform_data.{'data_' if data else ''}{type_}__{name}"
    if attribute:
        return f"{made}{index or ''}.output.{attribute}"
    if index:
        return f"{made}{index}.output"
    return f"{{ for key, made in {made} : key => made.output }}"


def _label(block: Block) -> str:
    return f"{'data_' if block.kind == 'data' else ''}{'__'.join(block.labels)}"


def _with_google(address: str) -> str:
    return address.removeprefix("terraform_data.").replace("__", ".", 1)
