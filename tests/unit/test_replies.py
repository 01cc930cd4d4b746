"""What is told on the reply topic."""

import json
from dataclasses import replace

import pytest
from cloudevents.http import CloudEvent, from_http
from hypothesis import given
from hypothesis import strategies as st

from model_copier.contract import replies
from model_copier.contract.dead_letters import letter_of_job
from model_copier.contract.requests import (
    MAX_ATTRIBUTE_BYTES,
    Asked,
    Identity,
    Message,
    Received,
    Rejection,
)
from model_copier.domain.copy_call import Call
from model_copier.domain.copy_request import Source
from model_copier.domain.errors import Code, Failure
from model_copier.domain.job import Job
from model_copier.domain.planning import plan
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import Timing
from model_copier.domain.vertex_types import Model, Operation
from simulators import START
from world import CONTRACT, REQUEST, SOURCE, TARGET, read, request

SERVICE = "//model-copier/topic"
TIMING = Timing()
ASKING = Identity(source="//console", request_id="question-1")
FAILURE = Failure(code=Code.PERMISSION_DENIED, message="no", hint="ask for it")


def asked_by(received: Received) -> Asked:
    asked = CONTRACT.read(received)
    assert isinstance(asked, Asked)
    return asked


def accepted(received: Received | None = None) -> Job:
    received = received or request()
    asked = asked_by(received)
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


def copying(received: Received | None = None) -> Job:
    name = ModelName.parse(f"{SOURCE}@1")
    queued = accepted(received).with_source(Source(name=name, known_as=name), 1.0).with_lock()
    call = Call(requested_at=START, visible_at=TIMING.visible_at(START))
    requested = queued.copy_requested(START, call, TIMING)
    return requested.copying("operations/1", START, START)


def succeeded(received: Received | None = None) -> Job:
    ended = Operation(name="operations/1", done=True, updated_at=START)
    return copying(received).succeeded(START, model_version="1", verified=True, operation=ended)


def failed(received: Received | None = None, failure: Failure = FAILURE) -> Job:
    return accepted(received).failed(START, failure)


def rejection(received: Received) -> Rejection:
    return Rejection(
        identity=CONTRACT.identity(received), received=received, failure=FAILURE, at=START
    )


def official(message: Message) -> CloudEvent:
    return from_http(dict(message.attributes), message.data)


def validated() -> Message:
    asked = asked_by(request())
    name = ModelName.parse(f"{SOURCE}@1")
    planned = plan(asked.copy, Source(name=name, known_as=name), ())
    assert not isinstance(planned, Failure)
    return replies.validated(asked, replies.Planned(plan=planned), SERVICE, START)


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        (replies.outcome(succeeded(), SERVICE), "succeeded"),
        (replies.outcome(failed(), SERVICE), "failed"),
        (replies.outcome(copying().with_nothing_made().cancelled(START), SERVICE), "cancelled"),
        (replies.status(copying(), ASKING, SERVICE, START), "status"),
        (replies.rejected(rejection(request(b"{")), SERVICE), "rejected"),
        (validated(), "validated"),
    ],
)
def test_the_official_package_reads_every_reply(message: Message, outcome: str):
    event = official(message)

    assert event["type"] == f"dev.modelcopier.copy.{outcome}.v1"
    assert event["dataschema"] == f"https://modelcopier.dev/schemas/{outcome}.v1.json"
    assert event["source"] == SERVICE
    assert event["subject"] == "request-1"
    # A rejection has none, so that it is the same each time; the package makes one up.
    told_at = "2026-02-13T09:00:00.000Z" if outcome != "rejected" else None
    assert message.attributes.get("ce-time") == told_at
    assert event.data == json.loads(message.data)
    assert event.data.get("outcome", "status") == message.attributes["outcome"] == outcome
    assert event.data["request_source"] == "//ec2/pipeline"


def test_a_reply_can_be_filtered_by_its_attributes():
    reply = replies.outcome(succeeded(request(reply_tag="nightly")), SERVICE)

    assert (
        reply.attributes.items()
        >= {
            "outcome": "succeeded",
            "request_id": "request-1",
            "request_source": "//ec2/pipeline",
            "run": "1",
            "reply_tag": "nightly",
            "source_model": f"{SOURCE}@1",
            "target_model": TARGET,
        }.items()
    )


def test_the_same_outcome_gives_the_same_reply_byte_for_byte():
    first, second = (replies.outcome(succeeded(), SERVICE) for _ in range(2))

    assert first == second


def test_a_status_says_how_far_a_job_is_and_whose_question_it_answers():
    told = replies.status(copying(), ASKING, SERVICE, START)

    status = read(told)
    assert status["state"] == "COPYING"
    assert status["operation"] == "operations/1"
    assert status["in_reply_to"] == told.attributes["in_reply_to"] == "question-1"


@pytest.mark.parametrize(
    "job",
    [
        succeeded(),
        failed(),
        copying().failed(START, FAILURE),
        copying().with_nothing_made().cancelled(START),
    ],
    ids=["succeeded", "failed", "unknown", "cancelled"],
)
def test_a_status_of_what_has_ended_tells_all_that_its_outcome_tells(job: Job):
    outcome = json.loads(replies.outcome(job, SERVICE).data)

    status = json.loads(replies.status(job, ASKING, SERVICE, START).data)

    state = status.pop("state")
    assert outcome.pop("outcome").upper() == ("FAILED" if state == "UNKNOWN" else state)
    assert outcome.get("outcome_unknown", False) is (state == "UNKNOWN")
    assert status.pop("in_reply_to") == "question-1"
    assert status == outcome


def test_a_failure_names_its_letter():
    job = failed()

    reply = read(replies.outcome(job, SERVICE))

    assert reply["error"] == {"code": "PERMISSION_DENIED", "message": "no", "hint": "ask for it"}
    assert reply["dead_letter"] == letter_of_job(job).attributes["outcome_id"]


def test_a_rejection_is_told_under_one_id_for_one_content():
    once, twice = (replies.rejected(rejection(request(b"{")), SERVICE) for _ in range(2))
    other = replies.rejected(rejection(request(b"[")), SERVICE)

    assert read(once)["id"] == read(twice)["id"] != read(other)["id"]


def test_a_rejection_names_the_content_where_there_is_any():
    wrong = request(REQUEST | {"colour": "red"})

    assert read(replies.rejected(rejection(wrong), SERVICE))["request_digest"]
    assert "request_digest" not in read(replies.rejected(rejection(request(b"{")), SERVICE))


def test_a_model_that_is_there_is_what_a_validation_tells():
    there = Model(name=ModelName.parse(f"{TARGET}@3"), copy_of=None)

    told = read(replies.validated(asked_by(request()), replies.Planned(plan=there), SERVICE, START))

    assert told["already_existed"] is True
    assert told["resource_name"] == TARGET


@given(st.text("aé€😀", max_size=1100))
def test_an_attribute_is_cut_at_a_whole_character(source: str):
    source = "/" + source
    told = replies.outcome(replace(failed(), request_source=source), SERVICE)

    kept = told.attributes["request_source"]
    assert source.startswith(kept)
    assert len(kept.encode()) <= MAX_ATTRIBUTE_BYTES
    if kept != source:
        assert len(kept.encode()) > MAX_ATTRIBUTE_BYTES - 4
    assert read(told)["request_source"] == source
