"""google.iam.v1.IAMPolicy for topics and subscriptions: who may do what with one of them.

Nobody shows here who they are. So a caller may do whatever the resource's policy lets anybody
do but Google's own agents, and everything where it names nobody else. Only use is ever refused,
never what sets things up; and what Pub/Sub does itself, as forwarding dead letters, is not held
to it.
"""

import itertools
import re
from collections.abc import Iterable
from typing import Any

from google.iam.v1 import iam_policy_pb2, policy_pb2

from local_cloud.broker import Broker, Topic
from local_cloud.pubsub_records import (
    AbortedError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
)
from local_cloud.pubsub_requests import refuse_unbuilt, resource_name
from local_cloud.subscription import Subscription

_READ = frozenset(
    {
        *("pubsub.topics.get", "pubsub.topics.list"),
        *("pubsub.subscriptions.get", "pubsub.subscriptions.list"),
    }
)
_PUBLISH = frozenset({"pubsub.topics.publish"})
_SUBSCRIBE = frozenset({"pubsub.topics.attachSubscription", "pubsub.subscriptions.consume"})
_EDIT = (
    _READ
    | _PUBLISH
    | _SUBSCRIBE
    | {
        f"pubsub.{kind}.{verb}"
        for kind in ("topics", "subscriptions")
        for verb in ("create", "delete", "update")
    }
    | {"pubsub.topics.detachSubscription"}
)
_ADMINISTER = _EDIT | {
    f"pubsub.{kind}.{verb}"
    for kind in ("topics", "subscriptions")
    for verb in ("getIamPolicy", "setIamPolicy")
}
# https://cloud.google.com/pubsub/docs/access-control#roles
ROLES = {
    "roles/pubsub.viewer": _READ,
    "roles/pubsub.publisher": _PUBLISH,
    "roles/pubsub.subscriber": _SUBSCRIBE,
    "roles/pubsub.editor": _EDIT,
    "roles/pubsub.admin": _ADMINISTER,
}
# What a call needs, and the field that names of what. Calls that are not here are never refused.
_NEEDS = {
    "Publish": ("pubsub.topics.publish", "topic"),
    "GetTopic": ("pubsub.topics.get", "topic"),
    "CreateSubscription": ("pubsub.topics.attachSubscription", "topic"),
    "GetSubscription": ("pubsub.subscriptions.get", "subscription"),
    "Pull": ("pubsub.subscriptions.consume", "subscription"),
    "StreamingPull": ("pubsub.subscriptions.consume", "subscription"),
    "Acknowledge": ("pubsub.subscriptions.consume", "subscription"),
    "ModifyAckDeadline": ("pubsub.subscriptions.consume", "subscription"),
}
_ROLE = re.compile(r"(projects/[^/\s]+/|organizations/[^/\s]+/)?roles/[A-Za-z0-9_.]+")
_MEMBER = re.compile(
    r"allUsers|allAuthenticatedUsers"
    r"|(user|serviceAccount|group):[^@\s]+@[^@\s]+|domain:\S+|(principal|principalSet)://\S+"
)
_AGENT = re.compile(r"serviceAccount:service-\d+@gcp-sa-[a-z-]+\.iam\.gserviceaccount\.com")
_ETAG_OF_NONE = b"\x00\x20\x01"  # "ACAB": that of a policy which nobody has set


class Iam:
    """The policies of a broker's topics and subscriptions; each goes with what it is of."""

    def __init__(self, *, broker: Broker) -> None:
        self._broker = broker
        self._etags = itertools.count(1)

    def check(self, method: str, request: Any) -> None:
        """Refuse a call that the policy of what it uses does not admit.

        Raises:
            PermissionDeniedError: that is so.
        """
        if method not in _NEEDS:
            return
        permission, field = _NEEDS[method]
        name = getattr(request, field)
        owners: Any = self._broker.topics if field == "topic" else self._broker.subscriptions
        if name in owners and permission not in _held(owners[name], [permission]):
            raise PermissionDeniedError(
                f"User not authorized to perform this action: {permission} (resource={name})."
            )

    async def get_iam_policy(self, request: Any) -> Any:
        return _policy(self._resource(request.resource))

    async def set_iam_policy(self, request: Any) -> Any:
        resource, policy = self._resource(request.resource), request.policy
        refuse_unbuilt(policy, frozenset({"audit_configs"}), field="policy.")
        for number, binding in enumerate(policy.bindings):
            _check(binding, where=f"policy.bindings[{number}]")
        if policy.etag and policy.etag != _policy(resource).etag:
            raise AbortedError("policy.etag: somebody has set another policy since it was read.")
        resource.policy = policy_pb2.Policy(
            version=1,
            bindings=policy.bindings,
            etag=next(self._etags).to_bytes(8, "big"),
        )
        return resource.policy

    async def test_iam_permissions(self, request: Any) -> Any:
        kind = _kind(request.resource)
        for each in request.permissions:
            if each not in _ADMINISTER or not each.startswith(f"pubsub.{kind}."):
                raise InvalidArgumentError(f"permissions: {each!r} is none of {kind}.")
        try:
            held = _held(self._resource(request.resource), request.permissions)
        except NotFoundError:
            held = []  # documented: no error
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=held)

    def _resource(self, name: str) -> Topic | Subscription:
        if _kind(name) == "topics":
            return self._broker.topic(name)
        return self._broker.subscription(name)


def _kind(name: str) -> str:
    if "/snapshots/" in name or "/schemas/" in name:
        raise UnimplementedError("resource: the local Pub/Sub has topics and subscriptions only.")
    kind = "topics" if "/topics/" in name else "subscriptions"
    resource_name(kind, name, field="resource")
    return kind


def _policy(resource: Topic | Subscription) -> Any:
    return resource.policy or policy_pb2.Policy(etag=_ETAG_OF_NONE)


def _held(resource: Topic | Subscription, permissions: Iterable[str]) -> list[str]:
    granted = [
        ROLES.get(binding.role, frozenset())
        for binding in _policy(resource).bindings
        if not all(_AGENT.fullmatch(member) for member in binding.members)
    ]
    return [each for each in permissions if not granted or any(each in role for role in granted)]


def _check(binding: Any, *, where: str) -> None:
    refuse_unbuilt(binding, frozenset({"condition"}), field=f"{where}.")
    if not _ROLE.fullmatch(binding.role):
        raise InvalidArgumentError(f"{where}.role: {binding.role!r:.100} is no role.")
    for member in binding.members:
        if not _MEMBER.fullmatch(member):
            raise InvalidArgumentError(f"{where}.members: {member!r:.100} is no member.")
