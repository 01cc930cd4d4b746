"""``model-copy doctor``: check credentials, topics, subscriptions, permissions and the clock."""

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
Nothing is changed, except that a subscription for the worker's reply is created and deleted
(not with --no-ask), and another one with --try. Each problem is shown with its fix. A check
that needs a permission that this account lacks is shown as unseen, and is not a failure.

\b
Exit codes:
  0    no problem found
  1    at least one problem found
  2    usage error
  4    Pub/Sub does not answer
"""


@click.command(epilog=EXAMPLES)
@option("--audience", help="AUDIENCE of the worker, to compare with the audience of the pushes.")
@option(
    "--clock",
    metavar="URL",
    help="Server whose clock is compared with this machine's.  [default: Google's]",
)
@click.option(
    "--try",
    "tries",
    is_flag=True,
    help="Also create and delete a subscription to the replies, as --wait does.",
)
@click.option(
    "--ask/--no-ask",
    "asks",
    default=True,
    help="Send the worker a status request and time its reply.",
)
@click.option(
    "--answer-within",
    type=Number(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Maximum seconds until the worker's reply.",
)
@pushes
@dead_letters
@output
@connection
@click.pass_context
def doctor(context: click.Context, /, **options: Any) -> None:
    """Check credentials, topics, subscriptions, permissions and the clock."""
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
            tell_json({"verdict": finding.verdict, "what": finding.what, "fix": finding.fix})
            continue
        tell(f"{finding.verdict:<7} {printable(finding.what)}")
        if finding.fix:
            tell(f"        -> {printable(finding.fix)}")
    return NOT_DONE if wrong else DONE
