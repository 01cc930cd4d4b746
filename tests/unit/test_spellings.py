"""However a sender spells a CloudEvent, it has one identity or is refused."""

import codecs
import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_copier.contract.attribute_names import explain_bad_spelling, folded
from model_copier.contract.requests import Asked, Received
from model_copier.domain.errors import RejectedError
from unit.test_messages import EVENT, asked_by, plain, refusal
from world import CONTRACT, REQUEST, request

BINARY = dict(request().attributes)
IDENTITY = CONTRACT.identity(request())


def respelled(attributes: dict[str, str], upper: list[bool]) -> dict[str, str]:
    """The same attributes, each letter in the case that the draw says."""
    flips = iter(upper * 100)
    return {
        "".join(each.upper() if next(flips) else each for each in name): value
        for name, value in attributes.items()
    }


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_any_case_means_the_same(upper: list[bool]):
    """Attribute names are case-insensitive: CloudEvents over Pub/Sub, 3.1.3.1."""
    attributes = respelled(BINARY | {"reply_tag": "nightly"}, upper)

    asked = asked_by(Received(data=request().data, attributes=attributes, message_id="9"))

    assert asked.identity == IDENTITY
    assert asked.copy.reply_tag == "nightly"


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"Content-Type": "application/cloudevents+json; charset=utf-8"},
        {"CONTENT-TYPE": "Application/CloudEvents+JSON"},
        {"content-type": "application/json"},
        {"content-type": "application/cloudevents"},
        {"team": "a"},
        {"ce-replays": "1"},  # a replay of model-copy marks its letter so
    ],
)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_an_event_in_the_data_is_one(attributes: dict[str, str], mark: bytes):
    """With, without and beside attributes: the Go SDK writes none in structured mode."""
    data = mark + json.dumps(EVENT).encode()

    asked = asked_by(Received(data=data, attributes=attributes, message_id="9"))

    assert asked.identity == IDENTITY
    assert asked.digest == asked_by(request()).digest


@pytest.mark.parametrize(
    "names",
    [
        ["ce_specversion", "ce_id", "ce_source", "ce_type"],
        ["cloudEvents:specversion", "cloudEvents:id", "cloudEvents:source", "cloudEvents:type"],
        ["cloudEvents_id"],
        ["cloud-event-id"],
        ["specversion", "id", "source", "type"],
        ["specVersion"],
        ["ceId", "ceSource"],
        ["CE.ID"],
        [" ce-id"],
        ["ce-id"],
        ["CE-TYPE"],
        ["ce-foo"],
    ],
)
def test_an_almost_event_is_never_nameless(names: list[str]):
    """What tries to name itself and fails is refused, with the names that are right."""
    wrong = refusal(replace(plain(), attributes=dict.fromkeys(names, "x")))

    assert "ce-specversion" in wrong


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type"])
def test_an_event_in_part_is_refused(missing: str):
    """Without attributes, under the id that its data tell."""
    event = {name: value for name, value in EVENT.items() if name != missing}
    message = plain(json.dumps(event).encode())

    assert refusal(message) == f"ce-{missing}: is required, a string"
    told = CONTRACT.identity(message)
    assert told
    assert told.request_id == EVENT.get("id" if missing != "id" else "", "42")


@pytest.mark.parametrize("name", ["team", "id", "source", "type", "device", "ce", "price-id"])
def test_other_attributes_name_nothing(name: str):
    assert explain_bad_spelling({name: "x"}) is None
    assert asked_by(replace(plain(), attributes={name: "x"})).identity.request_id == "42"


@pytest.mark.parametrize("second", ["//ec2/pipeline", "other"])
def test_one_attribute_in_two_spellings_is_refused(second: str):
    """Even where both say the same: the next message of that sender may not."""
    message = replace(request(), attributes=BINARY | {"Ce-Source": second})

    assert refusal(message) == (
        "ce-source: is given twice, as 'ce-source' and 'Ce-Source'; give one"
    )


def test_two_spellings_of_an_id_name_nobody():
    """The refusal is told under the message id; neither of the two requests is harmed."""
    message = replace(request(), attributes=BINARY | {"CE-ID": "another"})

    told = CONTRACT.identity(message)

    assert told
    assert told.request_id == message.message_id


def test_attributes_that_contradict_the_event_are_refused():
    message = plain(json.dumps(EVENT).encode())

    for name in ("Ce-Id", "ce-source", "ce-type"):
        attributes = {"content-type": "application/cloudevents+json", name: "else"}
        assert "says otherwise" in refusal(replace(message, attributes=attributes))


@pytest.mark.parametrize(
    "kind",
    [
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
        "application/cloudevents+xml",
    ],
)
def test_another_format_is_named_and_refused(kind: str):
    assert refusal(plain(b"[]", **{"Content-Type": kind})).startswith(f"content-type: {kind!r}")


def test_a_mark_before_the_json_is_passed_over():
    assert asked_by(request(codecs.BOM_UTF8 + request().data)) == asked_by(request())
    assert refusal(request(codecs.BOM_UTF8)) == "data: is empty; expected a JSON object"
    assert "UTF-16" in refusal(request(json.dumps(REQUEST).encode("utf-16")))


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=5), max_size=6), st.binary())
@example({"ce-id": "a", "CE-ID": "a"}, b"{}")
@example({"K": "a", "k": "b"}, b"{}")
def test_no_attributes_at_all_break_the_reader(attributes: dict[str, str], data: bytes):
    message = Received(data=data, attributes=attributes, message_id="1")

    folded(attributes)
    try:
        assert isinstance(CONTRACT.read(message), Asked)
    except RejectedError:
        assert CONTRACT.identity(message)
