"""``model-copy watch``: completion events as they come, for people, programs and commands."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import click

from model_copy_publisher.cli.exits import DONE, NO_ANSWER, ending, stop_on_signals
from model_copy_publisher.cli.options import Number, connection, option, output, where
from model_copy_publisher.events import Outcome, Reply
from model_copy_publisher.report import reply_line
from model_copy_publisher.terminal import json_line, printable, say, tell

# What the service gives, and what it takes; never an option, a path or a URL.
_ID = re.compile(r"[A-Za-z0-9._~][A-Za-z0-9._~-]{0,127}")
_NAME = re.compile(r"projects/[a-z0-9][a-z0-9.:-]*/locations/[a-z0-9-]+/models/[A-Za-z0-9_-]+")

EXAMPLES = """\b
Examples:
  model-copy watch
  model-copy watch --outcome failed --outcome rejected --output json
  model-copy watch --model 'faker*' --tag nightly --count 1
  model-copy watch --subscription replies-for-sns --exec ./to-sns

\b
Without --subscription a temporary one is created, which receives replies from then on.
That needs pubsub.subscriptions.create in the project and pubsub.topics.attachSubscription
on the reply topic (roles/pubsub.editor has both). The subscription is deleted at the end,
or expires after a day. A named one needs roles/pubsub.subscriber, and keeps events between
two watches. Events that the filters leave out are acknowledged too.

\b
--exec runs a command in a shell for each event. The event is JSON on its standard input;
MODEL_COPY_OUTCOME, MODEL_COPY_REQUEST_ID, MODEL_COPY_RESOURCE_NAME and MODEL_COPY_EVENT_ID
are in its environment. These values are safe as arguments: an id or a name that breaks its
rule, or begins with a hyphen, is replaced by sha256-HEX; standard input has the original.
Exit code 0 acknowledges the event. After any other exit code, or if the command does not
start, the event is delivered again, after a second at first, later up to a minute. A command
may receive an event twice, with the same id.

\b
Exit codes:
  0    ended by --count, --timeout or Ctrl-C
  2    usage error
  3    --count was not reached within --timeout
  4    could not subscribe
"""


@click.command(epilog=EXAMPLES)
@option("--subscription", help="Subscription to watch.  [default: a temporary one]")
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice([each.value for each in Outcome]),
    help="Show only this outcome; repeatable.",
)
@click.option("--model", metavar="PATTERN", help="Show only models that match, such as 'faker*'.")
@click.option("--tag", help="Show only replies to requests with this --reply-tag.")
@click.option("--exec", "command", metavar="CMD", help="Shell command to run for each event.")
@click.option(
    "--workers",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Number of commands that run at once.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after this many events.")
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    metavar="SECONDS",
    help="End after this many seconds.  [default: never]",
)
@output
@connection
@click.pass_context
def watch(context: click.Context, /, **options: Any) -> None:
    """Show the outcomes of requests as they are published."""
    code = ending(lambda: _watch(options), debug=options["debug"], on_interrupt=lambda: DONE)
    context.exit(code)


def _watch(options: Mapping[str, Any]) -> int:
    place = where(options)
    del place["request_topic"]
    from model_copy_publisher.replies import Replies  # noqa: PLC0415  loads Google's client

    seen = 0
    with Replies(
        **place,
        subscription=options["subscription"],
        outcomes=[Outcome(each) for each in options["outcomes"]],
        model=options["model"],
        tag=options["tag"],
        on_trouble=lambda trouble: say(trouble or "Pub/Sub answers again"),
    ) as replies:
        stop_on_signals(replies.stop)
        say(f"watching   {replies.subscription}")

        def handle(reply: Reply) -> bool:
            nonlocal seen
            if options["command"] is not None and not _run(options["command"], reply):
                return False
            if options["command"] is None:
                tell(_line(reply, options["output"]))
            seen += 1
            if seen == options["count"]:
                replies.stop()
            return True

        replies.run(
            handle,
            # Lines come in order, and more events than are wanted are not taken.
            workers=options["workers"] if options["command"] is not None else 1,
            max_outstanding=min(100, options["count"] or 100),
            timeout_seconds=options["timeout"] or float("inf"),
        )
    if replies.stopped or options["count"] is None:
        return DONE
    say(f"Received {seen:,} of {options['count']:,} events within {options['timeout']:g} s.")
    return NO_ANSWER


def _line(reply: Reply, output: str) -> str:
    return json_line(reply.to_json()) if output == "json" else reply_line(reply)


def _as_word(value: str, rule: re.Pattern[str]) -> str:
    """Return a value of others' that is safe as an argument; a name for it, where it is not.

    A rejected reply names whatever id its message had: ``--debug`` would be an option of the
    command that gets it, and ``file:///etc/passwd`` a file that the AWS CLI reads.
    """
    if not value or rule.fullmatch(value):
        return value
    return f"sha256-{hashlib.sha256(value.encode(errors='replace')).hexdigest()}"


def _run(command: str, reply: Reply) -> bool:
    """Run the command; its own output goes where ours goes."""
    own = {
        "MODEL_COPY_EVENT_ID": _as_word(reply.event_id, _ID),
        "MODEL_COPY_OUTCOME": reply.outcome.value,
        "MODEL_COPY_REQUEST_ID": _as_word(reply.request_id or "", _ID),
        "MODEL_COPY_RESOURCE_NAME": _as_word(reply.resource_name or "", _NAME),
    }
    try:
        ended = subprocess.run(  # noqa: S602  a shell is what is promised; the event is not in it
            command,
            shell=True,
            input=json.dumps(reply.to_json()).encode() + b"\n",
            env={**os.environ, **own},
            check=False,
        )
    except OSError as error:  # such as an event that is larger than an environment may be
        wrong = f"the command did not start ({error.strerror})"
    else:
        wrong = f"exit code {ended.returncode}" if ended.returncode else ""
    if wrong:
        say(f"{wrong} for {printable(reply.event_id)}: it will be delivered again")
    return not wrong
