"""``model-copy config show``: every setting, and where its value comes from."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from model_copy_publisher import settings
from model_copy_publisher.cli.exits import DONE, ending
from model_copy_publisher.cli.options import (
    connection,
    dead_letters,
    option,
    output,
    pushes,
    request_source,
    variables,
)
from model_copy_publisher.cli.suggesting import SuggestingGroup
from model_copy_publisher.terminal import tell, tell_json

EXAMPLES = """\b
Example of the settings file:
  project = "team-models"
  target_location = "europe-west4"
  timeout = 7200
"""


@click.group(cls=SuggestingGroup, short_help="Show each setting and its origin.", epilog=EXAMPLES)
def config() -> None:
    """Show each setting and its origin: option, environment, settings file or default."""


@config.command(epilog=EXAMPLES)
@option("--source-project")
@option("--source-location")
@option("--target-project")
@option("--target-location")
@option("--location")
@option("--kms-key-name")
@option("--custom-service-account")
@option("--deadline-seconds", type=int)
@option("--reply-tag")
@option("--subscription")
@option("--audience")
@option("--clock")
@pushes
@dead_letters
@option("--timeout", type=float, default=3600.0)
@request_source
@output
@connection
@click.pass_context
def show(context: click.Context, /, **values: Any) -> None:
    """Show each setting with its value and its origin."""
    context.exit(ending(lambda: _show(context, values), debug=values["debug"]))


def _show(context: click.Context, values: Mapping[str, Any]) -> int:
    file = context.find_root().obj or settings.default_file(os.environ)
    rows = [(name, values[name], _origin(context, name, file)) for name in settings.NAMES]
    if values["output"] == "json":
        told = [{"setting": name, "value": value, "from": origin} for name, value, origin in rows]
        tell_json(told)
        return DONE
    texts = [(name, "" if value is None else str(value), origin) for name, value, origin in rows]
    width = max(len(value) for _, value, _ in texts)
    for name, text, origin in texts:
        tell(f"{name:<24}  {text:<{width}}  {origin}".rstrip())
    tell(f"\nsettings file: {file}{'' if file.is_file() else ' (does not exist)'}")
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        tell(f"Pub/Sub: {emulator} (PUBSUB_EMULATOR_HOST), without credentials")
    return DONE


def _origin(context: click.Context, name: str, file: Path) -> str:
    match context.get_parameter_source(name):
        case ParameterSource.COMMANDLINE:
            return f"option --{name.replace('_', '-')}"
        case ParameterSource.ENVIRONMENT:
            return f"environment {next(each for each in variables(name) if os.environ.get(each))}"
        case ParameterSource.DEFAULT_MAP:
            return str(file)
        case _:
            return "default" if context.params[name] is not None else ""
