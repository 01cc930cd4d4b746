"""``model-copy completion``: the script that completes commands and options in a shell."""

import click
from click.shell_completion import get_completion_class

EXAMPLES = """\b
To complete in every new shell:
  model-copy completion bash >> ~/.bashrc
  model-copy completion zsh >> ~/.zshrc
  model-copy completion fish > ~/.config/fish/completions/model-copy.fish
"""


@click.command(epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell script that completes commands and options."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "model-copy", "_MODEL_COPY_COMPLETE").source())
