"""The invariants, as an outsider sees them: the registry, the replies and the letters.

Never the store: a copier that tells itself a story must not be believed. The one thing
asked of it is which job asked for which operation, and that is noted where Vertex AI took
the call.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_cloud.vertex_records import CopyState
from model.perils import Cloud
from model_copier.contract.requests import Message, Received, digest_of
from model_copier.domain.errors import RejectedError
from model_copier.domain.job import State
from world import read

ATTEMPTS = "attempts"


@dataclass(frozen=True, kw_only=True)
class Witness:
    """What was asked for, and what can be seen in the end."""

    cloud: Cloud
    published: Mapping[str, set[bytes]]  # contents by request id
    valid: set[str]  # requests that must become jobs
    given_up: Sequence[Received]  # by Pub/Sub
    replays: Sequence[Received]  # letters that were published again
    acknowledged: Sequence[Received]  # what no delivery will bring again
    forgotten: set[str]  # requests that a restored store does not know
    forgotten_replays: set[str]  # and replays, by message id

    def found(self, violation: str) -> None:
        self.cloud.found(violation)

    def check(self) -> None:
        replies = self.cloud.topics.replies
        events: dict[object, Message] = {}
        # Answers to status questions are told apart by the microsecond; here time stands still.
        for reply in (reply for reply in replies if "-status-" not in reply.attributes["ce-id"]):
            event_id = reply.attributes["ce-id"]
            # A restored store forgets runs, and gives the number of one to another.
            content = read(reply).get("request_digest") if self.cloud.restored_at else None
            first = events.setdefault((event_id, content), reply)
            if first != reply and not self.cloud.restored_at:
                self.found(f"told: event {reply.attributes['ce-id']} has two contents")
        told = [read(reply) for reply in events.values()]
        outcomes = [reply for reply in told if "outcome" in reply]
        for asked in (self.valid & self.published.keys()) - self.forgotten:
            self.check_told(asked, [reply for reply in outcomes if reply["request_id"] == asked])
        self.check_truth(outcomes)
        if self.cloud.restored_at:
            self.check_restored()
        self.check_answered(outcomes)
        self.check_kept(outcomes)
        self.check_copies([reply for reply in outcomes if reply["outcome"] == "succeeded"])

    def check_told(self, asked: str, outcomes: Sequence[dict[str, Any]]) -> None:
        by_run = [reply for reply in outcomes if "run" in reply]
        numbers = sorted(reply["run"] for reply in by_run)
        if not numbers:
            self.found(f"told: {asked} was never told an outcome")
        elif numbers != list(range(1, len(numbers) + 1)) and not self.cloud.restored_at:
            self.found(f"gap: {asked} was told of runs {numbers}")
        # A letter applied once makes one run; so does one of Pub/Sub's own, which names none.
        letters = {received.replay_of for received in self.replays_of(asked)}
        if self.was_given_up(asked):
            letters.add("Pub/Sub's")
        if len(numbers) - 1 > len(letters) and not self.cloud.restored_at:
            self.found(f"replayed: {asked} was told of runs {numbers} for {len(letters)} letters")
        last = max(by_run, key=lambda reply: reply["run"], default=None)
        if last is None:
            return
        made = [op for op in self.operations(asked) if op.state is CopyState.SUCCEEDED]
        if any("met a bug" in reply.get("error", {}).get("message", "") for reply in outcomes):
            self.found(f"blamed: {asked} was told of a bug, and there was only an outage")
        if self.cloud.restored_at:
            return  # which of two is whose is forgotten, and so is a cancel: see check_restored
        if len(made) > 1:
            self.found(f"once: {asked} made {[f'{op.destination}@{op.version}' for op in made]}")
        unknown = last["outcome"] == "failed" and last["outcome_unknown"]
        if made and last["outcome"] != "succeeded" and not unknown:
            self.found(f"honest: {asked} was told {last['outcome']}, and there is a copy")

    def check_truth(self, outcomes: Sequence[dict[str, Any]]) -> None:
        """What a failure says of the copier's own doing was done."""
        for reply in (reply for reply in outcomes if "run" in reply and "error" in reply):
            asked, message = reply["request_id"], reply["error"]["message"]
            sent = self.cloud.keys[asked] in self.cloud.cancels_sent
            if "a cancel was" in message and not sent:
                self.found(f"truth: {asked} was told of a cancel that nobody sent")
            if message.startswith("the copy did not end") and not reply[ATTEMPTS]:
                self.found(f"truth: {asked} was told that its copy did not end; none was requested")

    def check_restored(self) -> None:
        """Requests for the same copy to the same place make one each, whichever is whose."""
        jobs = self.cloud.store.jobs
        made: Counter[tuple[str, str]] = Counter()
        askers: dict[tuple[str, str], set[str]] = {}
        for operation in self.cloud.models.registry._operations.values():
            key = self.cloud.asked_by.get(operation.number)
            if key is None:
                continue
            place = (str(operation.destination), str(operation.source))
            askers.setdefault(place, set()).add(key)
            made[place] += operation.state is CopyState.SUCCEEDED
        for job in jobs.values():
            # One that found another's copy asked for none, and counts as one that did.
            if job.source is not None and job.state is State.SUCCEEDED:
                askers.setdefault((str(job.target), str(job.source.name)), set()).add(job.key)
        for place, count in made.items():
            forgotten = sum(key not in jobs for key in askers[place])
            if count > len(askers[place]) and not forgotten:
                self.found(f"once: {len(askers[place])} requests made {count} of {place}")

    def check_answered(self, outcomes: Sequence[dict[str, Any]]) -> None:
        """Every content that was acknowledged has an outcome of its own, or was rejected."""
        answered = {(reply["request_id"], reply.get("request_digest")) for reply in outcomes}
        for received in self.acknowledged:
            asked = received.attributes["ce-id"]
            forwarded = "CloudPubSubDeadLetterSourceDeliveryCount" in received.attributes
            if received.message_id in self.forgotten_replays:
                continue
            if asked in self.valid - self.forgotten and not forwarded:
                try:
                    content = digest_of(received)
                except RejectedError:
                    continue  # it has none to be known by
                if (asked, content) not in answered:
                    self.found(f"told: {asked} was acknowledged as {received.data!r}, unanswered")

    def replays_of(self, asked: str) -> list[Received]:
        return [again for again in self.replays if again.attributes["ce-id"] == asked]

    def operations(self, asked: str) -> list[Any]:
        return self.cloud.operations_of(self.cloud.keys.get(asked, ""))

    def check_kept(self, outcomes: Sequence[dict[str, Any]]) -> None:
        letters: dict[str, Message] = {}
        every: dict[tuple[str, bytes], Message] = {}
        for letter in self.cloud.topics.letters:
            first = letters.setdefault(letter.attributes["outcome_id"], letter)
            every[letter.attributes["outcome_id"], letter.data] = letter
            if first.data != letter.data and not self.cloud.restored_at:
                self.found(f"kept: two contents of {letter.attributes['outcome_id']}")
        bad = [reply for reply in outcomes if reply["outcome"] in {"failed", "rejected"}]
        for reply in bad:
            if reply["outcome"] == "rejected" and self.was_given_up(reply["request_id"]):
                continue  # the reply is first; then Pub/Sub's own dead letter may hold it
            if "dead_letter" in reply:
                its = [each for (name, _), each in every.items() if name == reply["dead_letter"]]
                digest = reply.get("request_digest")
                own = [each for each in its[1:] if digest_of(_received(each)) == digest]
                self.check_letter(reply, next(iter(own or its), None))
            elif not (self.was_given_up(reply["request_id"]) or _is_question(reply)):
                self.found(f"kept: {reply['id']} names no letter")
        if not self.cloud.restored_at:  # which may have forgotten a run, but not its dead letter
            self.check_answered_letters(letters, bad, outcomes)

    def check_answered_letters(
        self,
        letters: Mapping[str, Message],
        bad: Sequence[dict[str, Any]],
        outcomes: Sequence[dict[str, Any]],
    ) -> None:
        for outcome_id in letters.keys() - {reply["id"] for reply in bad if "dead_letter" in reply}:
            kind = "gap"
            if "-rejected-" in outcome_id:
                # A crash may part letter and reply. Taken in again, the message may be refused
                # for another reason, or no longer; or Pub/Sub has given it up, and has a letter
                # of its own. What matters is that it was answered.
                asked, content = letters[outcome_id].attributes["ce-id"], letters[outcome_id]
                if any(
                    reply["outcome"] == "rejected"
                    or reply.get("request_digest") == digest_of(_received(content))
                    for reply in outcomes
                    if reply["request_id"] == asked
                ):
                    continue
                kind = "kept"
            self.found(f"{kind}: a letter of {outcome_id}, which was not told as failed")

    def was_given_up(self, asked: str) -> bool:
        return any(letter.attributes["ce-id"] == asked for letter in self.given_up)

    def check_letter(self, reply: dict[str, Any], kept: Message | None) -> None:
        if kept is None:
            # Replied to first, then given up in between: Pub/Sub has a letter of its own.
            if "-rejected-" not in reply["id"] or not self.was_given_up(reply["request_id"]):
                self.found(f"kept: no letter of {reply['id']}")
        elif kept.data not in self.published[reply["request_id"]]:
            self.found(f"kept: the letter of {reply['id']} has other bytes")
        elif reply.get("request_digest") != digest_of(_received(kept)):
            self.found(f"kept: the letter of {reply['id']} is of another run")

    def was_made_by_somebody(self, name: str, version: str) -> bool:
        """A copy of the same source, made by hand: nothing tells it from ours."""
        return any(
            operation.version == version and operation.number not in self.cloud.asked_by
            for operation in self.cloud.models.registry._operations.values()
            if str(operation.destination) == name and operation.state is CopyState.SUCCEEDED
        )

    def shows_too_early(self) -> bool:
        """Whether a model may look whole before it is, with no operation to tell."""
        dialect = self.cloud.dialect
        blind = "ListOperations" in dialect.unimplemented or dialect.stale_seconds
        hidden = dialect.operation_after_seconds or dialect.shows_after_seconds
        return dialect.model_after_seconds is not None and bool(blind or hidden)

    def check_copies(self, succeeded: Sequence[dict[str, Any]]) -> None:
        claimed: dict[tuple[str, str], str] = {}
        for reply in succeeded:
            asked, name = reply["request_id"], reply["resource_name"]
            versions = self.cloud.models.versions(name)
            there = next((v for v in versions if v.name.version == reply["version"]), None)
            if reply["already_existed"] and self.shows_too_early():
                continue  # told as it showed; who copied it there failed later
            if there is None:
                self.found(f"true: {asked} names {name}@{reply['version']}, which is not there")
                continue
            if reply["verified"] and str(there.copied_from) != reply["source_model"]:
                self.found(f"true: {asked} names {there.name}, a copy of {there.copied_from}")
            if reply["already_existed"]:
                continue
            if self.was_made_by_somebody(name, reply["version"]):
                self.cloud.note("rule: somebody's copy of our source was taken for ours")
                continue
            mine = [op for op in self.operations(asked) if op.state is CopyState.SUCCEEDED]
            if self.cloud.restored_at:
                continue  # of two requests for the same copy, either may claim either
            if (name, reply["version"]) not in [(str(o.destination), o.version) for o in mine]:
                self.found(f"true: {asked} claims {name}@{reply['version']}, which it did not make")
            other = claimed.setdefault((name, reply["version"]), asked)
            if other != asked:
                self.found(f"true: {asked} and {other} claim {name}@{reply['version']}")


def _is_question(reply: dict[str, Any]) -> bool:
    return str(reply["request_id"]).startswith("question")


def _received(letter: Message) -> Received:
    return Received(data=letter.data, attributes=letter.attributes, message_id="")
