"""The publisher and the service hold requests to the same rules.

The publisher validates against the service's JSON Schema, the service with the types that the
schema is written from. Whatever depends on the service's settings (allow-lists, defaults) is set
here so that it admits the request under test.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from golden import schemas
from model_copier.contract.request_schema import read_copy_data
from model_copier.contract.requests import Asked, Contract, Received
from model_copier.domain.errors import RejectedError
from model_copier.domain.resource_names import ModelName
from model_copy_publisher import CopyRequest, InvalidRequestError
from unit.test_request_data import json_values
from world import DEFAULTS, TOPIC

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PROJECTS = ("lab", "prod", "example.com:lab")
LOCATIONS = ("us-central1", "europe-west4", "us")
_places = st.builds("projects/{}/locations/{}".format, *map(st.sampled_from, (PROJECTS, LOCATIONS)))
_ids = st.sampled_from(["a-name", "_2", "x" * 63, "7", "a@1", "Faker", "x" * 64, "", "a/b"])
_names = st.builds("{}/models/{}{}".format, _places, _ids, st.sampled_from(["", "@2", "@prod"]))
_keys = st.builds("{}/keyRings/r/cryptoKeys/k".format, _places)
_accounts = st.sampled_from(
    [
        "me",
        "c@lab.iam.gserviceaccount.com",
        "c@lab.example.com.iam.gserviceaccount.com",
        "prod@appspot.gserviceaccount.com",
        "1-compute@developer.gserviceaccount.com",
    ]
)
_likely: Mapping[str, st.SearchStrategy[Any]] = {
    "source_model_id": _ids | _names,
    "destination_model_id": _ids,
    "destination_parent_model": _ids | _names,
    "if_exists": st.sampled_from(["fail", "skip", "new_version", "never"]),
    "source_project": st.sampled_from(PROJECTS),
    "source_location": st.sampled_from(LOCATIONS),
    "target_project": st.sampled_from(PROJECTS),
    "target_location": st.sampled_from(LOCATIONS),
    "kms_key_name": _keys,
    "custom_service_account": _accounts,
    "deadline_seconds": st.integers(1, 604_800) | st.integers(),
    "correlation": st.dictionaries(st.text(max_size=3), json_values, max_size=2),
    "validate_only": st.booleans(),
}
# At most one field holds just anything; of the others each is good by itself more often than not.
_contents = st.builds(
    lambda content, spoiled: content | spoiled,
    st.fixed_dictionaries(
        {"source_model_id": _likely["source_model_id"]},
        optional={name: each for name, each in _likely.items() if name != "source_model_id"},
    ),
    st.just({}) | st.dictionaries(st.sampled_from(list(_likely)), json_values, max_size=1),
)


def settings_for(data: Mapping[str, Any]) -> Any:
    """Defaults that admit whatever the request names and complete what it leaves out."""
    texts = [value for value in data.values() if isinstance(value, str)]
    source = _named(str(data.get("source_model_id")))
    target = _named(str(data.get("destination_parent_model")))
    key = re.match("projects/[^/]+/locations/([^/]+)/", str(data.get("kms_key_name")))
    account = str(data.get("custom_service_account"))
    owner = next((p for p in ("prod", "lab") if f"{p}." in account or f"{p}@app" in account), None)
    if "example.com.iam" in account:
        owner = "example.com:lab"
    default_target = (target and target.project) or owner or "lab"
    return replace(
        DEFAULTS,
        source_project="lab",
        target_project=default_target,
        location=(target and target.location) or (key[1] if key else "us-central1"),
        source_projects=frozenset([*PROJECTS, *texts, *([source.project] if source else ())]),
        target_projects=frozenset([*PROJECTS, *texts]),
        service_accounts=frozenset(texts),
        locations=frozenset([*LOCATIONS, *texts]),
    )


def _named(text: str) -> ModelName | None:
    try:
        return ModelName.parse(text)
    except ValueError:
        return None


@settings(max_examples=500)
@given(_contents)
@example({"source_model_id": "7", "if_exists": "skip"})
@example({"source_model_id": "7", "if_exists": "skip", "destination_model_id": None})
@example({"source_model_id": "projects/lab/locations/us/models/7", "source_project": "prod"})
@example({"source_model_id": "7", "deadline_seconds": True})
def test_the_service_accepts_what_is_published(data: dict[str, Any]) -> None:
    """A request that the publisher accepts is never rejected by the service for its form."""
    try:
        published = CopyRequest(**data, request_id="r1")
    except InvalidRequestError:
        return

    contract = Contract(request_topic=TOPIC, defaults=settings_for(data))
    asked = contract.read(
        Received(data=published.body, attributes=published.attributes(NOW), message_id="1")
    )

    assert isinstance(asked, Asked)


@settings(max_examples=500)
@given(_contents)
@example({"source_model_id": "7", "destination_parent_model": "p", "destination_model_id": "d"})
def test_the_publisher_refuses_only_what_the_service_does(data: dict[str, Any]) -> None:
    """A refusal of the publisher is one of the service too; nothing good is kept back."""
    try:
        CopyRequest(**data, request_id="r1")
    except InvalidRequestError as refused:
        if refused.field == "data" or "canonical" in str(refused) or "nested" in str(refused):
            return  # refused at the service by the message's reader, not by its data's
        with pytest.raises(RejectedError):
            read_copy_data(data, settings_for(data))


@given(
    st.text("aZ0._~-/@ é\n", max_size=130) | st.from_regex(r"[A-Za-z0-9._~-]{1,128}"),
    st.text("aZ0._~-/@: é\n", max_size=20),
    st.text(max_size=66),
)
def test_the_service_accepts_every_published_identity(
    request_id: str, source: str, reply_tag: str
) -> None:
    """Ids, sources and reply tags that can be published can be read."""
    try:
        published = CopyRequest(
            source_model_id="7", request_id=request_id, request_source=source, reply_tag=reply_tag
        )
    except InvalidRequestError:
        return
    asked = Contract(request_topic=TOPIC, defaults=DEFAULTS).read(
        Received(data=published.body, attributes=published.attributes(NOW), message_id="1")
    )

    assert isinstance(asked, Asked)
    assert (asked.identity.request_id, asked.identity.source) == (request_id, source)


def test_the_wheel_has_the_services_schema() -> None:
    """``make contracts`` writes the publisher's copy."""
    assert json.loads(schemas.PUBLISHERS.read_text()) == schemas.schemas()["requested.v1.json"]
