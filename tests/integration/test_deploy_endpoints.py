"""What is deployed asks for paths that the service answers: pushes, and probes."""

import re

import pytest
from deploy.checks.__main__ import DEPLOY
from deploy.checks.configuration import Block, Configuration, inner, text_of

from model_copier.app import routes_of
from model_copier.engine.outcome_waiter import OutcomeWaiter
from model_copier.settings import Settings, TokenChecks
from world import SOURCE_PROJECT, TARGET_PROJECT, World

TERRAFORM = Configuration.read(DEPLOY / "terraform")
SETTINGS = Settings(
    source_project=SOURCE_PROJECT,
    target_project=TARGET_PROJECT,
    store="sqlite:///unused",
    token_checks=TokenChecks.NONE,
)


def answered(target: str, method: str) -> set[str]:
    world = World()
    watch = OutcomeWaiter(store=world.store)
    routes = routes_of(target, world.deliveries, world.ticks, SETTINGS, watch)
    return {route.path for route in routes if method in (route.methods or ())}


def service(target: str) -> Block:
    services = TERRAFORM.of("resource", "google_cloud_run_v2_service")
    [block] = [block for block in services if block.labels[1] == target]
    return block


def test_the_worker_takes_what_is_pushed_to_it():
    pushed = {
        text_of(push["push_endpoint"]).removeprefix("${google_cloud_run_v2_service.worker.uri}")
        for block in TERRAFORM.of("resource", "google_pubsub_subscription")
        for push in block.inner("push_config")
    }

    assert pushed == {"/pubsub/requests", "/pubsub/ticks", "/pubsub/dead-letters"}
    assert pushed <= answered("worker", "POST")


@pytest.mark.parametrize("target", ["worker", "api"])
def test_each_service_answers_its_probes(target):
    probes = [
        text_of(get["path"])
        for template in service(target).inner("template")
        for container in inner(template, "containers")
        for kind in ("startup_probe", "liveness_probe")
        for probe in inner(container, kind)
        for get in inner(probe, "http_get")
    ]

    assert set(probes) <= answered(target, "GET")
    assert probes or target == "worker"


def test_gcloud_probes_the_api_alone_and_where_it_answers():
    script = (DEPLOY / "gcloud.sh").read_text().replace("\\\n", "")

    deployed = re.findall(r"^ +deploy (\w+) (.*)$", script, re.MULTILINE)
    probes = {target: re.findall(r"httpGet\.path=([^,]+)", how) for target, how in deployed}
    assert probes == {"worker": [], "api": ["/health"]}
    assert "/health" in answered("api", "GET")
