"""What the doctor finds, judged from what was seen."""

import shlex
from dataclasses import replace

import pytest

from model_copy_publisher.examination import (
    SeenSubscription,
    Verdict,
    of_agent,
    of_answer,
    of_clock,
    of_forwarded,
    of_letters,
    of_permission,
    of_requests,
)

REQUESTS, LETTERS = "projects/p/topics/requests", "projects/p/topics/letters"
PUSHED = SeenSubscription(
    name="projects/p/subscriptions/requests",
    topic=REQUESTS,
    push_endpoint="https://worker.example/pubsub/requests",
    audience="https://worker.example",
    push_account="push@p.iam.gserviceaccount.com",
    dead_letter_topic=LETTERS,
    max_attempts=100,
    kept_seconds=31 * 86_400,
)
KEPT = SeenSubscription(
    name="projects/p/subscriptions/letters", topic=LETTERS, kept_seconds=31 * 86_400
)
AGENT = "serviceAccount:service-123@gcp-sa-pubsub.iam.gserviceaccount.com"


def requests(**changes):
    seen = replace(PUSHED, **changes)
    return list(
        of_requests(
            seen,
            request_topic=REQUESTS,
            dead_letter_topic=LETTERS,
            audience="https://worker.example",
        )
    )


def letters(**changes):
    return list(of_letters(replace(KEPT, **changes), dead_letter_topic=LETTERS))


def forwarded(**changes):
    seen = replace(
        PUSHED,
        name="projects/p/subscriptions/forwarded",
        topic=LETTERS,
        push_endpoint="https://worker.example/pubsub/dead-letters",
        filter="attributes:CloudPubSubDeadLetterSourceSubscription",
    )
    changed = replace(seen, **changes)
    return list(of_forwarded(changed, dead_letter_topic=LETTERS, audience="https://worker.example"))


def test_what_is_as_it_should_be_is_ok():
    assert {each.verdict for each in requests() + letters() + forwarded()} == {Verdict.OK}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (requests(push_endpoint=""), "does not push"),
        (requests(push_account=""), "without a token"),
        (requests(push_endpoint="https://worker.example/"), "listens at /pubsub/requests"),
        (requests(audience="other"), "the worker expects https://worker.example"),
        (requests(dead_letter_topic=""), "redelivered until they expire"),
        (requests(dead_letter_topic="projects/p/topics/other"), "to projects/p/topics/other"),
        (requests(max_attempts=5), "after 5 attempts"),
        (requests(topic="projects/p/topics/other"), "not to projects/p/topics/requests"),
        (requests(expires_after_seconds=31 * 86_400), "expires after 31 days without use"),
        (requests(filter='attributes.env="prod"'), "drops all others"),
        (requests(unwrapped=True), "without metadata: the worker refuses every push"),
        (requests(unwrapped=True, writes_metadata=True), "not a valid HTTP header is lost"),
        (requests(ordered=True), "blocks those behind it"),
        (requests(detached=True), "it receives nothing"),
        (requests(kept_seconds=600), "for 10 minutes, not 31 days"),
        (requests(kept_seconds=7 * 86_400), "for 7 days, not 31 days"),
        (requests(ack_seconds=10), "redelivers after 10 s"),
        (requests(backoff_seconds=None), "uses up all attempts"),
        (requests(backoff_seconds=0.0), "uses up all attempts"),
        (forwarded(ack_seconds=10), "redelivers after 10 s"),
        (forwarded(unwrapped=True), "without metadata"),
        (forwarded(filter=""), "also pushes the worker's own dead letters"),
        (forwarded(push_endpoint="https://worker.example/pubsub/requests"), "/pubsub/dead-letters"),
        (letters(kept_seconds=7 * 86_400), "keeps dead letters for 7 days, not 31"),
        (letters(expires_after_seconds=31 * 86_400), "expires after 31 days without use"),
        (letters(push_endpoint="https://x"), "do not stay in it"),
        (letters(filter="attributes.x"), "accepts only dead letters with"),
        (letters(topic=REQUESTS), "not to the dead-letter topic"),
    ],
)
def test_what_is_wrong_comes_with_what_mends_it(found, words):
    [wrong] = [each for each in found if each.verdict is Verdict.WRONG]

    assert words in wrong.what
    assert shlex.split(wrong.fix)


def test_an_audience_that_we_cannot_compare_is_told_and_is_not_wrong():
    found = of_requests(PUSHED, request_topic=REQUESTS, dead_letter_topic=LETTERS)
    [told] = [each for each in found if each.verdict is Verdict.UNSEEN]

    assert "for https://worker.example: not compared with the audience" in told.what


def test_an_audience_that_is_left_to_pubsub_is_the_endpoint():
    [wrong] = [each for each in requests(audience="") if each.verdict is Verdict.WRONG]

    assert "for https://worker.example/pubsub/requests, and the worker expects" in wrong.what


def test_pubsubs_agent_may_have_its_role_where_we_do_not_see_it():
    found = [
        of_agent(resource=LETTERS, role="roles/pubsub.publisher", members=each, command="gcloud")
        for each in ([AGENT], ["user:a@b.c"], [AGENT + ".evil.example"])
    ]

    assert [each.verdict for each in found] == [Verdict.OK, Verdict.UNSEEN, Verdict.UNSEEN]


def test_a_permission_is_there_or_not():
    has = {"permission": "pubsub.topics.publish", "resource": REQUESTS, "role": "r"}

    assert of_permission(**has, has=True).verdict is Verdict.OK
    fix = of_permission(**has, has=False, account="a@p.iam.gserviceaccount.com").fix
    assert "add-iam-policy-binding" in fix
    assert fix.endswith("--member=serviceAccount:a@p.iam.gserviceaccount.com")


def test_a_command_quotes_what_others_wrote():
    """An endpoint is whatever somebody gave the subscription."""
    odd = "https://worker.example/$(reboot);/pubsub/requests"

    found = requests(push_endpoint=odd, filter="attributes.x", audience="other")

    for wrong in (each for each in found if each.verdict is Verdict.WRONG):
        assert any(odd in word for word in shlex.split(wrong.fix)), wrong.fix


def test_nobody_who_answers_is_a_finding():
    """A stopped worker looks as if all were well: Pub/Sub takes requests for it."""
    answered = of_answer(0.41, within_seconds=30, project="p")
    silent = of_answer(None, within_seconds=30, project="p")

    assert (answered.verdict, answered.what) == (
        Verdict.OK,
        "the worker replied to a status request in 0.4 s",
    )
    assert silent.verdict is Verdict.WRONG
    assert "no reply to a status request within 30 s" in silent.what


@pytest.mark.parametrize(
    ("skew", "verdict"), [(9, "ok"), (-9, "ok"), (60, "wrong"), (-60, "wrong")]
)
def test_a_clock_may_differ_by_ten_seconds(skew, verdict):
    assert of_clock(skew, host="h").verdict == verdict
