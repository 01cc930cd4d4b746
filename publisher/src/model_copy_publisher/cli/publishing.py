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
Publishing the same request (source, id and content) again never makes a second
copy: the service publishes the outcome again. Use it to resume a wait.
In a file, the id of a row is made of the batch's name and the row's content.
"""


@click.command(
    short_help="Request a copy, or many copies from a file.", epilog=f"{EXAMPLES}\n{EXIT_CODES}"
)
@click.argument("source_model_id", metavar="[SOURCE]", required=False)
@click.argument("destination_model_id", metavar="[DESTINATION]", required=False)
@click.option(
    "--to",
    multiple=True,
    metavar="PROJECT/LOCATION[/MODEL]",
    help="Destination of the copy, instead of DESTINATION; repeatable.",
)
@click.option("--parent-model", help="Copy as a new version of this model, not to DESTINATION.")
@click.option(
    "--if-exists",
    type=click.Choice([each.value for each in IfExists]),
    help="Action if DESTINATION exists already.  [default: fail]",
)
@option("--source-project", help="Project of SOURCE.  [default: the service's]")
@option("--source-location", help="Location of SOURCE.  [default: the service's]")
@option("--target-project", help="Project of the copy.  [default: the service's]")
@option("--target-location", help="Location of the copy.  [default: the service's]")
@option("--location", help="Location of SOURCE and copy, unless given separately.")
@option("--kms-key-name", help="KMS key that encrypts the copy.")
@option("--custom-service-account", help="Service account that Vertex AI copies as.")
@option("--deadline-seconds", type=int, help="Time budget of the copy.")
@click.option("--correlation", metavar="JSON", help="JSON object that the reply echoes.")
@click.option("--validate-only", is_flag=True, help="Check the request without copying.")
@option("--reply-tag", help="Attribute of the reply, for filters of subscribers.")
@click.option("--request-id", help="Id of the request.  [default: a random one]")
@request_source
@click.option(
    "--from-file",
    metavar="FILE",
    help="Publish every row of a CSV or JSON Lines file; - is standard input.",
)
@click.option("--batch", help="Prefix of the request ids.  [default: the file's name]")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl"]),
    help="Format of the file.  [default: by its name, or by its first characters]",
)
@click.option(
    "--keep-going", is_flag=True, help="Publish the valid rows even if others are invalid."
)
@click.option("--resume", is_flag=True, help="Skip requests that the journal knows already.")
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Journal of --from-file.  [default: ~/.local/state/model-copy/BATCH.jsonl;"
    " with --validate-only BATCH.validate-only.jsonl]",
)
@click.option("--wait", is_flag=True, help="Wait for the outcome and print it.")
@timeout(3600)
@output
@connection
@click.pass_context
def publish(context: click.Context, /, **options: Any) -> None:
    """Request a copy of SOURCE (an id, id@version, id@alias or full resource name).

    DESTINATION is the id of the new model; without it the service derives one from SOURCE.
    """
    for name in ("target_project", "target_location"):
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        # The rows of a file may say themselves where they go.
        if given and options["to"] and options["from_file"] is None:
            raise click.UsageError(f"{name}: --to names the destinations; omit this option")
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
