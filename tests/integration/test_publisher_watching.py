"""``model-copy watch`` and ``Replies``; the test announces outcomes, as the service does."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import types

from command_line import DEADLINE_SECONDS, PROJECT, REPLIES, Run, Service, connected
from local_cloud.pubsub import PubSub
from model_copy_publisher import Outcome, Replies, Reply

HERE = ["--project", "team-models"]
NAMED = f"{PROJECT}/subscriptions/replies-for-us"


async def tell(
    service: Service,
    request_id: str,
    outcome: str = "succeeded",
    *,
    run: int = 1,
    model: str = "faker",
    resource_name: str | None = None,
    **attributes: str,
) -> None:
    data = {
        "resource_name": resource_name,
        "request_id": request_id,
        "outcome": outcome,
        "run": run,
        "target_model": f"projects/target/locations/us-central1/models/{model}",
        "source_model": "projects/source/locations/us-central1/models/7@1",
    }
    told = {
        "ce-id": f"{request_id}-{run}",
        "ce-type": f"dev.modelcopier.copy.{outcome}.v1",
        "request_id": request_id,
        "request_source": "//ec2/pipeline",
        "outcome": outcome,
    } | attributes
    message = types.PubsubMessage(data=json.dumps(data).encode(), attributes=told)
    await service.publisher.publish(topic=REPLIES, messages=[message])


async def named(service: Service) -> list[str]:
    await service.subscriber.create_subscription(name=NAMED, topic=REPLIES)
    return ["--subscription", "replies-for-us", *HERE]


async def is_drained(service: Service) -> bool:
    """Nothing is left to be delivered."""
    try:
        await service.subscriber.pull(subscription=NAMED, max_messages=1, timeout=0.3, retry=None)
    except DeadlineExceeded:
        return True
    return False


async def test_a_temporary_subscription_is_there_while_we_watch(service: Service, run: Run):
    command = await run(["watch", "--count", "2", "--output", "json", *HERE])
    await command.shows("watching")
    [listener] = await service.listeners()
    assert listener.name in command.errors
    assert listener.expiration_policy.ttl.total_seconds() == 24 * 3600

    await tell(service, "r-1")
    await tell(service, "r-2", "failed")
    code, output = await command.ends()

    events = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert [(each["event_id"], each["type"]) for each in events] == [
        ("r-1-1", "dev.modelcopier.copy.succeeded.v1"),
        ("r-2-1", "dev.modelcopier.copy.failed.v1"),
    ]
    assert await service.listeners() == []


async def test_a_named_subscription_kept_what_was_told_before(service: Service, run: Run):
    watch = await named(service)
    await tell(service, "r-1")

    command = await run(["watch", "--count", "1", *watch])
    code, output = await command.ends()

    assert code == 0
    assert output.startswith("succeeded  r-1  projects/target/")
    assert len(await service.listeners()) == 1
    assert await is_drained(service)


async def test_only_what_is_chosen_is_shown(service: Service, run: Run):
    watch = await named(service)
    choice = ["--outcome", "failed", "--outcome", "rejected", "--model", "fak*", "--tag", "nightly"]
    await tell(service, "succeeded", reply_tag="nightly")
    await tell(service, "untagged", "failed")
    await tell(service, "other-tag", "failed", reply_tag="weekly")
    await tell(service, "other-model", "failed", model="other", reply_tag="nightly")
    await tell(service, "a-status", "status", reply_tag="nightly")
    await tell(service, "wanted", "failed", reply_tag="nightly")

    command = await run(["watch", "--count", "1", *choice, *watch])
    code, output = await command.ends()

    assert code == 0
    assert output.startswith("failed     wanted  ")
    assert await is_drained(service)


async def test_repeats_and_older_attempts_are_not_shown(service: Service, run: Run):
    watch = await named(service)
    await tell(service, "r-1", "failed", run=2)
    await tell(service, "r-1", "failed", run=2)
    await tell(service, "r-1", "failed", run=1)
    await tell(service, "r-1", run=3)

    command = await run(["watch", "--count", "2", *watch])
    _, output = await command.ends()

    assert [line.partition(" ")[0] for line in output.splitlines()] == ["failed", "succeeded"]


async def test_a_command_that_fails_every_third_time_has_handled_every_event(
    service: Service, run: Run, tmp_path: Path
):
    watch = await named(service)
    for n in range(12):
        await tell(service, f"r-{n}")
    handled, calls = tmp_path / "handled", tmp_path / "calls"
    script = (
        f"n=$(wc -l < {calls} 2>/dev/null || echo 0); echo >> {calls};"
        f" [ $(((n + 1) % 3)) -ne 0 ] && cat >> {handled}"
    )

    command = await run(["watch", "--exec", script, "--count", "12", *watch])
    code, output = await command.ends()

    events = [json.loads(line)["event_id"] for line in handled.read_text().splitlines()]
    assert code == 0
    assert sorted(events) == sorted(f"r-{n}-1" for n in range(12))
    assert len(calls.read_text().splitlines()) > 12
    assert "exit code 1 for r-" in command.errors
    assert output == ""
    assert await is_drained(service)


async def test_a_command_gets_the_event_and_a_few_facts_of_it(service: Service, run: Run):
    watch = await named(service)
    await tell(service, "r-1", "failed")

    script = 'echo "$MODEL_COPY_OUTCOME $MODEL_COPY_REQUEST_ID $MODEL_COPY_EVENT_ID"; cat'
    command = await run(["watch", "--count", "1", "--exec", script, *watch])
    _, output = await command.ends()

    first, event = output.splitlines()
    assert first == "failed r-1 r-1-1"
    assert json.loads(event)["request_id"] == "r-1"


async def test_no_text_of_a_reply_steers_a_terminal_or_forges_a_line(service: Service, run: Run):
    watch = await named(service)
    await tell(service, "r-1\x1b[2J\x07\nsucceeded  r-2", "failed")

    command = await run(["watch", "--count", "1", *watch])
    _, output = await command.ends()

    assert output.startswith("failed     r-1\\x1b[2J\\x07\\nsucceeded  r-2  projects/")
    assert len(output.splitlines()) == 1


async def test_an_event_that_no_environment_can_hold_as_it_is_blocks_no_other(
    service: Service, run: Run
):
    watch = await named(service)
    await tell(service, "r\0-1", model="\ud800")
    await tell(service, "r-2")

    script = 'echo "$MODEL_COPY_REQUEST_ID"; cat'
    command = await run(["watch", "--count", "2", "--exec", script, *watch])
    code, output = await command.ends()

    first, event, second, _ = output.splitlines()
    assert code == 0
    assert first.startswith("sha256-")  # no argument of a command could hold it as it is
    assert second == "r-2"
    assert json.loads(event)["target_model"].endswith("\ud800")
    assert await is_drained(service)


async def test_a_huge_value_still_starts_its_command(service: Service, run: Run):
    """What no environment could hold comes by its hash; the event has it whole."""
    watch = await named(service)
    await tell(service, "r-1", resource_name="m" * 1_000_000)

    command = await run(
        ["watch", "--count", "1", "--exec", 'echo "$MODEL_COPY_REQUEST_ID"', *watch]
    )

    assert await command.ends() == (0, "r-1\n")


async def test_an_event_whose_command_was_killed_with_us_comes_again(service: Service, run: Run):
    watch = await named(service)
    await tell(service, "r-1")
    command = await run(["watch", "--exec", "echo begun >&2; exec sleep 20 >&- 2>&-", *watch])
    await command.shows("begun")
    command.process.kill()
    await command.process.wait()

    again = await run(["watch", "--count", "1", *watch])

    # The lease that the dead one held runs out.
    async with asyncio.timeout(60):
        output, _ = await again.process.communicate()
    assert output.startswith(b"succeeded  r-1")


async def test_ctrl_c_ends_a_watch_and_leaves_nothing(service: Service, run: Run):
    command = await run(["watch", *HERE])
    await command.shows("watching")

    command.process.terminate()

    assert await command.ends() == (0, "")
    assert await service.listeners() == []


async def test_a_missing_subscription_is_exit_code_4(service: Service, run: Run):
    del service
    command = await run(["watch", "--subscription", "nowhere", *HERE])

    assert await command.ends() == (4, "")
    assert f"the subscription {PROJECT}/subscriptions/nowhere does not exist." in command.errors


async def test_too_few_events_within_the_time_are_exit_code_3(service: Service, run: Run):
    del service
    command = await run(["watch", "--count", "1", "--timeout", "0.5", *HERE])

    assert await command.ends() == (3, "")


async def test_an_outage_does_not_end_a_watch(pubsub: PubSub, service: Service, run: Run):
    watch = await named(service)
    command = await run(["watch", "--count", "1", *watch])
    await command.shows("watching")
    port = int(pubsub.address.rpartition(":")[2])

    await pubsub.stop()
    await command.shows("Pub/Sub does not answer; retrying")
    await pubsub.start(port=port)
    async with connected(pubsub.address) as back:
        await tell(back, "r-1")
    code, output = await command.ends()

    assert code == 0
    assert output.startswith("succeeded  r-1")


async def test_a_lost_temporary_subscription_is_made_again(service: Service, run: Run):
    command = await run(["watch", "--count", "1", *HERE])
    await command.shows("watching")
    [listener] = await service.listeners()

    await service.subscriber.delete_subscription(subscription=listener.name)
    await command.shows("the subscription was lost")
    await tell(service, "r-1")

    assert (await command.ends())[0] == 0


async def in_a_thread(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch, listen: Any) -> Any:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)

    def run() -> Any:
        with Replies(project="team-models", subscription="replies-for-us") as replies:
            return listen(replies)

    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.to_thread(run)


async def test_an_iterator_settles_an_event_when_the_next_is_asked_for(
    pubsub: PubSub, service: Service, monkeypatch: pytest.MonkeyPatch
):
    await named(service)
    for n in range(5):
        await tell(service, f"r-{n}")

    def first_two(replies: Replies) -> list[str]:
        taken = []
        for reply in replies:
            taken.append(reply.event_id)
            if len(taken) == 2:
                break
        return taken

    def the_rest(replies: Replies) -> list[str]:
        return [reply.event_id for reply in replies.events(timeout_seconds=2)]

    taken = await in_a_thread(pubsub, monkeypatch, first_two)
    rest = await in_a_thread(pubsub, monkeypatch, the_rest)

    assert taken == ["r-0-1", "r-1-1"]
    assert sorted(rest) == ["r-1-1", "r-2-1", "r-3-1", "r-4-1"]  # the second was not finished


async def test_a_callback_has_no_more_in_hand_than_it_was_allowed(
    pubsub: PubSub, service: Service, monkeypatch: pytest.MonkeyPatch
):
    await named(service)
    for n in range(30):
        await tell(service, f"r-{n}")
    most, now, lock = 0, 0, threading.Lock()
    seen: list[Reply] = []

    def listen(replies: Replies) -> None:
        def handle(reply: Reply) -> None:
            nonlocal most, now
            with lock:
                now += 1
                most = max(most, now)
            threading.Event().wait(0.01)
            with lock:
                now -= 1
                seen.append(reply)
                if len(seen) == 30:
                    replies.stop()

        replies.run(handle, workers=4, max_outstanding=8)

    await in_a_thread(pubsub, monkeypatch, listen)

    assert len({reply.event_id for reply in seen}) == 30
    assert 1 < most <= 4
    assert await is_drained(service)


async def test_what_a_callback_raises_ends_the_run_and_the_event_comes_again(
    pubsub: PubSub, service: Service, monkeypatch: pytest.MonkeyPatch
):
    await named(service)
    await tell(service, "r-1")

    def fail(replies: Replies) -> None:
        def handle(_: Reply) -> None:
            raise ZeroDivisionError

        replies.run(handle)

    with pytest.raises(ZeroDivisionError):
        await in_a_thread(pubsub, monkeypatch, fail)

    [reply] = await in_a_thread(
        pubsub, monkeypatch, lambda replies: list(replies.events(timeout_seconds=2))
    )
    assert reply.outcome is Outcome.SUCCEEDED
