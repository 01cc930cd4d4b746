"""The command ``model-copy``: options in, results on standard output, an exit code.

Progress and complaints go to standard error. A command is imported when it is called,
and Google's client only once there is something to send: ``--help`` and a usage error
cost nothing of them.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from model_copy_publisher.cli.exits import EXIT_CODES
from model_copy_publisher.cli.suggesting import SuggestingGroup
from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.terminal import printable

COMMANDS = {
    "publish": "publishing",
    "wait": "asking",
    "status": "asking",
    "cancel": "asking",
    "watch": "watching",
    "dead-letters": "lettering",
    "doctor": "examining",
    "token": "tokens",
    "config": "configuring",
    "completion": "completing",
}

EXAMPLES = """\b
Examples:
  model-copy publish 7704127342733426688@1 faker_251230 --wait
  model-copy publish --from-file nightly.csv --wait
  model-copy wait 50b9aee23cf64b209373f206a84bc016
  model-copy watch --outcome failed --exec 'mail -s failed ml@example.com'
  model-copy dead-letters list --summary
  model-copy config show
"""


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Escape what click is about to print: names of options, commands, files, settings, fields."""
    try:
        yield
    except click.UsageError as error:
        raise click.UsageError(printable(error.format_message()), ctx=error.ctx) from error
    except click.ClickException as error:
        raise click.ClickException(printable(error.format_message())) from error


class _Commands(SuggestingGroup):
    """Finds a command in its module, and nothing else of it before it is called."""

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        with _printable_errors():
            return super().make_context(*given, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _printable_errors():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"model_copy_publisher.cli.{COMMANDS[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Commands,
    epilog=f"{EXAMPLES}\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="model-copy-publisher", prog_name="model-copy")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="MODEL_COPY_CONFIG",
    show_envvar=True,
    help="Settings file.  [default: ~/.config/model-copy/config.toml]",
)
@click.pass_context
def main(context: click.Context, config_file: Path | None) -> None:
    """Copy Vertex AI models between projects, by messages over Pub/Sub.

    Options override environment variables, which override the settings file. To show the
    effective values: model-copy config show.
    """
    from model_copy_publisher import settings  # noqa: PLC0415  reads TOML

    try:
        values: dict[str, Any] = dict(settings.read(config_file))
    except InvalidRequestError as error:
        raise click.UsageError(str(error)) from error
    # A watch has no end of its own; how long to wait for a copy is not its end.
    endless = {name: value for name, value in values.items() if name != "timeout"}
    letters = dict.fromkeys(("list", "show", "replay", "drop", "restore"), values)
    of_commands = {"config": {"show": values}, "watch": endless, "dead-letters": letters}
    context.default_map = dict.fromkeys(COMMANDS, values) | of_commands
    context.obj = config_file
