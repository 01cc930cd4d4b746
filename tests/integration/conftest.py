import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from command_line import Command, Run, Service, connected
from local_cloud.pubsub import PubSub


@pytest.fixture
async def pubsub() -> AsyncIterator[PubSub]:
    async with PubSub() as server:
        yield server


@pytest.fixture
async def service(pubsub: PubSub) -> AsyncIterator[Service]:
    async with connected(pubsub.address) as service:
        await service.set_up()
        yield service


@pytest.fixture
async def run(pubsub: PubSub, tmp_path: Path) -> AsyncIterator[Run]:
    processes = []

    async def start(arguments: list[str], *, stdout: int = PIPE, **env: str) -> Command:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("model-copy"),
            *arguments,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PUBSUB_EMULATOR_HOST": pubsub.address,
                "NO_GCE_CHECK": "true",
            }
            | env,
            stdin=PIPE,
            stdout=stdout,
            stderr=PIPE,
        )
        processes.append(process)
        return Command(process)

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()
