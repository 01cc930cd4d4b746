"""Who may do what: policies of topics and subscriptions, as Google's own clients set and ask."""

from typing import Any

import pytest
from google.api_core import exceptions

from pubsub_clients import Clients

AGENT = "serviceAccount:service-123@gcp-sa-pubsub.iam.gserviceaccount.com"
SOMEBODY = "serviceAccount:pipeline@ec2-pipelines.iam.gserviceaccount.com"


def policy(role: str, *members: str, **fields: Any) -> dict[str, Any]:
    return {"bindings": [{"role": role, "members": list(members)}], **fields}


def set_policy(clients: Clients, resource: str, given: dict[str, Any]) -> Any:
    return clients.plain.set_iam_policy(request={"resource": resource, "policy": given})


def get_policy(clients: Clients, resource: str) -> Any:
    return clients.plain.get_iam_policy(request={"resource": resource})


def held(clients: Clients, resource: str, *permissions: str) -> list[str]:
    request = {"resource": resource, "permissions": permissions}
    return list(clients.plain.test_iam_permissions(request=request).permissions)


def test_a_policy_is_kept_as_it_was_set_until_its_resource_is_deleted(clients: Clients) -> None:
    clients.subscribe()

    for resource in (clients.topic, clients.subscription):
        assert list(get_policy(clients, resource).bindings) == []
        given = set_policy(clients, resource, policy("roles/pubsub.admin", AGENT, SOMEBODY))
        assert get_policy(clients, resource) == given
        [binding] = given.bindings
        assert (binding.role, list(binding.members)) == ("roles/pubsub.admin", [AGENT, SOMEBODY])
    clients.subscriber.delete_subscription(subscription=clients.subscription)
    clients.subscribe()

    assert list(get_policy(clients, clients.subscription).bindings) == []


def test_of_two_who_change_a_policy_at_once_the_second_is_told(clients: Clients) -> None:
    read = get_policy(clients, clients.topic)
    set_policy(clients, clients.topic, policy("roles/pubsub.viewer", AGENT, etag=read.etag))

    with pytest.raises(exceptions.Aborted, match="etag"):
        set_policy(clients, clients.topic, policy("roles/pubsub.editor", AGENT, etag=read.etag))


def test_of_what_does_not_exist_there_is_no_policy_and_nobody_has_a_permission(
    clients: Clients,
) -> None:
    assert held(clients, clients.letters, "pubsub.topics.publish") == []
    with pytest.raises(exceptions.NotFound):
        get_policy(clients, clients.letters)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        pytest.param("role", policy("publisher", SOMEBODY), id="role"),
        pytest.param("member", policy("roles/pubsub.admin", "somebody"), id="member"),
    ],
)
def test_a_bad_binding_is_named(clients: Clients, field: str, given: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=field):
        set_policy(clients, clients.topic, given)


def test_a_permission_that_the_resource_cannot_have_is_refused(clients: Clients) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        held(clients, clients.topic, "pubsub.subscriptions.consume")


# Ours: nobody shows who they are


def test_ours_is_open_until_a_policy_names_somebody(clients: Clients) -> None:
    publish, get = "pubsub.topics.publish", "pubsub.topics.get"

    assert held(clients, clients.topic, publish, get) == [publish, get]
    set_policy(clients, clients.topic, policy("roles/pubsub.publisher", AGENT))
    assert held(clients, clients.topic, publish, get) == [publish, get]
    set_policy(clients, clients.topic, policy("roles/pubsub.publisher", SOMEBODY))
    assert held(clients, clients.topic, publish, get) == [publish]


def test_ours_refuses_what_the_policy_does_not_admit(clients: Clients) -> None:
    clients.subscribe()
    clients.publish("before")
    set_policy(clients, clients.topic, policy("roles/pubsub.subscriber", SOMEBODY))
    set_policy(clients, clients.subscription, policy("roles/pubsub.viewer", SOMEBODY))

    with pytest.raises(exceptions.PermissionDenied, match=r"pubsub\.topics\.publish"):
        clients.publish("after")
    with pytest.raises(exceptions.PermissionDenied, match=r"pubsub\.subscriptions\.consume"):
        clients.wait_and_pull()
    assert clients.subscriber.get_subscription(subscription=clients.subscription)
    stream = clients.subscriber.subscribe(clients.subscription, lambda _: None)
    with pytest.raises(exceptions.PermissionDenied):
        stream.result(clients.patience_seconds)
