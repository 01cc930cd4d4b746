"""One target of the copier as a process of its own, started the way Cloud Run starts it.

It learns of the cloud around it by its environment alone.
"""

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local_cloud.private_files import open_private

ROOT = Path(__file__).parents[2]
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0  # Cloud Run's own patience after SIGTERM


class ProcessError(Exception):
    """A process did not start, or ended unexpectedly; the message holds its last output."""


@dataclass(kw_only=True)
class Process:
    """``functions-framework --target TARGET``."""

    target: str
    port: int
    log: Path
    main: Path = ROOT / "main.py"
    running: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, env: Mapping[str, str]) -> None:
        """Start it, or start it again after its end, and return once it listens."""
        with open_private(self.log, os.O_APPEND) as out:
            self.running = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).parent / "functions-framework"),
                f"--target={self.target}",
                f"--source={self.main}",
                env={
                    **os.environ,
                    **without_proxy(os.environ),
                    **env,
                    "HOST": "127.0.0.1",
                    "PORT": str(self.port),
                },
                stdout=out,
                stderr=out,
                # Ctrl-C is for whoever started us; the end of this process is theirs to choose.
                start_new_session=True,
            )
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while not await self._listens():
            if self.running.returncode is not None:
                raise ProcessError(
                    f"{self.target} did not start; its last output:\n{self._last_words()}"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise ProcessError(f"{self.target} does not listen after {_START_SECONDS:g} s")
            await asyncio.sleep(0.02)

    async def stop(self) -> float:
        """Ask it to go, and kill it when it does not; return how long it took, in seconds."""
        started = asyncio.get_running_loop().time()
        if self.running is not None and self.running.returncode is None:
            self.running.terminate()
            try:
                await asyncio.wait_for(self.running.wait(), _STOP_SECONDS)
            except TimeoutError:
                await self.kill()
        return asyncio.get_running_loop().time() - started

    async def kill(self) -> None:
        """End all of its processes at once, as a crash would; return once the port is free."""
        assert self.running is not None
        os.killpg(self.running.pid, signal.SIGKILL)
        await self.running.wait()
        # Its child may hold the port a moment longer than it lives.
        async with asyncio.timeout(_STOP_SECONDS):
            while await self._listens():  # noqa: ASYNC110  the kernel moves it
                await asyncio.sleep(0.02)

    def freeze(self) -> None:
        """Stop all of its processes where they are, as Cloud Run may between requests."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on, late for everything."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.running is not None
        if self.running.returncode is None:
            os.killpg(self.running.pid, number)

    async def ended(self) -> None:
        """Return never: raise when it has ended by itself.

        Raises:
            ProcessError: with its last words.
        """
        assert self.running is not None
        code = await self.running.wait()
        raise ProcessError(f"{self.target} ended unexpectedly with {code}:\n{self._last_words()}")

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """Return what has every client reach this machine directly, whatever proxy ``env`` names."""
    named = [name for name in ("NO_PROXY", "no_proxy") if env.get(name)]
    hosts = ",".join([*(env[name] for name in named), "127.0.0.1,localhost"])
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def free_port() -> int:
    """A port that nobody listens on now, and that the kernel gives nobody who names none.

    From below what Linux and macOS give out by themselves (32768 and up): one of those may be
    somebody's own end of a connection by the time that it is listened on.
    """
    for port in random.sample(range(10_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ProcessError("none of a hundred ports is free")
