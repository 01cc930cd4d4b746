"""What must hold of every deployment, whatever else is changed: who gets in, and what is kept.

Each rule is a function that yields what breaks it; its docstring is the rule.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from deploy.checks.configuration import Block, Configuration, inner, text_of, texts_in
from deploy.checks.problem import Problem

Rule = Callable[[Configuration], Iterator[Problem]]

LONGEST_RETENTION = "2678400s"  # 31 days
TICK_RETENTION = "600s"
MAX_ATTEMPTS = "100"
ENDS_ALONE = "NOT (operation.first = true AND NOT operation.last = true)"
_EVERYBODY = ("allUsers", "allAuthenticatedUsers")
_TOO_WIDE = re.compile(r"roles/(?:owner|editor|viewer|[\w.]+\.(?:admin|editor|owner))(?![\w.])")
# Predefined, and yet on a whole project: Google documents no narrower one for a service agent.
_ON_PROJECTS = frozenset({"roles/aiplatform.serviceAgent"})
_NEVER_PERMITTED = re.compile(
    r"\*|setIamPolicy|aiplatform\.models\.(?:delete|update)|getAccessToken"
)
# To cancel a copy, where the operator wants that; Google has no narrower permission for it.
_CANCEL = ("cancel", "aiplatform.models.update")
_LOOSE = re.compile(r"\|\||startsWith|endsWith|contains|matches|\*|(?<!=)!=")
_AGENT = "local.pubsub_agent"
_WORKER = "google_cloud_run_v2_service.worker"
_API = "google_cloud_run_v2_service.api"
API_TIMEOUT = "3600s"  # Cloud Run's longest; callers are told of the outcome in one call


def nobody_is_everybody(configuration: Configuration) -> Iterator[Problem]:
    """No grant reaches everybody."""
    for block in configuration.blocks:
        for text in texts_in(block.body):
            for everybody in _EVERYBODY:
                if everybody in text:
                    yield Problem.in_block(block, f"names {everybody}: nobody may be everybody")


def roles_are_narrow(configuration: Configuration) -> Iterator[Problem]:
    """No primitive and no admin role; on a whole project only custom ones, and what is named."""
    for block in configuration.of("resource"):
        for text in texts_in(block.body):
            for role in _TOO_WIDE.findall(text):
                yield Problem.in_block(block, f"{role} is too wide: take a custom role")
        if block.type == "google_project_iam_member":
            role = block.text("role")
            if role.startswith("roles/") and role not in _ON_PROJECTS:
                what = f"{role} on a whole project: take a custom role, or grant it on the resource"
                yield Problem.in_block(block, what)


def grants_are_added(configuration: Configuration) -> Iterator[Problem]:
    """A grant is added to what others have granted, never put in its place; there are no keys."""
    for block in configuration.of("resource"):
        if re.search(r"_iam_(?:policy|binding)$", block.type):
            yield Problem.in_block(block, "takes away what others granted: use an iam_member")
        if block.type == "google_service_account_key":
            yield Problem.in_block(
                block, "is a key: keys get lost, use Workload Identity Federation"
            )


def permissions_are_named(configuration: Configuration) -> Iterator[Problem]:
    """A custom role names its permissions, and none that deletes or changes models or grants."""
    for block in configuration.of("resource", "google_project_iam_custom_role"):
        permissions = [text_of(each) for each in _list(block.body.get("permissions"))]
        if not permissions:
            yield Problem.in_block(block, "permissions should be a list of names")
        for permission in permissions:
            if _NEVER_PERMITTED.search(permission) and (block.labels[-1], permission) != _CANCEL:
                yield Problem.in_block(block, f"{permission} is more than the copier ever needs")


def conditions_decide(configuration: Configuration) -> Iterator[Problem]:
    """A condition compares with something exact; none is always true."""
    for block in configuration.blocks:
        for validation in block.inner("validation"):
            if text_of(validation.get("condition", "")).strip().lower() == "true":
                yield Problem.in_block(block, "validation.condition is always true")
        for condition in block.inner("condition"):
            yield from _exact(block, "condition.expression", condition.get("expression", ""))


def aws_roles_are_named(configuration: Configuration) -> Iterator[Problem]:
    """Of an AWS account only the roles are let in that are named by their whole ARN."""
    for block in configuration.of("resource", "google_iam_workload_identity_pool_provider"):
        name, compared = "attribute_condition", block.text("attribute_condition")
        yield from _exact(block, name, compared)
        if not re.match(r"attribute\.aws_role (?:==|in) ", compared):
            yield Problem.in_block(block, f"{name} should begin with attribute.aws_role in [...]")
        mapping = block.body.get("attribute_mapping", {})
        mapped = "".join(str(v) for k, v in mapping.items() if text_of(k) == "attribute.aws_role")
        if "assumed-role/{role_name}/" not in mapped:
            what = "attribute_mapping should take attribute.aws_role from assertion.arn"
            yield Problem.in_block(block, what)
    for block in configuration.of("resource", "google_service_account_iam_member"):
        member = block.text("member")
        if "principalSet:" in member and "/attribute.aws_role/" not in member:
            yield Problem.in_block(block, "member should be one role: .../attribute.aws_role/ARN")


def pushes_are_signed(configuration: Configuration) -> Iterator[Problem]:
    """Whatever is pushed carries a token of the push account for the audience, to the worker."""
    for block in configuration.of("resource", "google_pubsub_subscription"):
        for push in block.inner("push_config"):
            tokens = inner(push, "oidc_token")
            if not tokens:
                yield Problem.in_block(
                    block, "push_config has no oidc_token: nobody could tell who pushes"
                )
            for token in tokens:
                for name in ("service_account_email", "audience"):
                    if not text_of(token.get(name, "")):
                        yield Problem.in_block(block, f"push_config.oidc_token.{name} is missing")
            endpoint = text_of(push.get("push_endpoint", ""))
            if not endpoint.startswith("${google_cloud_run_v2_service.worker.uri}/pubsub/"):
                what = "push_config.push_endpoint should be a path /pubsub/... of the worker"
                yield Problem.in_block(block, what)


def dead_letters_are_granted(configuration: Configuration) -> Iterator[Problem]:
    """Requests have a dead-letter policy, and Pub/Sub's agent both of the grants that it needs."""
    grants = {
        (b.type, _reference(b.text(name)), b.text("role"), b.text("member"))
        for type_, name in (
            ("google_pubsub_topic_iam_member", "topic"),
            ("google_pubsub_subscription_iam_member", "subscription"),
        )
        for b in configuration.of("resource", type_)
    }
    for block in configuration.of("resource", "google_pubsub_subscription"):
        policies = block.inner("dead_letter_policy")
        if "/pubsub/requests" in str(block.body.get("push_config")) and not policies:
            yield Problem.in_block(block, "dead_letter_policy is missing: requests would be lost")
        for policy in policies:
            if str(policy.get("max_delivery_attempts")) != MAX_ATTEMPTS:
                what = f"dead_letter_policy.max_delivery_attempts should be {MAX_ATTEMPTS}"
                yield Problem.in_block(block, f"{what}: fewer end within an outage")
            topic = _reference(text_of(policy.get("dead_letter_topic", "")))
            needed = (
                ("google_pubsub_topic_iam_member", topic, "roles/pubsub.publisher"),
                ("google_pubsub_subscription_iam_member", block.address, "roles/pubsub.subscriber"),
            )
            for type_, resource, role in needed:
                if (type_, resource, role, _AGENT) not in grants:
                    what = f"Pub/Sub's agent needs {role} on {resource}: {type_} is missing"
                    yield Problem.in_block(block, f"{what}, so nothing is dead-lettered")


def messages_are_kept(configuration: Configuration) -> Iterator[Problem]:
    """Subscriptions keep 31 days, ticks 10 minutes, and none expires."""
    for block in configuration.of("resource", "google_pubsub_subscription"):
        ticks = "google_pubsub_topic.ticks" in block.text("topic")
        wanted = TICK_RETENTION if ticks else LONGEST_RETENTION
        if block.text("message_retention_duration") != wanted:
            what = f"message_retention_duration should be {wanted}"
            yield Problem.in_block(block, what)
        if [text_of(each.get("ttl")) for each in block.inner("expiration_policy")] != [""]:
            what = 'expiration_policy { ttl = "" } is missing: it would be deleted when not used'
            yield Problem.in_block(block, what)


def services_ask_who_calls(configuration: Configuration) -> Iterator[Problem]:
    """Cloud Run's IAM decides before each service; each runs as an account of its own."""
    for block in configuration.of("resource", "google_cloud_run_v2_service"):
        if block.text("invoker_iam_disabled").lower() not in ("", "false"):
            yield Problem.in_block(block, "invoker_iam_disabled lets in whoever comes")
        if not block.text("ingress"):
            yield Problem.in_block(block, "ingress is missing: it would be everybody's")
        for template in block.inner("template"):
            if str(template.get("max_instance_request_concurrency")) != "1000":
                what = "template.max_instance_request_concurrency should be 1000"
                yield Problem.in_block(block, f"{what}: a request that waits costs next to nothing")
            if block.address == _API and text_of(template.get("timeout", "")) != API_TIMEOUT:
                what = f"template.timeout should be {API_TIMEOUT}: a copy may take an hour"
                yield Problem.in_block(block, what)
            if not text_of(template.get("service_account", "")):
                what = "template.service_account is missing: it would be the project's default"
                yield Problem.in_block(block, what)


def the_worker_is_inside(configuration: Configuration) -> Iterator[Problem]:
    """The worker takes internal traffic, from the push account alone."""
    for block in configuration.of("resource", "google_cloud_run_v2_service"):
        inside = block.text("ingress") == "INGRESS_TRAFFIC_INTERNAL_ONLY"
        if block.address == _WORKER and not inside:
            yield Problem.in_block(block, "ingress should be INGRESS_TRAFFIC_INTERNAL_ONLY")
    invokers = [
        block
        for block in configuration.of("resource", "google_cloud_run_v2_service_iam_member")
        if _reference(block.text("name")) == _WORKER
    ]
    if not invokers:
        yield Problem("worker.tf", "", "nobody may invoke the worker: pushes would be refused")
    for block in invokers:
        if block.text("member") != "serviceAccount:${google_service_account.push.email}":
            yield Problem.in_block(block, "only the push account may invoke the worker")


def sinks_can_write(configuration: Configuration) -> Iterator[Problem]:
    """A log sink has an identity of its own, may publish ticks, and sends ends alone."""
    granted = [
        block.text("for_each")
        for block in configuration.of("resource", "google_pubsub_topic_iam_member")
        if "writer_identity" in block.text("member")
        and block.text("role") == "roles/pubsub.publisher"
    ]
    for block in configuration.of("resource", "google_logging_project_sink"):
        if block.address not in granted:
            yield Problem.in_block(block, "its writer_identity may not publish: a grant is missing")
        if block.text("unique_writer_identity").lower() != "true":
            yield Problem.in_block(block, "unique_writer_identity should be true")
        if ENDS_ALONE not in " ".join(block.text("filter").split()):
            what = f"filter should say {ENDS_ALONE}: an entry may have no marks of its place"
            yield Problem.in_block(block, what)


def waiters_are_elsewhere(configuration: Configuration) -> Iterator[Problem]:
    """Whoever may read and delete subscriptions may do so in waiter_project alone.

    Pub/Sub cannot bound that right to one's own subscriptions. In the project of the topics it
    would hold for the one to the requests.
    """
    roles = {
        block.address
        for block in configuration.of("resource", "google_project_iam_custom_role")
        if any("pubsub.subscriptions" in text for text in texts_in(block.body.get("permissions")))
    }
    for block in configuration.of("resource", "google_project_iam_member"):
        if _reference(block.text("role")) not in roles:
            continue
        granted = re.fullmatch(r"local\.(\w+)", block.text("for_each"))
        members = text_of(configuration.locals.get(granted[1], "")) if granted else ""
        if not members.startswith('var.waiter_project != "" ?') or not members.endswith(": {}"):
            what = "for_each should be empty without waiter_project: they could delete requests"
            yield Problem.in_block(block, what)
        if block.text("project") != "local.waiter_project":
            yield Problem.in_block(block, "project should be local.waiter_project")


def jobs_are_safe(configuration: Configuration) -> Iterator[Problem]:
    """All fields of the job store are exempt from indexes, expiry is set, destroy keeps it."""
    databases = configuration.of("resource", "google_firestore_database")
    for block in databases:
        if "DELETE_PROTECTION_ENABLED" not in block.text("delete_protection_state"):
            yield Problem.in_block(block, "delete_protection_state should be enabled by default")
    fields = configuration.of("resource", "google_firestore_field")
    exempt = [b for b in fields if b.text("field") == "*" and b.inner("index_config")]
    if databases and not any(not b.inner("index_config")[0].get("indexes") for b in exempt):
        yield Problem("firestore.tf", "", 'no google_firestore_field exempts "*" from indexes')
    if databases and not any(b.inner("ttl_config") for b in fields):
        yield Problem("firestore.tf", "", "no google_firestore_field has a ttl_config")


RULES: tuple[Rule, ...] = (
    nobody_is_everybody,
    roles_are_narrow,
    grants_are_added,
    permissions_are_named,
    conditions_decide,
    aws_roles_are_named,
    pushes_are_signed,
    dead_letters_are_granted,
    messages_are_kept,
    services_ask_who_calls,
    the_worker_is_inside,
    sinks_can_write,
    jobs_are_safe,
    waiters_are_elsewhere,
)


def problems(configuration: Configuration) -> Iterator[Problem]:
    for rule in RULES:
        yield from rule(configuration)


def _exact(block: Block, name: str, value: Any) -> Iterator[Problem]:
    text = text_of(value).strip()
    compares = re.search(r"==| in ", text)
    if not compares or re.fullmatch(r"(?i)true|1 *== *1", text):
        yield Problem.in_block(block, f"{name} decides nothing: it should compare with == or in")
    elif found := _LOOSE.search(text):
        yield Problem.in_block(block, f"{name} is loose ({found[0]}): it should be exact")


def _reference(text: str) -> str:
    """Return what an expression like ``google_pubsub_topic.ticks.name`` refers to."""
    return ".".join(text.split(".")[:2])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
