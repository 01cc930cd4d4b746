"""Ask for a Vertex AI model copy by publishing a message, and be told the outcome.

from model_copy_publisher import CopyRequest, Publisher

with Publisher(project="team-models") as publisher:
    reply = publisher.copy(
        CopyRequest(source_model_id="7704127342733426688@1", destination_model_id="faker_251230")
    )
print(reply.outcome, reply.resource_name)
"""

from importlib import import_module
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
    from model_copy_publisher.dead_letters import DeadLetters
    from model_copy_publisher.letters import Letter
    from model_copy_publisher.replays import Changes
    from model_copy_publisher.replies import Replies
    from model_copy_publisher.selection import Selection
    from model_copy_publisher.waiting import Pace

__all__ = [
    "BrokerError",
    "Changes",
    "CopyRequest",
    "DeadLetters",
    "IfExists",
    "InvalidRequestError",
    "Letter",
    "MissingError",
    "ModelCopyError",
    "NoReplyError",
    "Outcome",
    "Pace",
    "Published",
    "Publisher",
    "RefusedError",
    "Replies",
    "Reply",
    "ReplyError",
    "Selection",
    "Status",
    "Timings",
    "UnknownRequestError",
    "UnreachableError",
]


# Those that take gRPC, or more of the standard library: only those pay who use them.
_LATER = {
    "Changes": "replays",
    "DeadLetters": "dead_letters",
    "Letter": "letters",
    "Pace": "waiting",
    "Publisher": "client",
    "Replies": "replies",
    "Selection": "selection",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"model_copy_publisher.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
