"""``model-copy wait``, ``status`` and ``cancel``; the test plays the service."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.pubsub_v1 import types

from command_line import DEADLINE_SECONDS, REPLIES, Run, Service
from local_cloud.pubsub import PubSub
from model_copy_publisher import Publisher, UnknownRequestError
from model_copy_publisher.messages import DEFAULT_SOURCE

HERE = ["--project", "team-models"]
MODEL = "projects/target/locations/us-central1/models/faker"


class Copier:
    """Answers questions as the service does, about requests in these states."""

    def __init__(self, service: Service) -> None:
        self.states: dict[str, str] = {}
        self.questions: list[types.PubsubMessage] = []
        self._service = service

    async def answer(self) -> None:
        """Answer what is asked, for ever."""
        while True:
            question = await self._service.request()
            self.questions.append(question)
            about = json.loads(question.data)["request_id"]
            asked = question.attributes["ce-id"]
            state = self.states.get(about)
            if state is None:
                error = {"code": "NOT_FOUND", "message": "no such request", "hint": ""}
                await self.tell("rejected", asked, error=error)
            elif question.attributes["ce-type"].endswith(".cancel.requested.v1"):
                self.states[about] = "CANCELLED"
                await self.tell("cancelled", about)
            else:
                made = {"resource_name": MODEL, "version": "3"} if state == "SUCCEEDED" else {}
                await self.tell("status", about, state=state, in_reply_to=asked, **made)

    async def tell(self, outcome: str, request_id: str, **data: Any) -> None:
        attributes = {
            "ce-id": f"{request_id}-{outcome}-{len(self.questions)}",
            "ce-type": f"dev.modelcopier.copy.{outcome}.v1",
            "request_id": request_id,
            "request_source": DEFAULT_SOURCE,
            "request_digest": "ab" * 32,
            "outcome": outcome,
        }
        told = {"request_id": request_id, "target_model": MODEL, "timings": {}} | data
        message = types.PubsubMessage(data=json.dumps(told).encode(), attributes=attributes)
        await self._service.publisher.publish(topic=REPLIES, messages=[message])

    async def was_asked(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.questions) < count:  # noqa: ASYNC110  a process moves it
                await asyncio.sleep(0.02)


@pytest.fixture
async def copier(service: Service) -> AsyncIterator[Copier]:
    copier = Copier(service)
    answering = asyncio.create_task(copier.answer())
    yield copier
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)


@pytest.mark.parametrize("command", ["wait", "status"])
async def test_a_request_that_had_ended_is_told_with_its_model(
    copier: Copier, run: Run, command: str
):
    copier.states = {"r-1": "SUCCEEDED"}

    asking = await run([command, "r-1", *HERE])
    code, output = await asking.ends()

    assert code == 0
    assert output.splitlines()[:2] == [f"succeeded  {MODEL}", "version    3"]
    [question] = copier.questions
    assert question.attributes["ce-type"] == "dev.modelcopier.copy.status.requested.v1"
    assert json.loads(question.data) == {"request_id": "r-1"}


async def test_waiting_goes_on_until_the_outcome_is_announced(
    copier: Copier, service: Service, run: Run
):
    copier.states = {"r-1": "COPYING"}
    command = await run(["wait", "r-1", *HERE])
    await command.shows("copying")

    error = {"code": "NOT_FOUND", "message": "No model 7.", "hint": "Look in p."}
    await copier.tell("failed", "r-1", error=error)
    code, output = await command.ends()

    assert code == 1
    assert output.splitlines()[:2] == ["failed     NOT_FOUND: No model 7.", "hint       Look in p."]
    assert await service.listeners() == []


async def test_several_are_waited_for_at_once(copier: Copier, run: Run):
    copier.states = {"r-1": "SUCCEEDED", "r-2": "CANCELLED"}

    command = await run(["wait", "r-1", "r-2", "r-1", "--output", "json", *HERE])
    code, output = await command.ends()

    told = {each["request_id"]: each["state"] for each in map(json.loads, output.splitlines())}
    assert code == 1
    assert told == copier.states
    assert "2 requests: 1 succeeded, 1 cancelled" in command.errors


async def test_a_request_that_nobody_knows_is_asked_for_again_and_then_told(
    copier: Copier, run: Run
):
    """A question may overtake the request that it is about."""
    command = await run(["wait", "r-1", *HERE])
    await copier.was_asked(1)
    copier.states = {"r-1": "SUCCEEDED"}
    assert (await command.ends())[0] == 0

    command = await run(["wait", "nobody", *HERE])
    await copier.was_asked(4)
    assert await command.ends() == (1, "")
    assert f"No request nobody of {DEFAULT_SOURCE} is known." in command.errors
    assert "--request-source" in command.errors


async def test_a_request_that_is_not_known_when_the_time_is_over_is_told_so(
    copier: Copier, run: Run
):
    copier.states = {"r-1": "COPYING"}
    command = await run(["wait", "r-1", "nobody", "--timeout", "1", *HERE])

    code, output = await command.ends()

    assert (code, output) == (3, "")
    assert f"No request nobody of {DEFAULT_SOURCE} is known." in command.errors
    assert "No reply to the request r-1 within 1 s." in command.errors
    assert command.again[:2] == ["wait", "r-1"]


async def test_ctrl_c_detaches_from_what_is_left(copier: Copier, run: Run):
    copier.states = {"r-1": "COPYING", "r-2": "SUCCEEDED"}
    command = await run(["wait", "r-1", "r-2", "--timeout", "99", *HERE])
    await command.shows("copying    r-1")
    assert command.process.stdout is not None
    assert (await command.process.stdout.readline()).startswith(b"succeeded  r-2")

    command.process.send_signal(signal.SIGINT)
    code, _ = await command.ends()

    assert code == 130
    assert command.again[:2] == ["wait", "r-1"]
    assert "r-2" not in command.again
    assert command.again[2:4] == ["--timeout", "99"]


async def test_status_tells_how_a_request_stands_now(copier: Copier, run: Run):
    copier.states = {"r-1": "COPYING"}

    command = await run(["status", "r-1", *HERE])
    code, output = await command.ends()

    assert code == 0
    assert output.splitlines() == [f"copying    {MODEL}", "request    r-1"]


async def test_cancel_asks_for_the_end_and_waits_for_it(copier: Copier, run: Run):
    copier.states = {"r-1": "COPYING"}

    command = await run(["cancel", "r-1", *HERE])
    code, output = await command.ends()

    assert code == 0
    assert output.startswith("cancelled  ")
    assert copier.questions[0].attributes["ce-type"] == ("dev.modelcopier.copy.cancel.requested.v1")


async def test_no_answer_is_exit_code_3_and_the_printed_command_asks_again(
    service: Service, run: Run
):
    del service
    command = await run(["status", "r-1", "--timeout", "0.2", *HERE])

    assert (await command.ends())[0] == 3
    assert command.again[:2] == ["status", "r-1"]


async def test_the_python_api_asks_too(
    pubsub: PubSub, copier: Copier, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    copier.states = {"r-1": "COPYING", "r-2": "SUCCEEDED"}

    def ask() -> list[Any]:
        with Publisher(project="team-models") as publisher:
            status = publisher.status("r-1")
            waited = list(publisher.wait(["r-2"]))
            cancelled = publisher.cancel("r-1")
            with pytest.raises(UnknownRequestError, match="No request nobody is known"):
                publisher.status("nobody", timeout_seconds=20)
        return [status, *waited, cancelled]

    status, waited, cancelled = await asyncio.to_thread(ask)

    assert status.state == "COPYING"
    assert (waited.ok, waited.resource_name, waited.version) == (True, MODEL, "3")
    assert cancelled.outcome == "cancelled"
