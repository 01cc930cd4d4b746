"""Looks at everything that the copier needs of Pub/Sub, as far as our rights reach.

It changes nothing. What it is not allowed to see is told as such, with the role that shows it.
"""

import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import grpc

from model_copy_publisher import examination, wire
from model_copy_publisher.broker import HOST, Broker
from model_copy_publisher.errors import BrokerError
from model_copy_publisher.examination import Finding, SeenSubscription, Verdict

CLOCK_SECONDS = 5.0
_UNSEEN = frozenset({grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Names are full. ``findings`` may be asked for again."""

    project: str
    request_topic: str
    reply_topic: str
    dead_letter_topic: str
    request_subscription: str
    dead_letter_subscription: str
    credentials_file: str | None = None

    def findings(self) -> Iterator[Finding]:
        """Yield what is found, as it is found.

        Raises:
            BrokerError: Pub/Sub does not answer.
        """
        try:
            broker = Broker(self.credentials_file)
        except BrokerError as error:
            yield Finding(Verdict.WRONG, str(error), error.advice)
            return
        with broker, broker.explained(task="look at Pub/Sub", missing="it", needs="nothing"):
            yield Finding(Verdict.OK, f"credentials for Pub/Sub at {broker.address}")
            yield _clock(broker.address)
            for topic in (self.request_topic, self.reply_topic, self.dead_letter_topic):
                yield _topic(broker, topic)
            yield from self._requests(broker)
            yield from self._letters(broker)
            yield from self._ours(broker)

    def _requests(self, broker: Broker) -> Iterator[Finding]:
        name = self.request_subscription
        seen = _subscription(broker, name)
        if isinstance(seen, Finding):
            yield seen
        else:
            yield from examination.of_requests(
                seen, request_topic=self.request_topic, dead_letter_topic=self.dead_letter_topic
            )
        yield _agent(broker, self.dead_letter_topic, "roles/pubsub.publisher")
        yield _agent(broker, name, "roles/pubsub.subscriber")

    def _letters(self, broker: Broker) -> Iterator[Finding]:
        seen = _subscription(broker, self.dead_letter_subscription)
        if isinstance(seen, Finding):
            yield seen
        else:
            yield from examination.of_letters(seen, dead_letter_topic=self.dead_letter_topic)

    def _ours(self, broker: Broker) -> Iterator[Finding]:
        publish, subscribe = "roles/pubsub.publisher", "roles/pubsub.subscriber"
        for resource, permission, role in (
            (self.request_topic, "pubsub.topics.publish", publish),
            (self.dead_letter_topic, "pubsub.topics.publish", publish),
            (self.reply_topic, "pubsub.topics.attachSubscription", subscribe),
            (self.dead_letter_subscription, "pubsub.subscriptions.consume", subscribe),
        ):
            yield _permission(broker, resource, permission, role)
        yield Finding(
            Verdict.UNSEEN,
            f"whether we may make subscriptions in {self.project}, as waiting does",
            "model-copy watch --timeout 1 tries it",
        )


def _clock(address: str) -> Finding:
    if address != HOST:
        return Finding(Verdict.UNSEEN, "the clock of an emulator is ours", "")
    request = urllib.request.Request(f"https://{HOST}/", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=CLOCK_SECONDS) as answer:  # noqa: S310  https
            date = answer.headers["Date"]
    except urllib.error.HTTPError as error:
        with error:
            date = error.headers["Date"]
    except OSError as error:
        return Finding(Verdict.UNSEEN, f"Google's clock: {error}", f"open https://{HOST} to us")
    if date is None:
        return Finding(Verdict.UNSEEN, "Google's clock: the answer has no Date", "")
    skew = datetime.now(UTC) - parsedate_to_datetime(date)
    return examination.of_clock(skew.total_seconds())


def _topic(broker: Broker, name: str) -> Finding:
    seen = _ask(broker, wire.GET_TOPIC, wire.GET_TOPIC.request(topic=name))
    if isinstance(seen, grpc.RpcError):
        return _not_seen(seen, name, "topics")
    return Finding(Verdict.OK, f"{name} exists")


def _subscription(broker: Broker, name: str) -> SeenSubscription | Finding:
    request = wire.GET_SUBSCRIPTION.request(subscription=name)
    seen = _ask(broker, wire.GET_SUBSCRIPTION, request)
    if isinstance(seen, grpc.RpcError):
        return _not_seen(seen, name, "subscriptions")
    token, policy = seen.push_config.oidc_token, seen.dead_letter_policy
    return SeenSubscription(
        name=seen.name,
        topic=seen.topic,
        push_endpoint=seen.push_config.push_endpoint,
        audience=token.audience,
        push_account=token.service_account_email,
        filter=seen.filter,
        kept_seconds=seen.message_retention_duration.seconds,
        expires_after_seconds=seen.expiration_policy.ttl.seconds,
        dead_letter_topic=policy.dead_letter_topic,
        max_attempts=policy.max_delivery_attempts,
    )


def _agent(broker: Broker, resource: str, role: str) -> Finding:
    request = wire.GET_IAM_POLICY.request(resource=resource)
    policy = _ask(broker, wire.GET_IAM_POLICY, request)
    kind = "topics" if "/topics/" in resource else "subscriptions"
    if isinstance(policy, grpc.RpcError):
        return Finding(
            Verdict.UNSEEN,
            f"whether Pub/Sub's service agent has {role} on {resource}{_why(policy)}",
            f"roles/pubsub.admin on it, or: gcloud pubsub {kind} get-iam-policy {resource}",
        )
    members: Collection[str] = [
        member for each in policy.bindings if each.role == role for member in each.members
    ]
    return examination.of_agent(
        resource=resource, role=role, members=members, command=f"gcloud pubsub {kind}"
    )


def _permission(broker: Broker, resource: str, permission: str, role: str) -> Finding:
    request = wire.TEST_IAM_PERMISSIONS.request(resource=resource, permissions=[permission])
    answer = _ask(broker, wire.TEST_IAM_PERMISSIONS, request)
    if isinstance(answer, grpc.RpcError):
        return Finding(Verdict.UNSEEN, f"whether we have {permission} on {resource}{_why(answer)}")
    return examination.of_permission(
        permission=permission, resource=resource, role=role, has=permission in answer.permissions
    )


def _not_seen(error: Any, name: str, kind: str) -> Finding:
    if error.code() is grpc.StatusCode.NOT_FOUND:
        topic = "" if kind == "topics" else " --topic=TOPIC --expiration-period=never"
        return Finding(
            Verdict.WRONG, f"{name} does not exist", f"gcloud pubsub {kind} create {name}{topic}"
        )
    return Finding(
        Verdict.UNSEEN, f"{name}{_why(error)}", "roles/pubsub.viewer on it would show it"
    )


def _why(error: Any) -> str:
    return {
        grpc.StatusCode.PERMISSION_DENIED: ": we have not the right to see it",
        grpc.StatusCode.UNIMPLEMENTED: ": this Pub/Sub does not know permissions",
        grpc.StatusCode.NOT_FOUND: ": it does not exist",
    }[error.code()]


def _ask(broker: Broker, method: wire.Method, request: Any) -> Any:
    """Return the answer, or the error where it is one that says something about the set-up."""
    try:
        return broker.call(method, request, within_seconds=broker.patience_seconds)
    except grpc.RpcError as error:
        if error.code() in _UNSEEN or error.code() is grpc.StatusCode.NOT_FOUND:
            return error
        raise
