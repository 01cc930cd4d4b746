"""The local Vertex AI as Google's own clients see it, over real sockets.

What every face promises runs once for each kind of client: the generated one over gRPC
(sync and async) and over REST, then the SDK's ``Model.copy`` and the gcloud command.
"""

# Fixtures and parameters speak by name:
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import asyncio
import json
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as google
from google.longrunning import operations_pb2

from local_cloud.vertex import Code, Vertex
from vertex_clients import (
    CATS,
    DEADLINE_SECONDS,
    SOURCE,
    TARGET,
    calling,
    copy_request,
    run,
    until,
)


@pytest.fixture
async def vertex() -> AsyncIterator[Vertex]:
    cloud = Vertex(copy_seconds=0.05)
    cloud.add_model(SOURCE, display_name="cats", labels={"team": "pets"})
    cloud.add_model(SOURCE, version="2", aliases=["default", "best"])
    async with cloud:
        yield cloud


# Every face


async def test_a_copy_ends_with_a_model_that_proves_where_it_came_from(caller):
    copy = await caller.copy(model_id="cats")
    assert copy.operation.name.startswith(f"{CATS}/operations/")

    await caller.ended(copy)
    model = await caller("get_model", {"name": CATS})
    assert (model.name, model.version_id, model.version_aliases) == (CATS, "1", ["default"])
    assert (model.display_name, dict(model.labels)) == ("cats", {"team": "pets"})
    assert model.original_model_info.model == f"{SOURCE}@1"
    assert model.model_source_info.copy
    assert model.model_source_info.source_type.name == "GENIE"


async def test_googles_own_polling_reads_the_response_and_the_times(caller):
    copy = await caller.copy(model_id="cats")
    await caller.ended(copy)

    response = await caller.result(copy)

    assert (response.model, response.model_version_id) == (CATS, "1")
    times = copy.metadata.generic_metadata
    assert times.update_time - times.create_time == timedelta(seconds=0.05)


@pytest.mark.parametrize(
    ("asked", "version"), [("", "2"), ("@1", "1"), ("@best", "2"), ("@default", "2")]
)
async def test_a_model_is_read_by_default_version_number_or_alias(caller, asked, version):
    model = await caller("get_model", {"name": SOURCE + asked})

    assert (model.name, model.version_id) == (SOURCE, version)


async def test_a_copy_below_a_parent_becomes_its_next_version(caller):
    await caller.ended(await caller.copy(model_id="cats"))
    await caller.ended(await caller.copy(parent_model=CATS, source_model=f"{SOURCE}@best"))

    versions = await caller.listed("list_model_versions", {"name": CATS, "page_size": 1})
    assert [(each.version_id, each.original_model_info.model) for each in versions] == [
        ("1", f"{SOURCE}@1"),
        ("2", f"{SOURCE}@2"),
    ]


async def test_models_come_in_pages(caller, vertex):
    for number in range(5):
        vertex.add_model(f"{TARGET}/models/m{number}")

    models = await caller.listed("list_models", {"parent": TARGET, "page_size": 2})

    assert [model.name for model in models] == [f"{TARGET}/models/m{n}" for n in range(5)]


async def test_a_simple_filter_is_applied_and_any_other_refused(caller, vertex):
    vertex.add_model(f"{TARGET}/models/cats", labels={"team": "pets"})
    vertex.add_model(f"{TARGET}/models/dogs", labels={"team": "pets"})
    asked = {"parent": TARGET, "filter": "labels.team=pets"}

    assert len(await caller.listed("list_models", asked)) == 2
    (cats,) = await caller.listed("list_models", {**asked, "filter": 'display_name!="dogs"'})
    assert cats.name == CATS
    with pytest.raises(exceptions.BadRequest, match="as a filter"):
        await caller.listed("list_models", {**asked, "filter": "model=cats OR model=dogs"})


async def test_a_missing_source_fails_inside_the_operation(caller):
    ended = await caller.ended(await caller.copy(source_model=f"{SOURCE}@9", model_id="cats"))

    assert (ended.error.code, ended.error.message) == (Code.NOT_FOUND, "NOT_FOUND")


async def test_a_taken_id_is_refused(caller):
    await caller.ended(await caller.copy(model_id="cats"))

    # Over REST Google's client makes its parent class, Conflict, of the same answer.
    with pytest.raises(exceptions.Conflict, match="already exists"):
        await caller.copy(model_id="cats")


async def test_a_bad_id_is_refused(caller):
    with pytest.raises(exceptions.BadRequest, match="model_id"):
        await caller.copy(model_id="7")


@pytest.mark.parametrize("below", [TARGET, CATS])
async def test_operations_are_listed_by_region_and_by_model(caller, below):
    copy = await caller.copy(model_id="cats")

    listed = await caller("list_operations", operations_pb2.ListOperationsRequest(name=below))

    assert [operation.name for operation in listed.operations] == [copy.operation.name]


async def test_a_cancelled_copy_says_so_and_makes_nothing(caller, vertex):
    vertex.copy_seconds = 3600
    copy = await caller.copy(model_id="cats")
    name = copy.operation.name

    await caller("cancel_operation", operations_pb2.CancelOperationRequest(name=name))

    ended = await caller("get_operation", operations_pb2.GetOperationRequest(name=name))
    assert (ended.done, ended.error.code) == (True, Code.CANCELLED)
    assert vertex.versions(CATS) == ()


async def test_a_wait_ends_early_with_what_there_is_when_its_own_time_is_over(caller, vertex):
    vertex.copy_seconds = 3600
    copy = await caller.copy(model_id="cats")

    assert not (await caller.waited(copy, timeout="0.001s")).done


async def test_a_wait_ends_when_another_caller_cancels(caller, vertex):
    vertex.copy_seconds = 3600
    copy = await caller.copy(model_id="cats")
    waiting = asyncio.create_task(caller.ended(copy))

    async with calling(vertex, "grpc_asyncio") as other:
        request = operations_pb2.CancelOperationRequest(name=copy.operation.name)
        await other("cancel_operation", request)

    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await waiting).error.code == Code.CANCELLED


async def test_a_deleted_operation_is_gone(caller):
    copy = await caller.copy(model_id="cats")
    name = copy.operation.name

    await caller("delete_operation", operations_pb2.DeleteOperationRequest(name=name))

    with pytest.raises(exceptions.NotFound):
        await caller("get_operation", operations_pb2.GetOperationRequest(name=name))


async def test_what_is_left_out_says_that_it_is_left_out(caller):
    """Over REST under 404, since gcloud takes any 5xx for an outage."""
    left_out = (exceptions.MethodNotImplemented, exceptions.NotFound)
    with pytest.raises(left_out, match="The local Vertex AI"):
        await caller("delete_model", {"name": SOURCE})


# Faults, on every face


async def test_a_copy_may_be_made_to_fail_in_its_operation(caller, vertex):
    vertex.faults.copy_fails(Code.PERMISSION_DENIED, times=1)

    failed = await caller.ended(await caller.copy(model_id="cats"))
    good = await caller.ended(await caller.copy(model_id="cats"))

    assert failed.error.code == Code.PERMISSION_DENIED
    assert f"'//aiplatform.googleapis.com/{SOURCE}@1'" in failed.error.message
    assert good.HasField("response")


async def test_a_method_may_be_refused_for_its_next_calls(caller, vertex):
    vertex.faults.refuse("GetModel", Code.RESOURCE_EXHAUSTED, times=2)

    for _ in range(2):
        with pytest.raises(exceptions.TooManyRequests, match="Quota exceeded"):
            await caller("get_model", {"name": SOURCE})
    assert await caller("get_model", {"name": SOURCE})


async def test_a_refused_copy_is_in_the_log_and_nowhere_else(caller, vertex):
    vertex.faults.refuse("CopyModel", Code.UNAVAILABLE)

    with pytest.raises(exceptions.ServiceUnavailable):
        await caller.copy(model_id="cats")

    assert [call.answer for call in vertex.copy_calls] == ["UNAVAILABLE"]
    assert vertex.operations == ()


async def test_a_copy_may_be_taken_and_its_caller_told_unavailable(caller, vertex):
    vertex.faults.take_then_fail()

    with pytest.raises(exceptions.ServiceUnavailable):
        await caller.copy(model_id="cats")

    (call,) = vertex.copy_calls
    assert call.answer == "UNAVAILABLE"
    assert call.operation == vertex.operations[0].name
    await until(lambda: len(vertex.versions(CATS)) == 1)


async def test_an_answer_is_held_until_it_is_released(caller, vertex):
    vertex.faults.hold()
    copying = asyncio.create_task(caller.copy(model_id="cats"))

    async with asyncio.timeout(DEADLINE_SECONDS):
        await vertex.faults.until_held()
        assert [call.answer for call in vertex.copy_calls] == ["HELD"]
        assert len(vertex.operations) == 1
        vertex.faults.release()
        assert (await copying).operation.name == vertex.operations[0].name

    assert [call.answer for call in vertex.copy_calls] == ["OK"]


async def test_an_answer_may_be_held_for_a_while_only(caller, vertex):
    vertex.faults.hold(seconds=0.01)

    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await caller.copy(model_id="cats")


GRPC_CALLER = """
import sys, grpc
_, address, _, request = sys.argv
call = grpc.insecure_channel(address).unary_unary(
    "/google.cloud.aiplatform.v1.ModelService/CopyModel"
)
call(bytes.fromhex(request))
"""
REST_CALLER = """
import sys, urllib.request
_, _, url, request = sys.argv
body = b'{"sourceModel": "%s", "modelId": "cats"}' % request.encode()
urllib.request.urlopen(url, body)
"""


@pytest.mark.parametrize("face", ["grpc", "rest"])
async def test_a_caller_killed_while_its_answer_is_held_leaves_a_running_copy(vertex, face):
    vertex.faults.hold()
    request = google.CopyModelRequest(copy_request(model_id="cats"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        GRPC_CALLER if face == "grpc" else REST_CALLER,
        vertex.address,
        f"{vertex.rest_url}/v1/{TARGET}/models:copy",
        google.CopyModelRequest.serialize(request).hex() if face == "grpc" else f"{SOURCE}@1",
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        await vertex.faults.until_held()

    process.kill()
    await process.wait()

    await until(lambda: vertex.copy_calls[0].answer == "GONE")
    await until(lambda: len(vertex.versions(CATS)) == 1)


# The control endpoint


async def test_another_process_adds_models_arms_faults_and_reads_what_happened(vertex, http):
    other = "projects/src/locations/us-central1/models/8"
    added = await http.post("/control/models", json={"name": other, "labels": {"a": "b"}})
    armed = await http.post(
        "/control/faults",
        json={
            "copy_fails": {"code": "FAILED_PRECONDITION", "message": "not today", "times": 1},
            "refuse": [{"method": "GetModel", "code": "INTERNAL"}],
            "take_then_fail": {},
            "hold": {"seconds": 0.01},
        },
    )
    answer = await http.post(
        f"/v1/{TARGET}/models:copy", json={"sourceModel": other, "modelId": "dogs"}
    )
    await until(lambda: vertex.operations[0].done)

    assert (added.status_code, armed.status_code, answer.status_code) == (200, 200, 503)
    assert (await http.get(f"/v1/{other}")).json()["error"]["status"] == "INTERNAL"
    log = (await http.get("/control/log")).json()
    (call,) = log["copy_calls"]
    assert (call["face"], call["answer"]) == ("rest", "UNAVAILABLE")
    assert call["request"] == {"parent": TARGET, "sourceModel": other, "modelId": "dogs"}
    (operation,) = log["operations"]
    assert (operation["name"], operation["state"]) == (call["operation"], "FAILED")
    assert operation["error"] == {"code": "FAILED_PRECONDITION", "message": "not today"}
    assert [model["name"] for model in log["models"]] == [SOURCE, other]
    assert [each["version"] for each in log["models"][0]["versions"]] == ["1", "2"]


async def test_clear_disarms_and_releases(vertex, http):
    armed = {"copy_fails": {}, "hold": {"times": 2}, "take_then_fail": {"times": 3}}
    await http.post("/control/faults", json=armed)
    copying = asyncio.create_task(
        http.post(f"/v1/{TARGET}/models:copy", json={"sourceModel": SOURCE, "modelId": "a"})
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        await vertex.faults.until_held()

    await http.post("/control/faults", json={"clear": True})

    assert (await copying).status_code == 200
    again = await http.post(
        f"/v1/{TARGET}/models:copy", json={"sourceModel": SOURCE, "modelId": "b"}
    )
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"hold": {"seconds": -1}}, "hold.seconds"),
        ({"copy_fails": {"code": "BAD"}}, "not a canonical code"),
        ({"refuse": [{"code": "INTERNAL"}]}, "refuse.0.method"),
        ({"copy_falls": {}}, "copy_falls"),
        ([], "not a JSON object"),
    ],
)
async def test_an_order_that_is_not_understood_arms_nothing(http, body, words):
    refused = await http.post("/control/faults", json=body)

    error = refused.json()["error"]
    assert (refused.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
    assert words in error["message"]


# REST alone


async def test_an_at_sign_may_be_percent_encoded_and_enums_be_numbers(http):
    plain = await http.get(f"/v1/{SOURCE}%40best")
    numbered = await http.get(f"/v1/{SOURCE}@best?%24alt=json%3Benum-encoding%3Dint")

    assert plain.json()["modelSourceInfo"] == {"sourceType": "GENIE"}
    assert numbered.json()["modelSourceInfo"] == {"sourceType": 5}


@pytest.mark.parametrize("prefix", ["/v1", "/ui"])
async def test_an_operation_is_served_where_either_client_asks(http, prefix):
    answer = await http.post(
        f"/v1/{TARGET}/models:copy", json={"sourceModel": SOURCE, "modelId": "cats"}
    )

    waited = await http.post(f"{prefix}/{answer.json()['name']}:wait", json={"timeout": "10s"})

    assert waited.json()["response"] == {
        "@type": "type.googleapis.com/google.cloud.aiplatform.v1.CopyModelResponse",
        "model": CATS,
        "modelVersionId": "1",
    }


async def test_v1beta1_is_v1_with_types_of_its_own(http):
    answer = await http.post(
        f"/v1beta1/{TARGET}/models:copy", json={"sourceModel": SOURCE, "modelId": "cats"}
    )

    waited = await http.post(f"/v1beta1/{answer.json()['name']}:wait", json={"timeout": "10s"})

    kind = "type.googleapis.com/google.cloud.aiplatform.v1beta1.CopyModel"
    assert answer.json()["metadata"]["@type"] == f"{kind}OperationMetadata"
    assert waited.json()["response"]["@type"] == f"{kind}Response"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"sourceModels": "x"}', b'{"modelId": "a", "parentModel": "b"}']
)
async def test_a_body_that_is_no_request_gets_googles_error_body(http, body):
    answer = await http.post(f"/v1/{TARGET}/models:copy", content=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")


# Beginning and end


async def test_a_clock_moved_by_hand_ends_a_copy_and_the_wait_for_it():
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    async with (
        Vertex(copy_seconds=3600, clock=lambda: now[0]) as vertex,
        calling(vertex, "grpc_asyncio") as caller,
    ):
        vertex.add_model(SOURCE)
        copy = await caller.copy(model_id="cats")
        waiting = asyncio.create_task(caller.ended(copy))

        now[0] += timedelta(hours=1)
        vertex.wake()

        async with asyncio.timeout(DEADLINE_SECONDS):
            assert (await waiting).HasField("response")


async def test_it_stops_within_a_second_whatever_is_under_way_and_leaves_nothing():
    tasks_before = asyncio.all_tasks()
    handlers = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    vertex = Vertex(copy_seconds=3600)
    vertex.add_model(SOURCE)
    await vertex.start()
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == handlers
    host, port = vertex.rest_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half_sent:
        half_sent.sendall(b"POST /control/faults HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{")
        async with calling(vertex, "grpc_asyncio") as grpc_caller, calling(vertex, "rest") as rest:
            waiting = asyncio.create_task(grpc_caller.waited(await rest.copy(model_id="long")))
            vertex.faults.hold(times=2)
            held = [
                asyncio.create_task(grpc_caller.copy(model_id="cats")),
                asyncio.create_task(rest.copy(model_id="dogs")),
            ]
            async with asyncio.timeout(DEADLINE_SECONDS):
                await vertex.faults.until_held(2)

            began = time.monotonic()
            await vertex.stop()
            took = time.monotonic() - began

            answers = [(await copy).operation.name for copy in held]
            assert not (await waiting).done

    assert took < 1
    assert sorted(answers) == sorted(call.operation for call in vertex.copy_calls[1:])
    assert asyncio.all_tasks() == tasks_before
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_a_taken_port_is_said_at_once_and_nothing_is_left_half_started(vertex):
    tasks_before = asyncio.all_tasks()
    grpc_port, rest_port = (
        int(address.rpartition(":")[2]) for address in (vertex.address, vertex.rest_url)
    )

    with pytest.raises(OSError, match="in use"):
        await Vertex().start(rest_port=rest_port)
    with pytest.raises(RuntimeError):
        await Vertex().start(port=grpc_port)

    assert asyncio.all_tasks() == tasks_before


async def test_two_clouds_in_one_process_know_nothing_of_each_other(vertex):
    async with Vertex() as other, calling(other, "grpc_asyncio") as caller:
        vertex.faults.refuse("GetModel", Code.INTERNAL)

        with pytest.raises(exceptions.NotFound):
            await caller("get_model", {"name": SOURCE})


# Whole programs of Google's

SDK_FAILURES = """
import sys
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
aiplatform.init(api_endpoint=sys.argv[1], api_transport="rest", project="dst",
                location="us-central1", credentials=AnonymousCredentials())
for name in sys.argv[2:]:
    try:
        aiplatform.Model(name).copy("europe-west4", destination_model_id="cats")
    except GoogleAPICallError as error:
        print("raised", type(error).__name__, error.message)
"""
SDK_COPY = """
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
aiplatform.init(api_endpoint=sys.argv[1], api_transport="rest", project="dst",
                location="us-central1", credentials=AnonymousCredentials())
copied = aiplatform.Model(sys.argv[2]).copy("europe-west4", destination_model_id="cats")
print(copied.versioned_resource_name)
"""


async def test_the_sdk_copies_a_model(vertex):
    """In a process of its own: the SDK keeps its endpoint in a global of the process."""
    printed = await run(sys.executable, "-c", SDK_COPY, vertex.rest_url, f"{SOURCE}@best")

    assert printed.splitlines()[-1] == f"{CATS}@1"
    assert str(vertex.versions(CATS)[0].copied_from) == f"{SOURCE}@2"


async def test_the_sdk_tells_a_refusal_a_failure_and_a_missing_source(vertex):
    vertex.add_model(f"{SOURCE}0", kind="BQML")
    vertex.faults.copy_fails(Code.PERMISSION_DENIED, times=1)

    printed = await run(
        sys.executable, "-c", SDK_FAILURES, vertex.rest_url, f"{SOURCE}0", SOURCE, f"{SOURCE}@9"
    )

    raised = [line for line in printed.splitlines() if line.startswith("raised")]
    refused, failed, missing = raised
    assert "BigQuery ML" in refused
    assert failed.startswith("raised PermissionDenied")
    assert missing.startswith("raised NotFound")


@pytest.fixture
def gcloud(vertex, tmp_path) -> Callable[..., Awaitable[Any]]:
    """Call ``gcloud ... --format=json`` with the target as its project and region."""
    if not shutil.which("gcloud"):
        pytest.skip("gcloud is not installed on this machine")

    async def gcloud(*arguments: str) -> Any:
        printed = await run(
            *("gcloud", *arguments, "--project=dst", "--region=europe-west4", "--format=json"),
            CLOUDSDK_CONFIG=str(tmp_path),
            CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM=f"{vertex.rest_url}/",
            CLOUDSDK_AUTH_DISABLE_CREDENTIALS="true",
            CLOUDSDK_CORE_DISABLE_PROMPTS="1",
            CLOUDSDK_CORE_DISABLE_USAGE_REPORTING="true",
            CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK="true",
        )
        return json.loads(printed)

    return gcloud


async def test_gcloud_copies_describes_and_lists_models(gcloud):
    models = ("ai", "models")
    source = f"--source-model={SOURCE}"

    copied = await gcloud(*models, "copy", f"{source}@2", "--destination-model-id=cats")
    version = await gcloud(
        "beta", *models, "copy", f"{source}@1", f"--destination-parent-model={CATS}"
    )
    described = await gcloud(*models, "describe", "cats@1")
    listed = await gcloud(*models, "list")
    versions = await gcloud(*models, "list-version", "cats")

    assert (copied["model"], copied["modelVersionId"]) == (CATS, "1")
    assert (version["model"], version["modelVersionId"]) == (CATS, "2")
    assert described["originalModelInfo"] == {"model": f"{SOURCE}@2"}
    assert [model["name"] for model in listed] == [CATS]
    assert [each["versionId"] for each in versions] == ["1", "2"]


async def test_gcloud_tells_a_refusal_with_its_code_and_a_failure_with_its_words(vertex, gcloud):
    vertex.add_model(f"{SOURCE}0", kind="BQML")
    copy = ("ai", "models", "copy", "--destination-model-id=cats")

    with pytest.raises(AssertionError, match=r"FAILED_PRECONDITION: source_model: .*BigQuery ML"):
        await gcloud(*copy, f"--source-model={SOURCE}0")
    with pytest.raises(AssertionError, match=r"\(gcloud.ai.models.copy\) NOT_FOUND"):
        await gcloud(*copy, f"--source-model={SOURCE}@9")


async def test_gcloud_sends_a_copy_again_whose_answer_was_lost(vertex, gcloud):
    """That is why the copier does not use it: without a destination id there are two models."""
    vertex.faults.take_then_fail()

    await gcloud("ai", "models", "copy", f"--source-model={SOURCE}")

    assert [call.answer for call in vertex.copy_calls] == ["UNAVAILABLE", "OK"]
    assert len({operation.destination for operation in vertex.operations}) == 2
