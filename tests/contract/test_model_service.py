"""What Vertex AI's registry is to the workflow (``ports.ModelService``): one suite over the
simulated one and over the real client, which talks gRPC to the local Vertex AI.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from local_cloud.registry import Registry
from local_cloud.vertex import Vertex
from local_cloud.vertex_dialects import DIALECTS
from local_cloud.vertex_records import Code as VertexCode
from local_cloud.vertex_records import Dialect, Names, Origin
from model_copier.adapters.vertex import MAX_CLIENTS, VertexModelService
from model_copier.domain.errors import (
    Code,
    NoAnswerError,
    OutcomeUnknownError,
    RefusedError,
    UnavailableError,
)
from model_copier.domain.locations import LOCATIONS
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall, Model, Operation
from model_copier.engine.ports import ModelService
from simulators import SimulatedClock, SimulatedModels
from world import PARENT, SOURCE, TARGET

CALL = CopyCall(
    source=ModelName.parse(f"{SOURCE}@1"),
    target_location=TARGET.rpartition("/models/")[0],
    model_id="target-model-260213",
)


COPY_SECONDS = 60.0
# By then all that any dialect keeps back has shown.
ALL_SHOWN_SECONDS = 60.0


@dataclass
class Setting:
    """A registry with one source and one parent model, on a clock that is moved by hand."""

    models: ModelService
    cloud: SimulatedModels | Vertex
    clock: SimulatedClock

    async def ended(self, operation: Operation) -> Operation:
        """Let a copy end and show."""
        self.clock.advance(COPY_SECONDS + ALL_SHOWN_SECONDS)
        return await self.models.get_operation(operation.name)

    async def versions(self) -> Sequence[Model]:
        return await self.models.list_versions(ModelName.parse(TARGET))

    def fail_next(self, code: VertexCode) -> None:
        """Let the next copy fail in its operation."""
        if isinstance(self.cloud, SimulatedModels):
            self.cloud.dooms.append(Code[code.name])
        else:
            self.cloud.faults.copy_fails(code, times=1)


Start = Callable[[Dialect], Awaitable[Setting]]


@pytest.fixture(params=["simulated", "local"])
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Start either of the two, in a dialect."""
    async with contextlib.AsyncExitStack() as closing:

        async def start(dialect: Dialect) -> Setting:
            clock = SimulatedClock()
            if request.param == "simulated":
                simulated = SimulatedModels(
                    clock, registry=Registry(dialect=dialect), copy_seconds=COPY_SECONDS
                )
                simulated.add(SOURCE)
                simulated.add(PARENT)
                return Setting(simulated, simulated, clock)
            vertex = Vertex(copy_seconds=COPY_SECONDS, dialect=dialect, clock=clock.now)
            vertex.add_model(SOURCE)
            vertex.add_model(PARENT)
            await closing.enter_async_context(vertex)
            models = VertexModelService(call_seconds=5, endpoint=f"http://{vertex.address}")
            closing.push_async_callback(models.close)
            return Setting(models, vertex, clock)

        yield start


@pytest.fixture
async def setting(start: Start) -> Setting:
    return await start(Dialect())


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


LOCATION = CALL.target_location


async def test_what_runs_in_a_location_is_listed(setting: Setting):
    started = await setting.models.copy_model(CALL)

    page = await setting.models.list_location(LOCATION)
    elsewhere = await setting.models.list_location(LOCATION.replace("us-central1", "europe-west4"))

    assert page is not None
    assert [(each.name, each.done) for each in page.operations] == [(started.name, False)]
    assert page.next_page_token == ""
    assert elsewhere is not None
    assert list(elsewhere.operations) == []
    await setting.ended(started)
    page = await setting.models.list_location(LOCATION)
    assert page is not None
    assert list(page.operations) == []


async def test_many_that_run_come_in_pages(setting: Setting):
    """What ends between two pages is missed by none of the others."""
    started = [
        (await setting.models.copy_model(replace(CALL, model_id=f"model-{number}"))).name
        for number in range(150)
    ]

    first = await setting.models.list_location(LOCATION)
    assert first is not None
    await setting.models.cancel_operation(first.operations[-1].name)
    second = await setting.models.list_location(LOCATION, first.next_page_token)

    assert second is not None
    assert second.next_page_token == ""
    found = {each.name for page in (first, second) for each in page.operations}
    assert len(first.operations) == 100
    assert len(set(started) - found) <= 1


@pytest.mark.parametrize("dialect", ["location-list-empty", "no-location-list", "no-list"])
async def test_a_location_may_list_no_operations_of_models(start: Start, dialect: str):
    setting = await start(DIALECTS[dialect])
    started = await setting.models.copy_model(CALL)

    page = await setting.models.list_location(LOCATION)

    assert page is None or list(page.operations) == []
    assert (page is None) is (dialect != "location-list-empty")
    listed = await setting.models.list_operations(ModelName.parse(TARGET))
    assert (listed is None) is (dialect == "no-list")
    assert not (await setting.models.get_operation(started.name)).done


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
    started = await setting.models.copy_model(CALL)

    await setting.models.cancel_operation(started.name)

    ended = await setting.models.get_operation(started.name)
    assert (ended.done, ended.code) == (True, Code.CANCELLED)
    assert list(await setting.versions()) == []


# What Google leaves open: the same answers from both, in every dialect.


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
async def test_in_every_dialect_a_copy_ends_as_one_version_that_its_operation_names(
    start: Start, dialect: Dialect
):
    setting = await start(dialect)

    started = await setting.models.copy_model(CALL)
    ended = await setting.ended(started)

    (made,) = await setting.versions()
    assert ended.model == made.name
    assert made.name.may_be(ModelName.parse(f"{TARGET}@1"))
    if dialect.proof_after_seconds is None:
        assert made.copy_of is None
    else:
        assert made.copy_of
        assert made.copy_of.may_be(CALL.source)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
async def test_in_every_dialect_a_model_that_was_there_before_is_read_at_once(
    start: Start, dialect: Dialect
):
    setting = await start(dialect)

    assert (await setting.models.get_model(CALL.source)).name.may_be(CALL.source)


async def test_names_may_carry_the_projects_number(start: Start):
    """The adapter spells a project as it was asked for, once it has been answered."""
    setting = await start(Dialect(names=Names.NUMBERS))
    by_number = isinstance(setting.cloud, SimulatedModels)
    await setting.models.get_model(CALL.source)

    ended = await setting.ended(await setting.models.copy_model(CALL))

    (made,) = await setting.versions()
    assert ended.model
    assert made.copy_of
    for name in (ended.model, made.name, made.copy_of):
        assert name.project.isdecimal() is by_number
    assert await setting.models.get_model(made.name) == made


@pytest.mark.parametrize("before", ["running", "ended"])
async def test_a_taken_id_may_be_taken_and_fail_in_the_operation(start: Start, before: str):
    setting = await start(Dialect(existing_id=None, in_flight_id=None))
    first = await setting.models.copy_model(CALL)
    if before == "ended":
        await setting.ended(first)

    second = await setting.ended(await setting.models.copy_model(CALL))

    assert (second.done, second.code) == (True, Code.ALREADY_EXISTS)
    assert (await setting.models.get_operation(first.name)).model == ModelName.parse(f"{TARGET}@1")
    assert len(await setting.versions()) == 1


async def test_a_method_may_be_unimplemented(start: Start):
    setting = await start(Dialect(unimplemented=frozenset({"ListOperations", "CancelOperation"})))
    started = await setting.models.copy_model(CALL)

    assert await setting.models.list_operations(ModelName.parse(TARGET)) is None
    with pytest.raises(RefusedError) as refused:
        await setting.models.cancel_operation(started.name)
    assert refused.value.code is Code.UNIMPLEMENTED
    assert not (await setting.models.get_operation(started.name)).done


async def test_a_cancel_may_be_accepted_and_come_to_nothing(start: Start):
    setting = await start(Dialect(cancels=False))
    started = await setting.models.copy_model(CALL)

    await setting.models.cancel_operation(started.name)

    assert not (await setting.models.get_operation(started.name)).done
    assert (await setting.ended(started)).model == ModelName.parse(f"{TARGET}@1")


@pytest.mark.parametrize(("origin", "named"), [(Origin.SOURCE, f"{TARGET}@1"), (Origin.ROOT, None)])
async def test_a_copy_of_a_copy_names_its_source_or_the_root(
    start: Start, origin: Origin, named: str | None
):
    setting = await start(Dialect(origin=origin))
    await setting.ended(await setting.models.copy_model(CALL))
    source = ModelName.parse(f"{TARGET}@1")

    call = replace(CALL, source=source, model_id="second")
    ended = await setting.ended(await setting.models.copy_model(call))

    assert ended.model
    found = await setting.models.get_model(ended.model)
    assert str(found.copy_of) == (named or str(CALL.source))


async def test_a_proof_may_come_late(start: Start):
    setting = await start(Dialect(proof_after_seconds=30))
    await setting.models.copy_model(CALL)

    setting.clock.advance(COPY_SECONDS + 29)
    assert [each.copy_of for each in await setting.versions()] == [None]

    setting.clock.advance(1)
    assert [each.copy_of for each in await setting.versions()] == [CALL.source]


async def test_a_stale_read_tells_of_a_late_proof_later_still(start: Start):
    setting = await start(Dialect(proof_after_seconds=30, stale_seconds=20))
    await setting.models.copy_model(CALL)

    setting.clock.advance(COPY_SECONDS + 49)
    assert [each.copy_of for each in await setting.versions()] == [None]

    setting.clock.advance(1)
    assert [each.copy_of for each in await setting.versions()] == [CALL.source]


async def test_a_model_may_show_before_its_operation_has_ended(start: Start):
    setting = await start(Dialect(model_after_seconds=10))
    started = await setting.models.copy_model(CALL)

    setting.clock.advance(9)
    assert list(await setting.versions()) == []

    setting.clock.advance(1)
    assert not (await setting.models.get_operation(started.name)).done
    (early,) = await setting.versions()
    assert (await setting.ended(started)).model == early.name
    assert list(await setting.versions()) == [early]


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_a_model_that_showed_early_is_gone_when_its_copy_comes_to_nothing(
    start: Start, end: str
):
    setting = await start(Dialect(model_after_seconds=0))
    if end == "failed":
        setting.fail_next(VertexCode.INTERNAL)
    started = await setting.models.copy_model(CALL)
    assert len(await setting.versions()) == 1

    if end == "cancelled":
        await setting.models.cancel_operation(started.name)

    assert (await setting.ended(started)).code
    assert list(await setting.versions()) == []


@pytest.mark.parametrize("early", [None, 0.0])
async def test_a_failed_copy_may_leave_a_wreck_without_proof(start: Start, early: float | None):
    setting = await start(Dialect(leaves_wreck=True, model_after_seconds=early))
    setting.fail_next(VertexCode.INTERNAL)

    ended = await setting.ended(await setting.models.copy_model(CALL))

    assert (ended.code, ended.model) == (Code.INTERNAL, None)
    (wreck,) = await setting.versions()
    assert wreck.copy_of is None


async def test_reads_may_be_stale(start: Start):
    setting = await start(Dialect(stale_seconds=30))
    started = await setting.models.copy_model(CALL)

    setting.clock.advance(COPY_SECONDS + 29)
    assert (await setting.models.get_operation(started.name)).done
    assert list(await setting.versions()) == []
    with pytest.raises(RefusedError):
        await setting.models.get_model(ModelName.parse(TARGET))

    setting.clock.advance(1)
    assert len(await setting.versions()) == 1
    assert await setting.models.get_model(ModelName.parse(TARGET))


async def test_a_fresh_operation_may_not_be_found_nor_listed_nor_cancelled(start: Start):
    setting = await start(Dialect(operation_after_seconds=30))
    started = await setting.models.copy_model(CALL)

    setting.clock.advance(29)
    for call in (setting.models.get_operation, setting.models.cancel_operation):
        with pytest.raises(RefusedError) as refused:
            await call(started.name)
        assert refused.value.code is Code.NOT_FOUND
    assert list(await setting.models.list_operations(ModelName.parse(TARGET)) or ()) == []

    setting.clock.advance(1)
    assert not (await setting.models.get_operation(started.name)).done
    assert len(await setting.models.list_operations(ModelName.parse(TARGET)) or ()) == 1


async def test_a_copy_may_show_nowhere_for_a_while_even_when_it_has_ended(start: Start):
    setting = await start(Dialect(shows_after_seconds=COPY_SECONDS + 30))
    started = await setting.models.copy_model(CALL)

    setting.clock.advance(COPY_SECONDS + 29)
    assert list(await setting.versions()) == []
    assert list(await setting.models.list_operations(ModelName.parse(TARGET)) or ()) == []
    with pytest.raises(RefusedError):
        await setting.models.get_operation(started.name)

    setting.clock.advance(1)
    assert len(await setting.versions()) == 1
    assert (await setting.models.get_operation(started.name)).done


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
        models = VertexModelService(call_seconds=0.6, read_seconds=0.2, endpoint=endpoint)
        loop = asyncio.get_running_loop()

        with pytest.raises(OutcomeUnknownError) as unknown:
            await models.copy_model(CALL)
        begun = loop.time()
        with pytest.raises(NoAnswerError):
            await models.get_model(CALL.source)

        assert not unknown.value.answered
        assert loop.time() - begun < 0.5, "a read has a time of its own"
        await models.close()


async def test_nobody_at_the_port_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    models = VertexModelService(call_seconds=5, endpoint=endpoint)

    with pytest.raises(NoAnswerError):
        await models.get_model(CALL.source)
    with pytest.raises(OutcomeUnknownError) as unknown:
        await models.copy_model(CALL)

    assert not unknown.value.answered
    await models.close()


@pytest.mark.parametrize("code", [VertexCode.UNAVAILABLE, VertexCode.INTERNAL])
async def test_a_server_that_says_later_is_alive(code: VertexCode):
    """Else an outage that answers would be taken for one that does not."""
    async with Vertex() as vertex:
        vertex.add_model(SOURCE)
        vertex.faults.refuse("GetModel", code)
        vertex.faults.refuse("CopyModel", code)
        models = VertexModelService(call_seconds=5, endpoint=f"http://{vertex.address}")

        with pytest.raises(UnavailableError) as later:
            await models.get_model(CALL.source)
        with pytest.raises(OutcomeUnknownError) as unknown:
            await models.copy_model(CALL)

        assert not isinstance(later.value, NoAnswerError)
        assert unknown.value.answered
        await models.close()


async def test_any_number_of_locations_leaves_few_clients():
    """A call that is on its way keeps its own."""
    async with Vertex() as vertex:
        vertex.add_model(SOURCE)
        places = sorted(LOCATIONS)
        assert len(places) > MAX_CLIENTS
        vertex.add_model(SOURCE.replace("us-central1", places[0]))
        models = VertexModelService(call_seconds=60, endpoint=f"http://{vertex.address}")

        async def read(location: str) -> None:
            with contextlib.suppress(RefusedError):
                await models.get_model(ModelName.parse(SOURCE.replace("us-central1", location)))

        await asyncio.gather(*(read(place) for place in [*places, *places]))
        await models.get_model(ModelName.parse(SOURCE.replace("us-central1", places[0])))

        assert len(models._clients) == MAX_CLIENTS
        await models.close()
        assert len(models._clients) == 0


@pytest.mark.parametrize(
    ("dialect", "code"),
    [
        (DIALECTS["cancel-denied"], Code.PERMISSION_DENIED),
        (DIALECTS["no-cancel"], Code.UNIMPLEMENTED),
    ],
)
async def test_refused_cancel_says_which_it_was(start: Start, dialect: Dialect, code: Code):
    """The one is mended by a role, the other by nothing; the copy goes on in both."""
    setting = await start(dialect)
    started = await setting.models.copy_model(CALL)

    with pytest.raises(RefusedError) as refusal:
        await setting.models.cancel_operation(started.name)

    assert refusal.value.code is code
    assert (refusal.value.reason == "IAM_PERMISSION_DENIED") is (code is Code.PERMISSION_DENIED)
    assert not (await setting.models.get_operation(started.name)).done
