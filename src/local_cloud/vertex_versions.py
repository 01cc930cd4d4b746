"""v1beta1 of the local Vertex AI: v1 by another name, in calls and in what operations hold.

Google's clients of v1beta1 follow an operation by calls that name no version, and unpack what it
holds by the name of its type. So an operation that was started there is told in its names.
"""

# Google's message classes carry no types:
# mypy: disable-error-code="no-untyped-call"

from dataclasses import dataclass, field
from typing import Any

from google.longrunning import operations_pb2

BETA = "google.cloud.aiplatform.v1beta1."
STABLE = "google.cloud.aiplatform.v1."


@dataclass(slots=True)
class Versions:
    """Which operations were started by v1beta1."""

    _of_beta: set[str] = field(
        default_factory=set
    )  # last parts of their names: a project has two spellings

    def is_beta(self, answer: Any, *, beta: bool, starts: bool = False) -> bool:
        """Tell whether an answer is to be in the names of v1beta1.

        ``beta``: it answers a call of v1beta1. ``starts``: a call that started an operation.
        """
        if not isinstance(answer, operations_pb2.Operation):
            return beta
        key = answer.name.rpartition("/operations/")[2]
        if beta and starts:
            self._of_beta.add(key)
        return beta or key in self._of_beta


def renamed(answer: Any) -> Any:
    """Return an answer with the types in it named as v1beta1 names them."""
    if not isinstance(answer, operations_pb2.Operation):
        return answer
    told = operations_pb2.Operation()
    told.CopyFrom(answer)
    for name in ("metadata", "response"):
        if told.HasField(name):
            held = getattr(told, name)
            held.type_url = held.type_url.replace(STABLE, BETA)
    return told
