"""``model-copy wait``, ``status`` and ``cancel``: about requests that are known by their ids."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

from model_copy_publisher.cli.exits import (
    DETACHED,
    DONE,
    EXIT_CODES,
    NOT_DONE,
    OF_ANOTHER_SOURCE,
    ending,
)
from model_copy_publisher.cli.options import (
    command_again,
    connection,
    output,
    request_source,
    timeout,
    where,
)
from model_copy_publisher.errors import BrokerError
from model_copy_publisher.events import Reply, Status
from model_copy_publisher.messages import CANCEL_TYPE, STATUS_TYPE, Named
from model_copy_publisher.progress import Progress, progress
from model_copy_publisher.report import reply_line, reply_lines, status_lines, summary
from model_copy_publisher.terminal import json_line, printable, say, tell

WAIT_EXAMPLES = """\b
Examples:
  model-copy wait 50b9aee23cf64b209373f206a84bc016
  model-copy wait nightly-1 nightly-2 --timeout 600 --output json
"""
STATUS_EXAMPLES = """\b
Example:
  model-copy status 50b9aee23cf64b209373f206a84bc016
"""
CANCEL_EXAMPLES = """\b
Example:
  model-copy cancel 50b9aee23cf64b209373f206a84bc016

\b
Exit code 0: the copy is cancelled. Exit code 1: it ended otherwise before.
"""

_ids = click.argument("request_ids", metavar="ID...", nargs=-1, required=True)


@click.command(short_help="Wait for requests by id.", epilog=f"{WAIT_EXAMPLES}\n{EXIT_CODES}")
@_ids
@request_source
@timeout(3600)
@output
@connection
@click.pass_context
def wait(context: click.Context, /, **options: Any) -> None:
    """Wait for requests that were published before, on this machine or another."""
    context.exit(_Asking(context=context, options=options).end())


@click.command(epilog=f"{STATUS_EXAMPLES}\n{EXIT_CODES}")
@_ids
@request_source
@timeout(60)
@output
@connection
@click.pass_context
def status(context: click.Context, /, **options: Any) -> None:
    """Show the state of requests."""
    context.exit(_Asking(context=context, options=options, until="told").end())


@click.command(short_help="Cancel copies.", epilog=f"{CANCEL_EXAMPLES}\n{EXIT_CODES}")
@_ids
@request_source
@timeout(3600)
@output
@connection
@click.pass_context
def cancel(context: click.Context, /, **options: Any) -> None:
    """Cancel copies, and wait for their outcomes."""
    asking = _Asking(context=context, options=options, kind=CANCEL_TYPE, wanted="cancelled")
    context.exit(asking.end())


@dataclass(slots=True, kw_only=True)
class _Asking:
    """Questions about requests, and what is known so far."""

    context: click.Context
    options: Mapping[str, Any]
    kind: str = STATUS_TYPE
    until: str = "ended"  # or "told": any answer will do
    wanted: str = ""  # the outcome that is a success; otherwise the reply's own ``ok``
    requests: Sequence[Named] = ()
    told: dict[str, Reply | Status] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    began_at: float = 0.0
    asked_at: datetime | None = None

    def end(self) -> int:
        """Ask, print what is told, and return the exit code."""
        return ending(
            self.run,
            debug=self.options["debug"],
            on_no_reply=self.say_again,
            on_no_broker=self.say_again,
            on_interrupt=self.interrupted,
        )

    def run(self) -> int:
        """Ask until nothing is left to be told."""
        place = where(self.options)
        source = self.options["request_source"]
        ids = dict.fromkeys(self.options["request_ids"])
        self.requests = [Named.by(each, source) for each in ids]
        self.began_at, self.asked_at = time.monotonic(), datetime.now(UTC)
        self._ask(place)
        if len(ids) > 1 and self.until == "ended":
            self._sum_up()
        answers = self.told.values()
        return DONE if not self.unknown and all(map(self._is_good, answers)) else NOT_DONE

    def _ask(self, place: dict[str, Any]) -> None:
        from model_copy_publisher.client import Publisher  # noqa: PLC0415  loads Google's client
        from model_copy_publisher.waiting import Trouble, Unknown  # noqa: PLC0415  see above

        labels = {(each.request_source, each.request_id): each.request_id for each in self.requests}
        with (
            Publisher(**place) as publisher,
            progress(labels) as shown,
            publisher.questioning(self.requests, kind=self.kind) as waiting,
        ):
            shown.waiting(waiting.pending, said=False)
            for lot in waiting.events(timeout_seconds=self.options["timeout"]):
                for event in lot:
                    if isinstance(event, Trouble):
                        shown.trouble(event.text)
                    elif isinstance(event, Unknown):
                        self.unknown.append(event.request.request_id)
                        shown.ended(
                            (event.request.request_source, event.request.request_id), ok=False
                        )
                        say(
                            f"No request {event.request.request_id} of"
                            f" {event.request.request_source} is known."
                            f" {OF_ANOTHER_SOURCE}"
                        )
                    else:
                        self._take(event, shown)
                if self.until == "told" and len(self.told) + len(self.unknown) == len(labels):
                    return

    def _take(self, event: Reply | Status, shown: Progress) -> None:
        [key] = [
            (each.request_source, each.request_id) for each in self.requests if event.answers(each)
        ]
        if self.until == "ended" and isinstance(event, Status) and not event.ended:
            shown.stands(key, event.state.lower(), since=event.timings.accepted_at)
            return
        if key[1] in self.told:
            return
        self.told[key[1]] = event
        shown.ended(key, ok=self._is_good(event))
        if self.options["output"] == "json":
            shown.result(json_line(event.to_json()))
        elif len(self.requests) > 1:
            shown.result(reply_line(event))
        elif isinstance(event, Status):
            shown.result("\n".join(status_lines(event)))
        else:
            waited_seconds = time.monotonic() - self.began_at
            shown.result(
                "\n".join(reply_lines(event, asked_at=self.asked_at, waited_seconds=waited_seconds))
            )

    def _is_good(self, told: Reply | Status) -> bool:
        if self.wanted:
            word = told.outcome.value if isinstance(told, Reply) else told.state.lower()
            return word == self.wanted
        if self.until == "told":
            return True
        return told.ok

    def _sum_up(self) -> None:
        counts = Counter(
            each.outcome.value if isinstance(each, Reply) else printable(each.state.lower())
            for each in self.told.values()
        )
        counts["without reply"] = len(self.requests) - len(self.told) - len(self.unknown)
        counts["unknown"] = len(self.unknown)
        line = summary(+counts, time.monotonic() - self.began_at)
        (say if self.options["output"] == "json" else tell)(line)

    def say_again(self, _: BrokerError | None = None) -> None:
        """Print the command that repeats the open questions."""
        say(f"To {self._verb()} again:\n  {self._again()}")

    def interrupted(self) -> int:
        """Ctrl-C: nothing is undone by it."""
        copies = "the copies go on" if len(self.requests) > 1 else "the copy goes on"
        say(f"Detached: {copies}. To {self._verb()} again:\n  {self._again()}")
        return DETACHED

    def _verb(self) -> str:
        return {"wait": "wait", "status": "show the state", "cancel": "cancel"}[
            str(self.context.command.name)
        ]

    def _again(self) -> str:
        settled = {*self.told, *self.unknown}
        left = [each.request_id for each in self.requests if each.request_id not in settled]
        return command_again(self.context, {"debug": False}, arguments=left)
