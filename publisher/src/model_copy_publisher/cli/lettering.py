"""``model-copy dead-letters``: what a person does with requests that failed."""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_copy_publisher import letter_report
from model_copy_publisher.cli.exits import DETACHED, DONE, NOT_DONE, ending
from model_copy_publisher.cli.options import Number, connection, output, reached_by, timeout, where
from model_copy_publisher.cli.options import dead_letters as where_letters_are
from model_copy_publisher.cli.suggesting import SuggestingGroup
from model_copy_publisher.errors import InvalidRequestError, ModelCopyError
from model_copy_publisher.events import Reply
from model_copy_publisher.letters import Letter, Origin
from model_copy_publisher.messages import Named
from model_copy_publisher.replays import CONTENT, MAX_REPLAYS, Changes, Left, Replay
from model_copy_publisher.report import reply_line
from model_copy_publisher.report import summary as summed
from model_copy_publisher.selection import Selection, parse_age
from model_copy_publisher.terminal import printable, say, tell, tell_json

if TYPE_CHECKING:
    from model_copy_publisher.dead_letters import DeadLetters, Done
    from model_copy_publisher.waiting import Waiting

EXAMPLES = """\b
Examples:
  model-copy dead-letters list --summary
  model-copy dead-letters show nightly-260213
  model-copy dead-letters replay --code NOT_FOUND --set source_model_id=7704127342733426688 --wait
  model-copy dead-letters drop --older-than 7d --backup letters.jsonl
  model-copy dead-letters restore letters.jsonl

\b
A dead letter is acknowledged only after its replay is published, or its backup is on
the disk. An interrupted command loses nothing; run it again. Dead letters that another
command holds at the same moment are not listed.

\b
Exit codes:
  0    done; with replay --wait: all succeeded
  1    a dead letter was left or its replay failed; none matched; not confirmed
  2    usage error; nothing was changed
  3    no outcome in time; the copies may go on
  4    could not read, publish or subscribe
  130  interrupted by Ctrl-C or SIGTERM
"""
SHOWN = 20


def _selection(function: Any) -> Any:
    """Add which letters are meant."""
    for decorate in (
        click.option("--limit", type=click.IntRange(min=1), help="Maximum number, oldest first."),
        click.option(
            "--failed", "origin", flag_value="copier", help="Only those that the copier wrote."
        ),
        click.option(
            "--forwarded", "origin", flag_value="pubsub", help="Only those that Pub/Sub gave up."
        ),
        click.option(
            "--request-id",
            "request_ids",
            multiple=True,
            help="Only those of this request, or the dead letter with this id; repeatable.",
        ),
        click.option(
            "--newer-than", metavar="AGE", help="Only younger ones; AGE: 90s, 15m, 2h, 3d."
        ),
        click.option("--older-than", metavar="AGE", help="Only older ones; AGE: 90s, 15m, 2h, 3d."),
        click.option("--target", metavar="PATTERN", help="Only matching targets: 'faker*'."),
        click.option("--source", metavar="PATTERN", help="Only matching sources: '7704*'."),
        click.option("--code", "codes", multiple=True, help="Only this code: NOT_FOUND."),
    ):
        function = decorate(function)
    return function


def _box(function: Any) -> Any:
    """Add where the letters are."""
    for decorate in (
        connection,
        click.option(
            "--quiet",
            "quiet_seconds",
            type=Number(min=0.1, max=60),
            default=2.0,
            show_default=True,
            metavar="SECONDS",
            help="Stop reading after this many seconds without a letter.",
        ),
        click.option(
            "--lease",
            "lease_seconds",
            type=click.IntRange(1, 600),
            default=20,
            show_default=True,
            metavar="SECONDS",
            help="Seconds until others see the dead letters if this command is killed.",
        ),
        where_letters_are,
        output,
    ):
        function = decorate(function)
    return function


_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


@click.group(name="dead-letters", cls=SuggestingGroup, epilog=EXAMPLES)
def dead_letters() -> None:
    """List, repair and replay failed requests."""


@dead_letters.command(name="list", epilog=EXAMPLES)
@click.option("--summary", is_flag=True, help="Show only the number of each code.")
@_selection
@_box
@click.pass_context
def list_(context: click.Context, /, **options: Any) -> None:
    """List dead letters without acknowledging them."""
    _end(context, options, _list)


@dead_letters.command(epilog=EXAMPLES)
@click.argument("name", metavar="ID")
@_box
@click.pass_context
def show(context: click.Context, /, **options: Any) -> None:
    """Show a dead letter; ID is its own, its request's or its outcome's."""
    _end(context, options, _show)


@dead_letters.command(epilog=EXAMPLES)
@_selection
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help=f"Change a field first; FIELD= removes it; repeatable. Fields: {', '.join(CONTENT)}.",
)
@click.option("--dry-run", is_flag=True, help="Show the messages without sending them.")
@_yes
@click.option(
    "--rate",
    "per_second",
    type=Number(min=0, min_open=True),
    metavar="N",
    help="Maximum number of messages per second.",
)
@click.option(
    "--max-replays",
    type=click.IntRange(min=0),
    default=MAX_REPLAYS,
    show_default=True,
    help="Skip dead letters that were replayed this often before.",
)
@click.option("--wait", is_flag=True, help="Wait for the outcomes.")
@timeout(3600)
@_box
@click.pass_context
def replay(context: click.Context, /, **options: Any) -> None:
    """Publish failed requests again; each replay is applied once."""
    _end(context, options, _replay)


@dead_letters.command(epilog=EXAMPLES)
@_selection
@click.option(
    "--backup",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="New file to which the dead letters are written first.",
)
@_yes
@_box
@click.pass_context
def drop(context: click.Context, /, **options: Any) -> None:
    """Delete dead letters after writing a backup."""
    _end(context, options, _drop)


@dead_letters.command(epilog=EXAMPLES)
@click.argument("backup", type=click.Path(path_type=Path, dir_okay=False))
@_box
@click.pass_context
def restore(context: click.Context, /, **options: Any) -> None:
    """Publish the dead letters of a backup to the topic again."""
    _end(context, options, _restore)


def _end(
    context: click.Context, options: Mapping[str, Any], work: Callable[[Mapping[str, Any]], int]
) -> None:
    code = ending(lambda: work(options), debug=options["debug"], on_interrupt=_interrupted)
    context.exit(code)


def _interrupted() -> int:
    say("Interrupted: unacknowledged dead letters are delivered again. Run it again to go on.")
    return DETACHED


def _list(options: Mapping[str, Any]) -> int:
    with _open(options) as letters:
        found = letters.list(_selected(options))
    now = datetime.now(UTC)
    if options["output"] == "json":
        if options["summary"]:
            tell_json(Counter(each.code for each in found))
        else:
            for each in found:
                tell_json(each.to_json())
        return DONE
    if not found:
        say("There are no such letters.")
        return DONE
    lines = letter_report.summary if options["summary"] else letter_report.table
    tell("\n".join(lines(found, now=now)))
    return DONE


def _show(options: Mapping[str, Any]) -> int:
    with _open(options) as letters:
        name = options["name"]
        found = [
            each
            for each in letters.list()
            if name in {each.request_id, each.outcome_id, each.message_id}
        ]
    for each in found:
        if options["output"] == "json":
            tell_json(each.to_json())
        else:
            tell("\n".join(letter_report.whole(each, now=datetime.now(UTC))))
    if not found:
        say(f"There is no dead letter {name}.")
    return DONE if found else NOT_DONE


def _replay(options: Mapping[str, Any]) -> int:
    selection, changes = _selected(options), Changes.parse(options["changes"])
    following = _Following(options)
    with following.accounted(), _open(options) as letters, ExitStack() as until_told:

        def agrees(replays: Sequence[Replay], left: Sequence[Left]) -> bool:
            if options["dry_run"]:
                _show_plan(replays, options)
                return False
            question = (
                f"Replay {_many([each.letter for each in replays])}"
                f"{''.join(f', {each}' for each in options['changes'])}"
                f" to {letters.request_topic}?"
            )
            if not replays or not _agreed(question, left, options):
                return False
            if options["wait"]:
                until_told.enter_context(following.begun(letters, replays))
            return True

        done = letters.replay(
            selection,
            changes=changes,
            max_replays=options["max_replays"],
            per_second=options["per_second"],
            agrees=agrees,
            on_published=following.published,
        )
        _tell(done, "replayed", quietly=options["dry_run"])
        if options["dry_run"]:
            return NOT_DONE if done.left else DONE
        good = following.told() if options["wait"] and done.settled else True
    return DONE if good and not done.left and following.agreed(done) else NOT_DONE


def _drop(options: Mapping[str, Any]) -> int:
    file = options["backup"]

    def agrees(chosen: Sequence[Letter]) -> bool:
        return bool(chosen) and _agreed(f"Drop {_many(chosen)}, kept in {file}?", [], options)

    with _open(options) as letters:
        done = letters.drop(_selected(options), backup=file, agrees=agrees)
    _tell(done, f"dropped, and kept in {file}:")
    return DONE if done.settled else NOT_DONE


def _restore(options: Mapping[str, Any]) -> int:
    with _open(options) as letters:
        done = letters.restore(options["backup"])
    _tell_left(done.left)
    for each in done.perhaps_twice:
        name = printable(each.request_id or f"letter {each.message_id}")
        say(f"{name} may be there twice: the previous run was killed while it was published")
    if done.letters:
        say(f"restored {_many(done.letters)}")
    elif not done.left:
        say("All dead letters of this backup were restored before.")
    return NOT_DONE if done.left else DONE


class _Following:
    """What becomes of the replays of one command."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._waiting: Waiting | None = None
        self._sent: set[tuple[str, str]] = set()

    @contextmanager
    def begun(self, letters: "DeadLetters", replays: Sequence[Replay]) -> Iterator[None]:
        """Listen, from before the first is published."""
        from model_copy_publisher.client import Publisher  # noqa: PLC0415  loads gRPC

        by_key = {(each.request_source, each.request_id): each for each in replays}

        def again(awaited: Sequence[Any], _: float) -> None:
            keys = [(each.request_source, each.request_id) for each in awaited]
            letters.publish_again([by_key[key] for key in keys])

        named = [
            Named(
                request_id=each.request_id, request_source=each.request_source, digest=each.digest
            )
            for each in by_key.values()
        ]
        # A rejection is told again under the same id; of a failure, that would be the old one.
        known = [each.letter.outcome_id for each in replays if not each.letter.was_rejected]
        with (
            Publisher(**where(self._options)) as publisher,
            publisher.following(named, again=again, known_before=known) as self._waiting,
        ):
            yield

    @contextmanager
    def accounted(self) -> Iterator[None]:
        """Should it end before all was told, say what was sent, and how to wait for it."""
        try:
            yield
        except (ModelCopyError, KeyboardInterrupt):
            pending = self._sent if self._waiting is None else self._sent & {*self._waiting.pending}
            if self._sent:
                say(f"{len(self._sent):,} sent, {len(pending):,} without an outcome yet")
            for command in _waits(pending, self._options):
                say(f"to wait for them:\n  {command}")
            raise

    def published(self, replays: Sequence[Replay]) -> None:
        """Note what is on its way."""
        self._sent |= {(each.request_source, each.request_id) for each in replays}

    def agreed(self, done: "Done") -> bool:
        """Tell whether anything was to be done."""
        return bool(done.settled or self._sent)

    def told(self) -> bool:
        """Wait for the outcomes; True when all are good."""
        from model_copy_publisher.waiting import Trouble  # noqa: PLC0415  loads gRPC

        assert self._waiting is not None
        for key in self._waiting.pending.keys() - self._sent:
            del self._waiting.pending[key]
        began_at, counts, good = time.monotonic(), Counter[str](), True
        try:
            for lot in self._waiting.events(timeout_seconds=self._options["timeout"]):
                for event in lot:
                    if isinstance(event, Trouble) and event.text:
                        say(event.text)
                    elif isinstance(event, Reply):
                        counts[event.outcome.value] += 1
                        good = good and event.ok
                        self._print(event)
        finally:
            if self._waiting.pending:
                counts["without an outcome yet"] = len(self._waiting.pending)
            say(summed(counts, time.monotonic() - began_at))
        return good

    def _print(self, reply: Reply) -> None:
        if self._options["output"] == "json":
            tell_json(reply.to_json())
        else:
            tell(reply_line(reply))


def _waits(keys: Iterable[tuple[str, str]], options: Mapping[str, Any]) -> Iterator[str]:
    """Write the commands that wait for these: one for each source."""
    place = reached_by(options)
    for source, its in groupby(sorted(filter(_can_be_named, keys)), key=lambda key: key[0]):
        ids = [request_id for _, request_id in its]
        yield shlex.join(["model-copy", "wait", *ids, "--request-source", source, *place])


def _can_be_named(key: tuple[str, str]) -> bool:
    """Tell whether the command line takes it."""
    try:
        Named.by(key[1], key[0])
    except InvalidRequestError:
        return False
    return True


@contextmanager
def _open(options: Mapping[str, Any]) -> "Iterator[DeadLetters]":
    place = where(options)
    del place["reply_topic"]
    from model_copy_publisher.dead_letters import DeadLetters  # noqa: PLC0415  loads gRPC

    with DeadLetters(
        **place,
        subscription=options["dead_letter_subscription"],
        dead_letter_topic=options["dead_letter_topic"],
        quiet_seconds=options["quiet_seconds"],
        lease_seconds=options["lease_seconds"],
    ) as letters:
        yield letters


def _selected(options: Mapping[str, Any]) -> Selection:
    older, newer = options["older_than"], options["newer_than"]
    return Selection(
        codes=[each.upper() for each in options["codes"]],
        source=options["source"],
        target=options["target"],
        older_than=None if older is None else parse_age("older-than", older),
        newer_than=None if newer is None else parse_age("newer-than", newer),
        request_ids=options["request_ids"],
        origin=None if options["origin"] is None else Origin(options["origin"]),
        limit=options["limit"],
    )


def _agreed(question: str, left: Sequence[Left], options: Mapping[str, Any]) -> bool:
    if options["yes"]:
        return True
    if left:
        say(f"{len(left):,} of the dead letters would be left; --dry-run shows the reasons.")
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # nobody answers
        say("\nNothing was done; --yes skips the question.")
        return False


def _many(letters: Sequence[Letter]) -> str:
    from model_copy_publisher.dead_letters import counted  # noqa: PLC0415  loads gRPC

    kinds = ", ".join(f"{count:,} {printable(code)}" for code, count in counted(letters).items())
    return f"{len(letters):,} dead letter{'s' if len(letters) != 1 else ''} ({kinds})"


def _show_plan(replays: Sequence[Replay], options: Mapping[str, Any]) -> None:
    for each in replays:
        if options["output"] == "json":
            tell_json(each.to_json())
        else:
            tell(letter_report.replay_line(each))
    say(f"{len(replays):,} would be sent; nothing was sent")


def _tell_left(left: Sequence[Left]) -> None:
    for each in left[:SHOWN]:
        say(letter_report.left_line(each))
    if len(left) > SHOWN:
        say(f"left       {len(left) - SHOWN:,} more")


def _tell(done: "Done", word: str, *, quietly: bool = False) -> None:
    _tell_left(done.left)
    if done.settled:
        say(f"{word} {_many(done.settled)}")
    elif not done.left and not quietly:
        say("Nothing was changed." if done.chosen else "There are no such letters.")
