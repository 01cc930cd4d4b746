"""Names of models: what is one, what may be the same one, and what is wrong with an id."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_copier.domain.resource_names import (
    CHOSEN_ID,
    ModelName,
    explain_bad_location,
    explain_bad_model_id,
)

NAME = "projects/tuning/locations/us-central1/models/7704127342733426688"


def test_a_name_is_read_into_its_parts():
    name = ModelName.parse(f"{NAME}@prod")

    assert name == ModelName(
        project="tuning", location="us-central1", model="7704127342733426688", version="prod"
    )
    assert name.location_name == "projects/tuning/locations/us-central1"


@pytest.mark.parametrize(
    "text",
    [
        NAME,
        f"{NAME}@1",
        f"{NAME}@my-alias_2",
        "projects/123456/locations/global/models/Old_Model",
        "projects/example.com:tuning/locations/europe-west4/models/m",
    ],
)
def test_a_name_is_written_as_it_was_read(text: str):
    name = ModelName.parse(text)

    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7704127342733426688",
        "models/1",
        f"{NAME}@",
        f"{NAME}@1@2",
        f"{NAME}/versions/1",
        f"{NAME}\n",
        f" {NAME}",
        f"//aiplatform.googleapis.com/{NAME}",
        "projects/tuning/locations/us-central1/models/",
        "projects/tuning/locations/US/models/1",
        "projects/tuning/locations/evil.example/models/1",
        "projects//locations/us-central1/models/1",
        "projects/../locations/us-central1/models/1",
        f"projects/tuning/locations/us-central1/models/{'m' * 64}",
        "projects/tuning/locations/us-central1/models/\u0661",  # a digit, but an Arabic one
    ],
)
def test_what_is_not_quite_a_name_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a model name; it should read projects/PROJECT/"):
        ModelName.parse(text)


@given(st.text(max_size=300))
def test_the_refusal_of_a_name_is_short(text: str):
    with pytest.raises(ValueError, match="is not a model name") as refusal:
        ModelName.parse(text)

    assert len(str(refusal.value)) < 1000


def test_a_version_is_exchanged_and_taken_away():
    name = ModelName.parse(f"{NAME}@prod")

    assert str(name.at("3")) == f"{NAME}@3"
    assert str(name.at(None)) == NAME


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("projects/tuning", "projects/tuning", True),
        ("projects/tuning", "projects/123456", True),  # an id and a number cannot be compared
        ("projects/123456", "projects/tuning", True),
        ("projects/123456", "projects/654321", False),
        ("projects/tuning", "projects/serving", False),
    ],
)
def test_a_project_may_be_named_by_id_or_by_number(one: str, other: str, *, same: bool):
    first = ModelName.parse(NAME.replace("projects/tuning", one))
    second = ModelName.parse(NAME.replace("projects/tuning", other))

    assert first.may_be(second) is same


@pytest.mark.parametrize(
    "other",
    [
        f"{NAME}@2",
        NAME,
        f"{NAME}9@1",
        f"{NAME.replace('us-central1', 'europe-west4')}@1",
    ],
)
def test_another_version_model_or_location_is_another_thing(other: str):
    assert not ModelName.parse(f"{NAME}@1").may_be(ModelName.parse(other))


@pytest.mark.parametrize(
    ("text", "shown", "fault"),
    [
        ("Faker-251230", "'Faker-251230'", "upper-case letter"),
        ("faker.251230", "'faker.251230'", "'.'"),
        ("faker 251230", "'faker 251230'", "' '"),
        ("fäker", "'fäker'", "'ä'"),
        ("faker\n", r"'faker\n'", r"'\n'"),
        ("7faker", "'7faker'", "begins with '7'"),
        ("-faker", "'-faker'", "begins with '-'"),
        ("", "''", "empty"),
        ("f" * 64, f"'{'f' * 64}'", "64 characters"),
        ("f" * 100, f"'{'f' * 77}...'", "100 characters"),
    ],
)
def test_a_bad_model_id_is_explained(text: str, shown: str, fault: str):
    assert explain_bad_model_id(text) == f"{shown} must match {CHOSEN_ID.pattern} ({fault})"


@given(st.from_regex(r"[a-z_][a-z0-9_-]{0,62}", fullmatch=True))
def test_nothing_is_wrong_with_a_good_model_id(text: str):
    assert explain_bad_model_id(text) is None


@given(st.text(max_size=70) | st.text("aB_-7.", max_size=70))
def test_every_other_model_id_is_explained(text: str):
    good = re.fullmatch("[a-z_][a-z0-9_-]{0,62}", text)

    assert (explain_bad_model_id(text) is None) is (good is not None)


@pytest.mark.parametrize("text", ["us-central1", "europe-west4", "global"])
def test_nothing_is_wrong_with_a_region(text: str):
    assert explain_bad_location(text) is None


@pytest.mark.parametrize(
    "text", ["", "US", "us central1", "evil.example/", "us-central1.evil.example", "us@evil", "u\n"]
)
def test_what_would_lead_to_another_host_is_no_region(text: str):
    """A location becomes part of the host's name that gets our token."""
    bad = explain_bad_location(text) or ""
    assert bad.startswith(f"{text!r} is no region such as us-central1")
