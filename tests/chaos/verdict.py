"""The invariants after a run of chaos, by what can be seen from outside the copier.

Seen are the local Vertex AI's own log and the messages on the reply and dead-letter
topics. The copier's store is not looked at: it might tell itself a story.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.work import PARENTS, SOURCES, Ask

OUTCOMES = ("succeeded", "failed", "cancelled", "rejected")


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message that was pulled."""

    data: bytes
    attributes: Mapping[str, str]


@dataclass(kw_only=True)
class Evidence:
    """All that was seen."""

    asks: Sequence[Ask]
    replies: list[Message] = field(default_factory=list)
    letters: list[Message] = field(default_factory=list)
    replayed: set[str] = field(default_factory=set)  # outcome ids of letters published again
    # Requests and letters whose message a worker acknowledged, and told nothing of for long.
    dropped: set[str] = field(default_factory=set)
    copy_calls: Sequence[Any] = ()
    operations: Sequence[Any] = ()
    models: Collection[str] = ()  # names with versions

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """By event id, the data of each outcome that was told of a request."""
        return {
            reply.attributes["ce-id"]: json.loads(reply.data)
            for reply in self.replies
            if reply.attributes.get("outcome") in OUTCOMES
        }

    def told(self) -> dict[str, list[dict[str, Any]]]:
        """By request id."""
        told: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for outcome in self.outcomes().values():
            told[outcome["request_id"]].append(outcome)
        return told

    def is_whole(self) -> bool:
        """Tell whether everything that must be told or kept has been seen."""
        return not self.untold() and not self.unfollowed() and not self.unkept()

    def untold(self) -> list[Ask]:
        """What was asked for, and has no outcome yet."""
        told = self.told()
        return [ask for ask in self.asks if ask.request_id not in told]

    def unfollowed(self) -> list[str]:
        """Letters that were published again, and were followed by no further outcome."""
        told, keys = self.told(), self.keys()
        return [
            outcome_id
            for outcome_id in self.replayed
            for key, _, number in [outcome_id.rpartition("-")]
            if all(outcome.get("run", 0) <= int(number) for outcome in told[keys.get(key, "")])
        ]

    def unkept(self) -> list[str]:
        """Event ids of outcomes whose letter has not been pulled: it may be leased to nobody,
        where a pull was given up just as it came."""
        seen = {letter.attributes["outcome_id"] for letter in self.letters}
        return [
            event_id
            for event_id, outcome in self.outcomes().items()
            if outcome.get("dead_letter") and outcome["dead_letter"] not in seen
        ]

    def keys(self) -> dict[str, str]:
        """Request ids by the keys in their event ids."""
        return {
            event_id.rpartition("-")[0]: outcome["request_id"]
            for event_id, outcome in self.outcomes().items()
            if "run" in outcome
        }


def violations(seen: Evidence) -> dict[str, list[str]]:
    """What does not hold, by invariant; each list is empty when all is well."""
    return {
        "once": [*_once(seen)],
        "told": [*_told(seen)],
        "kept": [*_kept(seen)],
        "nobody else's": [*_others(seen)],
    }


def _made(seen: Evidence) -> Counter[tuple[str, str]]:
    """Model and version of every copy that ended well."""
    return Counter(
        (operation["destination"], operation["version"])
        for operation in seen.operations
        if operation["state"] == "SUCCEEDED"
    )


def _once(seen: Evidence) -> Iterable[str]:
    made = _made(seen)
    claimed: dict[tuple[str, str], str] = {}
    for asked, outcomes in seen.told().items():
        own = [
            (outcome["resource_name"], outcome["version"])
            for outcome in outcomes
            if outcome["outcome"] == "succeeded" and not outcome["already_existed"]
        ]
        if len(own) > 1:
            yield f"{asked} was told of {len(own)} copies: {own}"
        for each in own:
            if each not in made:
                yield f"{asked} was told of {each}, which nobody made"
            if claimed.setdefault(each, asked) != asked:
                yield f"{asked} and {claimed[each]} were both told of {each}"
    for each in made.keys() - claimed.keys():
        yield f"{each} was made, and nobody was told of it"


def _told(seen: Evidence) -> Iterable[str]:
    yield from (f"{name} was acknowledged and not told" for name in sorted(seen.dropped))
    told = seen.told()
    for ask in seen.asks:
        attempts = sorted(outcome.get("run", 0) for outcome in told.get(ask.request_id, ()))
        if not attempts:
            yield f"{ask.request_id} was never told an outcome"
        elif attempts != list(range(1, len(attempts) + 1)):
            yield f"{ask.request_id} was told of runs {attempts}"
    first: dict[str, Message] = {}
    for reply in seen.replies:
        event_id = reply.attributes["ce-id"]
        before = first.setdefault(event_id, reply)
        if (before.data, before.attributes) != (reply.data, reply.attributes):
            yield f"event {event_id} has two contents"


def _kept(seen: Evidence) -> Iterable[str]:
    letters = {letter.attributes["outcome_id"]: letter for letter in seen.letters}
    data = {ask.request_id: ask.data for ask in seen.asks}
    for event_id, outcome in seen.outcomes().items():
        if outcome["outcome"] not in {"failed", "rejected"}:
            continue
        if outcome.get("dead_letter") is None and outcome["request_id"].startswith("cancel-"):
            continue  # a question that was refused is answered, not kept
        letter = letters.get(outcome.get("dead_letter", ""))
        if letter is None:
            yield f"{event_id} has no letter"
        elif letter.data != data.get(outcome["request_id"], letter.data):
            yield f"the letter of {event_id} has other bytes"


def _others(seen: Evidence) -> Iterable[str]:
    for name in (*SOURCES, *PARENTS):
        if f"{name}@1" not in seen.models:
            yield f"{name}@1 is gone"
