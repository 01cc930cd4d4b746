"""The README is held to the code."""

import json
import re
from pathlib import Path

from model_copier.domain.timing import Timing
from model_copier.settings import rows
from world import World, request

README = Path(__file__).parents[2] / "README.md"


def test_the_settings_table_is_the_code_s_own():
    """To mend it: print the rows below and paste them."""
    expected = [f"| `{name}` | {default} | {about} |" for name, default, about in rows()]

    assert [line for line in README.read_text().splitlines() if line.startswith("| `")] == expected


async def test_the_messages_shown_are_real():
    asked, told = (
        json.loads(text) for text in re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    )
    world = World()

    await world.deliver(
        request(asked, request_id=told["request_id"], **{"ce-source": told["request_source"]})
    )
    await world.pass_time(60)

    (reply,) = (json.loads(message.data) for message in world.topics.replies)
    assert reply == told


def test_what_is_assumed_of_vertex_ai_and_of_clocks_is_what_the_engine_assumes():
    text = " ".join(README.read_text().split())

    assert f"or ListOperations within {Timing().visibility_seconds:g} s of the call" in text
    assert f"clocks differ by less than {Timing().max_skew_seconds:g} s" in text


def test_it_is_a_page():
    assert len(README.read_text().splitlines()) < 200
