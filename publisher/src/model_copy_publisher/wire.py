"""Pub/Sub's calls and messages, as far as they are needed here, in Google's names and numbers.

Google's own client takes a quarter of a second to import and brings twelve packages along,
for a handful of calls; gRPC and protobuf alone take a third of that. A test holds every name,
number and type here to Google's. Fields that are not here are skipped in what comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "google.pubsub.v1"

_pb: Any = descriptor_pb2  # made at import, out of sight of type checkers
_Field = _pb.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "bool": _Field.TYPE_BOOL,
}

# Message: field: number and type; * is repeated. Google's Duration and Timestamp look like Moment.
MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Moment": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "AttributesEntry": {"key": (1, "string"), "value": (2, "string")},
    "PubsubMessage": {
        "data": (1, "bytes"),
        "attributes": (2, "AttributesEntry*"),
        "message_id": (3, "string"),
        "publish_time": (4, "Moment"),
        "ordering_key": (5, "string"),
    },
    "PublishRequest": {"topic": (1, "string"), "messages": (2, "PubsubMessage*")},
    "PublishResponse": {"message_ids": (1, "string*")},
    "Topic": {"name": (1, "string")},
    "GetTopicRequest": {"topic": (1, "string")},
    "ExpirationPolicy": {"ttl": (1, "Moment")},
    "OidcToken": {"service_account_email": (1, "string"), "audience": (2, "string")},
    "NoWrapper": {"write_metadata": (1, "bool")},
    "PushConfig": {
        "push_endpoint": (1, "string"),
        "oidc_token": (3, "OidcToken"),
        "no_wrapper": (5, "NoWrapper"),
    },
    "RetryPolicy": {"minimum_backoff": (1, "Moment"), "maximum_backoff": (2, "Moment")},
    "DeadLetterPolicy": {
        "dead_letter_topic": (1, "string"),
        "max_delivery_attempts": (2, "int32"),
    },
    "Subscription": {
        "name": (1, "string"),
        "topic": (2, "string"),
        "push_config": (4, "PushConfig"),
        "ack_deadline_seconds": (5, "int32"),
        "message_retention_duration": (8, "Moment"),
        "enable_message_ordering": (10, "bool"),
        "expiration_policy": (11, "ExpirationPolicy"),
        "filter": (12, "string"),
        "dead_letter_policy": (13, "DeadLetterPolicy"),
        "retry_policy": (14, "RetryPolicy"),
        "detached": (15, "bool"),
    },
    "GetSubscriptionRequest": {"subscription": (1, "string")},
    "DeleteSubscriptionRequest": {"subscription": (1, "string")},
    "PullRequest": {"subscription": (1, "string"), "max_messages": (3, "int32")},
    "ReceivedMessage": {
        "ack_id": (1, "string"),
        "message": (2, "PubsubMessage"),
        "delivery_attempt": (3, "int32"),
    },
    "PullResponse": {"received_messages": (1, "ReceivedMessage*")},
    "AcknowledgeRequest": {"subscription": (1, "string"), "ack_ids": (2, "string*")},
    "ModifyAckDeadlineRequest": {
        "subscription": (1, "string"),
        "ack_deadline_seconds": (3, "int32"),
        "ack_ids": (4, "string*"),
    },
    "Empty": {},
    # Of google.iam.v1; on the wire a message has no name.
    "TestIamPermissionsRequest": {"resource": (1, "string"), "permissions": (2, "string*")},
    "TestIamPermissionsResponse": {"permissions": (1, "string*")},
    "GetIamPolicyRequest": {"resource": (1, "string")},
    "Binding": {"role": (1, "string"), "members": (2, "string*")},
    "Policy": {"bindings": (4, "Binding*")},
}


@dataclass(frozen=True, slots=True)
class Method:
    """One call: its path, what goes in and out, and the field that says what it is about."""

    service: str
    name: str
    request: Any
    response: Any
    routed_by: str
    package: str = PACKAGE

    @property
    def path(self) -> str:
        """The path of the HTTP/2 request."""
        return f"/{self.package}.{self.service}/{self.name}"

    def metadata(self, request: Any) -> tuple[tuple[str, str], ...]:
        """Return the header by which Google routes the call (AIP-4222)."""
        value = quote(getattr(request, self.routed_by), safe="")
        return (("x-goog-request-params", f"{self.routed_by}={value}"),)


def _classes() -> Mapping[str, Any]:
    file = _pb.FileDescriptorProto(
        name="model_copy_publisher/pubsub.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, spelled) in fields.items():
            kind = spelled.removesuffix("*")
            label = _Field.LABEL_OPTIONAL if kind == spelled else _Field.LABEL_REPEATED
            added = message.field.add(name=field, number=number, label=label)
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type, added.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    # A pool of its own: Google's client may be in the same process, with more fields.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


_CLASS = _classes()
Moment = _CLASS["Moment"]
PubsubMessage = _CLASS["PubsubMessage"]
PublishRequest = _CLASS["PublishRequest"]
ExpirationPolicy = _CLASS["ExpirationPolicy"]
Subscription = _CLASS["Subscription"]
PullRequest = _CLASS["PullRequest"]
AcknowledgeRequest = _CLASS["AcknowledgeRequest"]
ModifyAckDeadlineRequest = _CLASS["ModifyAckDeadlineRequest"]
DeleteSubscriptionRequest = _CLASS["DeleteSubscriptionRequest"]

PUBLISH = Method("Publisher", "Publish", PublishRequest, _CLASS["PublishResponse"], "topic")
CREATE_SUBSCRIPTION = Method("Subscriber", "CreateSubscription", Subscription, Subscription, "name")
DELETE_SUBSCRIPTION = Method(
    "Subscriber",
    "DeleteSubscription",
    DeleteSubscriptionRequest,
    _CLASS["Empty"],
    "subscription",
)
PULL = Method("Subscriber", "Pull", PullRequest, _CLASS["PullResponse"], "subscription")
ACKNOWLEDGE = Method(
    "Subscriber", "Acknowledge", AcknowledgeRequest, _CLASS["Empty"], "subscription"
)
MODIFY_ACK_DEADLINE = Method(
    "Subscriber", "ModifyAckDeadline", ModifyAckDeadlineRequest, _CLASS["Empty"], "subscription"
)
GET_TOPIC = Method("Publisher", "GetTopic", _CLASS["GetTopicRequest"], _CLASS["Topic"], "topic")
GET_SUBSCRIPTION = Method(
    "Subscriber", "GetSubscription", _CLASS["GetSubscriptionRequest"], Subscription, "subscription"
)
TEST_IAM_PERMISSIONS = Method(
    "IAMPolicy",
    "TestIamPermissions",
    _CLASS["TestIamPermissionsRequest"],
    _CLASS["TestIamPermissionsResponse"],
    "resource",
    package="google.iam.v1",
)
GET_IAM_POLICY = Method(
    "IAMPolicy",
    "GetIamPolicy",
    _CLASS["GetIamPolicyRequest"],
    _CLASS["Policy"],
    "resource",
    package="google.iam.v1",
)
METHODS = (
    PUBLISH,
    CREATE_SUBSCRIPTION,
    DELETE_SUBSCRIPTION,
    PULL,
    ACKNOWLEDGE,
    MODIFY_ACK_DEADLINE,
    GET_TOPIC,
    GET_SUBSCRIPTION,
    TEST_IAM_PERMISSIONS,
    GET_IAM_POLICY,
)


def message(data: bytes, attributes: Mapping[str, str], *, ordering_key: str = "") -> Any:
    """Make a message to be published."""
    entry = _CLASS["AttributesEntry"]
    return PubsubMessage(
        data=data,
        attributes=[entry(key=key, value=value) for key, value in attributes.items()],
        ordering_key=ordering_key,
    )


def attributes_of(message: Any) -> dict[str, str]:
    """Read the attributes of a message: on the wire a map is a list of entries."""
    return {entry.key: entry.value for entry in message.attributes}
