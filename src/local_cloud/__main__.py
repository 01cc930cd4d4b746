"""``python -m local_cloud``: a Google Cloud for one machine, from the command line."""

import asyncio
import json
import math
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from local_cloud.private_files import write_private
from local_cloud.process import ROOT, ProcessError
from local_cloud.pubsub import PubSub
from local_cloud.pubsub_options import pubsub_options
from local_cloud.vertex_options import vertex_option

# The types of Vertex AI take a second to import, which `serve --no-vertex` need not wait for:
# each command imports what it runs.
if TYPE_CHECKING:
    from local_cloud.cloud import LocalCloud
    from local_cloud.stack import Stack

_Command = TypeVar("_Command", bound=Callable[..., Any])

DESTINATION = "target-model-260213"
FAULTS = {
    "copy-fails": "the copy fails in Vertex AI: a failed reply, and its dead letter",
    "lost-answer": "the response to CopyModel is lost: still one model",
}


class _Seconds(click.FloatRange):
    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):  # which is in every range of click's
            self.fail(f"{value!r} is not a number.", param, ctx)
        return seconds


_PORT = click.IntRange(0, 65_535)  # 0 takes a free one
# For the demo alone: one machine has one clock, and its Vertex AI shows a copy at once.
_ONE_MACHINE = {"MAX_SKEW_SECONDS": "1", "VISIBILITY_SECONDS": "1"}


def _copy_seconds(default: float) -> Callable[[_Command], _Command]:
    return click.option(
        "--copy-seconds",
        type=_Seconds(0, 1_000_000_000),
        default=default,
        show_default=True,
        help="Duration of a copy.",
    )


def _port(server: str, default: int, about: str) -> Callable[[_Command], _Command]:
    return click.option(
        f"--{server}-port",
        type=_PORT,
        default=default,
        show_default=True,
        envvar=f"{server.upper().replace('-', '_')}_PORT",
        help=about,
    )


def _cloud_ports(command: _Command) -> _Command:
    """Add the ports of the two servers."""
    for option in (
        _port("vertex-rest", 8091, "Port of Vertex AI over REST."),
        _port("vertex", 8090, "Port of Vertex AI over gRPC."),
        _port("pubsub-rest", 8086, "Port of Pub/Sub over REST."),
        _port("pubsub", 8085, "Port of Pub/Sub over gRPC."),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Run Pub/Sub, Vertex AI and the model copier on this machine.

    Google's own Python clients can use it. It needs no Google account, no Java and no gcloud.

    Faults are set by options, from Python (LocalCloud), or at any time over HTTP
    (POST /control/faults on the REST ports). See docs/local-cloud.md.
    """


@cli.command()
@_copy_seconds(5.0)
@click.option(
    "--location",
    default="us-central1",
    show_default=True,
    help="Location of source and copy: us-central1, europe-west4 or us.",
)
@click.option(
    "--fault",
    type=click.Choice(sorted(FAULTS)),
    help="Fault to inject. " + " ".join(f"{name}: {about}." for name, about in FAULTS.items()),
)
def demo(copy_seconds: float, location: str, fault: str | None) -> None:
    """Copy one model from end to end, read it back, and stop everything.

    Exit code 0: another process read the copy back. Exit code 1: the copy failed.
    """
    with tempfile.TemporaryDirectory(prefix="model-copier-demo-") as folder:
        _run(_demo(Path(folder), copy_seconds, location, fault))


@cli.command()
@_copy_seconds(10.0)
@click.option(
    "--tick-seconds",
    type=_Seconds(0.1, 86_400),
    default=60.0,
    show_default=True,
    help="Period of the ticks, as of Cloud Scheduler.",
)
@_cloud_ports
@_port("worker", 8080, "Port of the worker.")
@_port("api", 8081, "Port of the api.")
@click.option("--check-tokens", is_flag=True, help="Require a token of pushes and callers.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / ".local",
    help="Folder of jobs, logs and the file `env`; existing jobs continue.  [default: .local]",
)
@vertex_option
@pubsub_options
def up(
    copy_seconds: float,
    vertex_knobs: dict[str, Any],
    tick_seconds: float,
    folder: Path,
    pubsub: PubSub,
    *,
    check_tokens: bool,
    **ports: int,
) -> None:
    """Run everything, including the copier, until Ctrl-C.

    The variables that point your tools to it are printed, and written to the file `env`.

    Port 0 is any free port.
    """
    from local_cloud.stack import Ports, Stack  # noqa: PLC0415  see the top

    stack = Stack(
        folder=folder.absolute(),
        copy_seconds=copy_seconds,
        vertex_knobs=vertex_knobs,
        tick_seconds=tick_seconds,
        pubsub=pubsub,
        with_api=True,
        check_tokens=check_tokens,
        ports=Ports(**{name.removesuffix("_port"): port for name, port in ports.items()}),
    )
    _run(_up(stack))


@cli.command()
@click.option("--no-vertex", is_flag=True, help="Serve Pub/Sub only, which starts faster.")
@click.option(
    "--project",
    default="local-project",
    show_default=True,
    help="Project in the printed variables for gcloud.",
)
@_copy_seconds(10.0)
@_cloud_ports
@vertex_option
@pubsub_options
def serve(
    *,
    no_vertex: bool,
    vertex_knobs: dict[str, Any],
    project: str,
    copy_seconds: float,
    pubsub: PubSub,
    pubsub_port: int,
    pubsub_rest_port: int,
    vertex_port: int,
    vertex_rest_port: int,
) -> None:
    """Serve Pub/Sub and Vertex AI, without the copier, until Ctrl-C.

    Both start empty. The variables that point your tools to them are printed.

    \b
    python -m local_cloud serve --no-vertex
    python -m local_cloud serve --pubsub-duplicate 0.05 --pubsub-drop-response 0.05 --pubsub-seed 7
    python -m local_cloud serve --pubsub-next drop_response=projects/p/subscriptions/s

    Port 0 is any free port.
    """
    if no_vertex and vertex_knobs:
        raise click.UsageError("--vertex cannot be used with --no-vertex.")
    if no_vertex:
        _run(_serve_pubsub(pubsub, port=pubsub_port, rest_port=pubsub_rest_port, project=project))
        return
    from local_cloud.cloud import LocalCloud, Ports  # noqa: PLC0415  see the top
    from local_cloud.vertex import Vertex  # noqa: PLC0415

    cloud = LocalCloud(
        pubsub=pubsub,
        vertex=Vertex(**{"copy_seconds": copy_seconds, **vertex_knobs}),
        ports=Ports(
            pubsub=pubsub_port,
            pubsub_rest=pubsub_rest_port,
            vertex=vertex_port,
            vertex_rest=vertex_rest_port,
        ),
    )
    _run(_serve(cloud, project=project))


async def _serve(cloud: "LocalCloud", *, project: str) -> int:
    async with cloud:
        click.echo(_as_shell(cloud.exports(project=project)))
        click.echo("# Ctrl-C stops everything")
        await asyncio.Event().wait()
    return 0


async def _serve_pubsub(pubsub: PubSub, *, port: int, rest_port: int, project: str) -> int:
    await pubsub.start(port=port, rest_port=rest_port)
    try:
        click.echo(_as_shell(pubsub.exports(project=project)))
        click.echo("# Ctrl-C stops everything")
        await asyncio.Event().wait()
    finally:
        await pubsub.stop()
    return 0


async def _up(stack: "Stack") -> int:
    from local_cloud.stack import SOURCE_MODEL  # noqa: PLC0415  see the top

    async with stack:
        exports = _as_shell(stack.exports())
        write_private(stack.folder / "env", exports + "\n")
        click.echo(exports)
        click.echo(f"\n# to set them: source {_short(stack.folder / 'env')}")
        click.echo(f"# logs: {_short(stack.worker.log)} {_short(stack.api.log)}")
        click.echo(f"# try: model-copy publish {SOURCE_MODEL} {DESTINATION} --wait")
        click.echo("# Ctrl-C stops everything")
        await asyncio.gather(stack.worker.ended(), stack.api.ended())
    return 0


async def _demo(folder: Path, copy_seconds: float, location: str, fault: str | None) -> int:
    from local_cloud.stack import (  # noqa: PLC0415  see the top
        MODELS,
        SOURCE_PROJECT,
        TARGET_PROJECT,
        Stack,
    )

    if location not in MODELS:
        raise click.UsageError(
            f"--location: {location!r} has no model; locations with one: {', '.join(MODELS)}."
        )
    model, _ = MODELS[location]
    stack = Stack(
        folder=folder,
        location=location,
        copy_seconds=copy_seconds,
        tick_seconds=5,
        settings=_ONE_MACHINE,
    )
    if fault == "copy-fails":
        stack.vertex.faults.copy_fails()
    elif fault == "lost-answer":
        stack.vertex.faults.take_then_fail()
    async with stack:
        click.echo(f"Pub/Sub     {stack.pubsub.address}  (local)")
        click.echo(f"Vertex AI   {stack.vertex.address}  (local; a copy takes {copy_seconds:g} s)")
        click.echo(f"worker      {stack.worker.url}  (functions-framework --target worker)")
        click.echo(f"from        {SOURCE_PROJECT}  to  {TARGET_PROJECT}, {location}")
        if fault:
            click.echo(f"fault       {fault}: {FAULTS[fault]}")
        published = await _as_ec2(stack, ["publish", model, DESTINATION, "--wait"])
        name = f"projects/{TARGET_PROJECT}/locations/{location}/models/{DESTINATION}"
        code = await (_read_back(stack, name) if published == 0 else _show_letters(stack))
    click.echo("stopped     everything that was started here")
    return code


async def _show_letters(stack: "Stack") -> int:
    """Show why a request failed, from the dead-letter topic alone."""
    for letter in await stack.letters():
        click.echo(f"\nletter      {letter['outcome_id']}  {letter['dead_letter_code']}")
        click.echo(f"reason      {letter['dead_letter_reason']}")
    return 1


async def _as_ec2(stack: "Stack", arguments: list[str]) -> int:
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


async def _read_back(stack: "Stack", name: str) -> int:
    """See the copy with google-cloud-aiplatform, in a process of its own."""
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
    # By number, where the name that was read is by id.
    return 0 if found["resource_name"].endswith(name.partition("/locations/")[2]) else 1


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


def _as_shell(exports: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in exports.items())


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


if __name__ == "__main__":
    cli(prog_name="python -m local_cloud")
