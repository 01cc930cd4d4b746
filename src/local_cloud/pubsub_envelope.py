"""What a push says: its headers and its body, wrapped or not.

Pure. cloud.google.com/pubsub/docs/push#receive_push and .../docs/payload-unwrapping.
"""

import base64
import json

from local_cloud.pubsub_records import Delivery, Message

Headers = list[tuple[bytes, bytes]]

_ALWAYS = {b"user-agent": b"CloudPubSub-Google", b"accept": b"application/json"}
# What frames the request or says where it goes is not for an attribute to say.
_OURS = frozenset(
    {"authorization", "connection", "content-length", "host", "transfer-encoding", "upgrade"}
)
_NAME_CHARACTERS = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


def wrapped(delivery: Delivery, *, subscription: str, counted: bool) -> tuple[Headers, bytes]:
    """Write the documented JSON; what a message does not have is absent from it."""
    message, content = delivery.message, delivery.message.content
    published_at = _published_at(message)
    inner: dict[str, object] = {
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published_at,
        "publish_time": published_at,
    }
    if content.data:
        inner["data"] = base64.b64encode(content.data).decode()
    if content.attributes:
        inner["attributes"] = dict(content.attributes)
    if content.ordering_key:
        inner["orderingKey"] = content.ordering_key
    envelope: dict[str, object] = {"message": inner, "subscription": subscription}
    if counted:
        envelope["deliveryAttempt"] = delivery.attempt
    headers = {**_ALWAYS, b"content-type": b"application/json"}
    return list(headers.items()), json.dumps(envelope).encode()


def unwrapped(
    delivery: Delivery, *, subscription: str, with_metadata: bool
) -> tuple[Headers, bytes]:
    """Write the data alone, and beside it as headers, if asked to, what else there is."""
    message, content = delivery.message, delivery.message.content
    # What Google's emulator sends; the documentation does not say.
    headers = {**_ALWAYS, b"content-type": b"application/x-www-form-urlencoded"}
    if with_metadata:
        metadata = {
            "x-goog-pubsub-message-id": message.message_id,
            "x-goog-pubsub-publish-time": _published_at(message),
            "x-goog-pubsub-subscription-name": subscription,
        }
        if content.ordering_key:
            metadata["x-goog-pubsub-ordering-key"] = content.ordering_key
        for name, value in {**content.attributes, **metadata}.items():
            if _is_header(name, value):
                headers[name.lower().encode()] = value.encode()
    return list(headers.items()), content.data


def _is_header(name: str, value: str) -> bool:
    """Whether HTTP has room for it; an attribute that does not fit is left out."""
    return (
        name != ""
        and _NAME_CHARACTERS.issuperset(name)
        and name.lower() not in _OURS
        and value == value.strip()
        and all(each >= " " and each != "\x7f" for each in value)
    )


def _published_at(message: Message) -> str:
    return message.published_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
