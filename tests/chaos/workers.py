"""The worker processes of a run: started, killed, stopped and let go on."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_cloud.process import Process, free_port


@dataclass
class Workers:
    """Each has a port, which is its name, and a log of its own in ``folder``."""

    folder: Path
    main: Path
    env: Mapping[str, str]
    frozen: set[int] = field(default_factory=set)
    _by_port: dict[int, Process] = field(default_factory=dict)

    async def another(self) -> Process:
        """Start a fresh one and return it once it listens."""
        log = self.folder / f"worker-{len(self._by_port)}.log"
        worker = Process(target="worker", port=free_port(), log=log, main=self.main)
        self._by_port[worker.port] = worker
        await worker.start(self.env)
        return worker

    async def kill(self, port: int) -> None:
        await self._by_port[port].kill()

    async def stop_for(self, port: int, seconds: float) -> None:
        """Stop it where it is, and let it go on, late for everything."""
        self.frozen.add(port)
        self._by_port[port].freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._by_port[port].thaw()
            self.frozen.discard(port)

    def acknowledged(self) -> set[str]:
        """Ids of all messages that a worker dealt with to the end, by the workers' own logs."""
        lines = (
            line
            for log in self.folder.glob("worker-*.log")
            for line in log.read_text(errors="replace").splitlines()
            if '"delivery"' in line
        )
        return {read["message_id"] for line in lines for read in [_read(line)] if read}

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self._by_port.values()))


def _read(line: str) -> dict[str, str]:
    """A line of the log; nothing where a kill cut it off."""
    try:
        read = json.loads(line)
    except ValueError:
        return {}
    return read if read.get("message") == "delivery" else {}
