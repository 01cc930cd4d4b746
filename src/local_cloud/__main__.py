"""``python -m local_cloud``: a Google Cloud for one machine, from the command line."""

import asyncio
import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from local_cloud.process import ROOT, ProcessError
from local_cloud.stack import (
    LOCATION,
    SOURCE_MODEL,
    SOURCE_PROJECT,
    TARGET_PROJECT,
    Ports,
    Stack,
)
from local_cloud.vertex_knobs import Knobs, complaint

DESTINATION = "target-model-260213"
FAULTS = {
    "copy-fails": "Vertex AI takes the copy and gives it up: a failed reply, and the letter",
    "lost-answer": "Vertex AI takes the copy, but answers UNAVAILABLE: still one model",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Pub/Sub, Vertex AI and the model copier's worker on this machine.

    No Google account, no Java, no gcloud: Google's own Python clients talk to it.
    """


@cli.command()
@click.option("--copy-seconds", default=5.0, show_default=True, help="How long a copy takes.")
@click.option(
    "--fault",
    type=click.Choice(sorted(FAULTS)),
    help="What goes wrong. " + " ".join(f"{name}: {about}." for name, about in FAULTS.items()),
)
def demo(copy_seconds: float, fault: str | None) -> None:
    """Copy one model from end to end, and read it back. Everything is stopped afterwards.

    Exit code 0: the copy was read back by another process. 1: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="model-copier-demo-") as folder:
        _run(_demo(Path(folder), copy_seconds, fault))


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
    try:
        Knobs.model_validate(changes)
    except ValidationError as error:
        raise click.BadParameter(complaint(error), param=option) from error
    return changes


@cli.command()
@click.option("--copy-seconds", default=10.0, show_default=True, help="How long a copy takes.")
@click.option(
    "--vertex",
    "vertex_knobs",
    multiple=True,
    callback=_knobs,
    metavar="KNOB=VALUE",
    help="A knob of the local Vertex AI, more than once if need be: lost_answers=0.05, "
    "dialect=worst, copy_seconds=[1,60]. There are " + ", ".join(Knobs.model_fields) + "; "
    "docs/local-cloud.md says what each does.",
)
@click.option("--tick-seconds", default=60.0, show_default=True, help="Cloud Scheduler's period.")
@click.option("--pubsub-port", default=8085, show_default=True, envvar="PUBSUB_PORT")
@click.option("--pubsub-rest-port", default=8086, show_default=True, envvar="PUBSUB_REST_PORT")
@click.option("--vertex-port", default=8090, show_default=True, envvar="VERTEX_PORT", help="gRPC")
@click.option("--vertex-rest-port", default=8091, show_default=True, envvar="VERTEX_REST_PORT")
@click.option("--worker-port", default=8080, show_default=True, envvar="WORKER_PORT")
@click.option("--api-port", default=8081, show_default=True, envvar="API_PORT")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / ".local",
    help="Jobs, logs and the file `env`; what is in it is carried on.  [default: .local]",
)
def up(
    copy_seconds: float,
    vertex_knobs: dict[str, Any],
    tick_seconds: float,
    folder: Path,
    **ports: int,
) -> None:
    """Keep everything running until Ctrl-C, and print what aims your tools at it."""
    stack = Stack(
        folder=folder.absolute(),
        copy_seconds=copy_seconds,
        vertex_knobs=vertex_knobs,
        tick_seconds=tick_seconds,
        with_api=True,
        ports=Ports(**{name.removesuffix("_port"): port for name, port in ports.items()}),
    )
    _run(_up(stack))


async def _up(stack: Stack) -> int:
    async with stack:
        lines = [f"export {name}={shlex.quote(value)}" for name, value in stack.exports().items()]
        (stack.folder / "env").write_text("\n".join(lines) + "\n")
        click.echo("\n".join(lines))
        click.echo(f"\n# the same: source {_short(stack.folder / 'env')}")
        click.echo(f"# logs: {_short(stack.worker.log)} {_short(stack.api.log)}")
        click.echo(f"# try: model-copy publish {SOURCE_MODEL} {DESTINATION} --wait")
        click.echo("# Ctrl-C stops everything")
        await asyncio.gather(stack.worker.ended(), stack.api.ended())
    return 0


async def _demo(folder: Path, copy_seconds: float, fault: str | None) -> int:
    stack = Stack(folder=folder, copy_seconds=copy_seconds, tick_seconds=5)
    if fault == "copy-fails":
        stack.vertex.faults.copy_fails()
    elif fault == "lost-answer":
        stack.vertex.faults.take_then_fail()
    async with stack:
        click.echo(f"Pub/Sub     {stack.pubsub.address}  (local)")
        click.echo(f"Vertex AI   {stack.vertex.address}  (local; a copy takes {copy_seconds:g} s)")
        click.echo(f"worker      {stack.worker.url}  (functions-framework --target worker)")
        click.echo(f"from        {SOURCE_PROJECT}  to  {TARGET_PROJECT}, {LOCATION}")
        if fault:
            click.echo(f"fault       {fault}: {FAULTS[fault]}")
        published = await _as_ec2(stack, ["publish", SOURCE_MODEL, DESTINATION, "--wait"])
        code = await (_read_back(stack) if published == 0 else _show_letters(stack))
    click.echo("stopped     everything that was started here")
    return code


async def _show_letters(stack: Stack) -> int:
    """Show why a request failed, from the dead-letter topic alone."""
    for letter in await stack.letters():
        click.echo(f"\nletter      {letter['outcome_id']}  {letter['dead_letter_code']}")
        click.echo(f"reason      {letter['dead_letter_reason']}")
    return 1


async def _as_ec2(stack: Stack, arguments: list[str]) -> int:
    """Run the publisher with nothing but the broker's address, as a machine outside would."""
    click.echo(f"\n$ model-copy {shlex.join(arguments)}")
    command = str(Path(sys.executable).parent / "model-copy")
    known = {k: v for k, v in stack.exports().items() if k.startswith(("PUBSUB_", "MODEL_COPY_"))}
    process = await asyncio.create_subprocess_exec(command, *arguments, env={**os.environ, **known})
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _read_back(stack: Stack) -> int:
    """See the copy with google-cloud-aiplatform, in a process of its own."""
    name = f"projects/{TARGET_PROJECT}/locations/{LOCATION}/models/{DESTINATION}"
    click.echo(f"\n$ python -m local_cloud.read_back {name}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "local_cloud.read_back", name),
        env={**os.environ, **stack.exports()},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode:
        return 1
    found = json.loads(out)
    click.echo(f"read back   {found['resource_name']}  version {found['version']}")
    click.echo(f"copied from {found['copied_from']}")
    return 0 if found["resource_name"] == name else 1


def _run(work: Coroutine[Any, Any, int]) -> None:
    """Run until done, Ctrl-C or SIGTERM; whatever happens, leave nothing running."""

    async def watched() -> int:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        sys.exit(asyncio.run(watched()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("\nstopped     everything that was started here", err=True)
        sys.exit(130)
    except (ProcessError, RuntimeError, OSError) as error:
        click.echo(f"local cloud: {error}", err=True)
        sys.exit(1)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


if __name__ == "__main__":
    cli(prog_name="python -m local_cloud")
