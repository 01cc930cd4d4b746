"""The publisher's own table of Pub/Sub's messages is Google's."""

import pytest
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.pubsub_v1 import types

from model_copy_publisher import wire

IAM = {
    "TestIamPermissionsRequest": iam_policy_pb2,
    "TestIamPermissionsResponse": iam_policy_pb2,
    "GetIamPolicyRequest": iam_policy_pb2,
    "Binding": policy_pb2,
    "Policy": policy_pb2,
}
OWN = {"Moment", "AttributesEntry", "Empty"}  # of protobuf itself


def _googles(name):
    if name in IAM:
        return getattr(IAM[name], name).DESCRIPTOR
    inside = types.PushConfig if name in {"OidcToken", "NoWrapper"} else types
    return getattr(inside, name).pb().DESCRIPTOR


@pytest.mark.parametrize("name", [name for name in wire.MESSAGES if name not in OWN])
def test_every_field_has_googles_number_and_type(name):
    own = wire._CLASS[name].DESCRIPTOR
    google = _googles(name)

    for field in own.fields:
        theirs = google.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (
            theirs.number,
            theirs.type,
            theirs.is_repeated,
        )


def test_what_is_written_is_what_google_reads():
    message = wire.message(b"\xff", {"ce-id": "r-1", "reply_tag": "ü"})
    written = wire.PublishRequest(topic="projects/p/topics/t", messages=[message])

    read = types.PublishRequest.deserialize(written.SerializeToString())

    assert read.topic == "projects/p/topics/t"
    assert read.messages[0].data == b"\xff"
    assert dict(read.messages[0].attributes) == {"ce-id": "r-1", "reply_tag": "ü"}


def test_what_google_writes_is_read_with_what_is_new_left_out():
    received = types.ReceivedMessage(
        ack_id="a", message=types.PubsubMessage(data=b"d", attributes={"k": "v"}, message_id="7")
    )
    answer = types.PullResponse.serialize(types.PullResponse(received_messages=[received]))

    [read] = wire.PULL.response.FromString(answer).received_messages

    assert (read.ack_id, read.message.data, read.message.message_id) == ("a", b"d", "7")
    assert wire.attributes_of(read.message) == {"k": "v"}


def test_a_call_says_by_what_it_is_routed():
    request = wire.PullRequest(subscription="projects/p/subscriptions/s")

    assert wire.PULL.metadata(request) == (
        ("x-goog-request-params", "subscription=projects%2Fp%2Fsubscriptions%2Fs"),
    )
