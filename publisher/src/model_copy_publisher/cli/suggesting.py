"""A group of commands that suggests the nearest command for a mistyped one."""

from collections.abc import Iterable
from difflib import get_close_matches

import click


class SuggestingGroup(click.Group):
    """A click group whose refusal of an unknown command ends with ``Did you mean``.

    Older versions of click do not suggest, and no version knows commands that are loaded late.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {name!r}.{did_you_mean(name, known)}", ctx)
        return super().resolve_command(ctx, args)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the nearest of ``known``, or "" if none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
