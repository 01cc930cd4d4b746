"""Every error answers one question: try again, or give up?

CopierError
├── RejectedError           give up: the request breaks the contract; never became a job
│   └── LimitedError            its sender has too much under way; send it again later
├── RefusedError            give up: Google said no, and the same call would be refused again
├── UnavailableError        try again: nothing was done
│   ├── ExhaustedError          try again, a minute later: a quota is used up
│   ├── UnreadableRecordError   try again: a newer service wrote this record, and reads it
│   └── SetUpError              try again, once somebody has mended the set-up
├── OutcomeUnknownError     neither: the call may have worked; look before trying again
└── StoreError
    ├── JobExistsError          look: another delivery stored this job first
    ├── StaleJobError           look: somebody else has moved this job on, or it is gone
    └── DestinationTakenError   try again: another unfinished job holds the destination
"""

from enum import StrEnum


class Code(StrEnum):
    """The canonical codes of Google's APIs (google/rpc/code.proto), by name."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


# A call that ends in one of these did nothing, and would do nothing again.
PERMANENT = frozenset(
    {
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
    }
)
# A finished operation with one of these made nothing and is worth another attempt.
RETRYABLE_OPERATION = frozenset(
    {
        Code.RESOURCE_EXHAUSTED,
        Code.UNAVAILABLE,
        Code.ABORTED,
        Code.ALREADY_EXISTS,  # it was there, and did not show: the next attempt sees it
        Code.INTERNAL,
        Code.DEADLINE_EXCEEDED,
        Code.UNKNOWN,
    }
)


class CopierError(Exception):
    """Whatever the copier itself raises; anything else is a bug."""


class RejectedError(CopierError):
    """A request that breaks the contract; ``message`` names the field and the rule."""

    def __init__(self, message: str, *, code: Code = Code.INVALID_ARGUMENT, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


class LimitedError(RejectedError):
    """The sender's own limit is reached. ``kind`` names which, ``retry_seconds`` says when to
    send again.
    """

    def __init__(self, message: str, *, kind: str, retry_seconds: int, hint: str) -> None:
        super().__init__(
            message,
            code=Code.RESOURCE_EXHAUSTED,
            hint=f"{hint}; not before {retry_seconds} seconds have passed",
        )
        self.kind = kind
        self.retry_seconds = retry_seconds


class RefusedError(CopierError):
    """Google refused the call for good."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class UnavailableError(CopierError):
    """Nothing was done; the same call may work later."""

    code = Code.UNAVAILABLE


class ExhaustedError(UnavailableError):
    """A quota is used up."""

    code = Code.RESOURCE_EXHAUSTED


class UnreadableRecordError(UnavailableError):
    """A record of the store that this service cannot read: it is left alone."""


class SetUpError(UnavailableError):
    """Something outside is not set up as it must be. Pub/Sub keeps what comes meanwhile.

    ``what`` is wrong and the command that ``mends`` it are for everybody, so they name no
    project and no account; the message is for the log.
    """

    def __init__(self, message: str, *, what: str, mends: str) -> None:
        super().__init__(f"{message}; {what}, and this mends it: {mends}")
        self.what = what
        self.mends = mends


class OutcomeUnknownError(CopierError):
    """The call may have worked: only looking can tell."""


class StoreError(CopierError):
    """The job store did not do what was asked."""


class JobExistsError(StoreError):
    """A job with this key is stored already."""


class StaleJobError(StoreError):
    """The stored version is no longer the one that was read."""


class DestinationTakenError(StoreError):
    """Another unfinished job holds the destination."""


def outcome_of_copy_call(code: Code, message: str) -> CopierError:
    """Sort the answer to a CopyModel call by what it tells about the copy.

    ALREADY_EXISTS and ABORTED are *unknown* on purpose: both may be the echo of an earlier
    call of ours that worked. UNAVAILABLE too: gRPC answers it both when nothing was sent
    and when the server took the call and died.
    """
    if code in PERMANENT:
        return RefusedError(code, message)
    if code is Code.RESOURCE_EXHAUSTED:
        return ExhaustedError(f"{code}: {message}")
    return OutcomeUnknownError(f"{code}: {message}")


def outcome_of_read(code: Code, message: str) -> CopierError:
    """Sort the answer to a call that changes nothing: refused, or worth another try."""
    if code in PERMANENT:
        return RefusedError(code, message)
    kind = ExhaustedError if code is Code.RESOURCE_EXHAUSTED else UnavailableError
    return kind(f"{code}: {message}")
