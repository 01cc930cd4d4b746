"""What each of Google's codes means for a copy: try again, give up, or look."""

import pytest
from google.rpc import code_pb2

from model_copier.domain.errors import (
    PERMANENT,
    RETRYABLE_OPERATION,
    Code,
    CopierError,
    ExhaustedError,
    OutcomeUnknownError,
    RefusedError,
    RejectedError,
    UnavailableError,
    outcome_of_copy_call,
    outcome_of_read,
)

# Code: what it says of a CopyModel call, of a read, and of an operation that ended with it.
MEANINGS = {
    Code.UNAUTHENTICATED: (RefusedError, RefusedError, "give up"),
    Code.PERMISSION_DENIED: (RefusedError, RefusedError, "give up"),
    Code.INVALID_ARGUMENT: (RefusedError, RefusedError, "give up"),
    Code.NOT_FOUND: (RefusedError, RefusedError, "give up"),
    Code.FAILED_PRECONDITION: (RefusedError, RefusedError, "give up"),
    Code.OUT_OF_RANGE: (RefusedError, RefusedError, "give up"),
    Code.UNIMPLEMENTED: (RefusedError, RefusedError, "give up"),
    Code.RESOURCE_EXHAUSTED: (ExhaustedError, ExhaustedError, "try again"),
    Code.UNAVAILABLE: (OutcomeUnknownError, UnavailableError, "try again"),
    Code.ABORTED: (OutcomeUnknownError, UnavailableError, "try again"),
    Code.INTERNAL: (OutcomeUnknownError, UnavailableError, "try again"),
    Code.DEADLINE_EXCEEDED: (OutcomeUnknownError, UnavailableError, "try again"),
    Code.UNKNOWN: (OutcomeUnknownError, UnavailableError, "try again"),
    Code.ALREADY_EXISTS: (OutcomeUnknownError, UnavailableError, "try again"),
    Code.CANCELLED: (OutcomeUnknownError, UnavailableError, "give up"),
    Code.DATA_LOSS: (OutcomeUnknownError, UnavailableError, "give up"),
}


def test_our_codes_are_googles():
    googles = code_pb2.DESCRIPTOR.enum_types_by_name["Code"].values_by_name

    assert {code.name for code in Code} == set(googles) - {"OK"}


def test_every_code_is_sorted():
    assert set(MEANINGS) == set(Code)


@pytest.mark.parametrize(("code", "meaning"), MEANINGS.items())
def test_a_code_means_what_the_table_says(code: Code, meaning):
    copy_call, read, operation = meaning

    assert type(outcome_of_copy_call(code, "why")) is copy_call
    assert type(outcome_of_read(code, "why")) is read
    assert (code in RETRYABLE_OPERATION) is (operation == "try again")


@pytest.mark.parametrize("code", Code)
def test_the_code_and_the_reason_reach_the_log(code: Code):
    assert str(outcome_of_copy_call(code, "why")) == f"{code}: why"
    assert str(outcome_of_read(code, "why")) == f"{code}: why"


def test_nothing_is_both_permanent_and_worth_another_attempt():
    assert not PERMANENT & RETRYABLE_OPERATION


def test_a_request_that_breaks_the_contract_is_an_invalid_argument_unless_told_otherwise():
    assert RejectedError("why").code is Code.INVALID_ARGUMENT
    assert RejectedError("why", code=Code.NOT_FOUND).code is Code.NOT_FOUND
    assert issubclass(RejectedError, CopierError)
