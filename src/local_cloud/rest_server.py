"""An HTTP server that is a guest in its process: uvicorn without its signals and its waiting.

Each REST face of the local cloud runs its app in one. It knows nothing about the app. A
socket that was bound is closed by ``stop``, whether or not the server was started.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from local_cloud.local_only import local_only


class RestServer(uvicorn.Server):
    """From ``bind`` to ``stop``; signals and logging stay with the process that it runs in.

    Uvicorn's main loop and its shutdown look around every tenth of a second. Here they are
    told instead, or each test that starts a cloud would pay for it.
    """

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(
            local_only(app),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            http="h11",
            ws="none",
            date_header=False,
        )
        super().__init__(config)
        # Only for a socket that says it is TCP does asyncio turn Nagle's algorithm off, which
        # would hold every answer back for 40 ms.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._up = asyncio.Event()
        self._stopping = asyncio.Event()
        self._grace_seconds = 0.0
        self._serving: asyncio.Task[None] | None = None

    def bind(self, host: str, port: int) -> int:
        """Take the port, so that it is known and its trouble shows before anything runs."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        self._serving = asyncio.create_task(self.serve([self._socket]))
        await self._up.wait()

    async def stop(self, *, grace_seconds: float) -> None:
        """Let what is being answered end, hang up on everyone after ``grace_seconds``."""
        self._grace_seconds = grace_seconds
        self._stopping.set()
        if self._serving:
            await self._serving
        self._socket.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=self._grace_seconds)
        # Who has not finished a request by now never will; its task ends with the line.
        for connection in list(self.server_state.connections):
            if not connection.transport.is_closing():
                connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=self._grace_seconds)
