"""What Pub/Sub need not send: read by the local Pub/Sub's own reader of filters."""

from hypothesis import given
from hypothesis import strategies as st

from local_cloud.filters import parse_filter
from model_copy_publisher import filters
from model_copy_publisher.events import Outcome

ids = st.from_regex(r"[A-Za-z0-9._~-]{1,128}", fullmatch=True)


@given(st.lists(ids, min_size=1, max_size=40, unique=True))
def test_a_filter_lets_every_request_through_and_fits(request_ids: list[str]):
    text = filters.of_requests(request_ids, prefixes=["ask-0123456789abcdef-"])
    matches = parse_filter(text)

    assert len(text.encode()) <= 256
    assert all(matches({"request_id": each}) for each in request_ids)
    assert matches({"request_id": "ask-0123456789abcdef-0"})


@given(st.lists(st.text(max_size=300), min_size=1, max_size=3, unique=True))
def test_ids_that_other_publishers_make_are_let_through_too(request_ids: list[str]):
    text = filters.of_requests(request_ids, prefixes=["ask-0123456789abcdef-"])

    assert len(text.encode()) <= 256
    assert all(parse_filter(text)({"request_id": each}) for each in request_ids)


def test_few_requests_are_named_and_many_are_narrowed_to_what_they_have_in_common():
    few = parse_filter(filters.of_requests(["nightly-1", "nightly-2"]))
    many = parse_filter(filters.of_requests([f"nightly-{n}" for n in range(1000)]))

    assert not few({"request_id": "nightly-3"})
    assert many({"request_id": "nightly-3"})
    assert not many({"request_id": "weekly-3"})
    assert filters.of_requests([f"{n}-nightly" for n in range(1000)]) == ""


@given(st.sets(st.sampled_from(Outcome)), st.none() | st.text(max_size=64))
def test_a_choice_of_events_lets_what_is_wanted_through_and_fits(outcomes, tag):
    text = filters.of_events(outcomes=outcomes, tag=tag)
    matches = parse_filter(text)

    assert len(text.encode()) <= 256
    for outcome in outcomes or Outcome:
        assert matches({"outcome": outcome.value, "reply_tag": tag or ""})


def test_both_outcome_and_tag_narrow_where_they_fit():
    matches = parse_filter(filters.of_events(outcomes=["failed"], tag='night"ly'))

    assert matches({"outcome": "failed", "reply_tag": 'night"ly'})
    assert not matches({"outcome": "failed", "reply_tag": "weekly"})
    assert not matches({"outcome": "succeeded", "reply_tag": 'night"ly'})
