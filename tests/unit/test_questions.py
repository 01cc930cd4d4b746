"""Asking how requests stand: also those whose names others made."""

from collections.abc import Sequence

from model_copy_publisher.messages import Named, Question
from model_copy_publisher.waiting import Questions


def test_what_no_question_can_name_keeps_no_other_from_being_asked_about():
    asked: list[Question] = []

    def publish(questions: Sequence[Question], _: float) -> None:
        asked.extend(questions)

    odd = Named(request_id='poison "id"', request_source="//has space")
    long = Named(request_id="r-2", request_source=f"//{'x' * 2000}")
    rest = Named(request_id="r-3", request_source="//model-copier/rest/a@b.gserviceaccount.com")
    Questions(publish=publish).ask([long, rest, odd], 1.0)

    [question] = asked
    assert question.about == odd
    assert question.body == b'{"request_id":"poison \\"id\\""}'
