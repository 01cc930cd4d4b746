"""The knobs of the local Vertex AI, and what happens by chance and by the minute."""

# Fixtures and parameters speak by name:
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from local_cloud.vertex_chance import Chance, Fate
from local_cloud.vertex_dialects import DIALECTS, WORST
from local_cloud.vertex_knobs import Knobs, Outage, complaint
from local_cloud.vertex_quotas import Quotas
from local_cloud.vertex_records import Code, Dialect, VertexError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_what_is_written_out_is_read_back():
    knobs = Knobs.model_validate(
        {
            "dialect": "worst",
            "copy_seconds": [1, 60],
            "grants": ["dst->src"],
            "refusals": [{"method": "GetModel", "code": "INTERNAL", "share": 0.1}],
            "outages": [{"seconds": 1, "every_seconds": 60}],
        }
    )

    assert Knobs.model_validate(json.loads(knobs.model_dump_json())) == knobs
    assert knobs.dialect == WORST


def test_a_dialect_may_be_given_by_its_fields():
    fields = {"existing_id": None, "in_flight_id": "ABORTED", "names": "NUMBERS"}

    assert Knobs.model_validate({"dialect": fields}).dialect == Dialect(
        existing_id=None, in_flight_id=Code.ABORTED, names=DIALECTS["names-by-number"].names
    )


def test_a_turned_knob_leaves_the_others_where_they_were():
    knobs = Knobs(seed=7, dialect=WORST)

    assert knobs.turned({"lost_answers": 0.05}) == Knobs(seed=7, dialect=WORST, lost_answers=0.05)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"lost_answer": 0.1}, "lost_answer: Extra inputs"),
        ({"lost_answers": 1.1}, "lost_answers: Input should be less than or equal to 1"),
        ({"lost_answers": float("nan")}, "lost_answers: Input should be"),
        ({"copy_seconds": -1}, "copy_seconds"),
        ({"copy_seconds": [2, 1]}, "copy_seconds: the minimum comes first"),
        ({"copy_seconds": float("inf")}, "copy_seconds"),
        (
            {"dialect": "odd"},
            "dialect: 'odd' is not a dialect; dialects are default, names-by-number",
        ),
        ({"dialect": {"stale": 1}}, "dialect.stale: Unexpected"),
        ({"dialect": {"stale_seconds": float("inf")}}, "dialect.stale_seconds: Input should be"),
        ({"dialect": {"existing_id": "NO"}}, "dialect.existing_id: 'NO' is not a canonical code"),
        ({"dialect": {"unimplemented": ["Wait"]}}, "dialect: 'Wait' is not a method"),
        ({"dialect": {"unimplemented": 5}}, "dialect.unimplemented: Input should be"),
        (
            {"refusals": [{"method": "Copy", "share": 1}]},
            "refusals.0.method: 'Copy' is not a method",
        ),
        ({"failures": [{"code": "NO", "share": 1}]}, "failures.0.code: 'NO' is not a canonical"),
        ({"outages": [{}]}, "outages.0.seconds: Field required"),
        ({"outages": [{"seconds": 1, "every_seconds": 0}]}, "outages.0.every_seconds"),
        ({"grants": ["dst"]}, "grants.0"),
        ({"reads_per_minute": 0}, "reads_per_minute: Input should be greater than 0"),
    ],
)
def test_a_knob_that_does_not_exist_or_a_value_that_is_none_is_named(knobs, words):
    with pytest.raises(ValidationError) as refused:
        Knobs.model_validate(knobs)

    assert words in complaint(refused.value)


def fates(knobs: Knobs, *, calls: int = 1000) -> list[Fate]:
    chance = Chance(knobs.seed)
    return [chance.next_fate("CopyModel", knobs) for _ in range(calls)]


def test_one_seed_is_one_history_and_another_seed_another():
    knobs = Knobs(lost_answers=0.05, copy_seconds=(1, 9))
    again, other = (Knobs(lost_answers=0.05, copy_seconds=(1, 9), seed=seed) for seed in (1, 2))

    def lengths(knobs: Knobs) -> list[float]:
        return [fate.copy_seconds for fate in fates(knobs)]

    assert lengths(knobs) == lengths(again) != lengths(other)
    assert all(1 <= length <= 9 for length in lengths(knobs))


def test_shares_are_kept_and_codes_share_what_there_is():
    knobs = Knobs.model_validate(
        {
            "lost_answers": 0.05,
            "refusals": [
                {"code": "UNAVAILABLE", "share": 0.1},
                {"code": "INTERNAL", "share": 0.2},
                {"method": "GetModel", "code": "ABORTED", "share": 1.0},
            ],
            "failures": [{"code": "INTERNAL", "share": 1.0, "message": "no"}],
        }
    )
    found = fates(knobs)

    refused = Counter(fate.refusal.code if fate.refusal else None for fate in found)
    assert 70 < refused[Code.UNAVAILABLE] < 130
    assert 160 < refused[Code.INTERNAL] < 240
    assert Code.ABORTED not in refused
    assert 30 < sum(fate.lost_answer is not None for fate in found) < 70
    assert all(fate.failure for fate in found)


def test_the_fate_of_a_call_depends_on_no_other_method_and_no_other_knob():
    plain, busy = Knobs(lost_answers=0.5), Knobs(lost_answers=0.5, copy_seconds=(1, 9))
    chance = Chance(1)
    among_others = []
    for _ in range(1000):
        chance.next_fate("GetModel", busy)
        among_others.append(chance.next_fate("CopyModel", busy).lost_answer is not None)

    assert among_others == [fate.lost_answer is not None for fate in fates(plain)]


@pytest.mark.parametrize(
    ("elapsed", "once", "ever_again"),
    [
        (0, False, False),
        (9.9, False, False),
        (10, True, True),
        (12.9, True, True),
        (13, False, False),
        (69, False, False),
        (70, False, True),
        (73, False, False),
    ],
)
def test_an_outage_begins_and_ends_once_or_over_and_over(elapsed, once, ever_again):
    assert Outage(after_seconds=10, seconds=3).covers(elapsed) is once
    repeated = Outage(after_seconds=10, seconds=3, every_seconds=60)
    assert repeated.covers(elapsed) is ever_again


def test_a_quota_is_of_one_project_region_and_kind_and_new_each_minute():
    quotas = Quotas()

    def spend(project="1", location="eu", *, submits=True, now=NOON):
        quotas.spend(2, project=project, location=location, submits=submits, now=now)

    spend()
    spend()
    with pytest.raises(VertexError, match=r"RESOURCE_EXHAUSTED.*project_number:1") as refused:
        spend(now=NOON + timedelta(seconds=59))
    assert "Job or LRO submission requests per minute per region" in refused.value.message
    spend(project="2")
    spend(location="us")
    spend(submits=False)
    spend(now=NOON + timedelta(minutes=1))


def test_each_dialect_but_the_worst_is_one_answer_that_no_other_gives():
    assert len(set(map(str, DIALECTS.values()))) == len(DIALECTS)
    assert DIALECTS["default"] == Dialect()
