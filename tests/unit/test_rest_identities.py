"""Identities of REST callers: no message on the request topic can act in their name."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from model_copier.contract.requests import REQUESTED, Identity, Received, canonical
from model_copier.domain.access_policy import Caller
from model_copier.domain.errors import Code, UnavailableError
from world import CONTRACT, DEFAULTS, REQUEST, TARGET_PROJECT, World, request

ACCOUNT = "airflow@pipelines.iam.gserviceaccount.com"
SOURCE = f"//model-copier/rest/{ACCOUNT}"
CANCEL = "dev.modelcopier.copy.cancel.requested.v1"
STATUS = "dev.modelcopier.copy.status.requested.v1"
OTHER = {**REQUEST, "destination_model_id": "other-model"}
IDENTITY = Identity(source=SOURCE, request_id="key")


def limited(*, account: str = ACCOUNT, projects: frozenset[str] | None = None) -> World:
    """A service that allows two target projects, and the account ``projects`` of them."""
    world = World()
    allowed = frozenset({TARGET_PROJECT, "other-target"})
    world.deliveries.contract = replace(
        CONTRACT,
        defaults=replace(DEFAULTS, target_projects=allowed),
        callers={account: Caller(account=account, target_projects=projects)},
    )
    return world


def call(data: Mapping[str, Any] = REQUEST, *, source: str = SOURCE, **more: str) -> Received:
    """What the api makes of a call by the account."""
    return Received(
        data=canonical(data),
        attributes={
            "ce-specversion": "1.0",
            "ce-id": "key",
            "ce-source": source,
            "ce-type": REQUESTED,
            "content-type": "application/json",
            **more,
        },
        message_id="",
        requested_by=source.removeprefix("//model-copier/rest").removeprefix("/"),
        over_rest=True,
    )


def message(data: object = REQUEST, *, kind: str = REQUESTED, **more: str) -> Received:
    """A publisher's message that claims the caller's identity."""
    named = {"ce-source": SOURCE, "ce-type": kind, **more}
    return request(data, request_id="key", **named)


async def failed(world: World) -> str:
    """A copy that the account requested and that failed; the id of its letter."""
    world.models.refusals = [Code.PERMISSION_DENIED]
    await world.deliver(call())
    await world.pass_time(60)
    assert world.job.failure
    return world.job.outcome_id


SOURCES = [SOURCE, "//model-copier/rest", "//model-copier/rest/", "//model-copier/rest/nobody"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (REQUESTED, REQUEST),
        (REQUESTED, {**REQUEST, "validate_only": True}),
        (CANCEL, {"request_id": "key"}),
        (STATUS, {"request_id": "key"}),
    ],
)
async def test_a_message_cannot_claim_a_caller(source: str, kind: str, data: object):
    """It plants no job in their list, and takes no Idempotency-Key."""
    world = limited()

    told = await world.deliver(message(data, kind=kind, **{"ce-source": source}))

    assert told.verdict == "rejected"
    assert told.reason.startswith(f"ce-source: '{source}' belongs to a caller of the REST API")
    assert not world.store.jobs
    assert [reply["error"]["code"] for reply in world.replies] == ["PERMISSION_DENIED"]


async def test_a_structured_message_cannot_claim_a_caller():
    """The identity counts wherever it stands."""
    world = limited()
    event = {
        "specversion": "1.0",
        "id": "key",
        "source": SOURCE,
        "type": REQUESTED,
        "data": REQUEST,
    }
    attributes = {"content-type": "application/cloudevents+json", "ce-source": "//mine"}

    told = await world.deliver(
        Received(data=json.dumps(event).encode(), attributes=attributes, message_id="1")
    )

    assert told.reason.startswith("ce-source: ")
    assert not world.store.jobs


@pytest.mark.parametrize("kind", [CANCEL, STATUS])
@pytest.mark.parametrize("claimed", [SOURCE, "//ec2/pipeline"])
async def test_a_message_cannot_cancel_or_ask(kind: str, claimed: str):
    """Neither in the caller's name nor by naming the caller; nothing of it is kept."""
    world = limited()
    await world.deliver(call())
    named = {"request_id": "key", "request_source": SOURCE}

    told = await world.deliver(message(named, kind=kind, **{"ce-source": claimed}))

    field = "ce-source" if claimed == SOURCE else "request_source"
    assert told.reason.startswith(f"{field}: '{SOURCE}' belongs to a caller of the REST API")
    assert not world.job.cancel_requested
    assert not world.topics.letters
    assert "dead_letter" not in world.replies[-1]


async def test_a_caller_whose_key_was_claimed_is_served():
    world = limited()
    await world.deliver(message(OTHER))

    told = await world.deliver(call())

    assert told.verdict == "accepted"
    assert world.job.requested_by == ACCOUNT


async def test_a_letter_is_replayed_by_message_and_told():
    """The account keeps its request; who replayed it is in job, reply, history and log."""
    world = limited()
    letter = await failed(world)

    told = await world.deliver(message(replay_of=letter))
    await world.pass_time(60)

    assert (told.verdict, told.replayed_by) == ("replayed", "message")
    assert told.request_source == told.asked_by == SOURCE
    assert world.job.replayed_by == "message"
    assert world.replies[-1]["replayed_by"] == "message"
    assert world.replies[-1]["requested_by"] == ACCOUNT
    assert "run 2, by message" in [moment.detail for moment in world.job.history]


async def test_other_content_is_not_in_the_accounts_name():
    """``requested_by`` never claims what the account did not ask; not even two replays later."""
    world = limited()
    letter = await failed(world)
    world.models.refusals = [Code.PERMISSION_DENIED]
    await world.deliver(message(OTHER, replay_of=letter))
    await world.pass_time(60)
    replies = world.replies[-1]
    second = world.job.outcome_id

    await world.deliver(message(REQUEST, replay_of=second))
    await world.pass_time(60)

    assert "requested_by" not in replies
    assert "requested_by" not in world.replies[-1]
    assert world.replies[-1]["replayed_by"] == "message"


async def test_a_callers_own_replay_is_theirs():
    world = limited()
    letter = await failed(world)
    world.models.refusals = [Code.PERMISSION_DENIED]
    await world.deliver(message(OTHER, replay_of=letter))
    await world.pass_time(60)

    told = await world.deliver(call(OTHER, replay_of=world.job.outcome_id))
    await world.pass_time(60)

    assert told.replayed_by == ACCOUNT
    assert world.replies[-1]["requested_by"] == world.replies[-1]["replayed_by"] == ACCOUNT


async def test_a_replay_stays_within_the_accounts_limits():
    """F1: a publisher made copies past the limits of the account, and in its name."""
    world = limited(projects=frozenset({TARGET_PROJECT}))
    letter = await failed(world)
    elsewhere = {**REQUEST, "target_project": "other-target"}

    told = await world.deliver(message(elsewhere, replay_of=letter))

    assert told.verdict == "rejected"
    assert told.reason == (
        f"target_project: 'other-target' is not for {ACCOUNT}; it may name {TARGET_PROJECT}"
    )
    assert world.job.outcome_id == letter
    assert world.topics.letters[-1].attributes["dead_letter_code"] == "PERMISSION_DENIED"


async def test_a_caller_who_left_is_not_replayed():
    world = limited()
    letter = await failed(world)
    world.deliveries.contract = replace(world.deliveries.contract, callers={})

    told = await world.deliver(message(replay_of=letter))

    assert told.reason == f"ce-source: '{ACCOUNT}' may no longer request copies"


async def test_without_tokens_no_account_has_limits():
    """Where tokens are not checked, all calls share one source and nobody is named."""
    world = World()
    source = "//model-copier/rest"
    world.models.refusals = [Code.PERMISSION_DENIED]
    await world.deliver(call(source=source))
    await world.pass_time(60)
    letter = world.job.outcome_id

    by_message = await world.deliver(message(replay_of=letter, **{"ce-source": source}))
    assert by_message.verdict == "replayed"
    world.models.refusals = [Code.PERMISSION_DENIED]
    await world.pass_time(60)


async def test_a_repeated_replay_changes_nothing():
    """Pub/Sub delivers twice; the second is a repeat, and no rejection."""
    world = limited()
    letter = await failed(world)
    first = await world.deliver(message(replay_of=letter))

    second = await world.deliver(message(replay_of=letter))
    await world.pass_time(60)
    third = await world.deliver(message(replay_of=letter))

    assert [first.verdict, second.verdict, third.verdict] == [
        "replayed",
        "duplicate",
        "announced_again",
    ]
    assert world.job.run == 2


@pytest.mark.parametrize(
    "replay_of", ["{key}-2", "{key}-9", "{key}-0", "other-1", "{key}-rejected"]
)
async def test_only_a_letter_that_exists_replays(replay_of: str):
    """The id can be computed; a letter that is not there yet cannot be replayed."""
    world = limited()
    await failed(world)

    told = await world.deliver(message(replay_of=replay_of.format(key=IDENTITY.key)))

    assert told.verdict == "rejected"
    assert world.job.run == 1


async def test_a_running_copy_is_not_replayed():
    world = limited()
    await world.deliver(call())

    told = await world.deliver(message(OTHER, replay_of=world.job.outcome_id))

    assert told.verdict == "rejected"


async def test_what_pubsub_forwarded_claims_no_caller():
    """Nobody had recorded it, so no caller requested it."""
    world = limited()
    marks = {"CloudPubSubDeadLetterSourceDeliveryCount": "100"}

    told = await world.deliveries.accept_forwarded(message(**marks))

    assert told.verdict == "rejected"
    assert not world.store.jobs


async def test_a_cancel_names_asker_and_asked():
    """The log line of a cancel tells both sources: who published is not proven, but recorded."""
    world = World()
    await world.deliver()
    named = {"request_id": "request-1", "request_source": "//ec2/pipeline"}

    told = await world.deliver(
        request(named, request_id="c", **{"ce-type": CANCEL, "ce-source": "//somebody/else"})
    )

    assert told.verdict == "cancelling"
    assert (told.asked_by, told.request_source) == ("//somebody/else", "//ec2/pipeline")


@pytest.mark.parametrize("data", [{}, OTHER], ids=["unreadable", "a conflict"])
async def test_a_rejected_message_makes_one_letter(data: dict[str, Any]):
    """Red team A.11: 21 letters after 20 deliveries, while the reply topic was away."""
    world = World()
    await world.deliver()
    publish = world.topics.publish_reply
    away = True

    async def publish_reply(reply: Any) -> None:
        if away:
            raise UnavailableError("the reply topic is away")
        await publish(reply)

    world.topics.publish_reply = publish_reply
    for _ in range(20):
        with pytest.raises(UnavailableError):
            await world.deliver(request(data))
    away = False

    await world.deliver(request(data))

    assert len(world.topics.letters) == 1
    assert [reply["outcome"] for reply in world.replies] == ["rejected"]


async def test_a_conflict_that_passes_is_kept():
    """A crash between reply and letter must not leave a reply that names no letter."""
    world = World()
    await world.deliver()

    async def killed(_reply: Any) -> None:
        raise KeyboardInterrupt

    world.topics.publish_reply = killed
    with pytest.raises(KeyboardInterrupt):
        await world.deliver(request(OTHER))

    assert len(world.topics.letters) == 1
