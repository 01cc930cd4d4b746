"""What Vertex AI writes and this client does not know yet is unknown, never a bug."""

from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.cloud.aiplatform_v1 import types
from google.longrunning import operations_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import status_pb2

from local_cloud.vertex import Vertex
from model_copier.adapters.pubsub import PubsubTopics
from model_copier.adapters.vertex import VertexModelService, read_model, read_operation
from model_copier.domain.errors import Code, OutcomeUnknownError, UnavailableError
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall

ASKED = ModelName.parse("projects/p/locations/us-central1/models/7")
NEW = 4242


def enum_paths(descriptor: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Name each enum field of a message, through all messages in it, each kind once in a path."""
    for field in descriptor.fields:
        path = (*above, field.name)
        if field.type == FieldDescriptor.TYPE_ENUM:
            yield path
        elif field.type == FieldDescriptor.TYPE_MESSAGE and len(path) < 5:
            yield from enum_paths(field.message_type, path)


def filled(message: Any, path: tuple[str, ...]) -> Any:
    """Set one enum field, however deep, to a value that no client knows."""
    inside = message
    for name in path[:-1]:
        if hasattr(inside, "GetEntryClass"):  # a map: its values are made when they are read
            inside = inside["key"]
            continue
        value = getattr(inside, name)
        inside = value.add() if hasattr(value, "add") else value
    last = getattr(inside, path[-1])
    if hasattr(last, "append"):
        last.append(NEW)
    else:
        setattr(inside, path[-1], NEW)
    return message


MODEL_ENUMS = sorted(enum_paths(types.Model.pb().DESCRIPTOR))


@pytest.mark.parametrize("path", MODEL_ENUMS, ids=".".join)
def test_unknown_enum_in_a_model_is_read(path: tuple[str, ...]):
    pb = filled(types.Model.pb()(name=str(ASKED), version_id="3"), path)

    model: Any = types.Model.deserialize(pb.SerializeToString())
    found = read_model(model, asked=ASKED)

    assert found.name == ASKED.at("3")
    expected = "unknown (4242)" if path[-1] == "source_type" else "MODEL_SOURCE_TYPE_UNSPECIFIED"
    assert found.kind == expected


def test_the_enums_that_are_tried_have_the_kind_among_them():
    assert ("model_source_info", "source_type") in MODEL_ENUMS


@pytest.mark.parametrize("kind", [types.CopyModelOperationMetadata, types.CopyModelResponse])
def test_unknown_enum_in_an_operation_is_read(kind: Any):
    for path in [None, *enum_paths(kind.pb().DESCRIPTOR)]:
        inside = filled(kind.pb()(), path) if path else kind.pb()()
        found = operations_pb2.Operation(name="projects/p/locations/l/operations/1", done=True)
        found.metadata.Pack(inside)
        found.response.Pack(inside)

        assert read_operation(found).done


@pytest.mark.parametrize(
    ("number", "code"),
    [(0, Code.UNKNOWN), (7, Code.PERMISSION_DENIED), (99, Code.UNKNOWN), (-1, Code.UNKNOWN)],
)
def test_unknown_code_of_an_operation_is_unknown(number: int, code: Code):
    found = operations_pb2.Operation(
        name="o", done=True, error=status_pb2.Status(code=number, message="m")
    )

    assert read_operation(found).code is code


def test_payload_of_another_type_says_nothing():
    found = operations_pb2.Operation(name="o", done=True)
    found.response.type_url = "type.googleapis.com/google.cloud.aiplatform.v9.CopyModelResponse"
    found.metadata.type_url = (
        "type.googleapis.com/google.cloud.aiplatform.v1.CopyModelOperationMetadata"
    )
    found.metadata.value = b"\xff\xff\xff"

    read = read_operation(found)

    assert (read.model, read.code, read.started_at) == (None, None, None)


def test_time_outside_the_calendar_says_nothing():
    metadata = types.CopyModelOperationMetadata.pb()()
    metadata.generic_metadata.create_time.seconds = 10**15
    found = operations_pb2.Operation(name="o")
    found.metadata.Pack(metadata)

    assert read_operation(found).started_at is None


@pytest.mark.parametrize("name", ["", "models/7", "projects/p/locations/L/models/7", "\x1b[2J"])
@pytest.mark.parametrize("version", ["", "v2", "-1", "9" * 400])
def test_unreadable_names_fall_back_to_what_was_asked(name: str, version: str):
    model = types.Model(
        name=name, version_id=version, original_model_info={"model": "publishers/google/models/x"}
    )

    found = read_model(model, asked=ASKED.at("1"))

    assert (found.name, found.copy_of) == (ASKED.at("1"), None)


async def test_copy_of_a_kind_from_the_future_is_read_back():
    vertex = Vertex(copy_seconds=0, dialect="copies-of-new-kind")
    vertex.add_model(str(ASKED), kind="NEW")
    target = ModelName.parse("projects/q/locations/us-central1/models/copy")
    async with vertex:
        models = VertexModelService(call_seconds=5, endpoint=f"http://{vertex.address}")
        source = await models.get_model(ASKED)
        await models.copy_model(
            CopyCall(
                source=source.name, target_location=target.location_name, model_id=target.model
            )
        )
        copy = await models.get_model(target)
        (version,) = await models.list_versions(target)
        await models.close()

    assert source.kind == copy.kind == version.kind == "unknown (42)"
    assert copy.copy_of == ASKED.at("1")


class _Garbled(grpc.GenericRpcHandler):
    """Refuses every call, with details that no client can read."""

    def service(self, call: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        del call

        async def refuse(_: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                "no",
                trailing_metadata=(("grpc-status-details-bin", b"\xff\xff\xff"),),
            )

        return grpc.unary_unary_rpc_method_handler(refuse)


async def test_unreadable_details_of_an_error_are_no_bug():
    """Google's client raises of them instead of the error; of a copy nothing is known then."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Garbled(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    models = VertexModelService(call_seconds=5, endpoint=f"http://{address}")
    topic = "projects/p/topics/t"
    topics = PubsubTopics(
        reply_topic=topic,
        dead_letter_topic=topic,
        tick_topic=topic,
        call_seconds=5,
        emulator_host=address,
    )

    with pytest.raises(UnavailableError):
        await models.get_model(ASKED)
    with pytest.raises(OutcomeUnknownError):
        await models.copy_model(
            CopyCall(source=ASKED, target_location=ASKED.location_name, model_id="m")
        )
    with pytest.raises(UnavailableError):
        await topics.publish_tick()
    await models.close()
    await topics.close()
    await server.stop(0)
