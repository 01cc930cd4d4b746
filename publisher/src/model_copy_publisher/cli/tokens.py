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
A token expires after an hour. It is a secret: do not log it.

\b
Exit codes:
  0    the token is on standard output
  2    usage error
  4    no credentials, credentials refused, or no response from Google
"""


@click.command(epilog=EXAMPLES, short_help="Print an ID token for the REST api.")
@option("--audience", metavar="URL", help="Audience of the token: one of the api's AUDIENCE.")
@option(
    "--account",
    metavar="EMAIL",
    help="Service account to impersonate.  [default: the one that the credentials name]",
)
@option(
    "--credentials-file",
    metavar="FILE",
    help="Google credentials file.  [default: application default credentials]",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def token(context: click.Context, /, **options: Any) -> None:
    """Print an ID token for the REST api; on AWS, no key is needed."""
    context.exit(ending(lambda: _print(options), debug=options["debug"]))


def _print(options: Mapping[str, Any]) -> int:
    if not options["audience"]:
        raise InvalidRequestError(
            "audience", "is missing: the api's URL, or another value of its setting AUDIENCE"
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
