"""How a subscription delivers, read out of the resource that its owner wrote.

Reading completes the resource: the defaults that the rules use are written into it, for the
owner to see, as the real service does. So what is read is never the resource in force, but
the one that will replace it if the call succeeds.
"""

import re
from typing import Any

from google.pubsub_v1 import types

from local_cloud.filters import FilterSyntaxError, parse_filter
from local_cloud.pubsub_post import UrlError, check_url
from local_cloud.pubsub_records import Backoff, InvalidArgumentError, Push, Rules
from local_cloud.pubsub_requests import (
    MAX_SECONDS,
    ack_deadline,
    refuse_unbuilt,
    resource_name,
)

_UNBUILT_SUBSCRIPTION_FIELDS = frozenset(
    {
        "bigquery_config",
        "cloud_storage_config",
        "bigtable_config",
        "message_transforms",
        "enable_exactly_once_delivery",
    }
)
_DAY = 86_400
_EMAIL = re.compile(r"[!-~]+@[!-?A-~]+")
_CHANGEABLE = frozenset(
    {
        "ack_deadline_seconds",
        "push_config",
        "retry_policy",
        "dead_letter_policy",
        "labels",
        "message_retention_duration",
        "retain_acked_messages",
        "expiration_policy",
    }
)


def read_rules(record: Any, *, min_ack_deadline_seconds: float) -> Rules:
    """Read the rules out of ``record``, writing into it the defaults that they used.

    Raises:
        InvalidArgumentError: a field breaks a documented rule.
        UnimplementedError: a field asks for what is not built.
    """
    refuse_unbuilt(record, _UNBUILT_SUBSCRIPTION_FIELDS)
    record.ack_deadline_seconds = ack_deadline(
        record.ack_deadline_seconds or 10,
        minimum=min_ack_deadline_seconds,
        field="ack_deadline_seconds",
    )
    _read_lifetimes(record)
    record.state = types.Subscription.State.ACTIVE.value
    record.ClearField("detached")  # said by the service, ignored when said to it
    try:
        matches = parse_filter(record.filter)
    except FilterSyntaxError as error:
        raise InvalidArgumentError(f"filter: {error}") from error
    topic, max_attempts = _dead_letter(record)
    return Rules(
        matches=matches,
        ack_deadline_seconds=record.ack_deadline_seconds,
        backoff=_backoff(record),
        push=_push(record.push_config),
        ordered=record.enable_message_ordering,
        dead_letter_topic=topic,
        max_delivery_attempts=max_attempts,
    )


def updated(record: Any, request: Any) -> Any:
    """A new resource: ``record`` with what the update's mask names.

    Raises:
        InvalidArgumentError: the mask names nothing, or what cannot be changed.
    """
    paths = list(request.update_mask.paths)
    if not paths:
        raise InvalidArgumentError("update_mask: names no field.")
    for path in paths:
        if path.partition(".")[0] not in _CHANGEABLE:
            raise InvalidArgumentError(f"update_mask: {path!r} cannot be changed.")
    if not request.update_mask.IsValidForDescriptor(request.subscription.DESCRIPTOR):
        raise InvalidArgumentError(f"update_mask: {paths} names an unknown field.")
    changed = types.Subscription.pb()()
    changed.CopyFrom(record)
    for path in paths:
        # A part that is named and not given is to be cleared; merging passes over it otherwise.
        if "." in path:
            getattr(request.subscription, path.partition(".")[0]).SetInParent()
    request.update_mask.MergeMessage(
        request.subscription, changed, replace_message_field=True, replace_repeated_field=True
    )
    return changed


def _read_lifetimes(record: Any) -> None:
    """How long messages are kept, and after how long unused it goes itself: no ``ttl``, never."""
    if not record.HasField("message_retention_duration"):
        record.message_retention_duration.seconds = 7 * _DAY
    if not 600 <= record.message_retention_duration.seconds <= 31 * _DAY:
        raise InvalidArgumentError("message_retention_duration: 10 minutes to 31 days.")
    if not record.HasField("expiration_policy"):
        record.expiration_policy.ttl.seconds = 31 * _DAY
    policy = record.expiration_policy
    if policy.HasField("ttl") and policy.ttl.seconds < _DAY:
        raise InvalidArgumentError("expiration_policy.ttl: at least a day.")


def _push(config: Any) -> Push | None:
    if not config.push_endpoint:
        return None
    try:
        check_url(config.push_endpoint)
    except UrlError as error:
        raise InvalidArgumentError(f"push_config.push_endpoint: {error}") from error
    token, unwrapped = config.oidc_token, config.HasField("no_wrapper")
    if config.HasField("oidc_token") and not _EMAIL.fullmatch(token.service_account_email):
        raise InvalidArgumentError(
            "push_config.oidc_token.service_account_email: "
            f"{token.service_account_email[:200]!r} is no email address."
        )
    return Push(
        endpoint=config.push_endpoint,
        service_account=token.service_account_email,
        audience=token.audience or config.push_endpoint,
        wrapped=not unwrapped,
        writes_metadata=unwrapped and config.no_wrapper.write_metadata,
    )


def _backoff(record: Any) -> Backoff:
    if not record.HasField("retry_policy"):
        # "As soon as possible" in the documentation; a push that fails at once must not spin.
        quickly = Backoff(minimum_seconds=0.1, maximum_seconds=1.0)
        at_once = Backoff(minimum_seconds=0.0, maximum_seconds=0.0)
        return quickly if record.push_config.push_endpoint else at_once
    policy = record.retry_policy
    for name, default in (("minimum_backoff", 10), ("maximum_backoff", MAX_SECONDS)):
        if not policy.HasField(name):
            getattr(policy, name).seconds = default
        # Compared as written: ToTimedelta overflows on the largest durations.
        duration = getattr(policy, name)
        if not 0 <= duration.seconds + duration.nanos / 1e9 <= MAX_SECONDS:
            raise InvalidArgumentError(f"retry_policy.{name}: 0 to {MAX_SECONDS} s.")
    minimum, maximum = (
        duration.seconds + duration.nanos / 1e9
        for duration in (policy.minimum_backoff, policy.maximum_backoff)
    )
    if minimum > maximum:
        raise InvalidArgumentError("retry_policy.minimum_backoff: is above maximum_backoff.")
    return Backoff(minimum_seconds=minimum, maximum_seconds=maximum)


def _dead_letter(record: Any) -> tuple[str, int]:
    if not record.HasField("dead_letter_policy"):
        return "", 0
    policy = record.dead_letter_policy
    policy.max_delivery_attempts = policy.max_delivery_attempts or 5
    if not 5 <= policy.max_delivery_attempts <= 100:
        raise InvalidArgumentError(
            f"dead_letter_policy.max_delivery_attempts: 5 to 100, "
            f"not {policy.max_delivery_attempts}."
        )
    topic = resource_name(
        "topics", policy.dead_letter_topic, field="dead_letter_policy.dead_letter_topic"
    )
    return topic, policy.max_delivery_attempts
