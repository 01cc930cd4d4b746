"""The publisher against the real worker: what ``make show-publisher`` shows, in small.

On the local Pub/Sub and, where it is found, on Google's emulator, which ignores filters.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from emulators import PUBSUB, EmulatorMissingError
from local_cloud.stack import Stack
from show_publisher import killed_and_run_again, running_stack, start, watched

COUNT = 60


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(params=["local", "google"], scope="module", loop_scope="module")
async def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp(str(request.param))
    if request.param == "local":
        async with running_stack(folder / "cloud") as stack:
            yield stack
        return
    try:
        with PUBSUB.running(folder) as address:
            async with running_stack(folder / "cloud", address) as stack:
                yield stack
    except EmulatorMissingError as error:
        pytest.skip(str(error))


async def test_a_batch_whose_publisher_is_killed_loses_nothing_and_does_nothing_twice(
    cloud: Stack, tmp_path: Path
):
    shown = await killed_and_run_again(cloud, COUNT, tmp_path, kills=2)

    assert shown.models == COUNT
    assert shown.outcomes == COUNT
    assert shown.outcomes_twice == 0
    assert shown.told_by_the_killed > 0
    assert f"{COUNT} requests: {COUNT} succeeded" in shown.summary


async def test_a_command_that_fails_every_third_time_has_handled_every_event(
    cloud: Stack, tmp_path: Path
):
    events, twice, calls = await watched(cloud, 12, tmp_path)

    assert (events, twice) == (12, 0)
    assert calls > 12


async def test_a_copy_is_asked_for_waited_for_and_asked_about(cloud: Stack, tmp_path: Path):
    async def run(*words: str) -> tuple[int | None, str]:
        command = await start(cloud, tmp_path, words)
        output, errors = await command.communicate()
        return command.returncode, output.decode() + errors.decode()

    published = await run("publish", "7704127342733426688", "asked", "--request-id", "r-1")
    waited = await run("wait", "r-1")
    status = await run("status", "r-1")
    cancelled = await run("cancel", "r-1")
    unknown = await run("status", "nobody")

    assert published[0] == 0
    assert (waited[0], waited[1].startswith("succeeded  ")) == (0, True)
    assert (status[0], status[1].startswith("succeeded  ")) == (0, True)
    assert "\nversion    1\nverified   yes\n" in status[1]
    assert (cancelled[0], cancelled[1].startswith("succeeded  ")) == (1, True)
    assert unknown[0] == 1
    assert "No request nobody" in unknown[1]


async def test_a_model_named_by_its_projects_number_is_copied(cloud: Stack, tmp_path: Path):
    """That is how Vertex AI itself prints the name."""
    name = "projects/110495173025/locations/us-central1/models/7704127342733426688"

    command = await start(cloud, tmp_path, ("publish", name, "by-number", "--wait"))
    output, errors = await command.communicate()

    assert command.returncode == 0, errors.decode()
    assert "models/by-number\n" in output.decode()
    assert "verified   yes" in output.decode()
