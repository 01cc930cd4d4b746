"""A job as it lies in a store: what was written is read again, and nothing else is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_copier.adapters.job_record import RECORD_VERSION, from_record, to_record
from model_copier.contract import replies
from model_copier.contract.request_schema import MAX_DEPTH
from model_copier.domain.copy_call import Call
from model_copier.domain.copy_request import CopyRequest, IfExists, Original, Source
from model_copier.domain.errors import Code, Failure, UnreadableRecordError
from model_copier.domain.job import Job, State
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import Timing
from model_copier.domain.vertex_types import Operation
from simulators import START

SOURCE = ModelName.parse("projects/source/locations/us-central1/models/7@1")
TIMING = Timing()
JOB = Job(
    key="key",
    request_id="request-1",
    request_source="//ec2/pipeline",
    digests=("first", "second"),
    request=CopyRequest(source=SOURCE, target_project="target", target_location="us-central1"),
    original=Original(data=b"{}", attributes={}),
    accepted_at=START,
    run_started_at=START,
    due_at=START + timedelta(microseconds=1),
)
FULL = replace(
    JOB,
    version=7,
    request=CopyRequest(
        source=SOURCE.at("prod"),
        target_project="target",
        target_location="us-central1",
        destination="copied",
        new_version=True,
        if_exists=IfExists.NEW_VERSION,
        kms_key_name="key",
        custom_service_account="account",
        deadline_seconds=60,
        correlation={"run": [1, 1.5, None, {"a": "é"}]},
        reply_tag="nightly",
    ),
    source=Source(name=SOURCE, known_as=SOURCE.at("2"), copy_of=SOURCE.at("3")),
)

texts = st.text(st.characters(codec="utf-8"), max_size=30)
correlations = st.dictionaries(
    texts,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=3,
)


def every_state() -> list[Job]:
    waiting = FULL.with_source(FULL.source or Source(name=SOURCE, known_as=SOURCE), 2.5)
    queued = waiting.with_lock().enqueued()
    call = Call(
        requested_at=START,
        visible_at=TIMING.visible_at(START),
        known_versions=("1", "2"),
        known_operations=("7", "8"),
        known_until=START,
    )
    requested = queued.copy_requested(START, call, TIMING)
    unlisted = replace(call, known_operations=None, missing_since=START, forgotten=True)
    copying = requested.copying("operations/1", START, START).unfinished(START).snoozed(START)
    succeeded = copying.succeeded(
        START,
        model_version="3",
        verified=True,
        operation=Operation(name="operations/1", done=True, updated_at=START),
        already_existed=True,
        warnings=("look",),
        possible_duplicates=("m@4",),
    )
    failure = Failure(code=Code.NOT_FOUND, message="no", hint="look")
    unknown = copying.cancel_answered(START, refused="UNIMPLEMENTED").failed(START, failure)
    return [
        JOB,
        FULL,
        waiting,
        queued,
        queued.watching(START),
        requested,
        replace(requested, call=unlisted, restored=True),
        copying,
        copying.with_cancel_requested(START).cancel_answered(START),
        copying.operation_failed(START, START),
        succeeded,
        succeeded.announced(START),
        unknown.with_letter_kept(START),
        queued.failed(START, failure),
        queued.cancelled(START),
    ]


def test_every_state_is_among_the_jobs_that_are_written():
    assert {job.state for job in every_state()} == {*State}


@pytest.mark.parametrize("job", every_state())
def test_a_job_is_read_as_it_was_written(job: Job):
    assert from_record(to_record(job)) == job


@given(st.binary(), st.dictionaries(texts, texts, max_size=5))
@example(bytes(range(256)), {"": ""})
def test_the_bytes_of_a_request_survive_whatever_they_are(data: bytes, attributes: dict[str, str]):
    job = replace(JOB, original=Original(data=data, attributes=attributes))

    assert from_record(to_record(job)).original == job.original


@given(correlations)
@example({"float": -0.0, "large": 1e300, "int": 2**53 - 1})
def test_a_reply_from_the_store_is_the_same_byte_for_byte(correlation):
    request = replace(FULL.request, correlation=correlation)
    job = replace(FULL, request=request).failed(START, Failure(code=Code.ABORTED, message="no"))

    assert replies.outcome(from_record(to_record(job)), "//s") == replies.outcome(job, "//s")


def test_what_a_request_may_nest_can_be_read_again():
    deep: dict[str, object] = {}
    for _ in range(MAX_DEPTH):
        deep = {"in": deep}
    job = replace(JOB, request=replace(JOB.request, correlation=deep))

    assert from_record(to_record(job)) == job


def test_a_record_without_a_history_is_read():
    """As services wrote them that kept none."""
    job = replace(FULL, history=())
    older = to_record(job).replace(b',"history":[]', b"")

    assert b"history" not in older
    assert from_record(older) == job


def test_a_record_of_a_newer_service_is_refused_by_its_version():
    newer = to_record(JOB).replace(b"[1,", b"[2,", 1)

    assert RECORD_VERSION == 1
    with pytest.raises(
        UnreadableRecordError, match="a record of version 2; this service reads version 1"
    ):
        from_record(newer)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (b"", "not a record: b''"),
        (b"nonsense", "not a record: b'nonsense'"),
        (b"{}", "a broken record: "),
        (b"[]", "a broken record: "),
        (to_record(JOB).replace(b'"ACCEPTED"', b'"LOST"'), "a broken record: "),
    ],
)
def test_what_is_no_record_is_refused(record: bytes, sentence: str):
    with pytest.raises(UnreadableRecordError) as refused:
        from_record(record)

    assert str(refused.value).startswith(sentence)
