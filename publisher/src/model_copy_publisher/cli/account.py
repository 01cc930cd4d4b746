"""What is known of the requests of a publish, and how that is told: at its end, whichever it is."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import click

from model_copy_publisher.cli.exits import DETACHED, DONE, NOT_DONE
from model_copy_publisher.cli.options import command_again
from model_copy_publisher.cli.requesting import Wanted
from model_copy_publisher.errors import BrokerError, UnreachableError
from model_copy_publisher.events import Reply
from model_copy_publisher.journal import Journal
from model_copy_publisher.messages import CopyRequest, Published
from model_copy_publisher.report import as_json, reply_line, reply_lines, summary
from model_copy_publisher.terminal import say, tell

Key = tuple[str, str]  # source and id


@dataclass(slots=True, kw_only=True)
class Account:
    """Requests on their way, as far as is known at the moment that something ends it."""

    options: Mapping[str, Any]
    context: click.Context
    wanted: Wanted = field(default_factory=Wanted)
    published: dict[Key, Published] = field(default_factory=dict)
    ended: dict[Key, Reply] = field(default_factory=dict)
    journal: Journal | None = None
    began_at: float = 0.0

    @property
    def is_one(self) -> bool:
        return len(self.wanted.requests) == 1 and not self.options["from_file"]

    @property
    def waited_seconds(self) -> float:
        return time.monotonic() - self.began_at

    def is_confirmed(self, request: CopyRequest) -> bool:
        return (
            bool(self.options["resume"])
            and self.journal is not None
            and self.journal.knows(request)
        )

    def confirmed_at(self, request: CopyRequest) -> datetime | None:
        """Return when it was confirmed, before this run."""
        return self.journal.confirmed_at(request) if self.journal is not None else None

    def is_listened_for(self, request: CopyRequest) -> bool:
        return (
            bool(self.options["resume"])
            and self.journal is not None
            and self.journal.is_listened_for(request)
        )

    def show(self, request: CopyRequest, reply: Reply | None, echo: Any) -> None:
        if self.options["output"] == "json":
            echo(
                as_json(
                    self.published.get(key_of_request(request)),
                    request,
                    waited=True,
                    reply=reply,
                    waited_seconds=self.waited_seconds if self.published else None,
                )
            )
        elif reply is not None:
            echo(reply_line(reply))

    def result(self) -> int:
        waited = self.options["wait"]
        if self.is_one and waited:
            [request] = self.wanted.requests
            [reply] = self.ended.values()
            if self.options["output"] == "json":
                self.show(request, reply, tell)
            else:
                published = self.published.get(key_of_request(request))
                lines = reply_lines(
                    reply,
                    asked_at=published.published_at if published else None,
                    waited_seconds=self.waited_seconds,
                )
                tell("\n".join(lines))
        elif not self.is_one:
            self.sum_up()
        if not waited and self.wanted.requests:
            say(f"To wait for the outcome{'' if self.is_one else 's'}:\n  {self.again()}")
        assert not waited or len(self.ended) == len(self.wanted.requests)
        ok = all(reply.ok for reply in self.ended.values()) and not self.wanted.bad
        return DONE if ok else NOT_DONE

    def sum_up(self) -> None:
        counts = Counter(reply.outcome.value for reply in self.ended.values())
        if self.options["wait"]:
            counts["without reply"] = len(self.wanted.requests) - len(self.ended)
        else:
            counts["published"] = len(self.published)
            counts["confirmed before"] = len(self.wanted.requests) - len(self.published)
        if self.wanted.bad:
            counts["invalid"] = len(self.wanted.bad)
        line = summary(+counts, self.waited_seconds)
        if self.options["output"] == "json":
            say(line)
        else:
            tell(line)

    # The ends that are none of a request's own

    def no_reply(self) -> None:
        """Not all had ended in time."""
        copies = "The copy" if self.is_one else "The copies"
        say(f"{copies} may go on; to wait again:\n  {self.again()}")
        self.print_rest()

    def no_broker(self, error: BrokerError) -> None:
        """Pub/Sub refused, or is away."""
        if isinstance(error, UnreachableError) or self.published:
            same = "the same request" if self.is_one else "the same"
            again = self.again(wait=self.options["wait"])
            say(f"Publishing {same} again is harmless:\n  {again}")

    def not_written(self) -> None:
        """The journal, or the results, could not be written."""
        known = sum(
            key_of_request(each) in self.published or self.is_confirmed(each)
            for each in self.wanted.requests
        )
        say(
            f"Known to be published: {known:,} of {len(self.wanted.requests):,}."
            f" When the disk has space, resume:\n  {self.again(wait=self.options['wait'])}"
        )

    def interrupted(self) -> int:
        """Ctrl-C: nothing is undone by it."""
        requests = self.wanted.requests
        if requests and len(self.ended) == len(requests):
            return self.result()
        unsent = sum(
            key_of_request(each) not in self.published and not self.is_confirmed(each)
            for each in requests
        )
        if unsent > 0 and not self.is_one and not self.options["wait"]:
            say(
                f"Interrupted: {unsent:,} of {len(requests):,} requests are not known to be"
                f" published. To resume:\n  {self.again(wait=False)}"
            )
            return DETACHED
        if not self.published and not any(self.is_confirmed(each) for each in requests):
            say(
                "Interrupted: it is not known whether the request was published. "
                f"Publishing it again is harmless:\n  {self.again()}"
            )
            return DETACHED
        copies = "the copy goes on" if self.is_one else "the copies go on"
        say(f"Detached: {copies}. To wait again:\n  {self.again()}")
        self.print_rest()
        return DETACHED

    def print_rest(self) -> None:
        """Account for what has not ended."""
        if not self.options["wait"]:
            return
        if self.options["output"] == "json":
            for request in self.wanted.requests:
                key = key_of_request(request)
                if key not in self.ended and (key in self.published or self.is_confirmed(request)):
                    self.show(request, None, tell)
        if not self.is_one:
            self.sum_up()

    def again(self, *, wait: bool = True) -> str:
        """Write the command that publishes the very same and waits for what becomes of it."""
        fixed: dict[str, Any] = {"wait": wait}
        if self.options["from_file"]:
            fixed["resume"] = True
        elif self.wanted.requests:
            fixed["request_id"] = self.wanted.request_id
        return command_again(self.context, fixed)


def key_of_request(request: CopyRequest) -> Key:
    """Return what the request is known by."""
    return request.request_source, request.request_id
