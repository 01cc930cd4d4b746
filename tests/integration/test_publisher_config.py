"""Where ``model-copy`` takes its settings from, what it says of them, and what helps a person."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Run, Service
from model_copy_publisher import settings

MODEL_COPY = str(Path(sys.executable).with_name("model-copy"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / ".config" / "model-copy" / "config.toml"
    file.parent.mkdir(parents=True)
    return file


def write(file: Path, content: str) -> None:
    file.write_text(content)


async def test_an_option_counts_before_the_environment_before_the_file_before_defaults(
    run: Run, file: Path
):
    write(file, 'project = "of-file"\nreply_tag = "of-file"\ntarget_location = "of-file"\n')
    command = await run(
        ["config", "show", "--output", "json", "--project", "of-option"],
        MODEL_COPY_PROJECT="of-environment",
        MODEL_COPY_REPLY_TAG="of-environment",
        GOOGLE_CLOUD_PROJECT="of-google",
    )
    code, output = await command.ends()

    shown = {each["setting"]: (each["value"], each["from"]) for each in json.loads(output)}
    assert code == 0
    assert shown["project"] == ("of-option", "option --project")
    assert shown["reply_tag"] == ("of-environment", "environment MODEL_COPY_REPLY_TAG")
    assert shown["target_location"] == ("of-file", str(file))
    assert shown["request_topic"] == ("model-copy-requests", "default")
    assert shown["source_project"] == (None, "")
    assert tuple(shown) == settings.NAMES


async def test_every_command_reads_the_file(service: Service, run: Run, file: Path):
    write(file, 'project = "team-models"\ntarget_location = "europe-west4"\n')
    command = await run(["publish", "7"])

    assert (await command.ends())[0] == 0
    assert json.loads((await service.request()).data)["target_location"] == "europe-west4"


async def test_where_the_letters_are_is_named_like_everything_else(
    service: Service, run: Run, file: Path
):
    write(file, 'project = "team-models"\ndead_letter_subscription = "of-file"\n')
    names = {"MODEL_COPY_DEAD_LETTER_TOPIC": "of-environment"}
    shown = await run(["config", "show", "--output", "json"], **names)
    listed = await run(["dead-letters", "list"], **names)
    examined = await run(["doctor"], **names)
    del service

    rows = {each["setting"]: each for each in json.loads((await shown.ends())[1])}
    assert rows["dead_letter_topic"]["from"] == "environment MODEL_COPY_DEAD_LETTER_TOPIC"
    assert rows["dead_letter_subscription"] == {
        "setting": "dead_letter_subscription",
        "value": "of-file",
        "from": str(file),
    }
    assert (await listed.ends())[0] == 4
    assert "subscriptions/of-file does not exist" in listed.errors
    _, found = await examined.ends()
    assert "topics/of-environment does not exist" in found
    assert "subscriptions/of-file does not exist" in found


async def test_how_long_to_wait_is_no_end_of_a_watch(service: Service, run: Run, file: Path):
    write(file, "timeout = 0.1\n")
    waiting = await run(["publish", "7", "--wait", "--project", "team-models"])
    watching = await run(["watch", "--project", "team-models"])

    assert (await waiting.ends())[0] == 3
    await watching.shows("watching")
    assert watching.process.returncode is None
    del service


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("project = ", "config.toml: Invalid value (at "),
        ('projekt = "p"', "projekt is not a setting; settings are project, request_topic"),
        ("project = [1]", "project should be a string or a number"),
        ('timeout = "long"', "timeout should be a number"),
        ("timeout = nan", "config.toml: timeout should be a number of seconds greater than 0"),
        ("deadline_seconds = 3.5", "deadline_seconds should be a whole number from 1 to 604800"),
        ('output = "xml"', "output should be text or json"),
    ],
)
async def test_a_file_that_says_nonsense_is_named(
    run: Run, file: Path, content: str, sentence: str
):
    write(file, content)
    command = await run(["wait", "r-1"])

    assert await command.ends() == (2, "")
    assert sentence in command.errors


async def test_a_file_that_was_named_must_be_there(run: Run):
    command = await run(["--config", "nowhere.toml", "config", "show"])

    assert await command.ends() == (2, "")
    assert "config: nowhere.toml does not exist" in command.errors


COMMANDS = [
    ["publish"],
    ["wait"],
    ["status"],
    ["cancel"],
    ["watch"],
    ["dead-letters", "replay"],
    ["doctor"],
    ["config", "show"],
]


@pytest.mark.parametrize("command", [[], *COMMANDS, ["completion"]], ids=" ".join)
def test_help_shows_examples_and_what_each_option_may_be_set_by(command: list[str]):
    shown = subprocess.run(
        [MODEL_COPY, *command, "--help"], capture_output=True, text=True, check=False
    )

    assert shown.returncode == 0
    assert "Example" in shown.stdout or "To complete" in shown.stdout
    if command in COMMANDS:
        assert "MODEL_COPY_PROJECT" in shown.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(shell: str):
    shown = subprocess.run(
        [MODEL_COPY, "completion", shell], capture_output=True, text=True, check=False
    )

    assert shown.returncode == 0
    assert "_MODEL_COPY_COMPLETE" in shown.stdout


def test_a_shell_completes_commands_and_options():
    def completed(words: str, at: str) -> str:
        env = {"_MODEL_COPY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": at}
        return subprocess.run(
            [MODEL_COPY], env=env, capture_output=True, text=True, check=False
        ).stdout

    assert "plain,publish" in completed("model-copy pu", "1")
    assert "plain,--from-file" in completed("model-copy publish --fr", "2")
    assert "plain,succeeded" in completed("model-copy watch --outcome su", "3")
