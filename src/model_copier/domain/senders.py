"""Senders: whose request it is, what share of the starts they have, and what they may keep busy.

Pure. A sender is the ``request_source`` of a job: the ``ce-source`` of a message, or the account
of a REST call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

# Each REST caller has a source of their own below this; where tokens are not checked, all share
# this one. No message can claim it: a topic proves nobody's identity.
REST_SOURCE: Final = "//model-copier/rest"


def rest_sender(account: str) -> str:
    """Each caller's keys are their own: ``//model-copier/rest/ACCOUNT``."""
    return f"{REST_SOURCE}/{account}" if account else REST_SOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderLimits:
    """What one sender may do."""

    weight: float = 1.0  # with 2, twice as many starts as with 1, while both have jobs waiting
    max_unfinished: int = 25_000
    requests_per_minute: int = 600
    max_waits: int = 500

    @property
    def cost(self) -> float:
        """The distance between two turns of this sender."""
        return 1 / self.weight

    def changed(self, changes: Mapping[str, float]) -> Self:
        """Return these limits with those that the callers file gives a sender."""
        whole = {name: int(value) for name, value in changes.items() if name != "weight"}
        return replace(self, weight=changes.get("weight", self.weight), **whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderPolicy:
    """The limits of every sender: the settings', and those of the callers file by name."""

    default: SenderLimits = field(default_factory=SenderLimits)
    named: Mapping[str, SenderLimits] = field(default_factory=dict)

    def limits(self, sender: str) -> SenderLimits:
        return self.named.get(sender, self.default)

    def cost(self, sender: str) -> float:
        """Return what a turn of this sender costs: see ``JobStore.next_turn``."""
        return self.limits(sender).cost
