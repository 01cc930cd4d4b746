"""What becomes of a delivery: handled once, repeats and older attempts dropped."""

from dataclasses import replace

from model_copy_publisher import Reply
from model_copy_publisher.handled import Handled, Verdict


def told(event_id: str, *, run: int | None = 1, request_id: str = "r-1") -> Reply:
    reply = Reply.from_message(
        b"{}",
        {
            "ce-id": event_id,
            "ce-type": "dev.modelcopier.copy.failed.v1",
            "request_id": request_id,
            "request_source": "//ec2",
        },
        message_id="",
    )
    assert reply is not None
    return replace(reply, run=run)


def test_a_repeat_is_settled_once_the_event_was_handled():
    handled = Handled()
    event = told("e-1")

    assert handled.take(event) is Verdict.HANDLE
    handled.done(event)

    assert handled.take(event) is Verdict.SETTLE


def test_a_repeat_of_what_is_in_hand_is_left_until_that_is_decided():
    """Settling it would settle the event, though handling may fail yet."""
    handled = Handled()
    event = told("e-1")
    handled.take(event)

    assert handled.take(event) is Verdict.LEAVE

    handled.failed(event)
    assert handled.take(event) is Verdict.HANDLE


def test_an_older_attempt_is_dropped_once_a_newer_one_is_known():
    handled = Handled()

    assert handled.take(told("e-2", run=2)) is Verdict.HANDLE
    assert handled.take(told("e-1", run=1)) is Verdict.SETTLE
    assert handled.take(told("e-3", run=3)) is Verdict.HANDLE
    assert handled.take(told("other", run=1, request_id="r-2")) is Verdict.HANDLE
    assert handled.take(told("rejected", run=None)) is Verdict.HANDLE


def test_each_failure_waits_twice_as_long_up_to_a_minute():
    handled = Handled()
    event = told("e-1")
    delays = []
    for _ in range(8):
        handled.take(event)
        delays.append(handled.failed(event))

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
