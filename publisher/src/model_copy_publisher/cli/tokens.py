"""``model-copy token``: an ID token for the REST api, on standard output."""

from collections.abc import Mapping
from typing import Any

import click

from model_copy_publisher.cli.exits import DONE, ending
from model_copy_publisher.cli.options import option
from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.terminal import tell

EXAMPLES = """\b
Examples:
  model-copy token --audience https://model-copier.example
  curl -H "Authorization: Bearer $(model-copy token --audience "$API_URL")" "$API_URL/v1/copies"

\b
A token is good for an hour. It is a secret: write it into no log.

\b
Exit codes:
  0    the token is on standard output
  2    wrong usage
  4    there are no credentials, they were refused, or Google does not answer
"""


@click.command(epilog=EXAMPLES, short_help="Print an ID token for the REST api.")
@option("--audience", metavar="URL", help="What the token is for: one of the api's AUDIENCE.")
@option(
    "--account",
    metavar="EMAIL",
    help="The service account to impersonate, if not the one that the credentials name.",
)
@option(
    "--credentials-file",
    metavar="FILE",
    help="Google credentials, if not the application default ones.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of what went wrong.")
@click.pass_context
def token(context: click.Context, /, **options: Any) -> None:
    """Print an ID token for the REST api, also on a machine of AWS without a key."""
    context.exit(ending(lambda: _print(options), debug=options["debug"]))


def _print(options: Mapping[str, Any]) -> int:
    if not options["audience"]:
        raise InvalidRequestError(
            "audience", "is missing: the api's URL, or what its operator calls AUDIENCE"
        )
    from model_copy_publisher.id_tokens import id_token  # noqa: PLC0415  loads google-auth

    tell(
        id_token(
            options["audience"],
            credentials_file=options["credentials_file"],
            account=options["account"] or "",
        )
    )
    return DONE
