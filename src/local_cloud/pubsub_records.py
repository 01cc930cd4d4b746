"""The records of the local Pub/Sub: what is published, delivered and refused, and by what rules.

Values only: no I/O, no clock. All are frozen but ``Consumer`` and ``Counts``, whose accounts
are kept by the one subscription that they belong to, and by nobody else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from local_cloud.filters import Predicate


class BrokerError(Exception):
    """A request that was refused; asking again unchanged is refused again."""

    code: ClassVar[str]


class NotFoundError(BrokerError):
    """The topic or subscription does not exist, or no longer."""

    code = "NOT_FOUND"


class AlreadyExistsError(BrokerError):
    """The name is taken."""

    code = "ALREADY_EXISTS"


class InvalidArgumentError(BrokerError):
    """A field breaks a documented rule; the sentence begins with its name."""

    code = "INVALID_ARGUMENT"


class PermissionDeniedError(BrokerError):
    """The policy of the topic or subscription does not admit it."""

    code = "PERMISSION_DENIED"


class AbortedError(BrokerError):
    """Somebody else was faster; read again what is there now."""

    code = "ABORTED"


class FailedPreconditionError(BrokerError):
    """The subscription is not of the kind that the call needs."""

    code = "FAILED_PRECONDITION"


class UnimplementedError(BrokerError):
    """The real service can do this and this one cannot."""

    code = "UNIMPLEMENTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a publisher wrote."""

    data: bytes = b""
    attributes: Mapping[str, str] = field(default_factory=dict)
    ordering_key: str = ""

    def size(self) -> int:
        return len(self.data) + sum(len(k) + len(v) for k, v in self.attributes.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    message_id: str
    published_at: datetime
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a failed message rests: doubling from the minimum up to the maximum."""

    minimum_seconds: float
    maximum_seconds: float

    def seconds(self, *, failures: int) -> float:
        # Doubling needs a seed where the minimum is 0; the exponent is capped because a
        # float has no room for 2 ** 1024.
        seed = max(self.minimum_seconds, 0.1)
        return min(self.maximum_seconds, seed * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Where each delivery is posted to, and in what form."""

    endpoint: str
    service_account: str = ""  # whose token comes with it; empty: none
    audience: str = ""
    wrapped: bool = True  # else the body is the data alone
    writes_metadata: bool = False  # as headers, where it is not wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one subscription delivers. No push: by pull. No dead-letter topic: for ever."""

    matches: Predicate
    ack_deadline_seconds: float
    backoff: Backoff
    push: Push | None = None
    ordered: bool = False
    dead_letter_topic: str = ""
    max_delivery_attempts: int = 0


@dataclass(slots=True, kw_only=True)
class Counts:
    """What one subscription did so far, kept by the subscription alone.

    A delivery ends as one of acks, nacks, timeouts and drop_response, or is still held.
    """

    deliveries: int = 0
    acks: int = 0
    nacks: int = 0
    timeouts: int = 0
    dead_lettered: int = 0
    # Faults that were met.
    duplicate: int = 0
    delay: int = 0
    reorder: int = 0
    drop_response: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Consumer:
    """Who takes deliveries: one pull call, one stream, or the push side of a subscription.

    Limits count what is held and not yet settled; 0 is no limit.
    """

    lease_seconds: float
    pushes: bool = False
    max_messages: int = 0
    max_bytes: int = 0
    held_messages: int = 0
    held_bytes: int = 0

    def has_room(self) -> bool:
        return (self.max_messages <= 0 or self.held_messages < self.max_messages) and (
            self.max_bytes <= 0 or self.held_bytes < self.max_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message handed out. ``attempt`` is 1 the first time."""

    ack_id: str
    message: Message
    attempt: int
