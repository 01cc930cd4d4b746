"""The knobs of the local Vertex AI as an option of a command.

What it needs of Vertex AI is imported when it is used: the types take a second.
"""

import json
from typing import Any

import click

_HELP = (
    "Behaviour of the local Vertex AI, such as lost_answers=0.05, dialect=worst or "
    "copy_seconds=[1,60]; repeatable. Knobs: {knobs}. "
    "See docs/local-cloud.md for their descriptions."
)


class _KnobOption(click.Option):
    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from local_cloud.vertex_knobs import Knobs  # noqa: PLC0415  see the top

        self.help = _HELP.format(knobs=", ".join(Knobs.model_fields))
        return super().get_help_record(ctx)


def _knobs(_: click.Context, option: click.Parameter, settings: tuple[str, ...]) -> dict[str, Any]:
    """Read KNOB=VALUE, where the value is JSON or, failing that, itself."""
    changes: dict[str, Any] = {}
    for setting in settings:
        knob, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"{setting!r} is not KNOB=VALUE", param=option)
        try:
            changes[knob] = json.loads(value)
        except ValueError:
            changes[knob] = value
    if changes:
        _check(changes, option)
    return changes


def _check(changes: dict[str, Any], option: click.Parameter) -> None:
    from pydantic import ValidationError  # noqa: PLC0415  see the top

    from local_cloud.vertex_knobs import Knobs, complaint  # noqa: PLC0415

    try:
        Knobs.model_validate(changes)
    except ValidationError as error:
        raise click.BadParameter(complaint(error), param=option) from error


vertex_option = click.option(
    "--vertex",
    "vertex_knobs",
    cls=_KnobOption,
    multiple=True,
    callback=_knobs,
    metavar="KNOB=VALUE",
    help=_HELP,
)
