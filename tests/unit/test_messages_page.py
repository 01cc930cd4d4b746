"""docs/messages.md is held to the code and to the golden messages."""

import hashlib
import json
import re
from typing import Any

import pytest

from golden import page, schemas, stories
from model_copier.contract.request_schema import (
    MAX_CORRELATION_BYTES,
    MAX_DEADLINE_SECONDS,
    MAX_DEPTH,
    MAX_REQUEST_ID,
    MAX_SOURCE_CHARACTERS,
)
from model_copier.contract.requests import (
    LETTER_ATTRIBUTES,
    MAX_ATTRIBUTE_BYTES,
    MAX_DATA_BYTES,
    MAX_OWN_ATTRIBUTES,
    MAX_REPLY_TAG,
)
from model_copier.domain.errors import Code
from model_copier.domain.timing import KEEP_AFTER_END
from model_copier.settings import rows

PAGE = page.FILE.read_text()
REPLIES = ["succeeded", "failed", "cancelled", "rejected", "validated", "status"]


def examples(text: str) -> list[tuple[str, str]]:
    """Every JSON block: what stands after its fence, and what is in it."""
    return re.findall(r"^```json([^\n]*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


EXAMPLES = examples(PAGE)


def rows_under(head: str) -> set[str]:
    """What is named in the first cells of the table with this head."""
    table = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0]
    first_cells = (line.split(" | ")[0] for line in table.splitlines()[2:])
    return {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(("where", "text"), EXAMPLES)
def test_an_example_is_a_golden_message(where: str, text: str):
    """``make contracts`` mends it."""
    marker, name, path = where.split()

    assert marker == "golden"
    assert json.loads(text) == page.golden(name, path)


def test_an_example_that_is_no_longer_true_is_mended():
    stale = PAGE.replace('"verified": true', '"verified": false')
    assert stale != PAGE

    mended = page.with_examples(stale)

    assert [json.loads(text) for _, text in examples(mended)] == [
        json.loads(text) for _, text in EXAMPLES
    ]


def test_every_message_has_an_example():
    shown = {json.loads(text).get("outcome") for _, text in EXAMPLES}

    assert shown >= {"succeeded", "failed", "cancelled", "rejected", "validated"}
    assert any("state" in json.loads(text) for _, text in EXAMPLES)
    assert any("outcome_id" in json.loads(text) for _, text in EXAMPLES)


def test_the_digest_is_computed_as_shown():
    block = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "sha256" in block
    )
    canonical, digest = re.findall(r"\{.*\}|[0-9a-f]{64}", block)
    story = stories.Story.read("copy-binary")
    names: dict[str, Any] = {"json": json, "hashlib": hashlib, "data": story.message["data"]}

    exec(block, names)

    assert names["canonical"] == canonical
    assert names["request_digest"] == digest
    assert digest == story.expected["replies"][0]["data"]["request_digest"]


def test_every_field_of_a_request_is_there():
    fields = schemas.schemas()["requested.v1.json"]["properties"]

    assert rows_under("field | value") == set(fields)


def test_every_field_of_a_reply_is_there():
    fields = {
        field
        for kind in REPLIES
        for field in schemas.schemas()[schemas.file_name(kind)]["properties"]
    }

    assert rows_under("field | in | meaning") == fields


def test_every_attribute_of_a_reply_is_there():
    attributes = {
        name
        for story in stories.stories()
        for reply in story.expected["replies"]
        for name in reply["attributes"]
    }

    assert rows_under("attribute | meaning") == attributes


def test_every_outcome_and_only_real_codes_are_there():
    assert rows_under("outcome | meaning | dead letter | exit code of a script") == set(REPLIES)
    assert rows_under("`error.code` | usual cause") <= set(map(str, Code))


def test_every_attribute_of_a_letter_is_there():
    section = PAGE.partition("## Dead letters and replay")[2]

    assert all(f"`{name}`" in section for name in LETTER_ATTRIBUTES)


def test_the_limits_are_the_code_s_own():
    (deadline,) = (default for name, default, _ in rows() if name == "COPY_DEADLINE_SECONDS")

    for limit in (
        f"{MAX_DATA_BYTES // 1024} KiB of data",
        f"{MAX_OWN_ATTRIBUTES} attributes",
        f"1 to {MAX_REQUEST_ID} of",
        f"at most {MAX_REPLY_TAG} characters",
        f"at most {MAX_SOURCE_CHARACTERS} characters",
        f"at most {MAX_CORRELATION_BYTES:,} bytes",
        f"cut at {MAX_ATTRIBUTE_BYTES:,} bytes",
        f"more than {MAX_DEPTH} levels",
        f"1 to {MAX_DEADLINE_SECONDS}; default: the operator's, {deadline}",
        f"for {KEEP_AFTER_END.days} days after its end",
    ):
        assert limit in re.sub(r"\s+", " ", PAGE)


def test_it_can_be_read_in_one_sitting():
    assert len(PAGE.splitlines()) < 330
