"""docs/failures.md is true: the tests that it names exist, the codes are sorted as in the code."""

import re
from pathlib import Path

import pytest

from model.mutants import MUTANTS
from model.test_histories import COUNT
from model_copier.domain.errors import (
    RETRYABLE_OPERATION,
    Code,
    CopierError,
    ExhaustedError,
    OutcomeUnknownError,
    RefusedError,
    UnavailableError,
    outcome_of_copy_call,
    outcome_of_read,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failures.md").read_text()
WORDS: dict[type[CopierError], str] = {
    RefusedError: "refused",
    UnavailableError: "later",
    ExhaustedError: "later",
    OutcomeUnknownError: "unknown",
}
NAMED = re.findall(r"\| `(tests/[\w/]+\.py)::(\w+)` \|$", PAGE, re.MULTILINE)


def test_every_code_is_sorted_as_the_page_says():
    rows = re.findall(r"^\| ([A-Z_]+) \| (\w+) \| (\w+) \| ([\w ]+) \|$", PAGE, re.MULTILINE)

    assert rows == [
        (
            code.value,
            WORDS[type(outcome_of_copy_call(code, ""))],
            WORDS[type(outcome_of_read(code, ""))],
            "retry" if code in RETRYABLE_OPERATION else "final",
        )
        for code in Code
    ]


def test_every_fault_names_the_test_that_tries_it():
    faults = PAGE.partition("## Faults")[2].partition("##")[0]
    rows = [line for line in faults.splitlines() if line.startswith("| ")][2:]

    assert len(rows) == len(NAMED) > 30


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_the_test_that_is_named_exists(file: str, test: str):
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_the_numbers_of_the_page_are_those_of_the_suite():
    assert f"runs {COUNT:,d} random histories" in " ".join(PAGE.split())
    assert f"breaks {len(MUTANTS)} rules" in " ".join(PAGE.split())
