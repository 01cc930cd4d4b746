"""A Vertex AI for one machine: Google's own clients copy models against it.

One registry, two faces. gRPC: ``google.cloud.aiplatform.v1.ModelService`` (GetModel,
ListModels, ListModelVersions, CopyModel) and ``google.longrunning.Operations``. REST:
the same calls at Google's paths, for ``aiplatform.Model.copy``, ``gcloud`` and curl.
Everything else answers UNIMPLEMENTED. No credentials are asked for, nothing outlives
the process, and nothing here is meant to be reached from another machine.

What lasts is a knob (``vertex_knobs.Knobs``): ``Vertex(copy_seconds=1)``, ``turn``. What
is for the next calls is a fault: ``Vertex.faults``. Another process reaches both, and a
log of what happened, over the REST port at ``/control/``: docs/local-cloud.md has the
orders.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import grpc.aio

from local_cloud.registry import Registry
from local_cloud.vertex_control import control_routes
from local_cloud.vertex_faults import Faults
from local_cloud.vertex_grpc import GrpcFace
from local_cloud.vertex_knobs import Knobs
from local_cloud.vertex_records import (
    DEFAULT_ALIAS,
    Code,
    CopyOperation,
    CopyState,
    Dialect,
    ModelVersion,
    Names,
    VertexError,
)
from local_cloud.vertex_rest import RestServer, rest_app
from local_cloud.vertex_service import CopyCall, Service

__all__ = [
    "Code",
    "CopyCall",
    "CopyOperation",
    "CopyState",
    "Dialect",
    "Faults",
    "Knobs",
    "ModelVersion",
    "Names",
    "Vertex",
    "VertexError",
]

# How long calls that are being answered may take to finish when the cloud stops.
STOP_SECONDS = 0.3


def steady_clock() -> Callable[[], datetime]:
    """Return a clock that starts at the wall's time and then never jumps with it."""
    start, began = datetime.now(UTC), time.monotonic()
    return lambda: start + timedelta(seconds=time.monotonic() - began)


class Vertex:
    """The local Vertex AI, from ``start`` to ``stop`` (or in ``async with``)."""

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        clock: Callable[[], datetime] | None = None,
        project_numbers: Mapping[str, str] | None = None,
        locations: Iterable[str] = (),
        **knobs: Any,
    ) -> None:
        """Make one that is not yet serving; models can be added at once.

        Args:
            faults: what goes wrong; also armed later, as ``self.faults``.
            clock: an aware time that never goes back. Whoever moves it by hand calls
                ``wake`` afterwards, for the callers of WaitOperation.
            project_numbers: project id to number; other projects get one of their own.
            locations: those that get a gRPC port of their own, which serves nothing else, as
                Google's hosts do: ``address_of("us")``. ``address`` serves every location.
            knobs: fields of ``vertex_knobs.Knobs``, such as ``copy_seconds=0.5``.

        Raises:
            pydantic.ValidationError: a knob or its value is not one.
        """
        self.faults = faults or Faults()
        self.address = ""
        self._addresses = dict.fromkeys(locations, "")
        self.rest_url = ""
        # Numbered from the time, so that names of a former run never come back.
        self._registry = Registry(project_numbers=project_numbers, first_number=time.time_ns())
        self._service = Service(
            registry=self._registry,
            faults=self.faults,
            clock=clock or steady_clock(),
            knobs=Knobs(**knobs),
        )
        self._grpc: grpc.aio.Server | None = None
        self._grpc_of: list[grpc.aio.Server] = []  # of each location
        self._rest: RestServer | None = None

    # What is in it

    def add_model(
        self,
        name: str,
        *,
        version: str = "1",
        display_name: str = "",
        aliases: Iterable[str] = (DEFAULT_ALIAS,),
        **described: Any,
    ) -> None:
        """Add ``projects/P/locations/L/models/M``, or a version to it, as if it was trained.

        ``described`` are further fields of ``ModelVersion``: labels, kind, evaluations, ...

        Raises:
            VertexError: the name or version is malformed or taken.
        """
        self._registry.add_model(
            name,
            version=version,
            display_name=display_name,
            aliases=aliases,
            now=self._service.settle(),
            **described,
        )

    @property
    def knobs(self) -> Knobs:
        """How the knobs stand."""
        return self._service.knobs

    def turn(self, **knobs: Any) -> None:
        """Set knobs anew, from the next call on: ``turn(lost_answers=0.05, dialect="worst")``.

        Raises:
            pydantic.ValidationError: a knob or its value is not one; nothing was changed.
        """
        self._service.turn(knobs)

    @property
    def copy_seconds(self) -> float | tuple[float, float]:
        """How long the next copies will take; may be set at any time."""
        return self.knobs.copy_seconds

    @copy_seconds.setter
    def copy_seconds(self, seconds: float | tuple[float, float]) -> None:
        self.turn(copy_seconds=seconds)

    @property
    def copy_calls(self) -> tuple[CopyCall, ...]:
        """Every CopyModel call as it came in, refused ones too."""
        return tuple(self._service.copy_calls)

    @property
    def operations(self) -> tuple[CopyOperation, ...]:
        """Every copy that was taken, as it stands by the clock now, whatever callers are told."""
        self._service.settle()
        return tuple(self._registry.operations())

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """Return every version of a model; none when there is no such model (yet)."""
        self._service.settle()
        try:
            return tuple(self._registry.versions(name))
        except VertexError as error:
            if error.code is Code.NOT_FOUND:
                return ()
            raise

    def wake(self) -> None:
        """Say that the clock was moved by hand."""
        self._service.wake()

    # Serving

    def address_of(self, location: str) -> str:
        """Where a location answers that got a port of its own."""
        return self._addresses[location]

    @property
    def endpoint(self) -> str:
        """What the copier's VERTEX_ENDPOINT takes: all locations, and those with a port."""
        own = (f"{location}=http://{address}" for location, address in self._addresses.items())
        return ",".join([f"http://{self.address}", *own])

    async def start(self, *, host: str = "127.0.0.1", port: int = 0, rest_port: int = 0) -> None:
        """Serve until ``stop``; port 0 takes a free one. A second start is a bug.

        Raises:
            RuntimeError: the gRPC port is taken.
            OSError: the REST port is taken.
        """
        assert self._grpc is None
        try:
            await self._start(host=host, port=port, rest_port=rest_port)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Answer what is held back and close every socket, within a second.

        What happened can still be read afterwards.
        """
        self._service.close()
        if self._rest:
            await self._rest.stop(grace_seconds=STOP_SECONDS)
        for server in (self._grpc, *self._grpc_of):
            if server:
                await server.stop(STOP_SECONDS)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _start(self, *, host: str, port: int, rest_port: int) -> None:
        self._grpc = self._grpc_server()
        self._rest = RestServer(rest_app(self._service, extra_routes=control_routes(self._service)))
        self.address = f"{host}:{self._grpc.add_insecure_port(f'{host}:{port}')}"
        self.rest_url = f"http://{host}:{self._rest.bind(host, rest_port)}"
        await self._grpc.start()
        await self._rest.start()
        for location in self._addresses:
            server = self._grpc_server(location)
            self._addresses[location] = f"{host}:{server.add_insecure_port(f'{host}:0')}"
            self._grpc_of.append(server)
            await server.start()

    def _grpc_server(self, location: str = "") -> grpc.aio.Server:
        # Without the option, Linux lets a second server share the port and take half the calls.
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((GrpcFace(self._service, location=location),))
        return server
