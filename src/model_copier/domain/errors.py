"""Every error answers one question: try again, or give up?

CopierError
├── RejectedError           give up: the request breaks the contract; never became a job
│   └── LimitedError            its sender has too much under way; send it again later
├── RefusedError            give up: Google said no, and the same call would be refused again
├── UnavailableError        try again: nothing was done
│   ├── ExhaustedError          try again, a minute later: a quota is used up
│   ├── NoAnswerError           try again: nobody was reached, or nobody answered in time
│   ├── PostponedError          try again, in `retry_seconds`: not even asked, and no failure
│   │   ├── BudgetExhaustedError    the reads of this minute are used up
│   │   └── CircuitOpenError        a location does not answer; nobody waits for it meanwhile
│   ├── UnreadableRecordError   try again: a newer service wrote this record, and reads it
│   └── SetUpError              try again, once somebody has mended the set-up
├── OutcomeUnknownError     neither: the call may have worked; look before trying again
└── StoreError
    ├── JobExistsError          look: another delivery stored this job first
    ├── StaleJobError           look: somebody else has moved this job on, or it is gone
    └── DestinationTakenError   try again: another unfinished job holds the destination
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why Google says that it refused: ErrorInfo, and the types of violations, of its error.

    https://google.aip.dev/193 and googleapis/api/error_reason.proto.
    """

    reason: str = ""  # SERVICE_DISABLED, IAM_PERMISSION_DENIED, ...
    domain: str = ""  # googleapis.com, iam.googleapis.com, ...
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[str, ...] = ()  # VPC_SERVICE_CONTROLS, constraints/..., ...


NO_CAUSE = Cause()


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

    def __init__(self, code: Code, message: str, cause: Cause = NO_CAUSE) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.cause = cause

    @property
    def reason(self) -> str:
        return self.cause.reason

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.cause.metadata


class UnavailableError(CopierError):
    """Nothing was done; the same call may work later.

    The message is for the log alone: it can hold addresses, file names and the words of
    libraries. ``told`` is a fixed sentence, for callers, replies and histories.
    """

    code = Code.UNAVAILABLE
    _told = "a part of the service is away, and nothing was changed: try again later"

    def __init__(self, message: str, *, told: str = "") -> None:
        super().__init__(message)
        self.told = told or self._told


class ExhaustedError(UnavailableError):
    """A quota is used up."""

    code = Code.RESOURCE_EXHAUSTED
    _told = "a quota of Vertex AI is used up: try again in a minute"


class NoAnswerError(UnavailableError):
    """Nobody was reached, or nobody answered in time: who answers "no" is alive."""


class PostponedError(UnavailableError):
    """Nothing was asked, to spare whoever would be asked: the caller comes back.

    It has not failed: this counts neither as a try nor as trouble.
    """

    def __init__(self, message: str, *, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class BudgetExhaustedError(PostponedError):
    """The reads that a project and region has in a minute are used up."""

    code = Code.RESOURCE_EXHAUSTED


class CircuitOpenError(PostponedError):
    """A location has not answered several times, and is left alone for a while."""


class UnreadableRecordError(UnavailableError):
    """A record of the store that this service cannot read: it is left alone."""

    _told = "this was recorded by another version of the service: try again later"


class SetUpError(UnavailableError):
    """Something outside is not set up as it must be. Pub/Sub keeps what comes meanwhile.

    ``what`` is wrong and the command that ``mends`` it are for everybody, so they name no
    project and no account; the message is for the log.
    """

    def __init__(self, message: str, *, what: str, mends: str) -> None:
        super().__init__(
            f"{message}; {what}, and this mends it: {mends}",
            told=f"the service is not set up: {what}; its operator finds more at /ready",
        )
        self.what = what
        self.mends = mends


class OutcomeUnknownError(CopierError):
    """The call may have worked: only looking can tell. ``answered``: somebody said so."""

    def __init__(self, message: str, *, answered: bool = True) -> None:
        super().__init__(message)
        self.answered = answered


class StoreError(CopierError):
    """The job store did not do what was asked."""


class JobExistsError(StoreError):
    """A job with this key is stored already."""


class StaleJobError(StoreError):
    """The stored version is no longer the one that was read."""


class DestinationTakenError(StoreError):
    """Another unfinished job holds the destination."""


# Google makes a project's service agents on first use, and refuses as if for good meanwhile:
# https://github.com/GoogleCloudPlatform/generative-ai/issues/1308
_PROVISIONING = re.compile(r"service agents? (?:are|is) being provisioned", re.IGNORECASE)


def passes(code: Code, message: str) -> bool:
    """Tell whether a refusal that reads as permanent is over in some minutes."""
    return code is Code.FAILED_PRECONDITION and bool(_PROVISIONING.search(message))


def outcome_of_copy_call(code: Code, message: str, cause: Cause = NO_CAUSE) -> CopierError:
    """Sort the answer to a CopyModel call by what it tells about the copy.

    ALREADY_EXISTS and ABORTED are *unknown* on purpose: both may be the echo of an earlier
    call of ours that worked. UNAVAILABLE too: gRPC answers it both when nothing was sent
    and when the server took the call and died.
    """
    if passes(code, message):
        return UnavailableError(f"{code}: {message}")
    if code in PERMANENT:
        return RefusedError(code, message, cause)
    if code is Code.RESOURCE_EXHAUSTED:
        return ExhaustedError(f"{code}: {message}")
    return OutcomeUnknownError(f"{code}: {message}")


def outcome_of_read(code: Code, message: str, cause: Cause = NO_CAUSE) -> CopierError:
    """Sort the answer to a call that changes nothing: refused, or worth another try."""
    if code in PERMANENT and not passes(code, message):
        return RefusedError(code, message, cause)
    if code is Code.RESOURCE_EXHAUSTED:
        return ExhaustedError(f"{code}: {message}")
    return UnavailableError(f"{code}: {message}", told=f"Vertex AI does not answer now ({code})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    code: Code
    message: str
    hint: str = ""  # what a person can do about it

    @property
    def in_words(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message
