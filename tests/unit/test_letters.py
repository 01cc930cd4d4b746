"""Dead letters: the request as it came, within Pub/Sub's limits, and why it failed."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_copier.contract import replies
from model_copier.contract.dead_letters import letter_of_job, letter_of_rejection
from model_copier.contract.requests import (
    LETTER_ATTRIBUTES,
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_OWN_ATTRIBUTES,
    MAX_SENT_ATTRIBUTES,
    OUTCOME_UNKNOWN,
    Asked,
    Message,
    Received,
    Rejection,
)
from model_copier.domain.copy_call import Call
from model_copier.domain.copy_request import Original, Source
from model_copier.domain.errors import Code, Failure, RejectedError
from model_copier.domain.job import Job
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import Timing
from simulators import START
from world import CONTRACT, SOURCE, read, request

FAILURE = Failure(code=Code.PERMISSION_DENIED, message="no", hint="ask for it")


def accepted(received: Received | None = None) -> Job:
    received = received or request()
    asked = CONTRACT.read(received)
    assert isinstance(asked, Asked)
    return Job(
        key=asked.identity.key,
        request_id=asked.identity.request_id,
        request_source=asked.identity.source,
        digests=(asked.digest,),
        request=asked.copy,
        original=received.original,
        accepted_at=START,
        run_started_at=START,
        due_at=START,
    )


def failed(received: Received | None = None, failure: Failure = FAILURE) -> Job:
    return accepted(received).failed(START, failure)


def size_of(message: Message | Original) -> int:
    return len(message.data) + sum(
        len(key.encode()) + len(value.encode()) for key, value in message.attributes.items()
    )


# Whatever Pub/Sub let in: at most 100 attributes of at most 256 and 1024 bytes, 10 MB in all.
originals = st.builds(
    lambda attributes, room: Original(
        attributes=attributes,
        data=bytes(
            max(0, MAX_MESSAGE_BYTES - size_of(Original(data=b"", attributes=attributes)) - room)
        ),
    ),
    st.dictionaries(
        st.sampled_from(
            [
                *LETTER_ATTRIBUTES,
                OUTCOME_UNKNOWN,
                "googclient_schemaencoding",
                "CloudPubSubDeadLetterSourceDeliveryCount",
                "é" * 128,
            ]
        )
        | st.text("abc", min_size=1, max_size=6),
        st.integers(0, MAX_ATTRIBUTE_BYTES).map("x".__mul__),
        max_size=MAX_ATTRIBUTES,
    )
    | st.integers(MAX_ATTRIBUTES - 7, MAX_ATTRIBUTES).map(
        lambda count: {f"own{number}": "x" for number in range(count)}
    ),
    st.integers(0, 5000) | st.just(MAX_MESSAGE_BYTES),
)


@given(originals, st.integers(0, 2000))
@example(Original(data=bytes(MAX_MESSAGE_BYTES - 18), attributes={"dead_letter_reason": ""}), 2000)
def test_a_letter_keeps_what_came_and_fits_into_pubsub(original: Original, reason: int):
    job = replace(failed(failure=replace(FAILURE, message="r" * reason)), original=original)

    letter = letter_of_job(job)

    assert OUTCOME_UNKNOWN not in letter.attributes
    assert_fits(letter, original)
    assert letter.attributes.get("outcome_id", job.outcome_id) == job.outcome_id


@given(originals)
@example(Original(data=bytes(MAX_MESSAGE_BYTES - 15), attributes={OUTCOME_UNKNOWN: ""}))
def test_a_rejected_letter_stays_of_an_unknown_outcome(original: Original):
    """Else its next replay would call CopyModel, though nobody has looked; and it fits."""
    received = Received(data=original.data, attributes=original.attributes, message_id="1")
    rejection = Rejection(identity=None, received=received, failure=FAILURE, at=START)

    letter = letter_of_rejection(rejection)

    again = Received(data=letter.data, attributes=letter.attributes, message_id="2")
    assert again.outcome_unknown is received.outcome_unknown
    assert_fits(letter, original)


def assert_fits(letter: Message, original: Original) -> None:
    assert letter.data is original.data
    theirs = {
        key: value
        for key, value in original.attributes.items()
        if key not in {*LETTER_ATTRIBUTES, OUTCOME_UNKNOWN}
        and not key.startswith(("goog", "CloudPubSub"))
    }
    kept = {
        k: v for k, v in letter.attributes.items() if k not in {*LETTER_ATTRIBUTES, OUTCOME_UNKNOWN}
    }
    assert kept.items() <= theirs.items()
    told = letter.attributes.get("dead_letter_reason", "")
    if kept != theirs and told:
        assert told.endswith(" attributes are left out)")
    if len(original.data) < MAX_MESSAGE_BYTES - 4000:
        assert letter.attributes.keys() >= set(LETTER_ATTRIBUTES)
    if len(theirs) <= MAX_SENT_ATTRIBUTES and len(original.data) <= MAX_DATA_BYTES:
        assert kept == theirs
    assert len(letter.attributes) <= MAX_ATTRIBUTES
    assert all(len(value.encode()) <= MAX_ATTRIBUTE_BYTES for value in letter.attributes.values())
    assert size_of(letter) <= MAX_MESSAGE_BYTES


def test_a_rejected_message_of_100_attributes_has_its_reason():
    """Red team A.11: ``ce-`` attributes did not count, so no room was left for the reason."""
    extensions = {f"ce-x{number}": "v" * 1024 for number in range(MAX_ATTRIBUTES)}
    received = request(reply_tag="night", **dict(list(extensions.items())[:94]))
    assert len(received.attributes) == MAX_ATTRIBUTES

    with pytest.raises(RejectedError, match="attributes: 100 with those of the CloudEvent; at"):
        CONTRACT.read(received)
    letter = letter_of_rejection(
        Rejection(
            identity=CONTRACT.identity(received), received=received, failure=FAILURE, at=START
        )
    )

    assert letter.attributes["dead_letter_reason"] == (
        "no; ask for it (5 of 100 attributes are left out)"
    )
    assert letter.attributes["ce-id"] == "request-1"
    assert letter.attributes["reply_tag"] == "night"
    assert letter.attributes.keys() >= set(LETTER_ATTRIBUTES)


def test_a_request_at_the_limit_replays():
    """The attributes that a replay adds do not count against the sender's."""
    extensions = {f"ce-x{number}": "v" for number in range(MAX_SENT_ATTRIBUTES - 5)}
    letter = letter_of_job(failed(request(**extensions)))
    again = {**letter.attributes, "replay_of": letter.attributes["outcome_id"], "ce-replays": "1"}

    replayed = Received(data=letter.data, attributes=again, message_id="43")

    assert CONTRACT.read(replayed) == CONTRACT.read(request(**extensions))


def test_a_letter_says_what_failed_why_and_when():
    letter = letter_of_job(failed())

    assert letter.attributes == dict(request().attributes) | {
        "dead_letter_code": "PERMISSION_DENIED",
        "dead_letter_reason": "no; ask for it",
        "dead_letter_at": "2026-02-13T09:00:00.000Z",
        "outcome_id": failed().outcome_id,
        "attempts": "0",
    }


def test_a_letter_of_an_unknown_outcome_says_so():
    """It comes back with a replay, and is gone once an outcome is known."""
    name = ModelName.parse(f"{SOURCE}@1")
    queued = accepted().with_source(Source(name=name, known_as=name), 1.0).with_lock()
    call = Call(requested_at=START, visible_at=START)
    unknown = queued.copy_requested(START, call, Timing()).failed(START, FAILURE)

    letter = letter_of_job(unknown)
    replayed = Received(data=letter.data, attributes=letter.attributes, message_id="43")

    assert letter.attributes[OUTCOME_UNKNOWN] == "true"
    assert replayed.outcome_unknown
    assert OUTCOME_UNKNOWN not in letter_of_job(failed(replayed)).attributes


def test_a_letter_that_fails_again_tells_the_newer_reason():
    first = letter_of_job(failed())
    replayed = Received(data=first.data, attributes=first.attributes, message_id="43")

    second = letter_of_job(failed(replayed, replace(FAILURE, message="still no")))

    assert second.attributes["dead_letter_reason"] == "still no; ask for it"
    assert second.attributes.keys() == first.attributes.keys()


def test_a_letter_is_a_request_again_when_it_is_replayed():
    """Even one that came with as many attributes as it may."""
    own = {f"own{number}": "" for number in range(MAX_OWN_ATTRIBUTES)}
    letter = letter_of_job(failed(request(**own)))
    attributes = {**letter.attributes, "replay_of": letter.attributes["outcome_id"]}
    replayed = Received(data=letter.data, attributes=attributes, message_id="43")

    assert CONTRACT.read(replayed) == CONTRACT.read(request())
    assert replayed.replay_of == failed().outcome_id


def test_a_long_reason_is_cut_in_the_letter_and_whole_in_the_reply():
    job = failed(failure=replace(FAILURE, message="€" * 2000))

    letter, reply = letter_of_job(job), replies.outcome(job, "//s")

    assert letter.attributes["dead_letter_reason"] == "€" * (MAX_ATTRIBUTE_BYTES // 3)
    assert read(reply)["error"]["message"] == "€" * 2000
