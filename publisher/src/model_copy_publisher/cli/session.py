"""A publish under way: rows checked, requests sent, outcomes waited for, each step written down."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_copy_publisher.cli.account import Account, Key, key_of_request
from model_copy_publisher.cli.exits import WRONG
from model_copy_publisher.cli.options import where
from model_copy_publisher.cli.requesting import wanted
from model_copy_publisher.events import Reply, Status
from model_copy_publisher.journal import Journal
from model_copy_publisher.messages import CopyRequest, Published
from model_copy_publisher.progress import Progress, progress
from model_copy_publisher.report import as_json, bad_row_lines, label_of, published_line
from model_copy_publisher.terminal import say, tell

if TYPE_CHECKING:
    from model_copy_publisher.client import Publisher
    from model_copy_publisher.waiting import Waiting

SHOWN_PUBLISHED = 20
# After so many confirmations they are on the disk.
JOURNAL_LOT = 500


@dataclass(frozen=True, slots=True)
class Session:
    """Does what the options say, and leaves what became of it in the account."""

    account: Account

    def run(self) -> int:
        """Publish, wait if wanted, print the results and return the exit code."""
        place = where(self.account.options)
        self.account.wanted = wanted(self.account.options)
        if not self._check_rows():
            return WRONG
        file = self.account.wanted.journal_file
        if file is not None:
            topic, resume = place["request_topic"], self.account.options["resume"]
            self.account.journal = Journal(file, topic=topic, anew=not resume)
        with self.account.journal or nullcontext():
            self._ask(place)
        return self.account.result()

    def _check_rows(self) -> bool:
        bad = self.account.wanted.bad
        if not bad and not self.account.wanted.repeated:
            return True
        for line in bad_row_lines(self.account.wanted.file_name, bad):
            say(line)
        if self.account.wanted.repeated:
            say(f"{self.account.wanted.repeated:,} rows are duplicates; each is one request")
        if bad and not self.account.options["keep_going"]:
            say("Nothing was sent. Correct the rows, or publish the others with --keep-going.")
            return False
        return True

    def _ask(self, place: dict[str, Any]) -> None:
        self.account.began_at = time.monotonic()
        told_before = self._told_before() if self.account.options["resume"] else []
        left = [
            each
            for each in self.account.wanted.requests
            if key_of_request(each) not in self.account.ended
        ]
        labels = {key_of_request(each): label_of(each) for each in left}
        if not self.account.options["wait"]:
            left = [each for each in left if not self.account.is_confirmed(each)]
            labels = {key_of_request(each): label_of(each) for each in left}
        for request, reply in told_before:
            self.account.show(request, reply, tell)
        if not left:
            return
        from model_copy_publisher.client import Publisher  # noqa: PLC0415  loads Google's client

        with Publisher(**place) as publisher, progress(labels) as shown:
            if not self.account.options["wait"]:
                self._publish(publisher, left, shown)
                return
            name = (
                self.account.journal.subscription
                if self.account.journal and self.account.options["resume"]
                else ""
            )
            subscription = publisher.subscription([each.request_id for each in left], name=name)
            with publisher.listening(
                left, subscription=subscription, on_subscribed=self._subscribed
            ) as waiting:
                for each in left:
                    if confirmed_at := self.account.confirmed_at(each):
                        shown.published(key_of_request(each), confirmed_at)
                try:
                    unheard = [each for each in left if not self.account.is_listened_for(each)]
                    self._publish(publisher, unheard, shown, subscription=subscription.name)
                    self._wait(waiting, shown)
                finally:
                    subscription.kept = self.account.journal is not None and bool(waiting.pending)

    def _told_before(self) -> list[tuple[CopyRequest, Reply]]:
        """Take from the journal what has ended."""
        assert self.account.journal is not None
        told = []
        for request in self.account.wanted.requests:
            reply = self.account.journal.outcome(request)
            if reply is not None and self.account.options["wait"]:
                self.account.ended[key_of_request(request)] = reply
                told.append((request, reply))
        return told

    def _subscribed(self, name: str) -> None:
        if self.account.journal is not None and self.account.journal.subscription != name:
            self.account.journal.listening(name)

    def _publish(
        self,
        publisher: "Publisher",
        requests: Sequence[CopyRequest],
        shown: Progress,
        *,
        subscription: str = "",
    ) -> None:
        lot: list[Published] = []
        by_key = {key_of_request(each): each for each in requests}
        few = len(requests) <= SHOWN_PUBLISHED
        try:
            for each in publisher.publish_all(requests):
                key = (each.request_source, each.request_id)
                self.account.published[key] = each
                lot.append(each)
                shown.published(key, each.published_at)
                if self.account.options["output"] == "json" and not self.account.options["wait"]:
                    shown.result(
                        as_json(each, by_key[key], waited=False, reply=None, waited_seconds=None)
                    )
                elif few:
                    (say if self.account.options["wait"] else shown.result)(published_line(each))
                if len(lot) == JOURNAL_LOT:
                    self._confirm(lot, subscription)
                    lot = []
        finally:
            self._confirm(lot, subscription)

    def _confirm(self, lot: Sequence[Published], subscription: str) -> None:
        if self.account.journal is not None:
            self.account.journal.confirmed(lot, subscription=subscription)

    def _wait(self, waiting: "Waiting", shown: Progress) -> None:
        from model_copy_publisher.waiting import Trouble  # noqa: PLC0415  loads Google's client

        shown.waiting(waiting.pending)
        by_key = {key_of_request(each): each for each in self.account.wanted.requests}
        for lot in waiting.events(timeout_seconds=self.account.options["timeout"]):
            ended: list[tuple[CopyRequest, Reply]] = []
            for event in lot:
                if isinstance(event, Trouble):
                    shown.trouble(event.text)
                    continue
                key = _key_of(event, by_key)
                if isinstance(event, Reply):
                    ended.append((by_key[key], event))
                elif isinstance(event, Status):
                    shown.stands(key, event.state.lower(), since=event.timings.accepted_at)
            if self.account.journal is not None:
                self.account.journal.ended(ended)
            for request, reply in ended:
                self.account.ended[key_of_request(request)] = reply
                shown.ended(key_of_request(request), ok=reply.ok)
                if not self.account.is_one:
                    self.account.show(request, reply, shown.result)


def _key_of(event: Any, known: Mapping[Key, CopyRequest]) -> Key:
    """Return whose event it is; what could not be read may have no source."""
    key = (event.request_source or "", event.request_id or "")
    if key in known:
        return key
    return next(each for each in known if each[1] == event.request_id)
