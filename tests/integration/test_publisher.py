"""``model-copy publish`` of one request, against a local Pub/Sub; the test plays the service."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from command_line import COPY, DEADLINE_SECONDS, REQUESTS, SUCCESS, Run, Service, connected
from local_cloud.pubsub import PubSub
from model_copy_publisher import CopyRequest, NoReplyError, Outcome, Publisher
from model_copy_publisher.messages import DEFAULT_SOURCE


async def test_publish_sends_the_contract_message_and_says_how_to_wait(
    service: Service, run: Run
) -> None:
    command = await run([*COPY, "--correlation", '{"run": "a b"}', "--reply-tag", "v1.0"])

    request = await service.request()
    code, output = await command.ends()

    request_id = request.attributes["ce-id"]
    assert code == 0
    assert output.startswith(f"published  request {request_id}  message ")
    assert json.loads(request.data) == {
        "source_model_id": "7704127342733426688@1",
        "destination_model_id": "faker_251230",
        "correlation": {"run": "a b"},
    }
    assert dict(request.attributes) == {
        "ce-specversion": "1.0",
        "ce-id": request_id,
        "ce-source": DEFAULT_SOURCE,
        "ce-type": "dev.modelcopier.copy.requested.v1",
        "ce-time": request.attributes["ce-time"],
        "content-type": "application/json",
        "reply_tag": "v1.0",
    }
    assert command.again == [
        *COPY[:3],
        *["--correlation", '{"run": "a b"}', "--reply-tag", "v1.0"],
        *["--request-id", request_id, "--wait", "--project", "team-models"],
    ]


async def test_waiting_ends_with_the_outcome_for_a_person(service: Service, run: Run) -> None:
    command = await run([*COPY, "--wait"])
    request = await service.request()
    await command.shows("waiting    0 s")

    await service.announce(request)
    code, output = await command.ends()

    first, *facts = output.splitlines()
    assert code == 0
    assert first == f"succeeded  {SUCCESS['resource_name']}"
    assert "version    1" in facts
    assert "verified   yes" in facts
    assert "warning    The service agent has no role on the key." in facts
    assert "copy       0.0 s" in facts
    assert re.fullmatch(r"waited     [0-9.]+ s \(copy 0\.0 s, overhead [0-9.]+ s\)", facts[-1])
    assert command.errors.startswith(f"published  request {request.attributes['ce-id']}  message ")


async def test_json_is_one_object_with_the_reply_as_it_came(service: Service, run: Run) -> None:
    command = await run([*COPY, "--wait", "--output", "json", "--request-id", "r-1"])
    request = await service.request()

    await service.announce(request, SUCCESS | {"of_a_later_version": 1})
    code, output = await command.ends()

    result = json.loads(output)
    assert code == 0
    assert result.pop("waited_seconds") > 0
    assert result.pop("reply") == SUCCESS | {
        "of_a_later_version": 1,
        "event_id": "r-1-outcome-1",
        "type": "dev.modelcopier.copy.succeeded.v1",
    }
    assert result.pop("published_at") == request.attributes["ce-time"]
    assert result == {
        "request_id": "r-1",
        "request_source": DEFAULT_SOURCE,
        "request_digest": CopyRequest(**json.loads(request.data)).digest,
        "message_id": request.message_id,
    }


@pytest.mark.parametrize("outcome", ["failed", "rejected"])
async def test_a_failure_is_told_with_its_reason_and_exit_code_1(
    service: Service, run: Run, outcome: str
) -> None:
    """Also a rejection without a digest: content that cannot be read has none."""
    command = await run([*COPY, "--wait"])
    request = await service.request()

    await service.announce(
        request,
        {
            "outcome": outcome,
            "error": {"code": "NOT_FOUND", "message": "No model 7.", "hint": "Look in p."},
            "dead_letter": "r-1-outcome-1",
        },
        without="request_digest" if outcome == "rejected" else "",
    )
    code, output = await command.ends()

    assert code == 1
    again = f"model-copy dead-letters replay --request-id {request.attributes['ce-id']}"
    assert output.splitlines()[:4] == [
        f"{outcome:<10} NOT_FOUND: No model 7.",
        "hint       Look in p.",
        "letter     r-1-outcome-1",
        f"again      after the fix: {again}",
    ]


async def test_replies_to_others_are_not_ours(service: Service, run: Run) -> None:
    """Another content or source under our id, and events that are no outcome, end no wait."""
    command = await run([*COPY, "--wait"])
    request = await service.request()

    failure = {"outcome": "failed", "error": {"code": "INTERNAL", "message": "Not yours."}}
    await service.announce(request, failure, request_digest="0" * 64)
    await service.announce(request, failure, request_source="//somebody/else")
    await service.announce(request, failure, request_id="another")
    await service.announce(request, {"outcome": "status"})
    await service.announce(request)
    await service.announce(request)

    assert (await command.ends())[0] == 0


async def test_the_subscription_is_narrow_and_short_lived(service: Service, run: Run) -> None:
    """It filters on our id, expires by itself, and is gone once the outcome is told."""
    command = await run([*COPY, "--wait", "--request-id", "r-1"])
    request = await service.request()

    [listener] = await service.listeners()
    assert listener.filter == 'attributes.request_id = "r-1"'
    assert listener.expiration_policy.ttl.total_seconds() == 24 * 3600
    assert listener.message_retention_duration < listener.expiration_policy.ttl

    await service.announce(request)
    assert (await command.ends())[0] == 0
    assert await service.listeners() == []


async def test_no_answer_is_exit_code_3_and_the_printed_command_asks_again(
    service: Service, run: Run
) -> None:
    """An outcome that was announced while nobody listened is not lost."""
    command = await run([*COPY, "--wait", "--timeout", "0.2", "--correlation", '{"a": "b c"}'])
    first = await service.request()
    code, output = await command.ends()
    assert (code, output) == (3, "")
    assert await service.listeners() == []
    await service.announce(first)

    command = await run([*command.again, "--timeout", "20"])
    second = await service.request()
    assert second.data == first.data
    assert second.attributes["ce-id"] == first.attributes["ce-id"]
    assert second.attributes["ce-source"] == first.attributes["ce-source"]
    await service.announce(second)

    assert (await command.ends())[0] == 0


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_wait_detaches(
    service: Service, run: Run, signal_number: signal.Signals
) -> None:
    command = await run([*COPY, "--wait", "--request-id", "r-1"])
    await service.request()
    await command.shows("waiting")

    command.process.send_signal(signal_number)
    code, output = await command.ends()

    assert (code, output) == (130, "")
    assert "the copy goes on" in command.errors
    assert command.again[-4:] == ["r-1", "--wait", "--project", "team-models"]
    assert await service.listeners() == []


async def test_an_interrupt_before_the_confirmation_says_that_nothing_is_known(run: Run) -> None:
    """A broker that takes the connection and then is silent may have the request, or not."""
    taken = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        command = await run(COPY, PUBSUB_EMULATOR_HOST=f"127.0.0.1:{port}")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await taken.wait()
        command.process.send_signal(signal.SIGINT)
        code, output = await command.ends()

    assert (code, output) == (130, "")
    assert "it is not known whether the request was published" in command.errors
    assert "--request-id" in command.again


async def test_an_outage_of_the_broker_does_not_end_the_wait(
    pubsub: PubSub, service: Service, run: Run
) -> None:
    command = await run([*COPY, "--wait"])
    request = await service.request()
    await command.shows("waiting")
    port = int(pubsub.address.rpartition(":")[2])

    await pubsub.stop()
    await command.shows("Pub/Sub does not answer; retrying")
    await pubsub.start(port=port)
    async with connected(pubsub.address) as back:
        await back.announce(request)

    assert (await command.ends())[0] == 0


async def test_a_lost_subscription_is_made_again_and_the_request_asked_again(
    service: Service, run: Run
) -> None:
    """Whatever was announced while the subscription was gone is announced once more."""
    command = await run([*COPY, "--wait"])
    first = await service.request()
    [listener] = await service.listeners()

    await service.subscriber.delete_subscription(subscription=listener.name)
    await service.announce(first)
    second = await service.request()
    assert (second.attributes["ce-id"], second.data) == (first.attributes["ce-id"], first.data)
    await service.announce(second)

    assert (await command.ends())[0] == 0
    assert await service.listeners() == []


async def test_topics_that_are_missing_for_a_while_do_not_end_the_wait(
    pubsub: PubSub, service: Service, run: Run
) -> None:
    """A broker that came back empty gets its topics again, and is asked again."""
    command = await run([*COPY, "--wait"])
    await service.request()
    await command.shows("waiting")
    port = int(pubsub.address.rpartition(":")[2])

    await pubsub.stop()
    empty = PubSub()
    await empty.start(port=port)
    try:
        await command.shows("the subscription was lost; subscribing again")
        async with connected(empty.address) as back:
            await back.set_up()
            await back.announce(await back.request())
            code, _ = await command.ends()
    finally:
        await empty.stop()

    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["publish", "7@1", "Faker-251230", "--project", "p"],
            "destination_model_id: 'Faker-251230' must match [a-z_][a-z0-9_-]{0,62} (upper",
        ),
        (["publish", "7@1", "a", "--parent-model", "b", "--project", "p"], "not both"),
        (["publish", "7", "--if-exists", "skip", "--project", "p"], "if_exists: goes with"),
        (["publish", "7@1", "--correlation", "[1]", "--project", "p"], "correlation: must be"),
        (["publish", "7", "--correlation", '{"a":{"b":1,"b":2}}', "--project", "p"], "b is given"),
        (["publish", "7@1", "--correlation", "{", "--project", "p"], "correlation: is not JSON"),
        (
            ["publish", "7@1", "--deadline-seconds", "0", "--project", "p"],
            "deadline_seconds: should be a whole",
        ),
        (["publish", "7@1", "--request-id", "a b", "--project", "p"], "request_id: 'a b'"),
        (["publish", "7@1"], "project: is missing: give --project"),
        (["publish", "7@1", "--project", "p", "--reply-topic", "a/b"], "reply_topic: 'a/b'"),
        (
            ["publish", "7@1", "--project", "p", "--reply-topic", "model-copy-requests"],
            "reply_topic: projects/p/topics/model-copy-requests is the request_topic too",
        ),
        (
            ["doctor", "--project", "p", "--dead-letter-topic", "model-copy-replies"],
            "dead_letter_topic: projects/p/topics/model-copy-replies is the reply_topic too",
        ),
    ],
)
async def test_wrong_input_is_exit_code_2_and_names_the_field(
    run: Run, arguments: list[str], sentence: str
) -> None:
    command = await run(arguments, PUBSUB_EMULATOR_HOST="127.0.0.1:1")

    assert await command.ends() == (2, "")
    assert sentence in command.errors


async def test_a_missing_topic_is_exit_code_4_with_its_name(service: Service, run: Run) -> None:
    del service
    publishing = await run([*COPY, "--request-topic", "nowhere"])
    waiting = await run([*COPY, "--reply-topic", "projects/other/topics/nowhere", "--wait"])

    assert await publishing.ends() == (4, "")
    assert "the topic projects/team-models/topics/nowhere does not exist." in publishing.errors
    assert await waiting.ends() == (4, "")
    assert "the topic projects/other/topics/nowhere does not exist." in waiting.errors


@pytest.mark.parametrize(
    ("code", "sentence", "advice"),
    [
        (
            grpc.StatusCode.PERMISSION_DENIED,
            "Cannot publish the request: no permission (said the server).",
            f"Needed: roles/pubsub.publisher on {REQUESTS}.",
        ),
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "Pub/Sub does not accept the credentials (said the server).",
            "Log in again",
        ),
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            "Pub/Sub refused (said the server).",
            "Correct the named value.",
        ),
    ],
)
async def test_a_refusal_is_told_at_once_with_what_mends_it(
    run: Run, code: grpc.StatusCode, sentence: str, advice: str
) -> None:
    async def refuse(_: bytes, context: Any) -> bytes:
        await context.abort(code, "said the server")
        return b""

    server = grpc.aio.server()
    handlers: Any = {"Publish": grpc.unary_unary_rpc_method_handler(refuse)}
    service = grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", handlers)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        command = await run(COPY, PUBSUB_EMULATOR_HOST=f"127.0.0.1:{port}")
        assert await command.ends() == (4, "")
    finally:
        await server.stop(None)

    assert sentence in command.errors
    assert advice in command.errors


async def test_a_dead_broker_is_exit_code_4_within_seconds(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = await run(COPY, PUBSUB_EMULATOR_HOST=address)
        code, output = await command.ends()

    assert (code, output) == (4, "")
    assert f"Pub/Sub at {address} does not answer" in command.errors
    assert "--request-id" in command.again


async def test_refused_credentials_are_exit_code_4_and_debug_shows_the_traceback(
    run: Run, tmp_path: Path
) -> None:
    """Workload identity federation whose token service says no: nothing is retried."""
    answer = b'{"error": "invalid_grant", "error_description": "The role is not bound."}'

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        subject = tmp_path / "subject"
        subject.write_text("token")
        credentials = tmp_path / "credentials.json"
        credentials.write_text(
            json.dumps(
                {
                    "type": "external_account",
                    "audience": "//iam.googleapis.com/projects/1/locations/global/"
                    "workloadIdentityPools/p/providers/p",
                    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                    "token_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/token",
                    "credential_source": {"file": str(subject)},
                }
            )
        )
        env = {
            "PUBSUB_EMULATOR_HOST": "",
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "GOOGLE_CLOUD_PROJECT": "team-models",
        }
        plain = await run(COPY, **env)
        assert await plain.ends() == (4, "")
        debugging = await run([*COPY, "--debug"], **env)
        _, errors = await debugging.process.communicate()

    assert "The role is not bound." in plain.errors
    assert b"Traceback" in errors


async def test_the_python_api_publishes_waits_and_reads(
    pubsub: PubSub, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    request = CopyRequest(source_model_id="7@1", destination_model_id="faker")

    def ask() -> tuple[str, Outcome]:
        with Publisher(project="team-models") as publisher:
            published = publisher.publish(request)
            return published.request_digest, publisher.copy(request, timeout_seconds=20).outcome

    asking = asyncio.create_task(asyncio.to_thread(ask))
    await service.request()
    await service.announce(await service.request())

    assert await asking == (request.digest, Outcome.SUCCEEDED)


async def test_the_python_api_raises_when_nobody_answers(
    pubsub: PubSub, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    del service
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)

    def ask() -> None:
        with Publisher(project="team-models") as publisher:
            publisher.copy(CopyRequest(source_model_id="7@1"), timeout_seconds=0.1)

    with pytest.raises(NoReplyError, match="No reply to the request"):
        await asyncio.to_thread(ask)


def test_help_does_not_import_googles_client() -> None:
    """Half a second, for which nobody who asks for help should wait."""
    code = "import model_copy_publisher.cli, sys; print([m for m in sys.modules if 'grpc' in m])"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert shown.stdout == "[]\n"
