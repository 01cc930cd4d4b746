"""Whatever is sent to the local Vertex AI: it answers in Google's form, and goes on serving."""

# Fixtures and parameters speak by name:
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import asyncio
import json
import logging
from collections import Counter
from random import Random
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.cloud import aiplatform_v1 as google
from google.longrunning import operations_pb2

from local_cloud.vertex import Code, Knobs, Vertex
from local_cloud.vertex_methods import SERVICES
from vertex_clients import CATS, DEADLINE_SECONDS, SOURCE, TARGET, calling

INPUTS = 400
TEXTS = [
    "", " ", "0", "-1", "é", "漢字🙂", "\x00", "\n", "x" * 300, "9" * 5000, "%", "%2F", "%00", "..",
    "../../etc", "@", "@@", "a@b@c", ":", "::copy", "\u202e", "\ufeff", "projects", SOURCE, TARGET,
    CATS, f"{SOURCE}@", f"{SOURCE}@9", f"{CATS}/operations/1", f"{TARGET}/operations/" + "9" * 400,
    "projects/1/locations/x/models/y", "projects//locations//models/", "models/*", "done:true",
    "labels.a=b", 'display_name="', "null", "NaN", "__proto__", "self", "changes", "worst",
]  # fmt: skip
VALUES: list[Any] = [
    *TEXTS, None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, -(2**63), 0.5, 1e308, float("nan"),
    float("inf"), [], {}, [None], {"": None}, [[[]]], {"kmsKeyName": "k"}, "10s", "-10s",
    "315576000000s", "1e9s",
]  # fmt: skip
FIELDS = [
    "parent", "name", "sourceModel", "source_model", "modelId", "model_id", "parentModel",
    "encryptionSpec", "customServiceAccount", "pageSize", "pageToken", "filter", "orderBy",
    "readMask", "timeout", "returnPartialSuccess", "version", "labels", "aliases", "kind",
    "evaluations", "containerImage", "dialect", "copy_seconds", "lost_answers", "refusals",
    "outages", "grants", "seed", "refuse", "hold", "copy_fails", "clear", "", "x", "@type",
]  # fmt: skip
PATHS = [
    f"/v1/{TARGET}/models:copy", f"/v1/{TARGET}/models", f"/v1/{SOURCE}", f"/v1/{SOURCE}@best",
    f"/v1/{SOURCE}:listVersions", f"/v1/{SOURCE}/evaluations", f"/v1/{CATS}/operations/1",
    f"/ui/{CATS}/operations/1", f"/v1/{CATS}/operations/1:wait", f"/v1/{TARGET}/operations",
    f"/v1/{CATS}/operations/1:cancel", f"/v1beta1/{TARGET}/models:copy", "/v1/", "/", "/ui/",
    "/control/knobs", "/control/models", "/control/log", "/control/faults", "/control/",
]  # fmt: skip
VERBS = [*["GET", "POST"] * 8, "DELETE", "PATCH", "PUT", "HEAD", "OPTIONS", "BREW"]


@pytest.fixture
async def vertex(caplog):
    """One that must have nothing to complain of in the end."""
    cloud = Vertex(copy_seconds=0.01)
    cloud.add_model(SOURCE)
    caplog.set_level(logging.WARNING)
    async with cloud:
        yield cloud
    complaints = [record.getMessage() for record in caplog.get_records("call")]
    assert set(complaints) <= {"Invalid HTTP request received."}


async def still_serves(vertex: Vertex) -> None:
    """Copy a model over each face."""
    for kind, model_id in (("grpc", "after_grpc"), ("rest", "after_rest")):
        async with asyncio.timeout(DEADLINE_SECONDS), calling(vertex, kind) as caller:
            ended = await caller.ended(await caller.copy(model_id=model_id))
            assert ended.HasField("response"), ended


def any_text(random: Random) -> str:
    text = random.choice(TEXTS)
    at = random.randint(0, len(text))
    return text if random.random() < 0.8 else text[:at] + random.choice(TEXTS) + text[at:]


def any_object(random: Random) -> dict[str, Any]:
    return {random.choice(FIELDS): random.choice(VALUES) for _ in range(random.randint(0, 4))}


def any_body(random: Random) -> bytes:
    match random.randint(0, 9):
        case 0:
            return random.randbytes(random.randint(0, 60))
        case 1:
            return json.dumps(random.choice(VALUES)).encode()
        case 2:
            text = json.dumps(any_object(random)).encode()
            return text[: random.randint(0, len(text))]
        case 3:
            return b"[" * 20_000
        case 4 | 5 | 6:
            return b""
        case _:
            return json.dumps(any_object(random)).encode()


def any_target(random: Random) -> bytes:
    path = random.choice(PATHS)
    if random.random() < 0.3:
        at = random.randint(1, len(path))
        path = path[:at] + any_text(random) + path[at:]
    if random.random() < 0.3:
        path += f"?{random.choice(FIELDS)}={any_text(random)}"
    kept = b"/:@?=&%~-_." + bytes(range(48, 58)) + bytes(range(65, 91)) + bytes(range(97, 123))
    return (
        b"".join(bytes([byte]) if byte in kept else b"%%%02X" % byte for byte in path.encode())
        or b"/"
    )


@pytest.mark.parametrize("seed", range(4))
async def test_any_request_over_rest_gets_an_answer_in_googles_form(vertex, seed):
    random = Random(seed)
    answers: Counter[int] = Counter()
    async with httpx.AsyncClient(base_url=vertex.rest_url) as client:
        for _ in range(INPUTS):
            url = client.base_url.copy_with(raw_path=any_target(random))
            answer = await client.request(random.choice(VERBS), url, content=any_body(random))
            answers[answer.status_code] += 1
            if answer.status_code >= 400 and answer.request.method != "HEAD":
                assert answer.json()["error"]["status"] in Code.__members__
            assert answer.status_code not in {500, 502}, answer.text
            vertex.faults.clear()
            vertex.turn(**dict(Knobs(copy_seconds=0.01)))

    assert answers[200] > 10
    assert answers[400] > 10
    await still_serves(vertex)


@pytest.mark.parametrize("seed", range(2))
async def test_any_bytes_over_grpc_get_a_canonical_code(vertex, seed):
    random = Random(seed)
    methods = [f"/{name}/{method}" for name, known in SERVICES.items() for method in known]
    request = google.CopyModelRequest(parent=TARGET, source_model=SOURCE, model_id="cats")
    whole = [
        google.CopyModelRequest.serialize(request),
        operations_pb2.WaitOperationRequest(name=f"{CATS}/operations/1").SerializeToString(),
    ]
    answers: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(vertex.address) as channel:
        for _ in range(INPUTS):
            method = random.choice([*methods, "/x/y", f"{methods[0]}s", "//"])
            bytes_sent = bytearray(random.choice(whole))
            for _ in range(random.randint(0, 3)):
                bytes_sent[random.randrange(len(bytes_sent))] = random.randrange(256)
            if random.random() < 0.3:
                bytes_sent = bytearray(random.randbytes(random.randint(0, 60)))
            try:
                call: Any = channel.unary_unary(method)
                await call(bytes(bytes_sent), timeout=DEADLINE_SECONDS)
                answers["OK"] += 1
            except grpc.aio.AioRpcError as error:
                answers[error.code().name] += 1

    assert not answers.keys() & {"UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
    assert answers["INVALID_ARGUMENT"] > 10
    await still_serves(vertex)


async def test_a_wait_longer_than_time_itself_is_a_wait(vertex):
    """A Duration holds more seconds than Python's own type of it."""
    vertex.copy_seconds = 0.2
    async with calling(vertex, "grpc_asyncio") as caller:
        copy = await caller.copy(model_id="cats")
        request = operations_pb2.WaitOperationRequest(name=copy.operation.name)
        request.timeout.seconds = 2**62

        answer = await caller("wait_operation", request)

    assert operations_pb2.Operation.FromString(answer).done


@pytest.mark.parametrize("port", ["rest", "grpc"])
async def test_garbage_on_the_wire_harms_nobody_else(vertex, port):
    random = Random(1)
    address = vertex.address if port == "grpc" else vertex.rest_url.removeprefix("http://")
    host, _, number = address.partition(":")
    for start in (b"", b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01"):
        for _ in range(10):
            _, writer = await asyncio.open_connection(host, int(number))
            writer.write(start + random.randbytes(random.randint(0, 400)))
            writer.close()

    await still_serves(vertex)
