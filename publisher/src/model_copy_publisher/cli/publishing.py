"""``model-copy publish``: one request, several destinations, or a whole file."""

import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from model_copy_publisher.cli.exits import (
    DETACHED,
    DONE,
    EXIT_CODES,
    NOT_DONE,
    WRONG,
    ending,
    say,
)
from model_copy_publisher.cli.options import (
    connection,
    option,
    output,
    request_source,
    timeout,
    where,
)
from model_copy_publisher.cli.requesting import Wanted, wanted
from model_copy_publisher.errors import BrokerError, UnreachableError
from model_copy_publisher.events import Reply, Status
from model_copy_publisher.journal import Journal
from model_copy_publisher.messages import CopyRequest, IfExists, Published
from model_copy_publisher.progress import Progress, progress
from model_copy_publisher.report import (
    as_json,
    bad_row_lines,
    label_of,
    published_line,
    reply_line,
    reply_lines,
    summary,
)

if TYPE_CHECKING:
    from model_copy_publisher.client import Publisher
    from model_copy_publisher.waiting import Waiting

SHOWN_PUBLISHED = 20

EXAMPLES = """\b
Examples:
  model-copy publish 7704127342733426688@1 faker_251230 --wait
  model-copy publish 7704127342733426688 --parent-model faker --wait
  model-copy publish 7704127342733426688 faker_251230 --validate-only --wait
  model-copy publish 7704127342733426688 --to prod-eu/europe-west4/faker --to prod-us/us-east4/faker
  model-copy publish --from-file nightly.csv --wait
  jq -c '.models[]' run.json | model-copy publish --from-file - --batch run-7

\b
A file is CSV, with the fields of a request as its first line, or JSON Lines:
  source_model_id,destination_model_id,target_location
  7704127342733426688@1,faker_251230,europe-west4

\b
The same request (source, id and content) published again is never a second
copy: it makes the service announce the outcome again. That is how to wait again.
In a file, the id of a row is made of the batch's name and the row's content.
"""


@click.command(epilog=f"{EXAMPLES}\n{EXIT_CODES}")
@click.argument("source_model_id", metavar="[SOURCE]", required=False)
@click.argument("destination_model_id", metavar="[DESTINATION]", required=False)
@click.option(
    "--to",
    multiple=True,
    metavar="PROJECT/LOCATION[/MODEL]",
    help="Where the copy goes, instead of DESTINATION; may be given several times.",
)
@click.option("--parent-model", help="Copy as a new version of this model, not to DESTINATION.")
@click.option(
    "--if-exists",
    type=click.Choice([each.value for each in IfExists]),
    help="What to do when DESTINATION is there already.  [default: fail]",
)
@option("--source-project", help="Where SOURCE is, if not in the service's own default.")
@option("--source-location", help="The region of SOURCE.")
@option("--target-project", help="Where the copy goes.")
@option("--target-location", help="The region of the copy.")
@option("--location", help="Both regions at once, as far as they are not said otherwise.")
@option("--kms-key-name", help="The key that encrypts the copy.")
@option("--custom-service-account", help="The account that Vertex AI copies as.")
@option("--deadline-seconds", type=int, help="How long the copy may take.")
@click.option("--correlation", metavar="JSON", help="An object to be echoed in the reply.")
@click.option("--validate-only", is_flag=True, help="Check everything, copy nothing.")
@option("--reply-tag", help="An attribute of the reply, for subscribers that filter.")
@click.option("--request-id", help="What the request is known by.  [default: a random one]")
@request_source
@click.option(
    "--from-file",
    metavar="FILE",
    help="Publish every row of a CSV or JSON Lines file; - is standard input.",
)
@click.option("--batch", help="What the ids of the rows begin with.  [default: the file's name]")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl"]),
    help="What the file is.  [default: by its name, or by how it begins]",
)
@click.option("--keep-going", is_flag=True, help="Send the good rows although others are bad.")
@click.option("--resume", is_flag=True, help="Skip what was confirmed or has ended before.")
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where that is written down.  [default: ~/.local/state/model-copy/BATCH.jsonl]",
)
@click.option("--wait", is_flag=True, help="Wait for the outcome and print it.")
@timeout(3600)
@output
@connection
@click.pass_context
def publish(context: click.Context, /, **options: Any) -> None:
    """Ask for a copy of SOURCE (an id, id@version, id@alias or full resource name).

    DESTINATION is the id of the new model; without it the service makes one up.
    """
    session = _Session(options=options, context=context)
    code = ending(
        session.run,
        debug=options["debug"],
        on_no_reply=session.no_reply,
        on_no_broker=session.no_broker,
        on_interrupt=session.interrupted,
    )
    context.exit(code)


@dataclass(slots=True, kw_only=True)
class _Session:
    """Requests on their way: what is known of them at the moment that something ends it."""

    options: Mapping[str, Any]
    context: click.Context
    wanted: Wanted = field(default_factory=Wanted)
    published: dict[tuple[str, str], Published] = field(default_factory=dict)
    ended: dict[tuple[str, str], Reply] = field(default_factory=dict)
    journal: Journal | None = None
    began_at: float = 0.0

    def run(self) -> int:
        """Publish, wait if wanted, print the results and return the exit code."""
        place = where(self.options)
        self.wanted = wanted(self.options)
        if not self._check_rows():
            return WRONG
        file = self.wanted.journal_file
        if file is not None:
            topic, resume = place["request_topic"], self.options["resume"]
            self.journal = Journal(file, topic=topic, anew=not resume)
        with self.journal or nullcontext():
            self._ask(place)
        return self._result()

    def _check_rows(self) -> bool:
        bad = self.wanted.bad
        if not bad and not self.wanted.repeated:
            return True
        for line in bad_row_lines(self.wanted.file_name, bad):
            say(line)
        if self.wanted.repeated:
            say(f"{self.wanted.repeated:,} rows are there twice; each is one request")
        if bad and not self.options["keep_going"]:
            say("Nothing was sent. Correct the rows, or send the others with --keep-going.")
            return False
        return True

    def _ask(self, place: dict[str, Any]) -> None:
        self.began_at = time.monotonic()
        told_before = self._told_before() if self.options["resume"] else []
        left = [each for each in self.wanted.requests if _key(each) not in self.ended]
        labels = {_key(each): label_of(each) for each in left}
        if not self.options["wait"]:
            left = [each for each in left if not self._is_confirmed(each)]
            labels = {_key(each): label_of(each) for each in left}
        for request, reply in told_before:
            self._show(request, reply, click.echo)
        if not left:
            return
        from model_copy_publisher.client import Publisher  # noqa: PLC0415  loads Google's client

        with Publisher(**place) as publisher, progress(labels) as shown:
            if not self.options["wait"]:
                self._publish(publisher, left, shown)
                return
            name = self.journal.subscription if self.journal and self.options["resume"] else ""
            subscription = publisher.subscription([each.request_id for each in left], name=name)
            with publisher.listening(
                left, subscription=subscription, on_subscribed=self._subscribed
            ) as waiting:
                try:
                    unheard = [each for each in left if not self._is_listened_for(each)]
                    self._publish(publisher, unheard, shown, subscription=subscription.name)
                    self._wait(waiting, shown)
                finally:
                    subscription.kept = self.journal is not None and bool(waiting.pending)

    def _told_before(self) -> list[tuple[CopyRequest, Reply]]:
        """Take from the journal what has ended."""
        assert self.journal is not None
        told = []
        for request in self.wanted.requests:
            reply = self.journal.outcome(request)
            if reply is not None and self.options["wait"]:
                self.ended[_key(request)] = reply
                told.append((request, reply))
        return told

    def _subscribed(self, name: str) -> None:
        if self.journal is not None and self.journal.subscription != name:
            self.journal.listening(name)

    def _is_confirmed(self, request: CopyRequest) -> bool:
        return (
            bool(self.options["resume"])
            and self.journal is not None
            and self.journal.knows(request)
        )

    def _is_listened_for(self, request: CopyRequest) -> bool:
        return (
            bool(self.options["resume"])
            and self.journal is not None
            and self.journal.is_listened_for(request)
        )

    def _publish(
        self,
        publisher: "Publisher",
        requests: Sequence[CopyRequest],
        shown: Progress,
        *,
        subscription: str = "",
    ) -> None:
        lot: list[Published] = []
        by_key = {_key(each): each for each in requests}
        few = len(requests) <= SHOWN_PUBLISHED
        try:
            for each in publisher.publish_all(requests):
                key = (each.request_source, each.request_id)
                self.published[key] = each
                lot.append(each)
                shown.published(1)
                if self.options["output"] == "json" and not self.options["wait"]:
                    shown.result(
                        as_json(each, by_key[key], waited=False, reply=None, waited_seconds=None)
                    )
                elif few:
                    (say if self.options["wait"] else shown.result)(published_line(each))
                if len(lot) == JOURNAL_LOT:
                    self._confirm(lot, subscription)
                    lot = []
        finally:
            self._confirm(lot, subscription)

    def _confirm(self, lot: Sequence[Published], subscription: str) -> None:
        if self.journal is not None:
            self.journal.confirmed(lot, subscription=subscription)

    def _wait(self, waiting: "Waiting", shown: Progress) -> None:
        from model_copy_publisher.waiting import Trouble  # noqa: PLC0415  loads Google's client

        shown.waiting(waiting.pending)
        by_key = {_key(each): each for each in self.wanted.requests}
        for lot in waiting.events(timeout_seconds=self.options["timeout"]):
            ended: list[tuple[CopyRequest, Reply]] = []
            for event in lot:
                if isinstance(event, Trouble):
                    shown.trouble(event.text)
                    continue
                key = _key_of(event, by_key)
                if isinstance(event, Reply):
                    ended.append((by_key[key], event))
                elif isinstance(event, Status):
                    shown.stands(key, event.state.lower())
            if self.journal is not None:
                self.journal.ended(ended)
            for request, reply in ended:
                self.ended[_key(request)] = reply
                shown.ended(_key(request), ok=reply.ok)
                if not self._is_one:
                    self._show(request, reply, shown.result)

    @property
    def _is_one(self) -> bool:
        return len(self.wanted.requests) == 1 and not self.options["from_file"]

    @property
    def _waited_seconds(self) -> float:
        return time.monotonic() - self.began_at

    def _show(self, request: CopyRequest, reply: Reply | None, echo: Any) -> None:
        if self.options["output"] == "json":
            echo(
                as_json(
                    self.published.get(_key(request)),
                    request,
                    waited=True,
                    reply=reply,
                    waited_seconds=self._waited_seconds if self.published else None,
                )
            )
        elif reply is not None:
            echo(reply_line(reply))

    def _result(self) -> int:
        waited = self.options["wait"]
        if self._is_one and waited:
            [request] = self.wanted.requests
            [reply] = self.ended.values()
            if self.options["output"] == "json":
                self._show(request, reply, click.echo)
            else:
                published = self.published.get(_key(request))
                lines = reply_lines(
                    reply,
                    asked_at=published.published_at if published else None,
                    waited_seconds=self._waited_seconds,
                )
                click.echo("\n".join(lines))
        elif not self._is_one:
            self._sum_up()
        if not waited:
            say(f"To wait for the outcome{'' if self._is_one else 's'}:\n  {self._again()}")
        assert not waited or len(self.ended) == len(self.wanted.requests)
        ok = all(reply.ok for reply in self.ended.values()) and not self.wanted.bad
        return DONE if ok else NOT_DONE

    def _sum_up(self) -> None:
        counts = Counter(reply.outcome.value for reply in self.ended.values())
        if self.options["wait"]:
            counts["without an answer"] = len(self.wanted.requests) - len(self.ended)
        else:
            counts["published"] = len(self.published)
            counts["confirmed before"] = len(self.wanted.requests) - len(self.published)
        if self.wanted.bad:
            counts["bad"] = len(self.wanted.bad)
        line = summary(+counts, self._waited_seconds)
        if self.options["output"] == "json":
            say(line)
        else:
            click.echo(line)

    # The ends that are none of a request's own

    def no_reply(self) -> None:
        """Not all had ended in time."""
        copies = "The copy" if self._is_one else "The copies"
        say(f"{copies} may go on; to wait again:\n  {self._again()}")
        self._print_rest()

    def no_broker(self, error: BrokerError) -> None:
        """Pub/Sub refused, or is away."""
        if isinstance(error, UnreachableError) or self.published:
            same = "the same request" if self._is_one else "the same"
            say(f"Publishing {same} again is harmless:\n  {self._again()}")

    def interrupted(self) -> int:
        """Ctrl-C: nothing is undone by it."""
        requests = self.wanted.requests
        if requests and len(self.ended) == len(requests):
            return self._result()
        unsent = sum(
            _key(each) not in self.published and not self._is_confirmed(each) for each in requests
        )
        if unsent > 0 and not self._is_one and not self.options["wait"]:
            say(
                f"Interrupted: {unsent:,} of {len(requests):,} requests are not known to be"
                f" published. To go on:\n  {self._again(wait=False)}"
            )
            return DETACHED
        if not self.published and not any(self._is_confirmed(each) for each in requests):
            say(
                "Interrupted: it is not known whether the request was published. "
                f"Publishing it again is harmless:\n  {self._again()}"
            )
            return DETACHED
        copies = "the copy goes on" if self._is_one else "the copies go on"
        say(f"Detached: {copies}. To wait again:\n  {self._again()}")
        self._print_rest()
        return DETACHED

    def _print_rest(self) -> None:
        """Account for what has not ended."""
        if not self.options["wait"]:
            return
        if self.options["output"] == "json":
            for request in self.wanted.requests:
                if _key(request) not in self.ended and _key(request) in self.published:
                    self._show(request, None, click.echo)
        if not self._is_one:
            self._sum_up()

    def _again(self, *, wait: bool = True) -> str:
        """Write the command that publishes the very same and waits for what becomes of it.

        Options that came from elsewhere are written out too: it may be typed elsewhere.
        """
        words = ["model-copy", "publish"]
        fixed: dict[str, Any] = {"wait": wait}
        if self.options["from_file"]:
            fixed["resume"] = True
        elif self.wanted.requests:
            fixed["request_id"] = self.wanted.request_id
        for parameter in self.context.command.params:
            name = str(parameter.name)
            defaulted = self.context.get_parameter_source(name) is ParameterSource.DEFAULT
            value = fixed.get(name, None if defaulted else self.context.params[name])
            for each in value if isinstance(value, tuple) else (value,):
                if each is None or each is False:
                    continue
                if isinstance(parameter, click.Option):
                    words.append(parameter.opts[0])
                if each is not True:
                    words.append(str(each))
        return shlex.join(words)


# After so many confirmations they are on the disk.
JOURNAL_LOT = 500


def _key(request: CopyRequest) -> tuple[str, str]:
    return request.request_source, request.request_id


def _key_of(event: Any, known: Mapping[tuple[str, str], CopyRequest]) -> tuple[str, str]:
    """Return whose event it is; what could not be read may have no source."""
    key = (event.request_source or "", event.request_id or "")
    if key in known:
        return key
    return next(each for each in known if each[1] == event.request_id)
