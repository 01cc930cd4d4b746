"""Checks of the set-up: each result is ok, wrong with its fix, or unseen.

Pure. A thing that our permissions do not show is unseen, never wrong.
"""

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

KEPT_DAYS = 31
ACK_SECONDS = 60
_DAY = 86_400
MAX_SKEW_SECONDS = 10.0
FORWARDED_FILTER = "attributes:CloudPubSubDeadLetterSourceSubscription"
_PUBSUB_AGENT = re.compile(
    r"serviceAccount:service-[0-9]+@gcp-sa-pubsub\.iam\.gserviceaccount\.com"
)


class Verdict(StrEnum):
    """Result of one check."""

    OK = "ok"
    WRONG = "wrong"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``fix`` is a command, an action or a permission to get."""

    verdict: Verdict
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSubscription:
    """What a subscription says of itself."""

    name: str
    topic: str
    push_endpoint: str = ""
    audience: str = ""
    push_account: str = ""
    unwrapped: bool = False
    writes_metadata: bool = False  # of an unwrapped push
    filter: str = ""
    ordered: bool = False
    detached: bool = False
    ack_seconds: int = 60
    backoff_seconds: float | None = 10.0  # shortest; None: delivered again at once
    kept_seconds: int = 0
    expires_after_seconds: int = 0  # 0: never
    dead_letter_topic: str = ""
    max_attempts: int = 0


def of_pushed(
    seen: SeenSubscription, *, topic: str, path: str, audience: str = ""
) -> Iterator[Finding]:
    """Judge a subscription by which the worker is pushed to ``path``; it expects ``audience``."""
    update = f"gcloud pubsub subscriptions update {seen.name}"
    if seen.topic != topic:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} is attached to {seen.topic}, not to {topic}",
            f"correct the name: model-copy config show prints the origin of {seen.name}",
        )
    yield _push(seen, path, audience)
    yield from _wrapping(seen, update)
    if seen.detached:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} is detached from its topic: it receives nothing",
            _anew(seen),
        )
    yield from _expiry(seen, update)


def _wrapping(seen: SeenSubscription, update: str) -> Iterator[Finding]:
    if not seen.unwrapped:
        return
    what = (
        f"{seen.name} pushes unwrapped: an attribute that is not a valid HTTP header is lost"
        if seen.writes_metadata
        else f"{seen.name} pushes unwrapped and without metadata: the worker refuses every push,"
        " because it could not reply"
    )
    yield Finding(Verdict.WRONG, what, f"{update} --clear-push-no-wrapper-config")


def _lasting(seen: SeenSubscription, *, needs_filter: str = "") -> Iterator[Finding]:
    """Judge what makes a subscription lose messages, or give them up too early."""
    update = f"gcloud pubsub subscriptions update {seen.name}"
    if seen.filter and seen.filter != needs_filter:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} accepts only messages with {seen.filter}: Pub/Sub drops all others",
            _anew(seen),
        )
    if seen.ordered:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} keeps messages in order: a failing message blocks those behind it",
            _anew(seen),
        )
    if seen.kept_seconds < KEPT_DAYS * _DAY:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} keeps messages for {_long(seen.kept_seconds)}, not {KEPT_DAYS} days:"
            " messages that the worker does not accept in that time are lost",
            f"{update} --message-retention-duration={KEPT_DAYS}d",
        )
    if seen.ack_seconds < ACK_SECONDS:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} redelivers after {seen.ack_seconds} s, while the worker still handles"
            f" the message; the worker needs {ACK_SECONDS} s",
            f"{update} --ack-deadline={ACK_SECONDS}",
        )
    if seen.backoff_seconds is None or seen.backoff_seconds < 1:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} redelivers without backoff: an outage of seconds uses up all attempts",
            f"{update} --min-retry-delay=10s --max-retry-delay=600s",
        )


def _anew(seen: SeenSubscription, *, message_filter: str = "") -> str:
    """Return what makes a subscription anew: its filter and its order cannot be changed.

    What lies in the old one goes with it; publish it again.
    """
    words = ["gcloud", "pubsub", "subscriptions", "create", seen.name, f"--topic={seen.topic}"]
    if seen.push_endpoint:
        words.append(f"--push-endpoint={seen.push_endpoint}")
    if seen.push_account:
        words.append(f"--push-auth-service-account={seen.push_account}")
        words.append(f"--push-auth-token-audience={seen.audience or seen.push_endpoint}")
    if seen.dead_letter_topic:
        words.append(f"--dead-letter-topic={seen.dead_letter_topic}")
        words.append(f"--max-delivery-attempts={max(seen.max_attempts, 100)}")
    if message_filter:
        words.append(f"--message-filter={message_filter}")
    words += [f"--ack-deadline={max(seen.ack_seconds, ACK_SECONDS)}", "--expiration-period=never"]
    words += [f"--message-retention-duration={KEPT_DAYS}d"]
    words += ["--min-retry-delay=10s", "--max-retry-delay=600s"]
    delete = ["gcloud", "pubsub", "subscriptions", "delete", seen.name]
    return f"{shlex.join(delete)} && {shlex.join(words)}"


def _long(seconds: int) -> str:
    return f"{seconds // _DAY} days" if seconds >= _DAY else f"{seconds // 60} minutes"


def of_answer(seconds: float | None, *, within_seconds: float, project: str) -> Finding:
    """Judge how soon the worker answered a question; None: nobody did."""
    if seconds is not None:
        return Finding(Verdict.OK, f"the worker replied to a status request in {seconds:.1f} s")
    return Finding(
        Verdict.WRONG,
        f"no reply to a status request within {within_seconds:g} s: the worker does not run,"
        " receives no pushes, or refuses them",
        f"gcloud run services logs read model-copy-worker --project={project} --limit=50",
    )


def of_requests(
    seen: SeenSubscription, *, request_topic: str, dead_letter_topic: str, audience: str = ""
) -> Iterator[Finding]:
    """Judge the subscription by which the worker is told of requests."""
    yield from of_pushed(seen, topic=request_topic, path="/pubsub/requests", audience=audience)
    yield from _lasting(seen)
    policy = (
        f"gcloud pubsub subscriptions update {seen.name}"
        f" --dead-letter-topic={dead_letter_topic} --max-delivery-attempts=100"
    )
    if seen.dead_letter_topic != dead_letter_topic:
        what = (
            f"{seen.name} forwards undeliverable messages to {seen.dead_letter_topic},"
            f" not to {dead_letter_topic}"
            if seen.dead_letter_topic
            else f"{seen.name} has no dead-letter topic: undeliverable messages are redelivered"
            " until they expire"
        )
        yield Finding(Verdict.WRONG, what, policy)
    elif seen.max_attempts < 100:
        what = (
            f"{seen.name} gives up after {seen.max_attempts} attempts, that is after minutes of"
            " an outage"
        )
        yield Finding(Verdict.WRONG, what, policy)
    else:
        yield Finding(
            Verdict.OK, f"{seen.name} forwards undeliverable messages to {seen.dead_letter_topic}"
        )


def of_forwarded(
    seen: SeenSubscription, *, dead_letter_topic: str, audience: str = ""
) -> Iterator[Finding]:
    """Judge the subscription by which the worker is told of what Pub/Sub gave up."""
    yield from of_pushed(
        seen, topic=dead_letter_topic, path="/pubsub/dead-letters", audience=audience
    )
    yield from _lasting(seen, needs_filter=seen.filter)
    if FORWARDED_FILTER not in seen.filter:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} also pushes the worker's own dead letters to it",
            _anew(seen, message_filter=FORWARDED_FILTER),
        )


def _push(seen: SeenSubscription, path: str, audience: str) -> Finding:
    endpoint = seen.push_endpoint
    right = endpoint if endpoint.endswith(path) else f"https://WORKER{path}"
    fix = (
        f"gcloud pubsub subscriptions update {seen.name} --push-endpoint={shlex.quote(right)}"
        f" --push-auth-service-account={seen.push_account or 'ACCOUNT'}"
        f" --push-auth-token-audience={audience or 'AUDIENCE'}"
    )
    pushes = f"{seen.name} pushes to {endpoint}" if endpoint else f"{seen.name} does not push"
    if right != endpoint:
        return Finding(Verdict.WRONG, f"{pushes}: the worker listens at {path}", fix)
    if not seen.push_account:
        if endpoint.startswith("http://") and not audience:
            return Finding(Verdict.OK, pushes)  # a local run: no token is checked there
        return Finding(Verdict.WRONG, f"{pushes} without a token: Cloud Run refuses that", fix)
    told = seen.audience or endpoint  # so Pub/Sub fills it in
    signed = f"{pushes}, signed as {seen.push_account}, for {told}"
    if audience and told != audience:
        what = f"{signed}, and the worker expects {audience}: it refuses every push"
        return Finding(Verdict.WRONG, what, fix)
    if not audience:
        return Finding(
            Verdict.UNSEEN,
            f"{signed}: not compared with the audience that the worker expects",
            "give the worker's AUDIENCE: --audience",
        )
    return Finding(Verdict.OK, signed)


def of_letters(seen: SeenSubscription, *, dead_letter_topic: str) -> Iterator[Finding]:
    """Judge the subscription that keeps the letters."""
    update = f"gcloud pubsub subscriptions update {seen.name}"
    if seen.topic != dead_letter_topic:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} is attached to {seen.topic}, not to the dead-letter topic",
            f"correct --dead-letter-subscription, or give --dead-letter-topic {seen.topic}",
        )
    if seen.push_endpoint:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} pushes to {seen.push_endpoint}: dead letters do not stay in it",
            f"{update} --push-endpoint=",
        )
    if seen.filter:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} accepts only dead letters with {seen.filter}",
            "filters cannot be changed: create a subscription without one",
        )
    days = seen.kept_seconds // 86_400
    if days < KEPT_DAYS:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} keeps dead letters for {days} days, not {KEPT_DAYS}",
            f"{update} --message-retention-duration={KEPT_DAYS}d",
        )
    else:
        yield Finding(Verdict.OK, f"{seen.name} keeps dead letters for {days} days")
    yield from _expiry(seen, update)


def _expiry(seen: SeenSubscription, update: str) -> Iterator[Finding]:
    if seen.expires_after_seconds:
        yield Finding(
            Verdict.WRONG,
            f"{seen.name} expires after {seen.expires_after_seconds // 86_400} days without use",
            f"{update} --expiration-period=never",
        )


def of_agent(*, resource: str, role: str, members: Collection[str], command: str) -> Finding:
    """Judge whether Pub/Sub itself may forward; grants on the project do not show here."""
    if any(_PUBSUB_AGENT.fullmatch(each) for each in members):
        return Finding(Verdict.OK, f"Pub/Sub's service agent has {role} on {resource}")
    return Finding(
        Verdict.UNSEEN,
        f"Pub/Sub's service agent has no {role} on {resource} itself; a grant on the project is"
        " not visible here",
        f"{command} add-iam-policy-binding {resource} --role={role}"
        ' --member="serviceAccount:service-$(gcloud projects describe'
        f" {resource.split('/')[1]} --format='value(projectNumber)')"
        '@gcp-sa-pubsub.iam.gserviceaccount.com"',
    )


def of_permission(
    *, permission: str, resource: str, role: str, has: bool, account: str = ""
) -> Finding:
    """Judge one of our own permissions; ``account`` is our own, where that is known."""
    if has:
        return Finding(Verdict.OK, f"this account has {permission} on {resource}")
    kind = "topics" if "/topics/" in resource else "subscriptions"
    return Finding(
        Verdict.WRONG,
        f"this account lacks {permission} on {resource}",
        f"gcloud pubsub {kind} add-iam-policy-binding {resource} --role={role}"
        f" --member={f'serviceAccount:{account}' if account else 'THIS_ACCOUNT'}",
    )


def of_clock(skew_seconds: float, *, host: str) -> Finding:
    """Judge our clock by that of ``host``."""
    if abs(skew_seconds) <= MAX_SKEW_SECONDS:
        what = f"this clock agrees with that of {host} within {MAX_SKEW_SECONDS:g} s"
        return Finding(Verdict.OK, what)
    where = "ahead of" if skew_seconds > 0 else "behind"
    return Finding(
        Verdict.WRONG,
        f"this clock is {abs(skew_seconds):.0f} s {where} that of {host}:"
        " credentials may be refused",
        "chronyc makestep",
    )
