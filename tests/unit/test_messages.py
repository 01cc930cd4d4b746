"""Requests as they come in: three forms, one meaning, and a name for whoever must be told."""

import base64
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from hypothesis import example, given
from hypothesis import strategies as st

from model_copier.contract import replies
from model_copier.contract.dead_letters import letter_of_rejection
from model_copier.contract.request_schema import MAX_CORRELATION_BYTES
from model_copier.contract.requests import (
    CANCEL_REQUESTED,
    MAX_ATTRIBUTES,
    MAX_DATA_BYTES,
    MAX_OWN_ATTRIBUTES,
    MAX_REPLY_TAG,
    REQUESTED,
    STATUS_REQUESTED,
    Asked,
    CancelAsked,
    Identity,
    Received,
    Rejection,
    StatusAsked,
)
from model_copier.domain.errors import Code, Failure, RejectedError
from simulators import START
from world import CONTRACT, REQUEST, TOPIC, read, request

SERVICE = "//model-copier/topic"
KNOWN_TYPES = f"{REQUESTED}, {CANCEL_REQUESTED}, {STATUS_REQUESTED}"
STRUCTURED = {"content-type": "application/cloudevents+json"}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "request-1",
    "source": "//ec2/pipeline",
    "type": REQUESTED,
    "datacontenttype": "application/json",
    "data": REQUEST,
}
FAILURE = Failure(code=Code.PERMISSION_DENIED, message="no", hint="ask for it")


def plain(data: bytes = json.dumps(REQUEST).encode(), **attributes: str) -> Received:
    """A request with nothing of CloudEvents."""
    return Received(data=data, attributes=attributes, message_id="42")


def structured(event: object = EVENT, **attributes: str) -> Received:
    return Received(
        data=json.dumps(event).encode(), attributes=STRUCTURED | attributes, message_id="42"
    )


def asked_by(received: Received) -> Asked:
    asked = CONTRACT.read(received)
    assert isinstance(asked, Asked)
    return asked


def refusal(received: Received) -> str:
    with pytest.raises(RejectedError) as refused:
        CONTRACT.read(received)
    return str(refused.value)


def rejection(received: Received) -> Rejection:
    return Rejection(
        identity=CONTRACT.identity(received), received=received, failure=FAILURE, at=START
    )


# The three forms of a request


def test_a_request_means_the_same_in_each_of_its_forms():
    forms = [request(), structured(), plain()]

    asked = [asked_by(received) for received in forms]

    assert len({each.digest for each in asked}) == 1
    assert asked[0].copy == asked[1].copy == asked[2].copy


def test_a_cloud_event_names_the_request_in_both_modes():
    expected = Identity(source="//ec2/pipeline", request_id="request-1")

    assert CONTRACT.read(request()).identity == expected
    assert CONTRACT.read(structured()).identity == expected


def test_a_plain_message_is_named_by_its_message_id_and_the_topic():
    assert CONTRACT.read(plain()).identity == Identity(
        source=f"//pubsub.googleapis.com/{TOPIC}", request_id="42"
    )


def test_the_digest_is_the_contents_not_the_bytes():
    reordered = dict(reversed(REQUEST.items()))
    spread_out = json.dumps(reordered, indent=4).encode()

    first, second = asked_by(request()), asked_by(request(spread_out))

    assert first.digest == second.digest
    assert first.identity == second.identity


def test_other_content_has_another_digest_and_the_same_identity():
    other = request(REQUEST | {"destination_model_id": "other"})

    assert asked_by(other).digest != asked_by(request()).digest
    assert CONTRACT.read(other).identity == CONTRACT.read(request()).identity


def test_a_default_that_is_written_out_is_other_content():
    """What counts is what was sent: an operator may change a default between two deliveries."""
    other = request(REQUEST | {"if_exists": "fail"})

    assert asked_by(other).copy == asked_by(request()).copy
    assert asked_by(other).digest != asked_by(request()).digest


def test_no_other_id_or_source_makes_the_same_key():
    names = [("//a", "1"), ("//a", "2"), ("//b", "1"), ("//a1", ""), ("", "//a1")]

    assert len({Identity(source=s, request_id=r).key for s, r in names}) == len(names)


@pytest.mark.parametrize("write", [to_binary, to_structured])
def test_what_the_official_package_writes_is_read(write):
    attributes = {key: EVENT[key] for key in EVENT.keys() - {"data"}}
    headers, body = write(CloudEvent(attributes | {"traceparent": "00-1-2-01"}, dict(REQUEST)))

    asked = CONTRACT.read(Received(data=body, attributes=headers, message_id="42"))

    assert asked == CONTRACT.read(request())


def test_a_structured_event_may_carry_its_data_in_base64():
    event = {key: EVENT[key] for key in EVENT.keys() - {"data"}}
    packed = base64.b64encode(json.dumps(REQUEST).encode()).decode()

    assert CONTRACT.read(structured(event | {"data_base64": packed})) == CONTRACT.read(request())


@pytest.mark.parametrize(
    "content_type",
    ["application/cloudevents+json; charset=utf-8", "Application/CloudEvents+JSON"],
)
def test_a_structured_event_is_known_however_its_type_is_written(content_type: str):
    received = structured(**{"content-type": content_type})

    assert CONTRACT.read(received) == CONTRACT.read(request())


def test_attributes_that_are_not_the_events_change_nothing():
    received = request(id="", type="other", source="elsewhere", team="search")

    assert CONTRACT.read(received) == CONTRACT.read(request())


# Questions about a request, and the wish to end it


@pytest.mark.parametrize(
    ("event_type", "kind"), [(CANCEL_REQUESTED, CancelAsked), (STATUS_REQUESTED, StatusAsked)]
)
def test_a_request_is_named_by_its_id_and_where_it_came_from(event_type: str, kind: type):
    own = request({"request_id": "first"}, **{"ce-type": event_type})
    others = request(
        {"request_id": "first", "request_source": "//nightly"}, **{"ce-type": event_type}
    )

    identity = Identity(source="//ec2/pipeline", request_id="request-1")
    assert CONTRACT.read(own) == kind(
        identity=identity, of=Identity(source="//ec2/pipeline", request_id="first")
    )
    assert CONTRACT.read(others) == kind(
        identity=identity, of=Identity(source="//nightly", request_id="first")
    )


@pytest.mark.parametrize("event_type", [CANCEL_REQUESTED, STATUS_REQUESTED])
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([], "data: should be a JSON object, not an array"),
        ({}, "request_id: is required"),
        ({"request_id": ""}, "request_id: is empty"),
        ({"request_id": 7}, "request_id: should be a string, not 7"),
        (
            {"request_id": "first", "colour": "red"},
            "colour: unknown field; known are request_id, request_source",
        ),
    ],
)
def test_a_request_that_is_not_named_well_is_refused(event_type: str, data: object, sentence: str):
    assert refusal(request(data, **{"ce-type": event_type})) == sentence


# What breaks the contract


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "data: is empty; expected a JSON object"),
        (b"{", "data: is not JSON: Expecting property name enclosed in double quotes"),
        (b"\xff", "data: is not UTF-8: invalid start byte at byte 0"),
        (b"[1]", "data: should be a JSON object, not an array"),
        (b'{"source_model_id":"1","source_model_id":"2"}', "source_model_id: is given twice"),
        (b'{"source_model_id":NaN}', "data: NaN is not JSON"),
        (b'{"source_model_id":"\\ud800"}', "data: holds half of a surrogate pair"),
        (b'{"source_model_id":%s}' % (b"7" * 5000), "data: has a number of more than 4,300 digits"),
        (b"[" * 30_000, "data: is nested too deeply"),
        (b" " * (MAX_DATA_BYTES + 1), "data: has 65537 bytes; at most 65536 are allowed"),
        (
            b'{"source_model_id":"1","correlation":{"a":9007199254740993}}',
            "correlation.a: 9007199254740993 is beyond ",
        ),
        (
            b'{"source_model_id":"1","correlation":{"a":1e999}}',
            "correlation: cannot be written as canonical JSON: ",
        ),
    ],
)
def test_data_that_cannot_be_read_is_refused_by_what_is_wrong_with_it(data: bytes, sentence: str):
    assert refusal(request(data)).startswith(sentence)


@pytest.mark.parametrize("depth", range(600, 1000, 9))
def test_no_depth_of_nesting_slips_between_the_parsers(depth: int):
    """Each has a limit of its own, and so has the stack."""
    deep = b"[" * depth + b"]" * depth
    in_data = json.dumps(EVENT).encode().replace(b'"7704127342733426688"', deep)
    in_event = json.dumps(EVENT)[:-1].encode() + b',"colour":%s}' % deep

    assert "nested" in refusal(plain(b'{"source_model_id":"1","correlation":{"in":%s}}' % deep))
    for data in (in_data, in_event):
        with suppress(RejectedError):
            CONTRACT.read(replace(structured(), data=data))


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"ce-id": "a b"}, "ce-id: 'a b' should be 1 to 128 of A-Z a-z 0-9 . _ ~ -"),
        (
            {"ce-id": "a" * 129},
            f"ce-id: '{'a' * 80}' should be 1 to 128 of A-Z a-z 0-9 . _ ~ -",
        ),
        ({"ce-id": ""}, "ce-id: is required, a string"),
        ({"ce-source": ""}, "ce-source: is required, a string"),
        ({"ce-specversion": ""}, "ce-specversion: is required, a string"),
        ({"ce-specversion": "2.0"}, "ce-specversion: '2.0' is not supported; send 1.0"),
        ({"ce-type": "com.other"}, f"ce-type: 'com.other' is not known; known are {REQUESTED}"),
        ({"ce-extensions": "x"}, "CloudEvent: cannot be read: "),
        ({"reply_tag": "t" * 65}, "reply_tag: has 65 characters; at most 64 are allowed"),
        (
            {f"own{number}": "" for number in range(21)},
            "attributes: 21 of its own; at most 20 are allowed",
        ),
    ],
)
def test_attributes_that_break_the_contract_are_named(attributes: dict[str, str], sentence: str):
    assert refusal(request(**attributes)).startswith(sentence)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ([EVENT], "data: should be a CloudEvent in JSON, an object"),
        (EVENT | {"id": 7}, "ce-id: is required, a string"),
        (EVENT | {"source": None}, "ce-source: is required, a string"),
        (EVENT | {"type": []}, "ce-type: is required, a string"),
        (EVENT | {"source": "\ud800"}, "data: holds half of a surrogate pair"),
        (EVENT | {"data": None}, "data: should be a JSON object, not null"),
        (EVENT | {"data": json.dumps(REQUEST)}, "data: should be a JSON object, not a string"),
        (
            {k: v for k, v in EVENT.items() if k != "data"} | {"data_base64": "é"},
            "CloudEvent: cannot be read: ",
        ),
        (EVENT | {"data_base64": "e30="}, "data and data_base64: give one of them, not both"),
        ({key: EVENT[key] for key in EVENT.keys() - {"data"}}, "data: is empty"),
    ],
)
def test_a_structured_event_that_breaks_the_contract_is_told_where(event: object, sentence: str):
    assert refusal(structured(event)).startswith(sentence)


def test_what_is_wrong_with_the_delivery_itself_comes_first():
    assert refusal(replace(request(b""), unreadable="is not JSON")) == "push: is not JSON"


def test_the_limits_of_a_request_are_part_of_the_contract():
    """Exactly at each limit a request is still read."""
    room = MAX_CORRELATION_BYTES - len('{"a":""}')
    fields = REQUEST | {"correlation": {"a": "x" * room}}
    data = json.dumps(fields).encode()
    tag = {"reply_tag": "t" * MAX_REPLY_TAG}
    own = {f"own{number}": "" for number in range(MAX_OWN_ATTRIBUTES - 1)}
    full = request(data.ljust(MAX_DATA_BYTES), request_id="i" * 128, **tag, **own)

    assert asked_by(full).copy.correlation == fields["correlation"]
    assert refusal(request(REQUEST | {"correlation": {"a": "x" * (room + 1)}})) == (
        f"correlation: is larger than {MAX_CORRELATION_BYTES} bytes"
    )


# Who is told


def test_a_message_that_is_broken_is_still_known_by_its_event():
    crowd = {f"own{number}": "" for number in range(MAX_ATTRIBUTES)}
    known = CONTRACT.identity(request())

    assert CONTRACT.identity(request(b"\xff")) == known
    assert CONTRACT.identity(request(**crowd)) == known
    assert CONTRACT.identity(structured(**crowd)) == known
    assert CONTRACT.identity(structured(EVENT | {"type": 7, "data": None})) == known


@pytest.mark.parametrize("event", [EVENT | {"id": 7}, EVENT | {"id": ""}, [], "text"])
def test_a_structured_event_without_a_usable_id_is_known_by_its_message_id(event: object):
    identity = CONTRACT.identity(structured(event))

    assert identity is not None
    assert identity.request_id == "42"


def test_a_message_that_nothing_names_has_no_identity():
    nameless = replace(plain(), message_id="")

    assert CONTRACT.identity(nameless) is None
    assert refusal(nameless).startswith("ce-id: is required")


def test_an_id_out_of_a_huge_event_is_not_carried_into_the_reply():
    huge = structured(EVENT | {"id": "i" * 1_000_000})

    told = replies.rejected(rejection(huge), SERVICE)

    assert read(told)["request_id"] == "42"
    assert len(told.data) < 10_000


texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
events = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.just(value) | json_values for name, value in EVENT.items()},
        **dict.fromkeys(["data_base64", "extensions", "time", "subject", "colour"], json_values),
    },
)
attributes_of_any_kind = st.dictionaries(texts, texts, max_size=5) | st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from([*STRUCTURED.values(), "application/json"]) | texts,
        **{f"ce-{name}": st.just(EVENT[name]) | texts for name in EVENT if name != "data"},
        "ce-type": st.sampled_from([REQUESTED, CANCEL_REQUESTED, STATUS_REQUESTED]) | texts,
        **dict.fromkeys(["ce-extensions", "ce-data", "ce-", "CE-ID", "reply_tag", "x"], texts),
    },
)
data_of_any_kind = (
    st.binary()
    | (json_values | events).map(lambda value: json.dumps(value).encode())
    | st.just(json.dumps(REQUEST).encode())
)


@given(data_of_any_kind, attributes_of_any_kind, st.sampled_from(["", "42"]))
@example(json.dumps(EVENT | {"source": "\ud800"}).encode(), STRUCTURED, "42")
@example(json.dumps(EVENT | {"extensions": None, "colour": 1}).encode(), STRUCTURED, "42")
def test_any_delivery_is_read_or_refused_and_whoever_has_a_name_can_be_told(
    data: bytes, attributes: dict[str, str], message_id: str
):
    received = Received(data=data, attributes=attributes, message_id=message_id)

    identity = CONTRACT.identity(received)
    try:
        asked = CONTRACT.read(received)
    except RejectedError as error:
        refused = rejection(received)
        reason = str(error)
        assert reason
        assert letter_of_rejection(refused).data == data
        if identity is not None:
            assert read(replies.rejected(refused, SERVICE))["request_id"] == identity.request_id
    else:
        assert asked.identity == identity


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"ce-specversion": "0.3"}, "ce-specversion: '0.3' is not supported; send 1.0"),
        ({"ce-source": "//a b"}, "ce-source: must be a URI reference"),
        ({"ce-source": "//a\nb"}, "ce-source: must be a URI reference"),
        ({"ce-source": "x" * 1025}, "at most 1024 characters"),
    ],
    ids=str,
)
def test_an_event_of_another_form_is_rejected(wrong: dict[str, str], sentence: str):
    """CloudEvents 1.0 wants a URI reference as the source; the store and replies bound it."""
    asked = request(**wrong)

    with pytest.raises(RejectedError, match=sentence):
        CONTRACT.read(asked)
    structured_asked = structured(EVENT | {k.removeprefix("ce-"): v for k, v in wrong.items()})
    with pytest.raises(RejectedError, match=sentence):
        CONTRACT.read(structured_asked)
