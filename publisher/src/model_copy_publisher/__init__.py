"""Ask for a Vertex AI model copy by publishing a message, and be told the outcome.

from model_copy_publisher import CopyRequest, Publisher

with Publisher(project="team-models") as publisher:
    reply = publisher.copy(
        CopyRequest(source_model_id="7704127342733426688@1", destination_model_id="faker_251230")
    )
print(reply.outcome, reply.resource_name)
"""

from typing import TYPE_CHECKING, Any

from model_copy_publisher.errors import (
    BrokerError,
    InvalidRequestError,
    MissingError,
    ModelCopyError,
    NoReplyError,
    RefusedError,
    UnknownRequestError,
    UnreachableError,
)
from model_copy_publisher.events import Outcome, Reply, ReplyError, Status, Timings
from model_copy_publisher.messages import CopyRequest, IfExists, Published

if TYPE_CHECKING:
    from model_copy_publisher.client import Publisher
    from model_copy_publisher.replies import Replies

__all__ = [
    "BrokerError",
    "CopyRequest",
    "IfExists",
    "InvalidRequestError",
    "MissingError",
    "ModelCopyError",
    "NoReplyError",
    "Outcome",
    "Published",
    "Publisher",
    "RefusedError",
    "Replies",
    "Reply",
    "ReplyError",
    "Status",
    "Timings",
    "UnknownRequestError",
    "UnreachableError",
]


def __getattr__(name: str) -> Any:
    # Google's client takes half a second to import: only those pay who talk to Pub/Sub.
    if name == "Publisher":
        from model_copy_publisher.client import Publisher  # noqa: PLC0415  see above

        return Publisher
    if name == "Replies":
        from model_copy_publisher.replies import Replies  # noqa: PLC0415  see above

        return Replies
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
