"""What a person sees on a terminal, on a real one; the test plays the service."""

import json
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.pubsub_v1 import types

from command_line import COPY, SUCCESS, Service
from local_cloud.pubsub import PubSub
from terminal import Terminal, terminal

HERE = ["--project", "team-models"]
OnTerminal = Callable[..., AbstractAsyncContextManager[Terminal]]


@pytest.fixture
def on_terminal(pubsub: PubSub, tmp_path: Path) -> OnTerminal:
    def start(words: list[str], *, env: dict[str, str] | None = None, **size: Any) -> Any:
        known = {"HOME": str(tmp_path), "PUBSUB_EMULATOR_HOST": pubsub.address}
        return terminal(words, env=known | (env or {}), **size)

    return start


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "nightly.csv"
    file.write_text(
        "source_model_id,destination_model_id\n" + "".join(f"7,m-{n}\n" for n in range(30))
    )
    return file


def model_of(request: types.PubsubMessage) -> str:
    return str(json.loads(request.data)["destination_model_id"])


def in_order(requests: list[types.PubsubMessage]) -> list[types.PubsubMessage]:
    return sorted(requests, key=lambda each: int(model_of(each)[2:]))


def status(state: str) -> dict[str, str]:
    return {"outcome": "status", "state": state}


def states(lines: list[str]) -> list[str]:
    """The lines of copies, without their seconds."""
    return [re.sub(r"  +\d+ s$", "", line) for line in lines if " -> " in line]


async def test_as_many_copies_as_fit_have_a_line_and_the_rest_is_summed_up(
    service: Service, on_terminal: OnTerminal, rows: Path
):
    words = ["publish", "--from-file", str(rows), "--wait", *HERE]
    async with on_terminal(words, columns=140, lines=12) as shown:
        requests = in_order(await service.requests(30))
        for request in requests[20:25]:
            await service.announce(request, status("COPYING"))
        for request in requests[:15]:
            await service.announce(request, status("ACCEPTED"))
        await service.announce(requests[29])

        small = await shown.shows(
            lambda lines: "and 20 more: 11 accepted, 9 waiting" in lines and " 1 of 30" in lines[-1]
        )
        assert states(small) == [
            *(f"copying    7 -> m-{n}" for n in range(20, 25)),
            *(f"accepted   7 -> m-{n}" for n in range(4)),
        ]
        assert re.fullmatch(r"waiting    [━╺╸]+ 1 of 30 ended  \d+ s", small[-1])
        assert small[0].startswith("succeeded  nightly-")
        assert not shown.cursor_is_shown

        shown.resize(columns=140, lines=50)
        large = await shown.shows(lambda lines: len(states(lines)) == 29)
        assert not any(" more: " in line for line in large)

        for request in requests[:29]:
            await service.announce(request)
        assert await shown.ends() == 0

    *_, summary = shown.all_lines
    results = [line for line in shown.all_lines if line.startswith("succeeded  nightly-")]
    assert len(set(results)) == len(results) == 30
    assert summary.startswith("30 requests: 30 succeeded; ")
    assert states(shown.all_lines) == []
    assert shown.cursor_is_shown


async def test_the_seconds_of_a_copy_count_from_its_own_beginning(
    service: Service, on_terminal: OnTerminal
):
    """Somebody asked for it 65 minutes ago; we have just come."""
    began_at = datetime.now(UTC) - timedelta(minutes=65)
    async with on_terminal(["wait", "r-1", "r-2", *HERE]) as shown:
        questions = await service.requests(2)
        for question in questions:
            about = json.loads(question.data)["request_id"]
            told = status("COPYING") | {"in_reply_to": question.attributes["ce-id"]}
            timings = {"accepted_at": began_at.isoformat()} if about == "r-1" else {}
            await service.tell(about, told | {"timings": timings})

        await shown.shows(
            lambda lines: (
                re.fullmatch(r"copying    r-1  1 h 05 min", lines[0])
                and re.fullmatch(r"copying    r-2  \d+ s", lines[1])
            )
        )


async def test_ctrl_c_leaves_the_terminal_as_it_was_and_says_how_to_wait_again(
    service: Service, on_terminal: OnTerminal
):
    async with on_terminal([*COPY, "--wait", "--request-id", "r-1"]) as shown:
        await service.request()
        await shown.shows(lambda lines: bool(re.fullmatch(r"waiting    \d+ s", lines[-1])))

        shown.type(b"\x03")
        assert await shown.ends() == 130

    lines = shown.all_lines
    assert not any(line.startswith("waiting") for line in lines)
    assert "Detached: the copy goes on. To wait again:" in "".join(lines)
    assert shown.cursor_is_shown


async def test_results_go_where_standard_output_goes_and_the_drawing_stays_on_the_terminal(
    service: Service, on_terminal: OnTerminal, tmp_path: Path
):
    results = tmp_path / "results.json"
    words = [*COPY, "--wait", "--output", "json", "--request-id", "r-1"]
    with results.open("w") as output:
        async with on_terminal(words, output=output.fileno()) as shown:
            request = await service.request()
            await shown.shows(lambda lines: lines[-1].startswith("waiting "))
            await service.announce(request)
            assert await shown.ends() == 0

    [line] = results.read_text().splitlines()
    assert json.loads(line)["reply"]["resource_name"] == SUCCESS["resource_name"]
    assert "resource_name" not in "".join(shown.all_lines)


async def test_a_terminal_that_cannot_draw_gets_plain_lines(
    service: Service, on_terminal: OnTerminal
):
    async with on_terminal([*COPY, "--wait"], env={"TERM": "dumb"}) as shown:
        request = await service.request()
        await service.announce(request, status("COPYING"))
        await shown.shows(lambda lines: lines[-1].startswith("copying "))
        await service.announce(request)
        assert await shown.ends() == 0

    waiting, copying, outcome, *_ = shown.all_lines[1:]
    assert waiting == "waiting    0 s"
    assert re.fullmatch(r"copying    \d+ s", copying)
    assert outcome == f"succeeded  {SUCCESS['resource_name']}"
