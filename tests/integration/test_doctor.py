"""``model-copy doctor`` over real sockets: the local Pub/Sub, and one that knows permissions."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.pubsub_v1 import types

from command_line import PROJECT, Run, Service

LETTERS = f"{PROJECT}/topics/model-copy-dead-letters"
AGENT = "serviceAccount:service-123@gcp-sa-pubsub.iam.gserviceaccount.com"


async def examine(run: Run, **env: str) -> tuple[int, list[dict[str, str]]]:
    command = await run(["doctor", "--project", "team-models", "--output", "json"], **env)
    code, output = await command.ends()
    return code, [json.loads(line) for line in output.splitlines()]


def wrong(findings: list[dict[str, str]]) -> list[str]:
    return [each["what"] for each in findings if each["verdict"] == "wrong"]


async def test_what_is_missing_is_told_with_what_makes_it(service: Service, run: Run):
    del service
    code, findings = await examine(run)

    assert code == 1
    assert wrong(findings) == [
        f"{LETTERS} does not exist",
        f"{PROJECT}/subscriptions/model-copy-requests does not exist",
        f"{PROJECT}/subscriptions/model-copy-dead-letters does not exist",
    ]
    assert f"gcloud pubsub topics create {LETTERS}" in [each["mend"] for each in findings]


async def test_a_set_up_as_it_should_be_is_ok_as_far_as_it_is_seen(service: Service, run: Run):
    await service.publisher.create_topic(name=LETTERS)
    await service.subscriber.create_subscription(
        request=types.Subscription(
            name=f"{PROJECT}/subscriptions/model-copy-requests",
            topic=f"{PROJECT}/topics/model-copy-requests",
            expiration_policy=types.ExpirationPolicy(),
            push_config=types.PushConfig(push_endpoint="http://127.0.0.1:9/pubsub/requests"),
            dead_letter_policy=types.DeadLetterPolicy(
                dead_letter_topic=LETTERS, max_delivery_attempts=100
            ),
        )
    )
    await service.subscriber.create_subscription(
        request=types.Subscription(
            name=f"{PROJECT}/subscriptions/model-copy-dead-letters",
            topic=LETTERS,
            message_retention_duration={"seconds": 31 * 86_400},
            expiration_policy=types.ExpirationPolicy(),  # never
        )
    )

    code, findings = await examine(run)

    unseen = [each["what"] for each in findings if each["verdict"] == "unseen"]
    assert (code, wrong(findings)) == (0, [])
    assert any("this Pub/Sub does not know permissions" in each for each in unseen)


async def test_nobody_there_is_exit_code_4(run: Run):
    command = await run(["doctor", "--project", "p-1"], PUBSUB_EMULATOR_HOST="127.0.0.1:1")

    assert (await command.ends())[0] == 4
    assert "does not answer" in command.errors


class Guarded(grpc.GenericRpcHandler):
    """A Pub/Sub that shows nothing, as one does to a publisher, and knows who may what."""

    granted = frozenset({"pubsub.topics.publish"})

    def service(self, call: Any) -> Any:
        name = call.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(getattr(self, name, self.refuse))

    async def refuse(self, _: bytes, context: Any) -> Any:
        return await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")

    async def TestIamPermissions(self, request: bytes, _: Any) -> Any:  # noqa: N802  Google's
        asked = iam_policy_pb2.TestIamPermissionsRequest.FromString(request)
        has = [each for each in asked.permissions if each in self.granted]
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=has).SerializeToString()

    async def GetIamPolicy(self, request: bytes, context: Any) -> Any:  # noqa: N802  Google's
        asked = iam_policy_pb2.GetIamPolicyRequest.FromString(request)
        if "/topics/" not in asked.resource:
            return await self.refuse(request, context)
        binding = policy_pb2.Binding(role="roles/pubsub.publisher", members=[AGENT])
        return policy_pb2.Policy(bindings=[binding]).SerializeToString()


@pytest.fixture
async def guarded() -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Guarded()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def test_with_a_publishers_rights_it_says_what_it_cannot_see(guarded: str, run: Run):
    code, findings = await examine(run, PUBSUB_EMULATOR_HOST=guarded)

    told = {each["what"]: each["verdict"] for each in findings}
    assert code == 1
    assert told[f"{LETTERS}: we have not the right to see it"] == "unseen"
    assert told[f"we have pubsub.topics.publish on {PROJECT}/topics/model-copy-requests"] == "ok"
    assert told[f"Pub/Sub's service agent has roles/pubsub.publisher on {LETTERS}"] == "ok"
    kept = f"{PROJECT}/subscriptions/model-copy-dead-letters"
    assert wrong(findings) == [
        f"we have no pubsub.topics.attachSubscription on {PROJECT}/topics/model-copy-replies",
        f"we have no pubsub.subscriptions.consume on {kept}",
    ]
