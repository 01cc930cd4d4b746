"""Golden messages and schemas are what the service really does; `make contracts` mends them."""

import json
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from golden import __main__ as golden
from golden import schemas, stories
from model_copier.contract.replies import SCHEMA
from model_copier.contract.request_schema import read_copy_data
from model_copier.domain.errors import RejectedError
from model_copy_publisher import CopyRequest, IfExists, Outcome, Reply
from unit.test_request_data import ALLOWING, forms

STORIES = {story.name: story for story in stories.stories()}
SCHEMAS = schemas.schemas()
VERDICTS = {
    "accepted",
    "duplicate",
    "announced_again",
    "replayed",
    "conflict",
    "rejected",
    "validated",
    "status",
    "cancelling",
    "forwarded",
}
OUTCOMES = {"succeeded", "failed", "cancelled", "rejected", "validated", "status"}


def expected_replies() -> list[Any]:
    return [
        pytest.param(reply, id=f"{story.name}-{number}")
        for story in STORIES.values()
        for number, reply in enumerate(story.expected["replies"])
    ]


# The messages


@pytest.mark.parametrize("name", STORIES)
async def test_a_golden_message_is_answered_as_its_file_says(name: str):
    assert await stories.happened(STORIES[name]) == STORIES[name].expected


def test_every_verdict_and_every_outcome_is_told():
    verdicts = {story.expected["verdict"] for story in STORIES.values()}
    outcomes = {
        reply["attributes"]["outcome"]
        for story in STORIES.values()
        for reply in story.expected["replies"]
    }

    assert verdicts == VERDICTS
    assert outcomes == OUTCOMES


@pytest.mark.parametrize("reply", expected_replies())
def test_a_reply_keeps_its_own_schema(reply: dict[str, Any]):
    schema = SCHEMAS[reply["attributes"]["ce-dataschema"].rpartition("/")[2]]

    assert list(Draft202012Validator(schema).iter_errors(reply["data"])) == []
    unknown = reply["data"].keys() - schema["properties"].keys()
    assert not unknown, "readers would ignore it, but nobody has told them"


def test_a_letter_keeps_its_own_schema():
    letters = [letter for story in STORIES.values() for letter in story.expected["letters"]]

    assert letters
    for letter in letters:
        assert letter["data"] == "as it came"
        assert schemas.fits(SCHEMAS["dead-letter.v1.json"], letter["attributes"])


def test_what_the_service_takes_its_schema_takes():
    """The other way round it cannot be: allow-lists, sizes and regions are not the schema's."""
    for story in STORIES.values():
        if story.expected["verdict"] != "rejected":
            assert story.expected["by_schema"] == "valid", story.name


def test_the_table_has_a_line_for_each():
    assert len(list(golden.table())) == 1 + len(STORIES)


# The schemas


def test_the_schemas_are_written_from_the_types():
    written = {file.name: file.read_text() for file in schemas.FOLDER.iterdir()}

    assert written == {name: schemas.as_text(schema) for name, schema in SCHEMAS.items()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_is_named_as_replies_name_it(name: str):
    Draft202012Validator.check_schema(SCHEMAS[name])

    assert SCHEMAS[name]["$id"] == SCHEMA.format(name.removesuffix(".v1.json"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_says_what_it_means(name: str):
    """Readers in other languages have nothing else."""
    forms = [SCHEMAS[name], *SCHEMAS[name].get("$defs", {}).values()]

    for form in forms:
        for field, about in form.get("properties", {}).items():
            assert about.get("description"), field


@given(forms)
def test_no_request_is_taken_that_its_schema_refuses(data: dict[str, Any]):
    try:
        read_copy_data(data, ALLOWING)
    except RejectedError:
        return

    assert schemas.fits(SCHEMAS["requested.v1.json"], data)


# The publisher, which shares nothing with the service but these


@pytest.mark.parametrize(
    "asked",
    [
        CopyRequest(source_model_id="7704127342733426688"),
        CopyRequest(
            source_model_id="projects/p/locations/us-central1/models/7@prod",
            destination_model_id="faker",
            if_exists=IfExists.NEW_VERSION,
            source_project="p",
            source_location="us-central1",
            target_project="t",
            target_location="europe-west4",
            kms_key_name="projects/t/locations/europe-west4/keyRings/r/cryptoKeys/k",
            custom_service_account="a@t.iam.gserviceaccount.com",
            deadline_seconds=604800,
            correlation={"run": 7},
            validate_only=True,
        ),
        CopyRequest(source_model_id="7@1", destination_parent_model="shared-parent"),
    ],
)
def test_what_the_publisher_writes_keeps_the_schema(asked: CopyRequest):
    errors = Draft202012Validator(SCHEMAS["requested.v1.json"]).iter_errors(json.loads(asked.body))

    assert [error.message for error in errors] == []


@pytest.mark.parametrize("reply", expected_replies())
def test_the_publisher_reads_every_reply(reply: dict[str, Any]):
    attributes, data = reply["attributes"], reply["data"]

    read = Reply.from_message(json.dumps(data).encode(), attributes, message_id="1")

    if attributes["outcome"] == "status":
        assert read is None
        return
    assert read is not None
    assert read.outcome is Outcome(data["outcome"])
    assert read.warnings == tuple(data.get("warnings", ()))  # with no complaint of its own
    for field in ("request_id", "request_source", "resource_name", "dead_letter", "run"):
        assert getattr(read, field) == data.get(field)
    assert (read.error.hint if read.error else None) == data.get("error", {}).get("hint")


@pytest.mark.parametrize("name", ["copy-binary", "copy-new-version", "validate-new-model"])
def test_the_publisher_writes_the_golden_request(name: str):
    """The same bytes, and so the same digest."""
    story = STORIES[name]

    asked = CopyRequest(
        **story.message["data"], request_id="nightly-260213", request_source="//ec2/pipeline"
    )

    assert asked.body == story.received.data
    assert asked.digest == story.expected["replies"][0]["data"]["request_digest"]
