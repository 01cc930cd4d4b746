"""``make check-deploy`` finds what is wrong: mistakes are planted one by one in a copy."""

import shutil
from pathlib import Path

import pytest
from deploy.checks.__main__ import DEPLOY, problems
from deploy.checks.configuration import Configuration
from deploy.checks.policy import RULES

# file, what is replaced, by what, and what the message must name.
MISTAKES = {
    "a misspelt argument": (
        "subscriptions.tf",
        "ack_deadline_seconds       = 60",
        "ack_deadline = 60",
        (
            "google_pubsub_subscription.requests",
            "ack_deadline is no argument",
            "ack_deadline_seconds",
        ),
    ),
    "a misspelt block": (
        "subscriptions.tf",
        "  retry_policy {",
        "  retry_polcy {",
        ("google_pubsub_subscription.requests", "retry_polcy is no argument", "retry_policy"),
    ),
    "a misspelt resource": (
        "topics.tf",
        '"google_pubsub_topic" "ticks"',
        '"google_pubsub_topics" "ticks"',
        ("google_pubsub_topics.ticks", "google_pubsub_topic"),
    ),
    "a required argument left out": (
        "ticks.tf",
        "destination = ",
        "description = ",
        ("google_logging_project_sink.ended", "destination is missing"),
    ),
    "a required block left out": (
        "api.tf",
        "  replication {\n    auto {}\n  }",
        "",
        ("google_secret_manager_secret.callers", "replication is there 0 times"),
    ),
    "a block in place of an argument": (
        "worker.tf",
        'limits = { cpu = "1", memory = "1Gi" }',
        "limits {}",
        ("google_cloud_run_v2_service.worker", "limits should be written as limits ="),
    ),
    "an attribute that is not given": (
        "outputs.tf",
        "worker.uri",
        "worker.url",
        ("output.worker_url", "gives no url"),
    ),
    "a resource that is not there": (
        "ticks.tf",
        "google_pubsub_topic.ticks.id",
        "google_pubsub_topic.tick.id",
        ("google_cloud_scheduler_job.ticks", "google_pubsub_topic.tick is declared nowhere"),
    ),
    "a variable that is not there": (
        "alerts.tf",
        "var.alert_channels",
        "var.channels",
        ("google_monitoring_alert_policy.stuck", "var.channels is declared nowhere"),
    ),
    "a missing dead-letter grant": (
        "pubsub_agent.tf",
        'role         = "roles/pubsub.subscriber"',
        'role = "roles/pubsub.viewer"',
        ("google_pubsub_subscription.requests", "roles/pubsub.subscriber", "nothing"),
    ),
    "a dead-letter grant to somebody else": (
        "pubsub_agent.tf",
        "member  = local.pubsub_agent",
        'member = "serviceAccount:x@y.z"',
        ("google_pubsub_subscription.requests", "roles/pubsub.publisher"),
    ),
    "a loosened condition": (
        "aws.tf",
        "aws_role in ${jsonencode(local.aws_roles)}",
        "aws_role.startsWith('arn')",
        ("google_iam_workload_identity_pool_provider.aws", "attribute_condition"),
    ),
    "a condition that is true": (
        "accounts.tf",
        '"resource.name == ',
        '"true" # ',
        ("google_project_iam_member.jobs", "decides nothing"),
    ),
    "any role of the AWS account": (
        "aws.tf",
        "/attribute.aws_role/${each.value}",
        "/*",
        ("google_service_account_iam_member.aws", "one role"),
    ),
    "public ingress on the worker": (
        "worker.tf",
        "INGRESS_TRAFFIC_INTERNAL_ONLY",
        "INGRESS_TRAFFIC_ALL",
        ("google_cloud_run_v2_service.worker", "ingress should be"),
    ),
    "a worker that everybody may invoke": (
        "worker.tf",
        '"serviceAccount:${google_service_account.push.email}"',
        '"allUsers"',
        ("google_cloud_run_v2_service_iam_member.push", "allUsers"),
    ),
    "a sink that waits for a mark that entries may lack": (
        "ticks.tf",
        "NOT (operation.first = true AND NOT operation.last = true)",
        "operation.last = true",
        ("google_logging_project_sink.ended", "an entry may have no marks"),
    ),
    "an api that hangs up after five minutes": (
        "api.tf",
        'timeout = "3600s"',
        'timeout = "300s"',
        ("google_cloud_run_v2_service.api", "template.timeout should be 3600s"),
    ),
    "IAM switched off": (
        "api.tf",
        '  ingress             = "INGRESS_TRAFFIC_ALL"',
        '  ingress             = "INGRESS_TRAFFIC_ALL"\n  invoker_iam_disabled = true',
        ("google_cloud_run_v2_service.api", "invoker_iam_disabled"),
    ),
    "a primitive role": (
        "vertex.tf",
        '"roles/aiplatform.serviceAgent"',
        '"roles/editor"',
        ("google_project_iam_member.agents_in_sources", "roles/editor is too wide"),
    ),
    "a predefined role on a project": (
        "people.tf",
        "google_project_iam_custom_role.waiter.id",
        '"roles/pubsub.subscriber"',
        ("google_project_iam_member.waiters", "on a whole project"),
    ),
    "waiters in the project of the topics": (
        "people.tf",
        'waiters = var.waiter_project != "" ? merge(',
        "waiters = true ? merge(",
        ("google_project_iam_member.waiters", "they could delete requests"),
    ),
    "waiters' right on the project of the topics": (
        "people.tf",
        "project  = local.waiter_project\n  role",
        "project  = var.project\n  role",
        ("google_project_iam_member.waiters", "project should be local.waiter_project"),
    ),
    "a permission to delete models": (
        "vertex.tf",
        '"aiplatform.models.list",',
        '"aiplatform.models.delete",',
        ("google_project_iam_custom_role.target", "aiplatform.models.delete"),
    ),
    "grants of others taken away": (
        "people.tf",
        'iam_member" "publishers"',
        'iam_binding" "publishers"',
        ("google_pubsub_topic_iam_binding.publishers", "takes away"),
    ),
    "a push without a token": (
        "subscriptions.tf",
        """
    oidc_token {
      service_account_email = local.push.account
      audience              = local.push.audience
    }
""",
        "",
        ("google_pubsub_subscription.requests", "oidc_token"),
    ),
    "a push without an audience": (
        "subscriptions.tf",
        "      audience              = local.push.audience\n",
        "",
        ("google_pubsub_subscription.requests", "oidc_token.audience is missing"),
    ),
    "a short retention": (
        "subscriptions.tf",
        '"2678400s"',
        '"604800s"',
        ("google_pubsub_subscription.requests", "message_retention_duration"),
    ),
    "a subscription that expires": (
        "subscriptions.tf",
        'ttl = ""',
        'ttl = "2678400s"',
        ("google_pubsub_subscription.requests", "expiration_policy"),
    ),
    "five attempts": (
        "subscriptions.tf",
        "max_delivery_attempts = 100",
        "max_delivery_attempts = 5",
        ("google_pubsub_subscription.requests", "max_delivery_attempts"),
    ),
    "a sink that may not write": (
        "ticks.tf",
        "member   = each.value.writer_identity",
        "member = local.pubsub_agent",
        ("google_logging_project_sink.ended", "writer_identity"),
    ),
    "an index on every field": (
        "firestore.tf",
        'field      = "*"',
        'field = "state"',
        ("firestore.tf", "exempts"),
    ),
    "a circle": (
        "topics.tf",
        "depends_on = [google_project_service.copier]",
        "depends_on = [google_pubsub_subscription.requests]",
        ("google_pubsub_topic.requests", "waits for itself"),
    ),
    "a broken file": (
        "topics.tf",
        'resource "google_pubsub_topic" "ticks" {',
        'resource "google_pubsub_topic" {{',
        ("topics.tf", "cannot be read"),
    ),
}


def plant(mistake: str, folder: Path) -> Path:
    """Copy the configuration there with a mistake in it."""
    file, old, new, _ = MISTAKES[mistake]
    shutil.copytree(DEPLOY / "terraform", folder, dirs_exist_ok=True)
    text = (folder / file).read_text()
    assert old in text, "the mistake must change something"
    (folder / file).write_text(text.replace(old, new, 1))
    return folder


def test_the_configuration_has_no_problem():
    assert [str(problem) for problem in problems(DEPLOY / "terraform")] == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found_and_named(mistake, tmp_path):
    *_, named = MISTAKES[mistake]

    found = [str(problem) for problem in problems(plant(mistake, tmp_path))]

    assert any(all(name in problem for name in named) for problem in found), found


def test_each_rule_of_the_policy_is_broken_by_some_mistake(tmp_path):
    broken = set()
    for mistake in MISTAKES.keys() - {"a broken file"}:
        configuration = Configuration.read(plant(mistake, tmp_path))
        broken |= {rule for rule in RULES if list(rule(configuration))}

    assert broken == set(RULES)
