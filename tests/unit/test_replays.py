"""Reading letters, choosing among them, and deciding what a replay publishes: all without I/O."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_copy_publisher import CopyRequest, InvalidRequestError
from model_copy_publisher.letters import Letter, Origin, of_line, to_line
from model_copy_publisher.replays import Changes, Left, Replay, checked, in_lots, plan
from model_copy_publisher.selection import Selection, parse_age

NOW = datetime(2026, 2, 13, 9, tzinfo=UTC)
KEY = "c389164a580b5ca22e30389d33167c98"
CONTENT: dict[str, Any] = {"source_model_id": "7@1", "destination_model_id": "faker"}
ASKED = {
    "ce-specversion": "1.0",
    "ce-id": "r-1",
    "ce-source": "//ec2/pipeline",
    "ce-type": "dev.modelcopier.copy.requested.v1",
    "content-type": "application/json",
    "reply_tag": "nightly",
}
DIED = {
    "dead_letter_code": "NOT_FOUND",
    "outcome_id": f"{KEY}-1",
    "dead_letter_at": "2026-02-13T08:00:00.000Z",
    "attempts": "2",
    "dead_letter_reason": "source_model_id: 7 does not exist; see what is there",
}
FORWARDED = {
    "CloudPubSubDeadLetterSourceDeliveryCount": "100",
    "CloudPubSubDeadLetterSourceSubscription": "model-copy-requests",
    "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
    "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-02-13T07:00:00.000+00:00",
}


DEEP = b'{"a":' * 201 + b"1" + b"}" * 201


def letter(content: Any = CONTENT, *, without: Any = (), **attributes: Any) -> Letter:
    body = attributes.pop("data", None)
    body = json.dumps(content).encode() if body is None else body
    every = {k: v for k, v in ({**ASKED, **DIED} | attributes).items() if k not in without}
    return Letter.read(body, every, message_id="17", published_at=NOW)


def forwarded(**attributes: str) -> Letter:
    return letter(without=DIED, **FORWARDED, **attributes)


def bare(**attributes: str) -> Letter:
    return letter(without=ASKED, **attributes)


def sent(read: Letter, **options) -> Replay:
    replay = plan(read, **options)
    assert isinstance(replay, Replay)
    return replay


def left(read: Letter, **options) -> str:
    stays = plan(read, **options)
    assert isinstance(stays, Left)
    return stays.reason


# Reading


def test_a_letter_of_the_copier_tells_why_and_when():
    read = letter()

    assert (read.origin, read.code, read.attempts) == (Origin.COPIER, "NOT_FOUND", 2)
    assert read.reason.startswith("source_model_id: 7 does not exist")
    assert (read.request_id, read.source, read.target) == ("r-1", "7@1", "faker")
    assert read.died_at == NOW - timedelta(hours=1)


def test_a_letter_of_pubsub_tells_who_forwarded_it():
    read = forwarded()

    assert (read.origin, read.code, read.attempts) == (Origin.PUBSUB, "UNAVAILABLE", 100)
    assert "after 100 deliveries" in read.reason
    assert read.died_at == NOW - timedelta(hours=2)


def test_a_whole_event_in_the_data_is_read():
    event = {"id": "r-9", "source": "//s", "type": ASKED["ce-type"], "data": CONTENT}
    kind = {"content-type": "application/cloudevents+json"}

    read = letter(event, without=set(ASKED) - set(kind), **kind)

    assert (read.request_id, read.request_source, read.target) == ("r-9", "//s", "faker")


@pytest.mark.parametrize(
    "attributes", [{}, {"Content-Type": "application/cloudevents+json"}, {"team": "a"}]
)
def test_a_structured_letter_is_read_in_any_spelling(attributes: dict[str, str]):
    """The data tell where the sender wrote no attribute; the replay leaves them so."""
    event = {"specversion": "1.0", "id": "r-9", "source": "//s", "type": ASKED["ce-type"]}

    read = letter({**event, "data": CONTENT}, without=ASKED, **attributes)
    replay = sent(read, changes=Changes(fields={"destination_model_id": "mended"}))

    assert (read.request_id, read.request_source, read.target) == ("r-9", "//s", "faker")
    assert not replay.attributes.keys() & {"ce-id", "ce-source"}
    assert json.loads(replay.data)["data"]["destination_model_id"] == "mended"


def test_a_binary_letter_is_read_in_any_case():
    """As an HTTP relay spells the attributes."""
    title = {name.title(): value for name, value in ASKED.items() if name != "reply_tag"}

    read = letter(b"", without=ASKED, data=b"\xef\xbb\xbf" + json.dumps(CONTENT).encode(), **title)

    assert (read.request_id, read.request_source) == ("r-1", "//ec2/pipeline")
    assert sent(read).attributes["Ce-Id"] == "r-1"
    assert "ce-id" not in sent(read).attributes


@pytest.mark.parametrize("data", [b"\xff", b"{", b"[]", b"", b"[" * 100_000, DEEP])
def test_what_is_not_json_is_a_letter_all_the_same(data):
    read = letter(data=data)

    assert read.content is None
    assert read.unreadable.startswith("its data are")
    assert left(read).startswith("it would be rejected again")


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999"])
def test_what_no_json_can_say_again_is_shown_as_text(number):
    read = letter(data=b'{"correlation": {"x": %s}}' % number)

    assert read.unreadable.startswith("its data are not JSON: ")
    assert read.to_json()["text"] == read.data.decode()


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "soon", ""]
)
def test_a_time_that_is_none_is_when_it_was_published(moment):
    assert letter(dead_letter_at=moment).died_at == NOW


def test_what_is_no_letter_of_ours_stays():
    stranger = letter(without={*ASKED, *DIED})

    assert stranger.origin is Origin.STRANGER
    assert left(stranger) == "it was not written by the copier"


def test_a_letter_of_a_newer_version_stays():
    newer = letter(**{"ce-type": "dev.modelcopier.copy.requested.v2"})

    assert "is newer than this model-copy" in left(newer)


# Choosing


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({}, True),
        ({"codes": ["NOT_FOUND", "INTERNAL"]}, True),
        ({"codes": ["INTERNAL"]}, False),
        ({"source": "7*"}, True),
        ({"target": "fake?"}, True),
        ({"target": "fake"}, False),
        ({"older_than": timedelta(minutes=59)}, True),
        ({"older_than": timedelta(minutes=61)}, False),
        ({"newer_than": timedelta(minutes=61)}, True),
        ({"newer_than": timedelta(minutes=59)}, False),
        ({"request_ids": ["r-1"]}, True),
        ({"request_ids": ["r-2"]}, False),
        ({"origin": Origin.COPIER}, True),
        ({"origin": Origin.PUBSUB}, False),
        ({"codes": ["NOT_FOUND"], "target": "other"}, False),
    ],
)
def test_all_that_is_given_must_hold(choice, chosen):
    assert Selection(**choice).includes(letter(), now=NOW) is chosen


def test_a_full_name_is_chosen_by_its_last_part():
    full = letter({"source_model_id": "projects/p/locations/l/models/7@1"})

    assert Selection(source="7@*").includes(full, now=NOW)


@pytest.mark.parametrize("text", ["", "2", "h", "2w", "-1h", "٢h", "1.5h", "9999999d"])
def test_an_age_is_a_number_and_a_unit(text):
    with pytest.raises(InvalidRequestError, match="older-than"):
        parse_age("older-than", text)


def test_ages_are_read():
    assert parse_age("o", "90s") == timedelta(seconds=90)
    assert parse_age("o", "3d") == timedelta(days=3)


# Planning


def test_a_replay_is_the_request_as_it_came_and_names_the_outcome():
    replay = sent(letter())

    assert replay.data == json.dumps(CONTENT).encode()
    assert replay.attributes == ASKED | {"replay_of": f"{KEY}-1", "ce-replays": "1"}
    assert replay.digest == CopyRequest(**CONTENT).digest
    assert not replay.repaired


def test_what_pubsub_forwarded_names_no_outcome():
    assert sent(forwarded()).attributes == ASKED | {"ce-replays": "1"}


def test_what_pubsub_forwarded_and_was_repaired_names_the_outcome_by_which_it_was_given_up():
    """The same name as in the golden messages of this request."""
    given_up = forwarded(**{"ce-id": "nightly-260213"})

    replay = sent(given_up, changes=Changes({"source_model_id": "8"}))

    assert replay.attributes["replay_of"] == f"{KEY}-1"


def test_a_replay_that_pubsub_forwarded_still_names_its_outcome():
    assert sent(forwarded(replay_of="x-1")).attributes["replay_of"] == "x-1"


def test_a_stale_name_does_not_outlive_its_letter():
    assert "replay_of" not in sent(letter(without={"outcome_id"}, replay_of="x-1")).attributes


def test_bare_json_gets_a_name_that_is_the_same_each_time():
    one, again = sent(bare(**DIED)), sent(bare(**DIED))

    assert one == again
    assert one.attributes["ce-id"] == one.request_id == f"{KEY}-1"
    assert one.attributes["ce-source"] == one.request_source
    assert sent(bare(**FORWARDED)).request_id.endswith("-1")


def test_a_letter_that_was_replayed_too_often_stays():
    third = letter(outcome_id=f"{KEY}-4")

    assert left(third) == "it was replayed 3 times; --max-replays allows 3"
    assert sent(third, max_replays=4).attributes["ce-replays"] == "4"
    assert "replayed 3 times" in left(
        letter(outcome_id=f"{KEY}-rejected-ff", **{"ce-replays": "3"})
    )


def test_a_letter_too_large_to_be_published_stays():
    huge = letter({"source_model_id": "7", "correlation": {"x": "y" * 10_000_000}})

    assert left(huge) == "it is too large to be published"


# Repairing


def test_content_is_repaired_and_checked_before_it_is_sent():
    replay = sent(letter(), changes=Changes.parse(["source_model_id=8@2", "deadline_seconds=60"]))

    assert json.loads(replay.data) == {**CONTENT, "source_model_id": "8@2", "deadline_seconds": 60}
    assert replay.repaired
    assert replay.digest == CopyRequest(**json.loads(replay.data)).digest


def test_a_field_is_taken_away_also_one_that_nobody_knows():
    misspelt = letter({**CONTENT, "destination": "faker"})

    assert "destination: not a field of a request" in left(
        misspelt, changes=Changes.parse(["deadline_seconds=60"])
    )
    assert json.loads(sent(misspelt, changes=Changes.parse(["destination="])).data) == CONTENT


def test_a_whole_event_is_repaired_in_its_data():
    event = {"id": "r-9", "source": "//s", "type": ASKED["ce-type"], "data": CONTENT, "more": 1}
    read = letter(event, **{"content-type": "application/cloudevents+json"})

    replay = sent(read, changes=Changes.parse(["destination_model_id=other"]))

    assert json.loads(replay.data) == event | {"data": CONTENT | {"destination_model_id": "other"}}


@pytest.mark.parametrize("name", ["id", "source", "subject"])
def test_an_event_that_no_topic_would_take_is_not_repaired(name):
    event = {"id": "r-9", "source": "//s", "type": ASKED["ce-type"], "data": CONTENT}
    read = letter(event | {name: "\ud800"}, **{"content-type": "application/cloudevents+json"})

    reason = left(read, changes=Changes.parse(["destination_model_id=other"]))

    assert reason.endswith("holds half of a surrogate pair")


def test_a_field_given_twice_is_not_dropped_by_a_repair():
    """The service rejects such data; writing it again would lose one of the values."""
    read = letter(data=b'{"source_model_id": "7", "source_model_id": "8"}')

    reason = left(read, changes=Changes.parse(["destination_model_id=other"]))

    assert reason == "it would be rejected again: in its data source_model_id is given twice"


def test_a_repair_that_breaks_the_contract_sends_nothing():
    changes = Changes.parse(["destination_parent_model=shared"])

    assert "not both" in left(letter(), changes=changes)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "=x",
        "nonsense=1",
        "request_id=r-2",
        "deadline_seconds=soon",
        "if_exists=maybe",
        "destination_model_id=Faker",
    ],
)
def test_what_cannot_be_set_is_refused_at_once(text):
    with pytest.raises(InvalidRequestError):
        Changes.parse([text])


def test_a_question_has_no_content_to_set():
    question = letter(
        {"request_id": "r-1"}, **{"ce-type": "dev.modelcopier.copy.cancel.requested.v1"}
    )

    assert "has no content to set" in left(question, changes=Changes.parse(["source_model_id=7"]))


# Whatever lies there

texts = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.sampled_from([*ASKED, *DIED, *FORWARDED, "replay_of", "ce-replays", "googclient_x"])
marks = st.dictionaries(names | texts, texts | st.sampled_from([*ASKED.values(), *DIED.values()]))
contents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*CONTENT, "data"]), inner),
)
bodies = st.binary() | contents.map(lambda each: json.dumps(each).encode())
read_letters = st.builds(
    lambda data, attributes: Letter.read(data, attributes, message_id="1", published_at=NOW),
    bodies,
    marks,
)


@given(read_letters)
def test_anything_can_be_read_shown_and_decided(read):
    json.dumps(read.to_json(), allow_nan=False)

    match plan(read):
        case Left() as stays:
            assert stays.reason
        case Replay() as replay:
            assert replay.data == read.data
            dropped = set(read.attributes) - set(replay.attributes)
            assert all(
                each.startswith(("dead_letter_", "CloudPubSub", "goog"))
                or each in {"attempts", "outcome_id", "replay_of"}
                for each in dropped
            )
            assert plan(read) == replay


@given(read_letters)
def test_a_backup_loses_nothing(read):
    assert of_line(to_line(read), number=1) == read


@given(read_letters, st.dictionaries(st.sampled_from(["source_model_id", "kms_key_name"]), texts))
def test_whatever_is_sent_after_a_repair_keeps_the_contract(read, fields):
    replay = plan(read, changes=Changes(fields))

    if isinstance(replay, Replay) and fields and not read.is_structured:
        assert checked(json.loads(replay.data)) == CopyRequest(**json.loads(replay.data))._data()


def test_a_line_that_is_none_of_a_backup_is_named():
    with pytest.raises(InvalidRequestError, match="line 3 is not a dead letter"):
        of_line(b'{"data": "x"}', number=3)


def test_lots_hold_what_one_call_can_take():
    replays = [sent(letter()) for _ in range(5)]

    assert [len(lot) for lot in in_lots(replays, most=2)] == [2, 2, 1]
    assert [len(lot) for lot in in_lots(replays, most=9, max_bytes=1)] == [1] * 5
