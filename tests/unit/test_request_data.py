"""The data of a copy request: each field, right and wrong, and the words of its refusal."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_copier.contract.request_schema import (
    MAX_DEADLINE_SECONDS,
    MAX_DEPTH,
    CopyData,
    read_copy_data,
)
from model_copier.domain.copy_request import CopyRequest, IfExists
from model_copier.domain.errors import Code, RejectedError
from model_copier.domain.resource_names import ModelName
from world import DEFAULTS, PARENT, SOURCE, SOURCE_PROJECT, TARGET_PROJECT

ID = "7704127342733426688"
REQUEST: dict[str, Any] = {"source_model_id": ID}
KEY = "projects/keys/locations/us-central1/keyRings/ring/cryptoKeys/key"
ACCOUNT = f"copier@{TARGET_PROJECT}.iam.gserviceaccount.com"
ACCOUNT_OF_TEST = "copier@test.iam.gserviceaccount.com"
ALLOWING = replace(
    DEFAULTS,
    source_projects=frozenset({SOURCE_PROJECT, "lab"}),
    target_projects=frozenset({TARGET_PROJECT, "test"}),
    service_accounts=frozenset({ACCOUNT, ACCOUNT_OF_TEST}),
)

# Everything that a JSON parser can hand over, halves of surrogate pairs included.
texts = st.text(st.characters(exclude_categories=()), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
good_values = {
    "source_model_id": st.sampled_from([ID, f"{ID}@2", f"{SOURCE}@prod", "a-name"]),
    "destination_model_id": st.sampled_from(["copied", "_2"]),
    "destination_parent_model": st.sampled_from(["shared-parent", PARENT, "7"]),
    "if_exists": st.sampled_from(list(map(str, IfExists))),
    "source_project": st.just("lab"),
    "source_location": st.just("europe-west4"),
    "target_project": st.just("test"),
    "target_location": st.just("us-central1"),
    "kms_key_name": st.just(KEY),
    "custom_service_account": st.just(ACCOUNT),
    "deadline_seconds": st.integers(1, MAX_DEADLINE_SECONDS),
    "correlation": st.dictionaries(texts, json_values, max_size=3),
    "validate_only": st.booleans(),
}
# Mostly right requests, in which anything may be wrong.
forms = st.fixed_dictionaries(
    {"source_model_id": good_values["source_model_id"] | json_values},
    optional={
        field: (good | good | good | st.none() | json_values)
        for field, good in good_values.items()
        if field != "source_model_id"
    }
    | {"colour": json_values},
)


def refusal(data: object) -> str:
    with pytest.raises(RejectedError) as refused:
        read_copy_data(data, ALLOWING)
    assert refused.value.code is Code.INVALID_ARGUMENT
    return str(refused.value)


def parsed(**fields: Any) -> CopyRequest:
    return read_copy_data(REQUEST | fields, ALLOWING)


# Right


def test_a_source_is_all_that_is_needed():
    assert read_copy_data(REQUEST, DEFAULTS) == CopyRequest(
        source=ModelName.parse(SOURCE),
        target_project=TARGET_PROJECT,
        target_location="us-central1",
    )


def test_every_field_finds_its_place():
    data = {
        "source_model_id": f"{ID}@prod",
        "destination_model_id": "copied",
        "if_exists": "skip",
        "source_project": "lab",
        "source_location": "europe-west4",
        "target_project": "test",
        "target_location": "us-central1",
        "kms_key_name": KEY,
        "custom_service_account": ACCOUNT_OF_TEST,
        "deadline_seconds": 600,
        "correlation": {"run": 7},
        "validate_only": True,
    }

    assert read_copy_data(data, ALLOWING, reply_tag="nightly") == CopyRequest(
        source=ModelName.parse(f"projects/lab/locations/europe-west4/models/{ID}@prod"),
        target_project="test",
        target_location="us-central1",
        destination="copied",
        if_exists=IfExists.SKIP,
        kms_key_name=KEY,
        custom_service_account=ACCOUNT_OF_TEST,
        deadline_seconds=600,
        correlation={"run": 7},
        reply_tag="nightly",
        validate_only=True,
    )


def test_null_is_the_same_as_leaving_a_field_out():
    nothing = dict.fromkeys(CopyData.model_fields.keys() - {"source_model_id", "validate_only"})

    assert parsed(**nothing) == parsed()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (ID, SOURCE),
        (f"{ID}@2", f"{SOURCE}@2"),
        (f"{ID}@prod", f"{SOURCE}@prod"),
        (SOURCE, SOURCE),
        (f"{SOURCE}@2", f"{SOURCE}@2"),
        (
            f"projects/lab/locations/europe-west4/models/{ID}",
            f"projects/lab/locations/europe-west4/models/{ID}",
        ),
    ],
)
def test_a_source_may_be_named_in_short_or_in_full(text: str, source: str):
    assert str(parsed(source_model_id=text).source) == source


def test_a_full_name_may_be_repeated_by_its_parts():
    repeated = parsed(
        source_model_id=SOURCE, source_project=SOURCE_PROJECT, source_location="us-central1"
    )

    assert str(repeated.source) == SOURCE


@pytest.mark.parametrize("parent", ["shared-parent", PARENT])
def test_a_parent_may_be_named_in_short_or_in_full(parent: str):
    request = parsed(destination_parent_model=parent)

    assert request.new_version
    assert str(request.target(request.source)) == PARENT


@pytest.mark.parametrize("seconds", [1, MAX_DEADLINE_SECONDS])
def test_a_deadline_may_be_as_short_or_as_long_as_the_contract_says(seconds: int):
    assert parsed(deadline_seconds=seconds).deadline_seconds == seconds


# Wrong


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ([1], "an array"),
        ("text", "a string"),
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
    ],
)
def test_data_that_is_no_object_is_named(data: object, kind: str):
    assert refusal(data) == f"data: should be a JSON object, not {kind}"


def test_a_missing_source_is_named():
    assert refusal({}) == "source_model_id: is required"


KNOWN = (
    "known are source_model_id, destination_model_id, destination_parent_model, if_exists,"
    " source_project, source_location, target_project, target_location, kms_key_name,"
    " custom_service_account, deadline_seconds, correlation, validate_only"
)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"source_model_id": 7}, "source_model_id: should be a string, not 7"),
        ({"source_model_id": None}, "source_model_id: should be a string, not null"),
        ({"source_model_id": ""}, "source_model_id: is empty"),
        (
            {"source_model_id": "7" * 513},
            "source_model_id: has 513 characters; at most 512 are allowed",
        ),
        (
            {"source_model_id": "7@1@2"},
            (
                "source_model_id: '7@1@2' is neither an id, id@version, id@alias"
                " nor a full resource name"
            ),
        ),
        (
            {"source_model_id": "models/7"},
            (
                "source_model_id: 'models/7' is not a model name;"
                " it should read projects/PROJECT/locations/LOCATION/models/MODEL[@VERSION]"
            ),
        ),
        (
            {"source_model_id": SOURCE, "source_project": "lab"},
            f"source_project: 'lab', but source_model_id names '{SOURCE_PROJECT}'",
        ),
        (
            {"source_model_id": SOURCE, "source_location": "europe-west4"},
            "source_location: 'europe-west4', but source_model_id names 'us-central1'",
        ),
        (
            {"destination_model_id": "Faker-251230"},
            (
                "destination_model_id: 'Faker-251230' must match [a-z_][a-z0-9_-]{0,62}"
                " (upper-case letter)"
            ),
        ),
        (
            {"destination_model_id": ""},
            "destination_model_id: '' must match [a-z_][a-z0-9_-]{0,62} (empty)",
        ),
        ({"destination_model_id": ["a"]}, 'destination_model_id: should be a string, not ["a"]'),
        (
            {"destination_model_id": "a", "destination_parent_model": "b"},
            "destination_parent_model: give this or destination_model_id, not both",
        ),
        (
            {"destination_parent_model": "no.model"},
            "destination_parent_model: 'no.model' must be a model id",
        ),
        ({"destination_parent_model": ""}, "destination_parent_model: '' must be a model id"),
        ({"destination_parent_model": "p@1"}, "destination_parent_model: 'p@1' must be a model id"),
        (
            {"destination_parent_model": "models/p"},
            (
                "destination_parent_model: 'models/p' is not a model name;"
                " it should read projects/PROJECT/locations/LOCATION/models/MODEL[@VERSION]"
            ),
        ),
        (
            {"destination_parent_model": f"{PARENT}@1"},
            f"destination_parent_model: name the model without a version: {PARENT!r}",
        ),
        (
            {"destination_parent_model": PARENT, "target_location": "europe-west4"},
            (
                f"destination_parent_model: lies in"
                f" projects/{TARGET_PROJECT}/locations/us-central1,"
                f" but the target is projects/{TARGET_PROJECT}/locations/europe-west4"
            ),
        ),
        (
            {"destination_model_id": "a", "if_exists": "overwrite"},
            "if_exists: should be fail, skip or new_version, not 'overwrite'",
        ),
        ({"if_exists": "skip"}, "if_exists: goes with destination_model_id only"),
        (
            {"source_project": "theirs"},
            f"source_project: 'theirs' is not allowed; allowed are {SOURCE_PROJECT}, lab",
        ),
        (
            {"target_project": ""},
            "target_project: '' must be a project id or number",
        ),
        (
            {"source_location": "US"},
            "source_location: 'US' is no region such as us-central1; did you mean us?",
        ),
        (
            {"target_location": "evil.example/"},
            "target_location: 'evil.example/' is no region such as us-central1",
        ),
        (
            {"kms_key_name": "key"},
            "kms_key_name: 'key' should read projects/P/locations/L/keyRings/R/cryptoKeys/K",
        ),
        (
            {"kms_key_name": KEY, "target_location": "europe-west4"},
            (
                "kms_key_name: the key is in 'us-central1', but the copy goes to 'europe-west4';"
                " name a key in 'europe-west4'"
            ),
        ),
        (
            {"custom_service_account": "root"},
            "custom_service_account: 'root' must be the e-mail address of a service account",
        ),
        (
            {"custom_service_account": "root@x.example"},
            (
                "custom_service_account: 'root@x.example' is not allowed;"
                f" allowed are {ACCOUNT}, {ACCOUNT_OF_TEST}"
            ),
        ),
        *(
            (
                {"deadline_seconds": value},
                f"deadline_seconds: should be a whole number from 1 to 604800, not {shown}",
            )
            for value, shown in (
                (0, "0"),
                (604_801, "604801"),
                (1.5, "1.5"),
                ("60", "'60'"),
                (True, "true"),
            )
        ),
        ({"correlation": [1]}, "correlation: should be an object, not [1]"),
        ({"correlation": "x" * 99}, f"correlation: should be an object, not '{'x' * 77}...'"),
        ({"correlation": ["x" * 99]}, "correlation: should be an object, not an array"),
        ({"validate_only": "yes"}, "validate_only: should be true or false, not 'yes'"),
        ({"validate_only": 1}, "validate_only: should be true or false, not 1"),
        ({"colour": "red"}, f"colour: unknown field; {KNOWN}"),
        ({"colour": "red", "size": 1}, f"colour, size: unknown fields; {KNOWN}"),
        (
            {"source_model_id": "\ud800"},
            r"source_model_id: '\ud800' holds half of a surrogate pair",
        ),
    ],
)
def test_a_refusal_names_the_field_what_was_found_and_what_would_be_right(
    fields: dict[str, Any], sentence: str
):
    assert refusal(REQUEST | fields) == sentence


def test_every_wrong_field_is_named():
    data = {
        "source_model_id": 7,
        "destination_model_id": "Faker",
        "target_location": "US",
        "deadline_seconds": 0,
        "colour": "red",
    }

    assert refusal(data).split("; ") == [
        "source_model_id: should be a string, not 7",
        "destination_model_id: 'Faker' must match [a-z_][a-z0-9_-]{0,62} (upper-case letter)",
        "target_location: 'US' is no region such as us-central1",
        "did you mean us?",
        "deadline_seconds: should be a whole number from 1 to 604800, not 0",
        "colour: unknown field",
        KNOWN,
    ]


def test_every_contradiction_is_named():
    data = REQUEST | {
        "destination_parent_model": PARENT,
        "if_exists": "skip",
        "source_project": "theirs",
        "target_project": "theirs-too",
    }

    found = refusal(data)

    for field in ("if_exists", "source_project", "target_project", "destination_parent_model"):
        assert f"{field}: " in found


def test_what_nobody_may_name_is_said_to_be_nobody():
    with pytest.raises(RejectedError, match="is not allowed; allowed are none"):
        read_copy_data(REQUEST | {"custom_service_account": ACCOUNT}, DEFAULTS)


def test_many_unknown_fields_make_a_short_refusal():
    data = REQUEST | {f"field{number}": number for number in range(5000)}

    found = refusal(data)

    assert "field9 and 4990 more: unknown fields" in found
    assert len(found) < 1000


def test_no_request_is_nested_deeper_than_a_store_can_read():
    """A record that could be written and not read again would stop its job for ever."""
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 2):
        deep = {"in": deep}
    assert parsed(correlation=deep).correlation == deep

    assert refusal(REQUEST | {"correlation": {"in": deep}}) == (
        f"data: is nested deeper than {MAX_DEPTH} levels"
    )


@given(json_values | forms)
@example({"\ud800": 1, "source_model_id": ID})
@example({"source_model_id": ID, "correlation": {"\ud800": "\udfff"}})
@example({"source_model_id": float("nan")})
def test_any_json_is_either_a_request_or_refused_with_a_reason(data: object):
    try:
        request = read_copy_data(data, ALLOWING)
    except RejectedError as error:
        reason = str(error)
        assert reason
        return

    assert ModelName.parse(str(request.source)) == request.source
    assert request.source.project in ALLOWING.source_projects
    assert request.target_project in ALLOWING.target_projects
    target = request.target(request.source.at("1"))
    assert ModelName.parse(str(target)) == target
