"""Names of projects, topics and subscriptions: short or full in, full out.

Pure, and without Google's client, so that a wrong name is told before it is imported.
"""

import re

from model_copy_publisher.errors import InvalidRequestError

REQUEST_TOPIC = "model-copy-requests"
REPLY_TOPIC = "model-copy-replies"
DEAD_LETTER_TOPIC = "model-copy-dead-letters"
TICK_TOPIC = "model-copy-ticks"
REQUEST_SUBSCRIPTION = "model-copy-requests"
TICK_SUBSCRIPTION = "model-copy-ticks"
FORWARDED_SUBSCRIPTION = "model-copy-forwarded"
DEAD_LETTER_SUBSCRIPTION = "model-copy-dead-letters"

_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]*")
_NAME = r"(projects/[^/\s]+/{}/)?[A-Za-z][A-Za-z0-9._~%+-]{{2,254}}"
_TOPIC = re.compile(_NAME.format("topics"))
_SUBSCRIPTION = re.compile(_NAME.format("subscriptions"))


def check_project(project: str) -> None:
    """Refuse what is no project, before anything is connected.

    Raises:
        InvalidRequestError: it is none.
    """
    if _PROJECT.fullmatch(project) is None:
        raise InvalidRequestError("project", f"{project!r} is not a project id or number")


def check_distinct(**topics: str) -> None:
    """Refuse one topic for two purposes: replies and dead letters would come in as requests.

    Raises:
        InvalidRequestError: two of them, by option, are one topic.
    """
    seen: dict[str, str] = {}
    for option, topic in topics.items():
        if seen.setdefault(topic, option) != option:
            raise InvalidRequestError(option, f"{topic} is the {seen[topic]} too; use two topics")


def full_name(option: str, name: str, project: str) -> str:
    """Complete the name of a topic, or where ``option`` says so, of a subscription.

    Raises:
        InvalidRequestError: it is no name of one.
    """
    kind, pattern = (
        ("subscriptions", _SUBSCRIPTION) if option.endswith("subscription") else ("topics", _TOPIC)
    )
    if pattern.fullmatch(name) is None:
        raise InvalidRequestError(
            option, f"{name!r} is not a {kind[:-1]}, short or projects/P/{kind}/NAME"
        )
    return name if "/" in name else f"projects/{project}/{kind}/{name}"
