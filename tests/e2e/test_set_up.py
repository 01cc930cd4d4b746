"""A set-up that is not as it should be: what comes of it, and what the doctor says."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

from asking import ask
from inbox import Inbox
from local_cloud.stack import Stack
from local_cloud.topics import REQUESTS, subscription_path
from world import REQUEST

MODEL_COPY = Path(sys.executable).with_name("model-copy")


async def doctor(stack: Stack, *words: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        str(MODEL_COPY),
        "doctor",
        *words,
        env={"PATH": os.environ["PATH"], **stack.exports()},
        stdout=PIPE,
        stderr=STDOUT,
    )
    out, _ = await process.communicate()
    return out.decode().splitlines()


async def push_unwrapped(stack: Stack, *, with_metadata: bool) -> None:
    assert stack.topics is not None
    push = {
        "push_endpoint": f"{stack.worker.url}/pubsub/requests",
        "no_wrapper": {"write_metadata": with_metadata},
    }
    await change(stack, push_config=push)


async def change(stack: Stack, **fields: Any) -> None:
    assert stack.topics is not None
    await stack.topics.subscriber.update_subscription(
        request={
            "subscription": {"name": subscription_path(REQUESTS), **fields},
            "update_mask": {"paths": list(fields)},
        }
    )


async def test_an_unwrapped_request_is_carried_out(own_stack: Stack, own_replies: Inbox):
    await push_unwrapped(own_stack, with_metadata=True)

    await ask(own_stack, "unwrapped", REQUEST, reply_tag="nightly")

    reply = await own_replies.reply("unwrapped")
    assert reply["outcome"] == "succeeded"
    assert own_replies.of("unwrapped")[0].attributes["reply_tag"] == "nightly"


async def test_what_lost_its_metadata_is_told_in_the_end(own_stack: Stack, own_replies: Inbox):
    """Pub/Sub keeps it, gives it up, and the worker answers under its own id."""
    await push_unwrapped(own_stack, with_metadata=False)

    await ask(own_stack, "lost", REQUEST, reply_tag="nightly")

    reply = await own_replies.reply("lost")
    assert (reply["outcome"], reply["error"]["code"]) == ("failed", "UNAVAILABLE")
    assert own_replies.of("lost")[0].attributes["reply_tag"] == "nightly"
    assert '"message": "unwrapped"' in own_stack.worker.log.read_text()


async def test_the_doctor_times_the_workers_answer(own_stack: Stack):
    told = await doctor(own_stack)

    assert any(
        each.startswith("ok      the worker replied to a status request in ") for each in told
    ), told


async def test_the_doctor_notices_that_nobody_answers(own_stack: Stack):
    """All is set up, and Pub/Sub takes requests; the worker stands still."""
    own_stack.worker.freeze()
    try:
        told = await doctor(own_stack, "--answer-within", "3")
    finally:
        own_stack.worker.thaw()

    assert any(each.startswith("wrong   no reply to a status request within 3 s") for each in told)
