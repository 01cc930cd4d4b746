"""The publisher's examples, as a person would run them; Airflow's in ``make test-airflow``."""

import asyncio
import configparser
import json
import os
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
import yaml

from asking import copies_asked
from local_cloud.stack import SOURCE_MODEL, Stack
from local_cloud.topics import PROJECT
from world import TARGET

EXAMPLES = Path(__file__).parents[2] / "publisher" / "examples"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def run(stack: Stack, *words: str, given: str = "", **env: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *words,
        env={"PATH": os.environ["PATH"], **stack.exports(), **env},
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
    )
    output, _ = await process.communicate(given.encode())
    return process.returncode, output.decode()


@pytest.mark.parametrize("words", [["rest.sh"], [sys.executable, "rest.py"]], ids=["sh", "py"])
async def test_rest_copies_once_for_one_key_and_says_what_is_wrong(stack: Stack, words: list[str]):
    program = [*words[:-1], str(EXAMPLES / words[-1])]
    model = f"rest-{words[-1][-2:]}"

    first = await run(stack, *program, SOURCE_MODEL, model, f"key-{model}")
    again = await run(stack, *program, SOURCE_MODEL, model, f"key-{model}")
    wrong = await run(stack, *program, SOURCE_MODEL, "Upper", "key-wrong")

    assert first == again
    assert first[0] == 0
    assert TARGET.replace("target-model-260213", model) in first[1]
    assert copies_asked(stack, model) == 1
    assert wrong[0] == 1
    assert "'Upper' must match [a-z_][a-z0-9_-]{0,62} (upper-case letter)" in wrong[1]


@pytest.mark.parametrize("words", [["sh", "-c"], [sys.executable, "-c"]], ids=["sh", "py"])
async def test_rest_waits_for_a_copy_that_is_pending(stack: Stack, words: list[str]):
    """The api answers 202 and a place to look at; here because the client asks it to."""
    shell = words[0] == "sh"
    program = (EXAMPLES / ("rest.sh" if shell else "rest.py")).read_text()
    patient = program.replace("wait=240", "respond-async", 1)
    patient = patient.replace('f"wait={WAIT_SECONDS}"', '"respond-async"')
    assert patient != program
    model = f"patient-{'sh' if shell else 'py'}"
    name = ["rest.sh"] if shell else []

    code, output = await run(stack, *words, patient, *name, SOURCE_MODEL, model, f"key-{model}")

    assert code == 0, output
    assert TARGET.replace("target-model-260213", model) in output


async def test_rest_has_an_exit_code_for_pending(stack: Stack):
    """A script must not take it for a success."""
    program = (EXAMPLES / "rest.sh").read_text().replace("wait=240", "wait=0")
    stack.vertex.copy_seconds = 30
    try:
        ended = await run(
            stack,
            *("sh", "-c", program, "rest.sh", SOURCE_MODEL, "late", "key-late"),
            MODEL_COPY_TIMEOUT="1",
        )
    finally:
        stack.vertex.copy_seconds = 0.5

    assert ended[0] == 3, ended[1]


async def test_googles_client_alone_is_enough(stack: Stack, replies):
    code, output = await run(
        stack,
        *(sys.executable, str(EXAMPLES / "pubsub_only.py"), PROJECT),
        *(SOURCE_MODEL, "by-google", "by-google-1"),
    )

    reply = await replies.reply("by-google-1")
    assert code == 0
    assert output.strip().isdigit()
    assert reply["resource_name"].endswith("/by-google")


AWS = """\
#!/bin/sh
for each in "$@"; do printf '%s\\n' "$each"; done >> "$CALLS"
case "$*" in *put-events*) echo "${FAILED:-0}" ;; esac
exit "${AWS_EXIT:-0}"
"""


@pytest.fixture
def aws(tmp_path: Path) -> dict[str, str]:
    """A command ``aws`` that writes down how it was called."""
    (tmp_path / "aws").write_text(AWS)
    (tmp_path / "aws").chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "MODEL_COPY_OUTCOME": "failed",
        "MODEL_COPY_REQUEST_ID": "r-1",
        "MODEL_COPY_EVENT_ID": "e-1",
    }


def said(aws: dict[str, str]) -> list[str]:
    return Path(aws["CALLS"]).read_text().splitlines()


EVENT = json.dumps({"outcome": "failed", "error": {"message": 'it\'s "so" $HOME'}})


@pytest.mark.parametrize(
    ("where", "call"),
    [
        ({"EVENT_BUS": "bus"}, "events put-events --entries"),
        ({"SNS_TOPIC": "arn:t"}, "sns publish --topic-arn arn:t --message"),
        (
            {"SNS_TOPIC": "arn:t.fifo"},
            "--message-group-id id-r-1 --message-deduplication-id id-e-1",
        ),
        ({"SQS_QUEUE": "https://q"}, "sqs send-message --queue-url https://q --message-body"),
    ],
)
async def test_an_event_is_forwarded_whole(stack: Stack, aws, where, call):
    code, output = await run(stack, str(EXAMPLES / "forward.sh"), given=EVENT, **aws, **where)

    words = said(aws)
    assert (code, output) == (0, "")
    assert call in " ".join(words)
    if "EVENT_BUS" in where:
        [entry] = json.loads(words[words.index("--entries") + 1])
        assert entry["Detail"] == EVENT
        assert entry["DetailType"] == "Model copy failed"
    else:
        assert EVENT in words


HOSTILE_IDS = ["--debug", "file:///etc/passwd", "fileb://x", "https://evil.example", "$(id)", "-"]


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
async def test_an_id_is_no_option_or_file(stack: Stack, aws, hostile: str):
    """F6: the AWS CLI read a file for a stranger, and ``--debug`` came again for ever."""
    where = {"SQS_QUEUE": "https://q.fifo"}
    ids = {"MODEL_COPY_REQUEST_ID": hostile, "MODEL_COPY_EVENT_ID": hostile * 40}

    code, _ = await run(stack, str(EXAMPLES / "forward.sh"), given=EVENT, **{**aws, **ids}, **where)

    words = said(aws)
    assert code == 0
    assert words[words.index("--message-group-id") + 1] == f"id-{hostile}"
    assert words[words.index("--message-deduplication-id") + 1] == f"id-{hostile * 40}"[:128]
    own = {"--queue-url", "--message-body", "--message-group-id", "--message-deduplication-id"}
    assert {word for word in words if word.startswith("-")} == own


async def test_rest_sends_what_it_was_given(stack: Stack):
    """No quote ends a field, no line break begins a header."""
    program = str(EXAMPLES / "rest.sh")
    quote = '7", "target_project": "elsewhere'

    model = await run(stack, program, quote, "quoted", "key-quoted")
    key = await run(stack, program, SOURCE_MODEL, "broken", "key\r\nX-Other: 1")
    option = await run(stack, program, "--help", "@/etc/passwd", "key-option")

    assert model[0] == option[0] == 1
    assert "source_model_id: " in model[1]
    assert "neither an id, id@version" in model[1]
    assert "destination_model_id: '@/etc/passwd'" in option[1]
    assert key == (2, "KEY: 1 to 128 of A-Z a-z 0-9 . _ ~ -\n")


@pytest.mark.parametrize("trouble", [{"AWS_EXIT": "255"}, {"FAILED": "1"}])
async def test_an_event_that_aws_did_not_take_is_not_acknowledged(stack: Stack, aws, trouble):
    """EventBridge answers 0 although it refused an entry."""
    code, _ = await run(
        stack, str(EXAMPLES / "forward.sh"), given=EVENT, EVENT_BUS="bus", **aws, **trouble
    )

    assert code != 0


async def test_the_unit_is_one_that_systemd_takes(tmp_path: Path):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(EXAMPLES / "model-copy-forward.service")
    assert "model-copy watch" in unit["Service"]["ExecStart"]

    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze was not found")
    text = (EXAMPLES / "model-copy-forward.service").read_text()
    placed = tmp_path / "model-copy-forward.service"
    placed.write_text(text.replace("/opt/model-copy/.venv/bin", str(BIN)))
    verify = await asyncio.create_subprocess_exec(
        analyze, "verify", placed, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await verify.communicate()
    assert verify.returncode == 0, output.decode()


async def test_the_workflow_publishes_with_options_that_there_are(stack: Stack):
    workflow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
    step = workflow["jobs"]["copy"]["steps"][-1]

    code, output = await run(
        stack,
        *("sh", "-c", step["run"]),
        PATH=f"{BIN}:{os.environ['PATH']}",
        SOURCE=SOURCE_MODEL,
        NAME="by_github",
        GITHUB_RUN_ID="7",
        GITHUB_RUN_ATTEMPT="2",
    )

    assert code == 0, output
    assert "request gha-7-2" in output
    assert "succeeded  " in output
