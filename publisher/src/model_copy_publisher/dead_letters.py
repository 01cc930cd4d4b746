"""Dead letters: seen, sent again, dropped with a backup, restored.

What must not break: a letter is acknowledged only after what replaces it is safe: its replay
is published, or its backup is on the disk. Killed at any point, it is still there, or was
published and is there too; the copier applies a replay once.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import grpc

from model_copy_publisher import wire
from model_copy_publisher.backup import Restoring, read_backup, write_backup
from model_copy_publisher.broker import Broker
from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.leases import LEASE_SECONDS, Leases
from model_copy_publisher.letter_box import Held, LetterBox
from model_copy_publisher.letters import Letter
from model_copy_publisher.replays import (
    MAX_REPLAYS,
    Changes,
    Left,
    Replay,
    in_lots,
    name_for_good,
    plan,
)
from model_copy_publisher.resource_names import (
    DEAD_LETTER_SUBSCRIPTION,
    DEAD_LETTER_TOPIC,
    REQUEST_TOPIC,
    check_distinct,
    check_project,
    full_name,
)
from model_copy_publisher.selection import Selection

# No more are looked through at once: every one of them is held and kept in memory.
MAX_LETTERS = 20_000
# Pub/Sub may answer with nothing while there is something: not at the first time is it the end.
QUIET_SECONDS = 2.0
LOT = 50

EVERYTHING = Selection()


@dataclass(slots=True, kw_only=True)
class Done:
    """What became of the letters."""

    chosen: int = 0  # how many were selected
    settled: list[Letter] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Restored:
    """What became of a backup; what an earlier run had restored is not in here."""

    letters: list[Letter] = field(default_factory=list)
    # Of ``letters``: an earlier run was killed while it published them.
    perhaps_twice: list[Letter] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


class DeadLetters:
    """A context manager, and what a person does with the dead letters.

        with DeadLetters(project="team-models") as letters:
            for letter in letters.list(Selection(codes=["NOT_FOUND"])):
                print(letter.request_id, letter.reason)
            mended = Changes({"source_model_id": "7"})
            letters.replay(Selection(codes=["NOT_FOUND"]), changes=mended)

    Each method looks through the whole subscription, and ends when no letter came for
    ``quiet_seconds``. Should this process be killed, the letters are there for others once
    ``lease_seconds`` are over. One object serves one thread.

    Raises:
        InvalidRequestError: a name is none.
        BrokerError: there are no usable credentials.
    """

    def __init__(
        self,
        *,
        project: str,
        subscription: str = DEAD_LETTER_SUBSCRIPTION,
        request_topic: str = REQUEST_TOPIC,
        dead_letter_topic: str = DEAD_LETTER_TOPIC,
        credentials_file: str | None = None,
        quiet_seconds: float = QUIET_SECONDS,
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        check_project(project)
        self.subscription = full_name("dead_letter_subscription", subscription, project)
        self.request_topic = full_name("request_topic", request_topic, project)
        self.dead_letter_topic = full_name("dead_letter_topic", dead_letter_topic, project)
        check_distinct(request_topic=self.request_topic, dead_letter_topic=self.dead_letter_topic)
        self._quiet_seconds, self._lease_seconds = quiet_seconds, lease_seconds
        self._broker = Broker(credentials_file)
        self._box = LetterBox(broker=self._broker, name=self.subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._broker.close()

    def list(self, selection: Selection = EVERYTHING) -> Sequence[Letter]:
        """Return the letters, the oldest first. None is settled: all are given back at once.

        Raises:
            BrokerError: they could not be read.
        """
        with self._holding(selection) as (_, held):
            return [each.letter for each in held]

    def replay(
        self,
        selection: Selection = EVERYTHING,
        *,
        changes: Changes | None = None,
        max_replays: int = MAX_REPLAYS,
        per_second: float | None = None,
        agrees: Callable[[Sequence[Replay], Sequence[Left]], bool] = lambda *_: True,
        on_published: Callable[[Sequence[Replay]], object] = lambda _: None,
    ) -> Done:
        """Publish each letter to the request topic, and acknowledge it once that is confirmed.

        ``agrees`` is asked with what would be sent, while the letters are held; should it
        answer False or raise, nothing was sent. May be broken off at any point, and run again.

        Raises:
            BrokerError: Pub/Sub refused or did not answer; what was not settled is given back.
        """
        with self._holding(selection) as (leases, held):
            decided = [plan(each.letter, changes=changes, max_replays=max_replays) for each in held]
            replays = [each for each in decided if isinstance(each, Replay)]
            done = Done(chosen=len(held), left=[each for each in decided if isinstance(each, Left)])
            if not agrees(replays, done.left):
                return done
            by_id = {each.letter.message_id: each for each in held}
            for lot in _paced(replays, per_second):
                sent, refused = self._publish(lot)
                on_published(sent)
                leases.settle_all([by_id[each.letter.message_id] for each in sent])
                done.settled += [each.letter for each in sent]
                done.left += refused
            return done

    def drop(
        self,
        selection: Selection,
        *,
        backup: Path,
        agrees: Callable[[Sequence[Letter]], bool] = lambda _: True,
    ) -> Done:
        """Write the letters to ``backup``, a new file, then acknowledge them.

        Raises:
            InvalidRequestError: the backup could not be written; nothing was settled.
            BrokerError: as ``list``; a letter may be in the backup and still be there.
        """
        with self._holding(selection) as (leases, held):
            chosen = [each.letter for each in held]
            if not agrees(chosen) or not chosen:
                return Done(chosen=len(chosen))
            write_backup(backup, chosen)
            leases.settle_all(held)
            return Done(chosen=len(chosen), settled=chosen)

    def restore(self, backup: Path) -> Restored:
        """Publish the letters of a backup to the dead-letter topic, one after the other.

        Each is published, waited for, and noted in ``BACKUP.restored``: run again, it goes on
        from there. Killed in between, one letter may be there twice, which a replay applies
        once; the next run tells which.

        Raises:
            InvalidRequestError: it is no backup.
            BrokerError: Pub/Sub refused, or did not answer.
        """
        letters = read_backup(backup)
        if not letters:
            raise InvalidRequestError("backup", f"{backup} holds no dead letters")
        with Restoring(backup) as restoring:
            done = Restored()
            for letter in letters:
                if letter.message_id in restoring.restored:
                    continue
                restoring.begin(letter)
                try:
                    self._send(self.dead_letter_topic, [_restored(letter)])
                except grpc.RpcError as error:
                    done.left.append(Left(letter=letter, reason=f"Pub/Sub: {error.details()}"))
                    continue
                restoring.end(letter)
                done.letters.append(letter)
                if letter.message_id in restoring.unknown:
                    done.perhaps_twice.append(letter)
            return done

    def publish_again(self, replays: Sequence[Replay]) -> None:
        """Publish what was published before: its outcome is told again, and applied no more.

        Raises:
            BrokerError: Pub/Sub refused, or did not answer.
        """
        for lot in in_lots(replays, most=LOT):
            self._publish(lot)

    @contextmanager
    def _holding(self, selection: Selection) -> Iterator[tuple[Leases, "Sequence[Held]"]]:
        """Hold every letter that is meant; whatever is not settled is given back at the end."""
        with Leases(self._box, lease_seconds=self._lease_seconds) as leases:
            found: dict[str, Held] = {}
            quiet_since = time.monotonic()
            while len(found) < MAX_LETTERS:
                left = quiet_since + self._quiet_seconds - time.monotonic()
                if left <= 0:
                    break
                began_at = time.monotonic()
                pulled = self._box.pull(within_seconds=max(left, 0.05))
                leases.hold(pulled)
                if any(each.letter.message_id not in found for each in pulled):
                    quiet_since = time.monotonic()
                elif not pulled and time.monotonic() - began_at < 0.05:
                    time.sleep(0.05)  # answered empty at once
                # The newest delivery is the one that can be settled.
                found |= {each.letter.message_id: each for each in pulled}
            now = datetime.now(UTC)
            chosen = sorted(
                (each for each in found.values() if selection.includes(each.letter, now=now)),
                key=lambda each: (each.letter.died_at, each.letter.message_id),
            )[: selection.limit]
            meant = {each.ack_id for each in chosen}
            leases.give_back_all([each for each in found.values() if each.ack_id not in meant])
            yield leases, chosen

    def _publish(self, lot: Sequence[Replay]) -> tuple[Sequence[Replay], Sequence[Left]]:
        """Publish; what Pub/Sub does not take for its own sake is told, the rest goes on."""
        try:
            self._send(self.request_topic, [_message(each) for each in lot])
        except grpc.RpcError as error:
            if len(lot) == 1:
                return [], [Left(letter=lot[0].letter, reason=f"Pub/Sub: {error.details()}")]
            parts = [self._publish([each]) for each in lot]
            return [each for sent, _ in parts for each in sent], [
                each for _, refused in parts for each in refused
            ]
        return lot, []

    def _send(self, topic: str, messages: Sequence[object]) -> None:
        """Publish, and wait for it.

        Raises:
            RpcError: INVALID_ARGUMENT only: it is about these messages.
            BrokerError: anything else.
        """
        request = wire.PublishRequest(topic=topic, messages=messages)
        refused: grpc.RpcError | None = None
        with self._broker.explained(
            task="publish the letters",
            missing=f"the topic {topic}",
            needs=f"roles/pubsub.publisher on {topic}",
        ):
            try:
                self._broker.call(
                    wire.PUBLISH, request, within_seconds=self._broker.patience_seconds
                )
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                refused = error
        if refused is not None:
            raise refused


def counted(letters: Sequence[Letter]) -> Mapping[str, int]:
    """Count letters by code, the most frequent first."""
    counts: dict[str, int] = {}
    for letter in letters:
        counts[letter.code] = counts.get(letter.code, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _message(replay: Replay) -> object:
    return wire.message(replay.data, replay.attributes, ordering_key=replay.letter.ordering_key)


def _restored(letter: Letter) -> object:
    """As it was; but Pub/Sub refuses attributes of its own clients from others."""
    kept = {name: v for name, v in letter.attributes.items() if not name.startswith("goog")}
    attributes = kept | name_for_good(letter)
    return wire.message(letter.data, attributes, ordering_key=letter.ordering_key)


def _paced(replays: Sequence[Replay], per_second: float | None) -> Iterator[Sequence[Replay]]:
    if per_second is None:
        yield from in_lots(replays, most=LOT)
        return
    began_at, count = time.monotonic(), 0
    for lot in in_lots(replays, most=max(1, min(LOT, int(per_second / 4)))):
        time.sleep(max(0.0, began_at + count / per_second - time.monotonic()))
        yield lot
        count += len(lot)
