"""The publisher's half of the message contract: strict when it writes, lenient when it reads."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_copy_publisher import CopyRequest, IfExists, InvalidRequestError, Outcome, Reply, filters
from model_copy_publisher.messages import DEFAULT_SOURCE

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

KEY = "projects/lab/locations/us-central1/keyRings/r/cryptoKeys/k"
ids = st.from_regex(r"[A-Za-z0-9._~-]{1,128}", fullmatch=True)
new_models = st.from_regex(r"[a-z_][a-z0-9_-]{0,62}", fullmatch=True)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-(2.0**53) + 1, 2.0**53 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
json_objects = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8), json_values, max_size=4
)


def request(**fields: Any) -> CopyRequest:
    return CopyRequest(**{"source_model_id": "7704127342733426688@1", "request_id": "r1"} | fields)


def nested(levels: int) -> dict[str, Any]:
    return {"x": nested(levels - 1)} if levels > 1 else {}


def reply(outcome: str = "succeeded", *, data: Any = b"{}", **attributes: str) -> Reply:
    told = Reply.from_message(
        data,
        {"ce-id": "e1", "ce-type": f"dev.modelcopier.copy.{outcome}.v1"} | attributes,
        message_id="17",
    )
    assert told is not None
    return told


# What we write


def test_a_request_is_the_contract_message() -> None:
    asked = request(
        destination_model_id="faker_251230",
        if_exists=IfExists.SKIP,
        deadline_seconds=600,
        validate_only=True,
        reply_tag="nightly",
    )

    assert json.loads(asked.body) == {
        "source_model_id": "7704127342733426688@1",
        "destination_model_id": "faker_251230",
        "if_exists": "skip",
        "deadline_seconds": 600,
        "validate_only": True,
    }
    assert asked.attributes(NOW.astimezone(timezone(timedelta(hours=9)))) == {
        "ce-specversion": "1.0",
        "ce-id": "r1",
        "ce-source": DEFAULT_SOURCE,
        "ce-type": "dev.modelcopier.copy.requested.v1",
        "ce-time": "2026-01-02T03:04:05.678Z",
        "content-type": "application/json",
        "reply_tag": "nightly",
    }


def test_a_correlation_may_be_as_deep_as_the_contract_admits() -> None:
    assert json.loads(request(correlation=nested(31)).body)["correlation"] == nested(31)


def test_what_is_not_given_is_not_sent() -> None:
    """The service's own defaults apply to absent fields, and the digest is taken without them."""
    assert request().body == b'{"source_model_id":"7704127342733426688@1"}'


@given(ids, new_models, json_objects)
def test_the_digest_is_of_the_very_bytes_and_of_nothing_else(
    request_id: str, model: str, correlation: dict[str, Any]
) -> None:
    one = request(request_id=request_id, destination_model_id=model, correlation=correlation)
    same = request(
        destination_model_id=model, correlation=dict(reversed(list(correlation.items())))
    )

    assert one.digest == hashlib.sha256(one.body).hexdigest()
    assert one.digest == same.digest
    assert json.loads(one.body)["correlation"] == correlation


@given(ids)
def test_the_filter_fits_in_what_pubsub_allows(request_id: str) -> None:
    assert 0 < len(filters.of_requests([request_id], prefixes=["ask-0123456789abcdef-"])) <= 256


def test_a_later_change_of_the_correlation_does_not_reach_the_message() -> None:
    correlation = {"run": 1}
    asked = request(correlation=correlation)
    digest = asked.digest

    correlation["run"] = 2

    assert asked.digest == digest


def test_requests_without_an_id_get_different_ones() -> None:
    assert (
        CopyRequest(source_model_id="1").request_id != CopyRequest(source_model_id="1").request_id
    )


@given(st.text(max_size=70))
@example("")
@example("9lives")
@example("x" * 64)
@example("faker\n")
@example("\udcff")
def test_any_destination_is_sent_as_it_is_or_refused_by_name(model: str) -> None:
    try:
        outcome = json.loads(request(destination_model_id=model).body)["destination_model_id"]
    except InvalidRequestError as error:
        outcome = error.field

    assert outcome in {model, "destination_model_id"}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"destination_model_id": "Faker-251230"},
            "'Faker-251230' must match [a-z_][a-z0-9_-]{0,62} (upper-case letter)",
        ),
        ({"destination_model_id": "Faker"}, "destination_model_id: 'Faker' must match"),
        ({"destination_model_id": "9lives"}, "{0,62} ('9' at character 1)"),
        ({"destination_model_id": "a.b"}, "{0,62} ('.' at character 2)"),
        ({"destination_model_id": "x" * 64}, "{0,62} (64 characters)"),
        (
            {"destination_model_id": "a", "destination_parent_model": "b"},
            "destination_parent_model: give this or destination_model_id, not both",
        ),
        (
            {"destination_parent_model": "a@1"},
            "destination_parent_model: 'a@1' must be an id or projects/P/",
        ),
        (
            {"destination_parent_model": "a", "if_exists": IfExists.SKIP},
            "if_exists: goes with destination_model_id only",
        ),
        (
            {"source_model_id": ""},
            "source_model_id: '' must be an id, id@version, id@alias or projects/P/",
        ),
        (
            {
                "source_model_id": "projects/lab/locations/us/models/7",
                "source_project": "prod",
                "source_location": "us",
            },
            "source_project: is in project 'prod', but source_model_id names 'lab'",
        ),
        (
            {"target_location": "us", "kms_key_name": KEY},
            "kms_key_name: is in location 'us-central1', but target_location names 'us'",
        ),
        ({"source_model_id": "models/7"}, "source_model_id: 'models/7' must be an id"),
        ({"source_model_id": "\udcff"}, "source_model_id: '\\udcff' must be"),
        ({"source_model_id": "7\0"}, "source_model_id: '7\\x00' must be"),
        ({"correlation": {"a": "\udcff"}}, "correlation: has no canonical JSON form"),
        ({"request_id": "a b"}, "request_id: 'a b' is not 1 to 128 characters"),
        ({"request_id": "x" * 129}, "request_id: "),
        ({"request_source": "my source"}, "request_source: 'my source' is not a URI reference"),
        ({"request_source": "x" * 1025}, "request_source: is 1025 bytes"),
        (
            {"request_source": "//model-copier/rest/a@b.cd"},
            "request_source: '//model-copier/rest/a@b.cd' belongs to a caller of the REST API",
        ),
        ({"reply_tag": "x" * 65}, "reply_tag: "),
        (
            {"target_project": "a/b"},
            "target_project: 'a/b' must be a project id or number ('/' at character 2)",
        ),
        (
            {"target_location": "US"},
            "target_location: 'US' must be a region such as us-central1 (upper",
        ),
        ({"kms_key_name": "my-key"}, "kms_key_name: 'my-key' must be projects/P/"),
        ({"custom_service_account": "me"}, "custom_service_account: 'me' must be the e-mail"),
        (
            {"deadline_seconds": 0},
            "deadline_seconds: should be a whole number from 1 to 604800, not 0",
        ),
        ({"correlation": ["a"]}, "correlation: should be a JSON object, not a list"),
        ({"correlation": {"a": "x" * 4096}}, "correlation: is 4104 bytes; at most 4096"),
        ({"correlation": nested(32)}, "correlation: makes the request nested deeper than 32"),
        ({"correlation": {"a": float("nan")}}, "correlation: has no canonical JSON form"),
        ({"correlation": {"a": 2**60}}, "correlation: has no canonical JSON form"),
        ({"correlation": {"a": 2.5e16}}, "correlation: has no canonical JSON form"),
        ({"correlation": json.loads('{"a":' * 900 + "1" + "}" * 900)}, "correlation: "),
        ({"source_model_id": "x" * 65536}, "has 65536 characters; at most 512 are allowed"),
    ],
)
def test_what_the_contract_does_not_allow_is_refused_in_its_words(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        request(**fields)

    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    "source", ["7", "7@1", "7@default", "faker", "projects/p/locations/us-central1/models/7@2"]
)
def test_every_way_to_name_a_source_is_allowed(source: str) -> None:
    assert request(source_model_id=source).source_model_id == source


# What we read


def test_a_reply_is_read_as_the_contract_says() -> None:
    told = reply(
        request_id="r1",
        data=json.dumps(
            {
                "request_id": "r1",
                "outcome": "succeeded",
                "run": 2,
                "resource_name": "projects/t/locations/l/models/faker",
                "version": "1",
                "verified": True,
                "warnings": ["late"],
                "timings": {"copy_ended_at": "2026-01-02T03:04:05Z", "copy_seconds": 41},
                "field_of_a_later_version": 1,
            }
        ).encode(),
    )

    assert (told.outcome, told.ok, told.run) == (Outcome.SUCCEEDED, True, 2)
    assert told.resource_name == "projects/t/locations/l/models/faker"
    assert (told.version, told.verified, told.warnings) == ("1", True, ("late",))
    assert told.timings.copy_seconds == 41
    assert told.timings.copy_ended_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert told.to_json()["field_of_a_later_version"] == 1
    assert told.to_json()["event_id"] == "e1"


def test_a_failure_carries_its_reason_and_its_letter() -> None:
    told = reply(
        "failed",
        data=b'{"error": {"code": "NOT_FOUND", "message": "no model 7"}, "dead_letter": "e1"}',
    )

    assert not told.ok
    assert told.error is not None
    assert (told.error.code, told.error.message, told.error.hint) == (
        "NOT_FOUND",
        "no model 7",
        "",
    )
    assert told.dead_letter == "e1"


@pytest.mark.parametrize(
    "event_type",
    ["dev.modelcopier.copy.status.v1", "dev.modelcopier.copy.succeeded.v2", "com.example", ""],
)
def test_what_is_no_outcome_is_no_reply(event_type: str) -> None:
    assert Reply.from_message(b"{}", {"ce-type": event_type}, message_id="17") is None


@given(st.sampled_from(Outcome), st.binary() | json_values.map(lambda v: json.dumps(v).encode()))
@example(Outcome.SUCCEEDED, b"[" * 100_000)
def test_an_outcome_is_never_lost_over_its_data(outcome: Outcome, data: bytes) -> None:
    told = reply(outcome.value, data=data, request_id="r1")

    assert told.outcome is outcome
    assert told.answers(request())


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["version", "verified", "warnings", "run", "timings", "error", "correlation"],
            json_values,
        ),
    )
)
def test_a_known_field_of_another_type_counts_as_absent(data: dict[str, Any]) -> None:
    told = reply(data=json.dumps(data).encode())

    assert told.version is None or told.version == data["version"]
    assert told.verified in {None, True, False}
    assert all(isinstance(warning, str) for warning in told.warnings)


@pytest.mark.parametrize(
    "attributes",
    [
        {"request_id": "r1"},
        {"request_id": "r1", "request_source": DEFAULT_SOURCE},
        {"request_id": "r1", "request_digest": request().digest},
    ],
)
def test_a_reply_that_contradicts_nothing_is_ours(attributes: dict[str, str]) -> None:
    assert reply("rejected", **attributes).answers(request())


@pytest.mark.parametrize(
    "attributes",
    [
        {"request_id": "r2", "request_digest": request().digest},
        {"request_id": "r1", "request_source": "//somebody/else"},
        {"request_id": "r1", "request_digest": "0" * 64},
        {},
    ],
)
def test_a_reply_to_another_content_or_source_is_not_ours(attributes: dict[str, str]) -> None:
    assert not reply(**attributes).answers(request())


def test_the_data_tells_whose_reply_it_is_where_the_attributes_do_not() -> None:
    told = reply(data=b'{"request_id": "r1", "request_source": "//somebody/else"}')

    assert told.request_id == "r1"
    assert not told.answers(request())
