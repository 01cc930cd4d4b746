"""``model-copy doctor``: is everything there that the copier needs, and may we use it?"""

from collections.abc import Mapping
from typing import Any

import click

from model_copy_publisher.cli.exits import DONE, NOT_DONE, ending
from model_copy_publisher.cli.options import (
    Number,
    connection,
    dead_letters,
    option,
    output,
    pushes,
    where,
)
from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.examination import Verdict
from model_copy_publisher.resource_names import full_name
from model_copy_publisher.terminal import printable, tell, tell_json

EXAMPLES = """\b
Examples:
  model-copy doctor
  model-copy doctor --audience https://model-copier.example --try

\b
It changes nothing, without --try; to hear the worker's answer it makes a subscription to the
replies and deletes it (--no-ask does without). What is wrong comes with what mends it; what our
rights do not show is told as unseen, and is no failure.

\b
Exit codes:
  0    nothing is wrong, as far as it can be seen
  1    something is wrong
  2    wrong usage
  4    Pub/Sub does not answer
"""


@click.command(epilog=EXAMPLES)
@option("--audience", help="The AUDIENCE that the worker is set to, to compare the pushes' with.")
@option(
    "--clock",
    metavar="URL",
    help="A server to hold our clock against, if not Google's.",
)
@click.option(
    "--try",
    "tries",
    is_flag=True,
    help="Also make a subscription to the replies, as waiting does, and delete it.",
)
@click.option(
    "--ask/--no-ask",
    "asks",
    default=True,
    help="Ask the worker a question through the topics, and time its answer.",
)
@click.option(
    "--answer-within",
    type=Number(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the worker may take to answer.",
)
@pushes
@dead_letters
@output
@connection
@click.pass_context
def doctor(context: click.Context, /, **options: Any) -> None:
    """Look at credentials, topics, subscriptions, permissions and the clock."""
    context.exit(ending(lambda: _examine(options), debug=options["debug"]))


def _examine(options: Mapping[str, Any]) -> int:
    place = where(options)
    for name in (
        "dead_letter_topic",
        "tick_topic",
        "request_subscription",
        "tick_subscription",
        "forwarded_subscription",
        "dead_letter_subscription",
    ):
        place[name] = full_name(name, options[name], place["project"])
    for name in ("audience", "clock"):
        place[name] = options[name] or ""
    if place["clock"] and not place["clock"].startswith(("http://", "https://")):
        raise InvalidRequestError("clock", f"{place['clock']!r} is not http://... or https://...")
    from model_copy_publisher.doctor import Doctor  # noqa: PLC0415  loads gRPC

    wrong = False
    answer_seconds = options["answer_within"] if options["asks"] else 0.0
    doctor = Doctor(**place, tries=options["tries"], answer_seconds=answer_seconds)
    for finding in doctor.findings():
        wrong = wrong or finding.verdict is Verdict.WRONG
        if options["output"] == "json":
            told = {"verdict": finding.verdict, "what": finding.what, "mend": finding.mend}
            tell_json(told)
            continue
        tell(f"{finding.verdict:<7} {printable(finding.what)}")
        if finding.mend:
            tell(f"        -> {printable(finding.mend)}")
    return NOT_DONE if wrong else DONE
