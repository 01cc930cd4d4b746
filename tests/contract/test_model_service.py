"""What Vertex AI's registry is to the workflow (``ports.ModelService``): one suite over the
simulated one and over the real client, which talks gRPC to the local Vertex AI.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from local_cloud.vertex import Vertex
from local_cloud.vertex_records import Code as VertexCode
from model_copier.adapters.vertex import VertexModelService
from model_copier.errors import Code, OutcomeUnknownError, RefusedError, UnavailableError
from model_copier.ports import ModelService
from model_copier.registry import CopyCall, Operation
from model_copier.resource_names import ModelName
from simulators import SimulatedClock, SimulatedModels
from world import PARENT, SOURCE, TARGET

CALL = CopyCall(
    source=ModelName.parse(f"{SOURCE}@1"),
    target_location=TARGET.rpartition("/models/")[0],
    model_id="target-model-260213",
)


@dataclass
class Setting:
    """A registry with one source and one parent model, and how to wait for a copy's end."""

    models: ModelService
    cloud: Any

    async def ended(self, operation: Operation) -> Operation:
        async with asyncio.timeout(10):
            while True:
                found = await self.models.get_operation(operation.name)
                if found.done:
                    return found
                if isinstance(self.cloud, SimulatedModels):
                    self.cloud.clock.advance(60)
                await asyncio.sleep(0.01)


@pytest.fixture(params=["simulated", "local"])
async def setting(request: pytest.FixtureRequest) -> AsyncIterator[Setting]:
    if request.param == "simulated":
        simulated = SimulatedModels(SimulatedClock())
        simulated.add(SOURCE)
        simulated.add(PARENT)
        yield Setting(simulated, simulated)
        return
    async with Vertex(copy_seconds=0.05) as vertex:
        vertex.add_model(SOURCE)
        vertex.add_model(PARENT)
        models = VertexModelService(call_seconds=5, endpoint=f"http://{vertex.address}")
        yield Setting(models, vertex)
        await models.close()


async def test_a_model_is_read_with_its_versions_number(setting: Setting):
    found = await setting.models.get_model(ModelName.parse(f"{SOURCE}@default"))

    assert str(found.name) == f"{SOURCE}@1"
    assert found.copy_of is None


async def test_a_missing_model_is_refused_as_not_found(setting: Setting):
    with pytest.raises(RefusedError) as refused:
        await setting.models.get_model(ModelName.parse(TARGET))

    assert refused.value.code is Code.NOT_FOUND


async def test_a_missing_model_has_no_versions_and_no_operations(setting: Setting):
    assert list(await setting.models.list_versions(ModelName.parse(TARGET))) == []
    assert list(await setting.models.list_operations(ModelName.parse(TARGET)) or ()) == []


async def test_a_copy_ends_as_a_model_that_names_its_source(setting: Setting):
    started = await setting.models.copy_model(CALL)
    ended = await setting.ended(started)

    assert not started.done
    assert ended.code is None
    assert str(ended.model) == f"{TARGET}@1"
    assert ended.started_at is not None
    assert ended.updated_at is not None
    assert ended.started_at <= ended.updated_at
    (made,) = await setting.models.list_versions(ModelName.parse(TARGET))
    assert made.copy_of == CALL.source


async def test_a_copy_to_a_parent_is_its_next_version(setting: Setting):
    call = CopyCall(source=CALL.source, target_location=CALL.target_location, parent_model=PARENT)

    ended = await setting.ended(await setting.models.copy_model(call))

    assert str(ended.model) == f"{PARENT}@2"
    assert len(await setting.models.list_versions(ModelName.parse(PARENT))) == 2


async def test_a_running_copy_is_listed_with_its_destination(setting: Setting):
    started = await setting.models.copy_model(CALL)

    listed = await setting.models.list_operations(ModelName.parse(TARGET))

    assert listed is not None
    assert [operation.name for operation in listed] == [started.name]


async def test_a_taken_id_leaves_the_outcome_unknown(setting: Setting):
    """ALREADY_EXISTS may be the echo of a call of ours that worked."""
    await setting.ended(await setting.models.copy_model(CALL))

    with pytest.raises(OutcomeUnknownError, match="ALREADY_EXISTS"):
        await setting.models.copy_model(CALL)


async def test_a_missing_parent_is_refused(setting: Setting):
    call = CopyCall(source=CALL.source, target_location=CALL.target_location, parent_model=TARGET)

    with pytest.raises(RefusedError) as refused:
        await setting.models.copy_model(call)

    assert refused.value.code is Code.NOT_FOUND


async def test_an_unknown_operation_is_not_found(setting: Setting):
    with pytest.raises(RefusedError) as refused:
        await setting.models.get_operation(f"{TARGET}/operations/1")

    assert refused.value.code is Code.NOT_FOUND


async def test_a_cancelled_copy_ends_so_and_makes_nothing(setting: Setting):
    if isinstance(setting.cloud, SimulatedModels):
        started = await setting.models.copy_model(CALL)
    else:
        async with Vertex(copy_seconds=60) as slow:
            slow.add_model(SOURCE)
            models = VertexModelService(call_seconds=5, endpoint=f"http://{slow.address}")
            await _cancelled(models, await models.copy_model(CALL))
            await models.close()
        return
    await _cancelled(setting.models, started)


async def _cancelled(models: ModelService, started: Operation) -> None:
    await models.cancel_operation(started.name)

    ended = await models.get_operation(started.name)
    assert (ended.done, ended.code) == (True, Code.CANCELLED)
    assert list(await models.list_versions(ModelName.parse(TARGET))) == []


# The real client alone.


async def test_a_lost_answer_is_unknown_and_the_call_is_sent_once():
    async with Vertex(copy_seconds=60) as vertex:
        vertex.add_model(SOURCE)
        vertex.faults.take_then_fail()
        models = VertexModelService(call_seconds=5, endpoint=f"http://{vertex.address}")

        with pytest.raises(OutcomeUnknownError):
            await models.copy_model(CALL)

        assert len(await models.list_operations(ModelName.parse(TARGET)) or ()) == 1
        await models.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (VertexCode.PERMISSION_DENIED, RefusedError),
        (VertexCode.INVALID_ARGUMENT, RefusedError),
        (VertexCode.RESOURCE_EXHAUSTED, UnavailableError),
        (VertexCode.UNAVAILABLE, OutcomeUnknownError),
        (VertexCode.INTERNAL, OutcomeUnknownError),
        (VertexCode.ABORTED, OutcomeUnknownError),
        (VertexCode.DEADLINE_EXCEEDED, OutcomeUnknownError),
    ],
)
async def test_a_refusal_is_sorted_by_its_code(code, expected):
    async with Vertex() as vertex:
        vertex.add_model(SOURCE)
        vertex.faults.refuse("CopyModel", code)
        models = VertexModelService(call_seconds=5, endpoint=f"http://{vertex.address}")

        with pytest.raises(expected):
            await models.copy_model(CALL)

        await models.close()


async def test_a_silent_server_leaves_a_copy_unknown_and_a_read_untold():
    """The kernel accepts the connection; nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        models = VertexModelService(call_seconds=0.3, endpoint=endpoint)

        with pytest.raises(OutcomeUnknownError):
            await models.copy_model(CALL)
        with pytest.raises(UnavailableError):
            await models.get_model(CALL.source)

        await models.close()
