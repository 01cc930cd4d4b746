"""``deploy/gcloud.sh``: gcloud knows its commands, and its Pub/Sub part does what it says.

What it makes on the local Pub/Sub is what the local cloud itself makes, and what Terraform says.
"""

import asyncio
import functools
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from deploy.checks.__main__ import DEPLOY
from deploy.checks.configuration import Block, Configuration, text_of

from local_cloud.pubsub import PubSub
from local_cloud.topics import PROJECT, Topics, subscription_path
from model_copier.settings import Settings
from terraform_run import Grant, Terraform, with_numbers

needs_gcloud = pytest.mark.skipif(
    not shutil.which("gcloud"), reason="gcloud is not installed on this machine"
)
SCRIPT = DEPLOY / "gcloud.sh"
PROJECTS = (
    f"--project={PROJECT}",
    "--sources=tuning-models,serving",
    f"--targets={PROJECT},serving",
)
IMAGE = f"--image=image@sha256:{'0' * 64}"
ALL = (
    *PROJECTS,
    "--publishers=serviceAccount:pipeline@tuning.iam.gserviceaccount.com",
    "--waiters=group:ml@example.com",
    "--waiter-project=waiting",
    "--operators=group:ml@example.com",
    "--aws-account=123456789012",
    "--aws-roles=pipeline,nightly",
)
WORKER = "http://127.0.0.1:9"
AUDIENCE = "https://model-copier.example"
NAMES = ("requests", "ticks", "forwarded", "dead-letters")


@pytest.fixture
def callers(tmp_path: Path) -> Path:
    file = tmp_path / "callers.toml"
    file.write_text('[[caller]]\naccount = "airflow@tuning.iam.gserviceaccount.com"\n')
    return file


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def commands(*arguments: str) -> list[list[str]]:
    """What a dry run prints, each command without ``gcloud``."""
    printed = run(*arguments)
    assert printed.returncode == 0, printed.stderr
    lines = [shlex.split(line) for line in printed.stderr.splitlines() if line[0] in "+?"]
    assert all(line[1] == "gcloud" for line in lines)
    return [line[2:] for line in lines]


# What gcloud knows


@functools.cache
def known() -> Mapping[str, Any]:
    """The table that gcloud completes commands from."""
    program = shutil.which("gcloud")
    assert program
    table = Path(program).resolve().parents[1] / "data/cli/gcloud_completions.py"
    if not table.exists():
        pytest.skip("this gcloud has no table of its commands")
    names: dict[str, Any] = {}
    exec(compile(table.read_text(), table, "exec"), names)
    return names["STATIC_COMPLETION_CLI_TREE"]  # type: ignore[no-any-return]


def unknown(command: list[str]) -> Iterator[str]:
    node, flags = known(), dict(known()["flags"])
    words = iter(command)
    for word in words:
        if word not in node["commands"]:
            break
        node = node["commands"][word]
    if node["commands"]:
        yield f"gcloud {shlex.join(command)}: no such command"
    flags |= node["flags"]
    for word in (w for w in command if w.startswith("--")):
        name, given, value = word.partition("=")
        kind = flags.get(name)
        if kind is None and flags.get(name.replace("--no-", "--")) == "bool":
            continue
        if kind is None:
            yield f"gcloud {shlex.join(command)}: no flag {name}"
        elif (kind == "bool") == bool(given):
            yield f"gcloud {shlex.join(command)}: {name} takes {'no' if given else 'a'} value"
        elif isinstance(kind, list) and value not in kind:
            yield f"gcloud {shlex.join(command)}: {name} is one of {kind}"


@needs_gcloud
@pytest.mark.parametrize("how", ["--dry-run", "--dry-run=again", "--destroy", "--source"])
def test_gcloud_knows_every_command_and_flag(how, callers):
    made_of = () if how == "--source" else (IMAGE,)
    dry = () if how.startswith("--dry-run") else ("--dry-run",)

    found = commands(*ALL, how, *dry, *made_of, f"--callers={callers}")

    assert len(found) > 15
    assert [complaint for command in found for complaint in unknown(command)] == []


@needs_gcloud
@pytest.mark.parametrize(
    "command",
    ["pubsub topics make x", "pubsub topics create x --label=a", "run deploy x --ingress=public"],
)
def test_a_wrong_command_or_flag_is_found(command):
    assert len(list(unknown(command.split()))) == 1


def test_nobody_comes_in_unknown(callers):
    found = commands(*ALL, "--dry-run", IMAGE, f"--callers={callers}")

    deployed = {command[2]: command for command in found if command[:2] == ["run", "deploy"]}
    assert "--ingress=internal" in deployed["model-copy-worker"]
    assert all("--no-allow-unauthenticated" in command for command in deployed.values())
    invokers = {
        (command[3], word.removeprefix("--member="))
        for command in found
        if command[:3] == ["run", "services", "add-iam-policy-binding"]
        for word in command
        if word.startswith("--member=")
    }
    push = f"serviceAccount:model-copy-push@{PROJECT}.iam.gserviceaccount.com"
    caller = "serviceAccount:airflow@tuning.iam.gserviceaccount.com"
    assert invokers == {("model-copy-worker", push), ("model-copy-api", caller)}


def test_the_services_start_with_the_settings_that_they_are_given(callers):
    pytest.importorskip(
        "model_copier.adapters.firestore_documents", reason="the store in Firestore is not here yet"
    )
    started = {}
    for command in commands(*ALL, "--dry-run", "--source", f"--callers={callers}"):
        for word in command:
            if word.startswith("--set-env-vars=^;^"):
                pairs = word.removeprefix("--set-env-vars=^;^").split(";")
                env = dict(pair.split("=", 1) for pair in pairs) | {"K_SERVICE": command[2]}
                env |= {"CALLERS_FILE": str(callers)} if "CALLERS_FILE" in env else {}
                started[env["FUNCTION_TARGET"]] = Settings.from_env(with_numbers(env))

    assert started.keys() == {"worker", "api"}
    assert len(started["api"].callers_file.callers) == 1
    for settings in started.values():
        assert settings.store == f"firestore://{PROJECT}/model-copy?collection=model-copy"
        assert settings.target_projects == {PROJECT, "serving"}
        assert settings.topic(settings.request_topic).endswith("/topics/model-copy-requests")


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed here")
def test_it_grants_what_terraform_grants(callers, tmp_path):
    terraform = Terraform.of(tmp_path / "terraform")
    roles = ["arn:aws:iam::123456789012:role/pipeline", "arn:aws:iam::123456789012:role/nightly"]
    terraform.apply(
        project=PROJECT,
        source_projects=["tuning-models", "serving"],
        target_projects=[PROJECT, "serving"],
        publishers=["serviceAccount:pipeline@tuning.iam.gserviceaccount.com"],
        waiters=["group:ml@example.com"],
        waiter_project="waiting",
        operators=["group:ml@example.com"],
        callers=[{"account": "airflow@tuning.iam.gserviceaccount.com"}],
        aws={"account": "123456789012", "role_arns": roles},
    )

    granted = {
        grant_of(command)
        for command in commands(*ALL, "--dry-run", IMAGE, f"--callers={callers}")
        if "add-iam-policy-binding" in command
    }

    assert granted == terraform.granted()


def grant_of(command: list[str]) -> Grant:
    kinds = {
        "projects": "project",
        "pubsub topics": "topic",
        "pubsub subscriptions": "subscription",
        "iam service-accounts": "account",
        "run services": "service",
        "secrets": "secret",
    }
    at = command.index("add-iam-policy-binding")
    options = dict(word.removeprefix("--").split("=", 1) for word in command if "=" in word)
    kind = kinds[" ".join(command[:at])]
    return Grant(kind, command[at + 1], options["role"], options["member"])


@needs_gcloud
@pytest.mark.parametrize("page", ["install.md", "upgrade.md", "security.md"])
def test_gcloud_knows_the_commands_on_the_pages(page):
    text = (DEPLOY.parent / "docs" / page).read_text().replace("\\\n", " ")
    # In prose `gcloud` alone is the program.
    written = re.findall(r"(?:^|[`(]| && )gcloud ([a-z][^`\n]*)", text, re.MULTILINE)
    assert written

    found = [complaint for line in written for complaint in unknown(_alone(line))]
    assert found == []


def _alone(line: str) -> list[str]:
    """A command without what a shell does around it."""
    words = shlex.split(line.removesuffix(")"), comments=True)
    return list(itertools.takewhile(lambda word: word not in ("|", ">", "&&"), words))


# What it makes


async def subscriptions(pubsub: PubSub) -> Mapping[str, Any]:
    """What is there, without what is each run's own."""
    topics = Topics(address=pubsub.address)
    found = {}
    try:
        for name in NAMES:
            path = subscription_path(f"model-copy-{name}")
            found[name] = await topics.subscriber.get_subscription(subscription=path)
    finally:
        await topics.close()
    return found


async def names(pubsub: PubSub) -> list[str]:
    topics = Topics(address=pubsub.address)
    project = f"projects/{PROJECT}"
    try:
        listed = await topics.publisher.list_topics(project=project)
        subscribed = await topics.subscriber.list_subscriptions(project=project)
        return [*[topic.name async for topic in listed], *[sub.name async for sub in subscribed]]
    finally:
        await topics.close()


@needs_gcloud
@pytest.mark.timeout(240)
async def test_its_pubsub_part_makes_what_the_local_cloud_makes_twice_and_takes_it_out(tmp_path):
    env = {
        "CLOUDSDK_CONFIG": str(tmp_path),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
    }
    arguments = (
        *PROJECTS,
        "--only=topics,subscriptions",
        f"--worker-url={WORKER}",
        f"--audience={AUDIENCE}",
    )
    async with PubSub() as pubsub, PubSub() as expected:
        topics = Topics(address=expected.address)
        account = f"model-copy-push@{PROJECT}.iam.gserviceaccount.com"
        await topics.create(worker_url=WORKER, push_account=account, audience=AUDIENCE)
        await topics.close()
        env["CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB"] = f"{pubsub.rest_url}/"

        first = await asyncio.to_thread(run, *arguments, **env)
        made = await subscriptions(pubsub)
        second = await asyncio.to_thread(run, *arguments, **env)
        made_again = await subscriptions(pubsub)
        wanted = await subscriptions(expected)
        destroyed = await asyncio.to_thread(run, *arguments, "--destroy", **env)
        left = await names(pubsub)

    assert [first.returncode, second.returncode, destroyed.returncode] == [0, 0, 0], first.stderr
    assert made == made_again
    for name, subscription in made.items():
        kept = 600 if name == "ticks" else 31 * 86400
        assert subscription.message_retention_duration.total_seconds() == kept
        assert not subscription.expiration_policy.ttl
        # The rest is as the local cloud has it, which is what the copier is tried on.
        subscription.message_retention_duration = wanted[name].message_retention_duration
        subscription.expiration_policy = wanted[name].expiration_policy
        assert subscription == wanted[name]
    assert left == []


def terraform(name: str) -> Block:
    [block] = [
        block
        for block in Configuration.read(DEPLOY / "terraform").of("resource")
        if block.address == f"google_pubsub_subscription.{name.replace('-', '_')}"
    ]
    return block


@pytest.mark.parametrize("name", NAMES)
async def test_terraforms_subscriptions_are_those_of_the_local_cloud(name):
    async with PubSub() as pubsub:
        topics = Topics(address=pubsub.address)
        await topics.create(
            worker_url=WORKER, push_account="p@x.iam.gserviceaccount.com", audience="a"
        )
        await topics.close()
        made = (await subscriptions(pubsub))[name]

    block = terraform(name)
    assert text_of(block.body["name"]) == "${var.name}-" + name
    assert int(block.body["ack_deadline_seconds"]) == made.ack_deadline_seconds
    assert block.text("filter") == made.filter
    assert block.text("topic").split(".")[1].replace("_", "-") == made.topic.split("model-copy-")[1]
    paths = [text_of(push["push_endpoint"]).split("}")[-1] for push in block.inner("push_config")]
    assert paths == (
        [made.push_config.push_endpoint.removeprefix(WORKER)]
        if made.push_config.push_endpoint
        else []
    )
    attempts = [
        int(policy["max_delivery_attempts"]) for policy in block.inner("dead_letter_policy")
    ]
    assert attempts == (
        [made.dead_letter_policy.max_delivery_attempts] if made.dead_letter_policy else []
    )
    backoffs = [
        (text_of(p["minimum_backoff"]), text_of(p["maximum_backoff"]))
        for p in block.inner("retry_policy")
    ]
    assert backoffs == ([("10s", "600s")] if made.retry_policy else [])


# What it refuses


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("--project=Serving", "--project"),
        ("--name=x", "--name"),
        ("--publishers=allUsers", "everybody"),
        ("--publishers=domain:gmail.com", "--publishers should be serviceAccount:EMAIL"),
        ("--publishers=projectViewer:serving", "--publishers"),
        ("--waiters=group:a@b.cd allUsers", "--waiters"),
        ("--sources=tuning;TOKEN_CHECKS=none", "--sources should be project ids"),
        ("--sources=tuning,,serving", "--sources"),
        ("--targets=$(id)", "--targets"),
        ("--targets=*", "--targets"),
        ("--region=us;central1", "--region"),
        ("--audience=a;TOKEN_CHECKS=none", "--audience"),
        ("--image=copier:latest", "--image should name a digest"),
        ("--worker-url=https://a/b?c", "--worker-url"),
        ("--aws-roles=x']||true||['", "--aws-roles"),
        ("--waiters=group:ml@example.com", "--waiter-project is missing"),
        ("--waiter-project=Waiting", "--waiter-project should be a project id"),
        ("--operators=allAuthenticatedUsers", "everybody"),
        ("--callers=/nowhere.toml", "--callers"),
        ("--aws-account=12", "--aws-account"),
        ("--aws-roles=team/*", "--aws-roles"),
        ("--only=everything", "--only=everything"),
        ("--dryrun", "--dryrun is no option"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_done(wrong, named):
    ended = run(*PROJECTS, "--dry-run", wrong)

    assert ended.returncode == 2
    assert named in ended.stderr
    assert "+ gcloud" not in ended.stderr


def test_a_callers_file_names_service_accounts(tmp_path):
    """F13: a person's own token is for gcloud's audience, so the grant would open nothing."""
    file = tmp_path / "callers.toml"
    file.write_text('[[caller]]\naccount = "someone@example.com"\n')

    ended = run(*PROJECTS, "--dry-run", f"--callers={file}")

    assert ended.returncode == 2
    assert "--callers: each account should be a service account" in ended.stderr


def test_waiters_need_a_project_of_their_own():
    """F8: in the project of the topics they could delete the subscription to the requests."""
    aws = ("--aws-account=123456789012", "--aws-roles=pipeline")

    for words in (aws, (*aws, f"--waiter-project={PROJECT}")):
        assert "--waiter-project is missing" in run(*PROJECTS, "--dry-run", *words).stderr
