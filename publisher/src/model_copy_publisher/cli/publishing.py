"""``model-copy publish``: one request, several destinations, or a whole file."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from model_copy_publisher.cli.account import Account
from model_copy_publisher.cli.exits import EXIT_CODES, ending
from model_copy_publisher.cli.options import connection, option, output, request_source, timeout
from model_copy_publisher.cli.session import Session
from model_copy_publisher.messages import IfExists

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


@click.command(
    short_help="Ask for a copy, or for many from a file.", epilog=f"{EXAMPLES}\n{EXIT_CODES}"
)
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
    help="Where that is written down.  [default: ~/.local/state/model-copy/BATCH.jsonl;"
    " with --validate-only BATCH.validate-only.jsonl]",
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
    for name in ("target_project", "target_location"):
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        # The rows of a file may say themselves where they go.
        if given and options["to"] and options["from_file"] is None:
            raise click.UsageError(f"{name}: --to says where the copies go; leave it out")
    account = Account(options=options, context=context)
    code = ending(
        Session(account).run,
        debug=options["debug"],
        on_no_reply=account.no_reply,
        on_no_broker=account.no_broker,
        on_not_written=account.not_written,
        on_interrupt=account.interrupted,
    )
    context.exit(code)
