"""Reads everything that the copier needs of Pub/Sub, as far as this account's permissions reach.

It changes nothing, except for two subscriptions that it creates and deletes: one for the worker's
reply, one with ``tries``. A thing that it may not see is reported with the role that shows it.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import grpc

from model_copy_publisher import examination, wire
from model_copy_publisher.broker import HOST, Broker
from model_copy_publisher.client import Publisher
from model_copy_publisher.errors import BrokerError, NoReplyError, UnknownRequestError
from model_copy_publisher.examination import (
    ACK_SECONDS,
    FORWARDED_FILTER,
    KEPT_DAYS,
    Finding,
    SeenSubscription,
    Verdict,
)
from model_copy_publisher.resource_names import check_distinct
from model_copy_publisher.subscription import Subscription

CLOCK_SECONDS = 5.0
_LASTING = (
    f"--ack-deadline={ACK_SECONDS} --message-retention-duration={KEPT_DAYS}d"
    " --min-retry-delay=10s --max-retry-delay=600s"
)
_OTHER_CLOCK = "compare with another server: --clock URL"
_UNSEEN = frozenset({grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Names are full. ``findings`` may be asked for again."""

    project: str
    request_topic: str
    reply_topic: str
    dead_letter_topic: str
    tick_topic: str
    request_subscription: str
    tick_subscription: str
    forwarded_subscription: str
    dead_letter_subscription: str
    audience: str = ""  # that the worker expects; empty: not known here
    clock: str = ""  # URL of a server that tells the time; empty: Google's, if Pub/Sub is
    tries: bool = False  # make a subscription for a moment, as waiting does
    answer_seconds: float = 0.0  # how long the worker may take to answer; 0: it is not asked
    credentials_file: str | None = None

    def __post_init__(self) -> None:
        check_distinct(
            request_topic=self.request_topic,
            reply_topic=self.reply_topic,
            dead_letter_topic=self.dead_letter_topic,
            tick_topic=self.tick_topic,
        )

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
        with broker, broker.explained(task="examine Pub/Sub", missing="it", needs="nothing"):
            ours = f"credentials of {broker.account}" if broker.account else "credentials"
            yield Finding(Verdict.OK, f"{ours} for Pub/Sub at {broker.address}")
            yield _clock(self.clock or (f"https://{HOST}/" if broker.address == HOST else ""))
            missing: set[str] = set()
            for topic in (
                self.request_topic,
                self.reply_topic,
                self.dead_letter_topic,
                self.tick_topic,
            ):
                yield (found := _topic(broker, topic))
                if found.verdict is Verdict.WRONG:
                    missing.add(topic)
            yield from self._subscriptions(broker, missing)
            yield from self._forwarding(broker, missing)
            yield from self._ours(broker, missing)
        if self.answer_seconds and not missing & {
            self.request_topic,
            self.reply_topic,
            self.request_subscription,
        }:
            yield self._answer()

    def _answer(self) -> Finding:
        """Ask about a request that nobody made: whoever is there says that it knows none.

        It takes a subscription for a moment; nothing is stored, and no letter is written.
        """
        begun = time.monotonic()
        try:
            with Publisher(
                project=self.project,
                request_topic=self.request_topic,
                reply_topic=self.reply_topic,
                credentials_file=self.credentials_file,
            ) as publisher:
                publisher.status(f"doctor-{uuid4().hex}", timeout_seconds=self.answer_seconds)
        except UnknownRequestError:
            seconds: float | None = time.monotonic() - begun
        except NoReplyError:
            seconds = None
        except BrokerError as error:
            what = f"reply of the worker: the status request could not be sent ({error})"
            return Finding(Verdict.UNSEEN, what, error.advice)
        else:
            seconds = time.monotonic() - begun
        return examination.of_answer(
            seconds,
            within_seconds=self.answer_seconds,
            project=self.request_topic.split("/")[1],
        )

    def _subscriptions(self, broker: Broker, missing: set[str]) -> Iterator[Finding]:
        look = partial(_look, broker, missing)
        letters, audience = self.dead_letter_topic, self.audience
        yield from look(
            self.request_subscription,
            make=f"{_pushed(self.request_topic, '/pubsub/requests')} {_LASTING}"
            f" --dead-letter-topic={letters} --max-delivery-attempts=100",
            judge=partial(
                examination.of_requests,
                request_topic=self.request_topic,
                dead_letter_topic=letters,
                audience=audience,
            ),
        )
        yield from look(
            self.tick_subscription,
            make=f"{_pushed(self.tick_topic, '/pubsub/ticks')} --ack-deadline=600"
            " --message-retention-duration=10m",
            judge=partial(
                examination.of_pushed,
                topic=self.tick_topic,
                path="/pubsub/ticks",
                audience=audience,
            ),
        )
        yield from look(
            self.forwarded_subscription,
            make=f"{_pushed(letters, '/pubsub/dead-letters')} {_LASTING}"
            f" --message-filter={FORWARDED_FILTER}",
            judge=partial(examination.of_forwarded, dead_letter_topic=letters, audience=audience),
        )
        yield from look(
            self.dead_letter_subscription,
            make=f"--topic={letters} --ack-deadline=10 --message-retention-duration={KEPT_DAYS}d",
            judge=partial(examination.of_letters, dead_letter_topic=letters),
        )

    def _forwarding(self, broker: Broker, missing: set[str]) -> Iterator[Finding]:
        """What it takes that Pub/Sub itself forwards what it gives up."""
        for resource, role in (
            (self.dead_letter_topic, "roles/pubsub.publisher"),
            (self.request_subscription, "roles/pubsub.subscriber"),
        ):
            if resource not in missing:
                yield _agent(broker, resource, role)

    def _ours(self, broker: Broker, missing: set[str]) -> Iterator[Finding]:
        publish, subscribe = "roles/pubsub.publisher", "roles/pubsub.subscriber"
        for resource, permission, role in (
            (self.request_topic, "pubsub.topics.publish", publish),
            (self.dead_letter_topic, "pubsub.topics.publish", publish),
            (self.reply_topic, "pubsub.topics.attachSubscription", subscribe),
            (self.dead_letter_subscription, "pubsub.subscriptions.consume", subscribe),
        ):
            if resource not in missing:  # nobody has a permission on what there is not
                yield _permission(broker, resource, permission, role)
        if self.reply_topic not in missing:
            yield self._may_wait(broker)

    def _may_wait(self, broker: Broker) -> Finding:
        """Nothing of Pub/Sub's tells who may make a subscription in a project."""
        what = f"create subscriptions in {self.project}, as --wait does"
        if not self.tries:
            return Finding(
                Verdict.UNSEEN,
                f"permission of this account to {what}",
                "model-copy doctor --try",
            )
        made = Subscription(
            broker=broker, project=self.project, reply_topic=self.reply_topic, purpose="doctor"
        )
        try:
            with made:
                return Finding(Verdict.OK, f"this account may {what}")
        except BrokerError as error:
            return Finding(Verdict.WRONG, f"this account may not {what}: {error}", error.advice)


def _pushed(topic: str, path: str) -> str:
    return (
        f"--topic={topic} --push-endpoint=https://WORKER{path}"
        " --push-auth-service-account=ACCOUNT --push-auth-token-audience=AUDIENCE"
    )


def _clock(url: str) -> Finding:
    if not url:
        return Finding(
            Verdict.UNSEEN, "clock: an emulator has no clock to compare with", _OTHER_CLOCK
        )
    host = urlsplit(url).netloc
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  the command checks it
    try:
        with _opener(host).open(request, timeout=CLOCK_SECONDS) as answer:
            date = answer.headers["Date"]
    except urllib.error.HTTPError as error:
        with error:
            date = error.headers["Date"]
    except (OSError, http.client.HTTPException) as error:
        return Finding(Verdict.UNSEEN, f"clock: {host} does not answer: {error}", _OTHER_CLOCK)
    try:
        skew = datetime.now(UTC) - parsedate_to_datetime(date or "")
    except (ValueError, TypeError):  # also where a date has no time zone
        what = f"clock: the response of {host} has {'an invalid' if date else 'no'} Date"
        return Finding(Verdict.UNSEEN, what, _OTHER_CLOCK)
    return examination.of_clock(skew.total_seconds(), host=host)


def _opener(host: str) -> urllib.request.OpenerDirector:
    """Obey the environment's proxy, but never for this machine."""
    here = urlsplit(f"//{host}").hostname in {"127.0.0.1", "::1", "localhost"}
    proxies = urllib.request.ProxyHandler({} if here else None)
    return urllib.request.build_opener(proxies)


def _topic(broker: Broker, name: str) -> Finding:
    seen = _ask(broker, wire.GET_TOPIC, wire.GET_TOPIC.request(topic=name))
    if isinstance(seen, grpc.RpcError):
        return _not_seen(seen, name, f"gcloud pubsub topics create {name}")
    return Finding(Verdict.OK, f"{name} exists")


def _look(
    broker: Broker,
    missing: set[str],
    name: str,
    *,
    make: str,
    judge: Callable[[SeenSubscription], Iterator[Finding]],
) -> Iterator[Finding]:
    """Look at a subscription; ``make``: what it should be made with, where there is none."""
    request = wire.GET_SUBSCRIPTION.request(subscription=name)
    seen = _ask(broker, wire.GET_SUBSCRIPTION, request)
    if isinstance(seen, grpc.RpcError):
        command = f"gcloud pubsub subscriptions create {name} {make} --expiration-period=never"
        yield (found := _not_seen(seen, name, command))
        if found.verdict is Verdict.WRONG:
            missing.add(name)
        return
    token, policy = seen.push_config.oidc_token, seen.dead_letter_policy
    backoff = seen.retry_policy.minimum_backoff
    yield from judge(
        SeenSubscription(
            name=seen.name,
            topic=seen.topic,
            push_endpoint=seen.push_config.push_endpoint,
            audience=token.audience,
            push_account=token.service_account_email,
            unwrapped=seen.push_config.HasField("no_wrapper"),
            writes_metadata=seen.push_config.no_wrapper.write_metadata,
            filter=seen.filter,
            ordered=seen.enable_message_ordering,
            detached=seen.detached,
            ack_seconds=seen.ack_deadline_seconds,
            backoff_seconds=(
                backoff.seconds + backoff.nanos / 1e9 if seen.HasField("retry_policy") else None
            ),
            kept_seconds=seen.message_retention_duration.seconds,
            expires_after_seconds=seen.expiration_policy.ttl.seconds,
            dead_letter_topic=policy.dead_letter_topic,
            max_attempts=policy.max_delivery_attempts,
        )
    )


def _agent(broker: Broker, resource: str, role: str) -> Finding:
    request = wire.GET_IAM_POLICY.request(resource=resource)
    policy = _ask(broker, wire.GET_IAM_POLICY, request)
    kind = "topics" if "/topics/" in resource else "subscriptions"
    if isinstance(policy, grpc.RpcError):
        return Finding(
            Verdict.UNSEEN,
            f"{role} of Pub/Sub's service agent on {resource}{_why(policy)}",
            f"get roles/pubsub.admin on it, or: gcloud pubsub {kind} get-iam-policy {resource}",
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
        what = f"{permission} of this account on {resource}{_why(answer)}"
        return Finding(Verdict.UNSEEN, what)
    return examination.of_permission(
        permission=permission,
        resource=resource,
        role=role,
        has=permission in answer.permissions,
        account=broker.account,
    )


def _not_seen(error: Any, name: str, make: str) -> Finding:
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return Finding(Verdict.WRONG, f"{name} does not exist", make)
    return Finding(Verdict.UNSEEN, f"{name}{_why(error)}", "get roles/pubsub.viewer on it")


def _why(error: Any) -> str:
    return {
        grpc.StatusCode.PERMISSION_DENIED: ": this account has no permission to see it",
        grpc.StatusCode.UNIMPLEMENTED: ": this Pub/Sub does not implement permissions",
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
