"""``model-copy doctor`` over real sockets, against what ``make up`` sets up: whole, and broken."""

import asyncio
import json
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from google.pubsub_v1.types import PushConfig, Subscription

from command_line import PROJECT as TEAM
from command_line import Run, Service
from local_cloud.pubsub import PubSub
from local_cloud.topics import (
    DEAD_LETTERS,
    FORWARDED,
    PROJECT,
    REPLIES,
    REQUESTS,
    TICKS,
    Topics,
    subscription_path,
    topic_path,
)
from model_copy_publisher.doctor import Doctor
from model_copy_publisher.examination import Finding, Verdict

AUDIENCE = "https://model-copier.example"
ACCOUNT = "pusher@p.iam.gserviceaccount.com"
SOMEBODY = "serviceAccount:somebody@p.iam.gserviceaccount.com"
DAY = 86_400

Break = Callable[[Topics], Awaitable[object]]


@pytest.fixture
async def topics(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Topics]:
    """Everything that the copier needs, as ``make up`` sets it up."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    topics = Topics(address=pubsub.address)
    await topics.create(worker_url="http://127.0.0.1:9", push_account=ACCOUNT, audience=AUDIENCE)
    yield topics
    await topics.close()


async def findings(clock: str) -> list[Finding]:
    doctor = Doctor(
        project=PROJECT,
        request_topic=topic_path(REQUESTS),
        reply_topic=topic_path(REPLIES),
        dead_letter_topic=topic_path(DEAD_LETTERS),
        tick_topic=topic_path(TICKS),
        request_subscription=subscription_path(REQUESTS),
        tick_subscription=subscription_path(TICKS),
        forwarded_subscription=subscription_path(FORWARDED),
        dead_letter_subscription=subscription_path(DEAD_LETTERS),
        audience=AUDIENCE,
        clock=clock,
        tries=True,
    )
    return await asyncio.to_thread(lambda: list(doctor.findings()))


def not_ok(found: list[Finding]) -> list[Finding]:
    return [each for each in found if each.verdict is not Verdict.OK]


async def change(topics: Topics, name: str, **fields: Any) -> None:
    await topics.subscriber.update_subscription(
        request={
            "subscription": {"name": subscription_path(name), **fields},
            "update_mask": {"paths": list(fields)},
        }
    )


async def let(topics: Topics, resource: str, role: str, member: str = SOMEBODY) -> None:
    policy = {"bindings": [{"role": role, "members": [member]}]}
    await topics.publisher.set_iam_policy(request={"resource": resource, "policy": policy})


def expiring(name: str) -> Break:
    return lambda topics: change(topics, name, expiration_policy={"ttl": {"seconds": 31 * DAY}})


def kept(days: int) -> Break:
    kept = {"seconds": days * DAY}
    return lambda topics: change(topics, DEAD_LETTERS, message_retention_duration=kept)


def pushed_for(audience: str) -> Break:
    token = {"service_account_email": ACCOUNT, "audience": audience}
    push = PushConfig(push_endpoint="http://127.0.0.1:9/pubsub/requests", oidc_token=token)
    return lambda topics: change(topics, REQUESTS, push_config=push)


def without_topic(name: str) -> Break:
    return lambda topics: topics.publisher.delete_topic(topic=topic_path(name))


def without_subscription(name: str) -> Break:
    return lambda topics: topics.subscriber.delete_subscription(
        subscription=subscription_path(name)
    )


async def test_what_make_up_sets_up_is_ok_all_of_it(pubsub: PubSub, topics: Topics):
    del topics
    found = await findings(pubsub.rest_url)

    assert not_ok(found) == []
    assert len(found) == 18


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One thing that is not as it should be, and what is told of it."""

    name: str
    breaks: Break
    what: str
    fix: str
    verdict: Verdict = Verdict.WRONG

    def __str__(self) -> str:
        return self.name


def unwrapped(*, with_metadata: bool) -> Break:
    push = {
        "push_endpoint": "http://127.0.0.1:9/pubsub/requests",
        "oidc_token": {"service_account_email": ACCOUNT, "audience": AUDIENCE},
        "no_wrapper": {"write_metadata": with_metadata},
    }
    return lambda topics: change(topics, REQUESTS, push_config=push)


def made_anew(**fields: Any) -> Break:
    """What cannot be changed is made so from the start."""

    async def make(topics: Topics) -> None:
        name = subscription_path(REQUESTS)
        made = await topics.subscriber.get_subscription(subscription=name)
        await topics.subscriber.delete_subscription(subscription=name)
        await topics.subscriber.create_subscription(
            request=Subscription(Subscription.to_dict(made) | fields)
        )

    return make


def changed(**fields: Any) -> Break:
    return lambda topics: change(topics, REQUESTS, **fields)


PUBLISHER = "--role=roles/pubsub.publisher"
BROKEN = [
    Broken(
        name="no grant to Pub/Sub",
        breaks=lambda topics: let(topics, topic_path(DEAD_LETTERS), "roles/pubsub.viewer"),
        verdict=Verdict.UNSEEN,  # perhaps it has one on the whole project
        what="agent has no roles/pubsub.publisher",
        fix=f"topics add-iam-policy-binding {topic_path(DEAD_LETTERS)} {PUBLISHER}",
    ),
    Broken(
        name="kept too short",
        breaks=kept(7),
        what="keeps dead letters for 7 days",
        fix="--message-retention-duration=31d",
    ),
    Broken(
        name="letters expire",
        breaks=expiring(DEAD_LETTERS),
        what="31 days without use",
        fix="--expiration-period=never",
    ),
    Broken(
        name="requests expire",
        breaks=expiring(REQUESTS),
        what="31 days without use",
        fix="--expiration-period=never",
    ),
    Broken(
        name="wrong audience",
        breaks=pushed_for("other"),
        what=f"for other, and the worker expects {AUDIENCE}",
        fix=f"--push-auth-token-audience={AUDIENCE}",
    ),
    Broken(
        name="unwrapped",
        breaks=unwrapped(with_metadata=False),
        what="unwrapped and without metadata",
        fix="--clear-push-no-wrapper-config",
    ),
    Broken(
        name="unwrapped with metadata",
        breaks=unwrapped(with_metadata=True),
        what="pushes unwrapped: an attribute",
        fix="--clear-push-no-wrapper-config",
    ),
    Broken(
        name="a filter",
        breaks=made_anew(filter='attributes.env="prod"'),
        what='accepts only messages with attributes.env="prod"',
        fix=f"subscriptions delete {subscription_path(REQUESTS)}",
    ),
    Broken(
        name="in order",
        breaks=made_anew(enable_message_ordering=True),
        what="keeps messages in order",
        fix=f"subscriptions delete {subscription_path(REQUESTS)}",
    ),
    Broken(
        name="requests kept for ten minutes",
        breaks=changed(message_retention_duration={"seconds": 600}),
        what="keeps messages for 10 minutes, not 31 days",
        fix="--message-retention-duration=31d",
    ),
    Broken(
        name="too short a deadline",
        breaks=changed(ack_deadline_seconds=10),
        what="redelivers after 10 s",
        fix="--ack-deadline=60",
    ),
    Broken(
        name="no backoff",
        breaks=changed(retry_policy=None),
        what="redelivers without backoff",
        fix="--min-retry-delay=10s",
    ),
    Broken(
        name="no topic",
        breaks=without_topic(REPLIES),
        what="does not exist",
        fix=f"topics create {topic_path(REPLIES)}",
    ),
    Broken(
        name="no subscription",
        breaks=without_subscription(REQUESTS),
        what="does not exist",
        fix=f"--dead-letter-topic={topic_path(DEAD_LETTERS)} --max-delivery-attempts=100",
    ),
    Broken(
        name="nobody wakes the worker",
        breaks=without_subscription(TICKS),
        what=f"{subscription_path(TICKS)} does not exist",
        fix=f"--topic={topic_path(TICKS)} --push-endpoint=https://WORKER/pubsub/ticks",
    ),
    Broken(
        name="nobody answers what Pub/Sub gave up",
        breaks=without_subscription(FORWARDED),
        what=f"{subscription_path(FORWARDED)} does not exist",
        fix="--message-filter=attributes:CloudPubSubDeadLetterSourceSubscription",
    ),
    Broken(
        name="we may not publish",
        breaks=lambda topics: let(topics, topic_path(REQUESTS), "roles/pubsub.viewer"),
        what=f"this account lacks pubsub.topics.publish on {topic_path(REQUESTS)}",
        fix=f"topics add-iam-policy-binding {topic_path(REQUESTS)} {PUBLISHER}",
    ),
    Broken(
        name="we may not wait",
        breaks=lambda topics: let(topics, topic_path(REPLIES), "roles/pubsub.viewer"),
        what="this account may not create subscriptions",
        fix="pubsub.topics.attachSubscription",
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
async def test_what_is_broken_is_found_with_what_mends_it(
    pubsub: PubSub, topics: Topics, broken: Broken
):
    await broken.breaks(topics)

    found = not_ok(await findings(pubsub.rest_url))

    assert (broken.verdict, True, True) in [
        (each.verdict, broken.what in each.what, broken.fix in each.fix) for each in found
    ], found


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
async def test_what_it_tells_to_run_mends_it(pubsub: PubSub, topics: Topics, tmp_path: Path):
    for breaks in (
        kept(7),
        unwrapped(with_metadata=False),
        changed(ack_deadline_seconds=10, message_retention_duration={"seconds": 600}),
        changed(retry_policy=None),
        without_topic(REPLIES),
    ):
        await breaks(topics)
    env = os.environ | pubsub.exports(project=PROJECT) | {"CLOUDSDK_CONFIG": str(tmp_path)}

    for each in not_ok(await findings(pubsub.rest_url)):
        if each.fix.startswith("gcloud"):
            process = await asyncio.create_subprocess_exec(
                *shlex.split(each.fix), env=env, stderr=asyncio.subprocess.PIPE
            )
            _, complaint = await process.communicate()
            assert process.returncode == 0, complaint

    assert not_ok(await findings(pubsub.rest_url)) == []


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
@pytest.mark.parametrize(
    "breaks",
    [
        made_anew(filter='attributes.env="prod"'),
        made_anew(enable_message_ordering=True, retry_policy=None, ack_deadline_seconds=10),
    ],
    ids=["filter", "order"],
)
async def test_what_cannot_be_changed_is_made_anew(
    pubsub: PubSub, topics: Topics, tmp_path: Path, breaks: Break
):
    """One command, whole; it keeps where the pushes go, and as whom."""
    await breaks(topics)
    env = os.environ | pubsub.exports(project=PROJECT) | {"CLOUDSDK_CONFIG": str(tmp_path)}
    command = next(each.fix for each in await findings(pubsub.rest_url) if "&&" in each.fix)

    process = await asyncio.create_subprocess_shell(
        command, env=env, stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await process.communicate()

    assert process.returncode == 0, complaint
    assert [each for each in await findings(pubsub.rest_url) if each.verdict is Verdict.WRONG] == []


async def test_with_a_publishers_rights_it_says_what_it_cannot_see(pubsub: PubSub, topics: Topics):
    for name in (REQUESTS, DEAD_LETTERS, REPLIES):
        await let(topics, topic_path(name), "roles/pubsub.publisher")
    await let(topics, subscription_path(REQUESTS), "roles/pubsub.publisher")

    found = await findings(pubsub.rest_url)

    told = {each.what: each.verdict for each in found}
    unseen = "this account has no permission to see it"
    for name in (topic_path(REQUESTS), subscription_path(REQUESTS)):
        assert told[f"{name}: {unseen}"] is Verdict.UNSEEN
    assert told[f"this account has pubsub.topics.publish on {topic_path(REQUESTS)}"] is Verdict.OK


# The command


async def examine(run: Run, *words: str, **env: str) -> tuple[int, list[dict[str, str]]]:
    command = await run(["doctor", "--project", "team-models", "--output", "json", *words], **env)
    code, output = await command.ends()
    return code, [json.loads(line) for line in output.splitlines()]


async def test_what_is_missing_is_told_with_what_makes_it(service: Service, run: Run):
    del service
    code, told = await examine(run)

    letters = f"{TEAM}/topics/model-copy-dead-letters"
    assert code == 1
    assert [each["what"] for each in told if each["verdict"] == "wrong"] == [
        f"{letters} does not exist",
        f"{TEAM}/topics/model-copy-ticks does not exist",
        f"{TEAM}/subscriptions/model-copy-requests does not exist",
        f"{TEAM}/subscriptions/model-copy-ticks does not exist",
        f"{TEAM}/subscriptions/model-copy-forwarded does not exist",
        f"{TEAM}/subscriptions/model-copy-dead-letters does not exist",
    ]
    assert f"gcloud pubsub topics create {letters}" in [each["fix"] for each in told]
    assert "model-copy doctor --try" in [each["fix"] for each in told]


async def test_a_pubsub_that_says_nothing_of_the_set_up_is_exit_code_4(run: Run):
    command = await run(["doctor", "--project", "p-1", "--request-topic", "google-has-this"])

    assert (await command.ends())[0] == 4
    assert "Cannot examine Pub/Sub: Pub/Sub refused" in command.errors


async def test_what_cannot_tell_the_time_is_no_clock(run: Run):
    command = await run(["doctor", "--project", "p-1", "--clock", "ntp://time"])

    assert (await command.ends())[0] == 2
    assert "clock: 'ntp://time' is not http://" in command.errors


# The clock


@pytest.mark.parametrize(
    ("date", "verdict", "what"),
    [
        (0, Verdict.OK, "this clock agrees with that of 127.0.0.1:"),
        (3600, Verdict.WRONG, "behind that of 127.0.0.1:"),
        (-3600, Verdict.WRONG, "ahead of that of 127.0.0.1:"),
        (None, Verdict.UNSEEN, "has no Date"),
        ("yesterday", Verdict.UNSEEN, "has an invalid Date"),
    ],
    ids=["right", "ahead", "behind", "no Date", "bad Date"],
)
async def test_our_clock_is_held_against_a_server(
    topics: Topics, date: int | str | None, verdict: Verdict, what: str
):
    """Also where the server refuses the call itself, as Google's does."""
    del topics
    if isinstance(date, int):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=date), usegmt=True)
    header = f"Date: {date}" if date else "X: y"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 404 Not Found\r\n{header}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await findings(f"http://127.0.0.1:{port}/")

    [told] = [each for each in found if "clock" in each.what]
    assert (told.verdict, what in told.what) == (verdict, True), told


async def test_without_a_clock_that_is_said(topics: Topics):
    del topics
    emulators, silent = await findings(""), await findings("http://127.0.0.1:1/")

    for found, what in (
        (emulators, "an emulator has no clock to compare with"),
        (silent, "does not answer"),
    ):
        assert [what in each.what for each in not_ok(found)] == [True]
