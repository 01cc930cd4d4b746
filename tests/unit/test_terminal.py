"""What the publisher prints: nothing that others wrote steers a terminal or a CI log."""

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import model_copy_publisher
from model_copy_publisher.cli import main
from model_copy_publisher.terminal import json_line, lines, printable

PACKAGE = Path(model_copy_publisher.__file__).parent
# The title of a window, a colour, a line that is rubbed out, text from right to left; and what
# GitHub's and Azure's runners obey.
HOSTILE = "x\n::error file=main.py::fake\r\x1b]0;mine\x07\x1b[2K\u202e\u2028::add-mask::a ##[error]"
_COMMAND = re.compile(r"\s*::")


def assert_harmless(text: str) -> None:
    """No control character but our line breaks, and no workflow command."""
    for line in text.split("\n"):
        assert line.isprintable()
        assert not _COMMAND.match(line)
        assert not re.search(r"##(\[|vso\[)", line)


@given(st.text() | st.from_regex(r"\s*(::|##\[|##vso\[)\w*(::|\]).*"))
def test_what_is_printable_is_one_harmless_line(text: str):
    shown = printable(text)

    assert "\n" not in shown
    assert_harmless(shown)
    assert printable(shown) == shown


@given(st.text())
def test_lines_are_harmless_each(text: str):
    assert_harmless(lines(text))


words = st.text() | st.just(HOSTILE)


@given(st.recursive(words, lambda x: st.lists(x) | st.dictionaries(words, x)))
def test_a_json_line_is_harmless_and_whole(value: object):
    line = json_line(value)

    assert line.isascii()
    assert_harmless(line)
    assert json.loads(line) == value


def test_plain_text_is_printed_as_it_is():
    for text in ("ü -> 7@1", "a::b", "##", "# [x]", "C:\\models", "  indented"):
        assert printable(text) == text


FIELD = json.dumps({HOSTILE: 1})
TWICE = f"{{{json.dumps(HOSTILE)}: 1, {json.dumps(HOSTILE)}: 2}}"
FILES: Sequence[tuple[str, str]] = [
    ("rows.jsonl", FIELD),
    ("rows.jsonl", TWICE),
    ("rows.jsonl", json.dumps({"source_model_id": HOSTILE})),
    ("rows.jsonl", json.dumps({"source_model_id": "1", "if_exists": HOSTILE})),
    ("rows.jsonl", json.dumps({"source_model_id": "1", "reply_tag": HOSTILE})),
    ("rows.jsonl", json.dumps({"source_model_id": "1", "target_project": HOSTILE})),
    ("rows.jsonl", f"{{{HOSTILE}"),
    ("rows.csv", f'source_model_id,"{HOSTILE}"\n1,2\n'),
    ("rows.csv", f'source_model_id,deadline_seconds\n1,"{HOSTILE}"\n'),
    ("rows.csv", f'source_model_id,correlation\n1,"{HOSTILE}"\n'),
    (HOSTILE.replace("/", "") + ".jsonl", FIELD),
]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    # Nobody listens there: what is not refused before ends at once.
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    return CliRunner()


@pytest.mark.parametrize(("name", "content"), FILES, ids=range(len(FILES)))
def test_a_file_of_rows_steers_nothing(cli: CliRunner, name: str, content: str):
    """Names of fields and of the file, cells, and what a JSON reader says of them."""
    Path(name).write_text(content)

    result = cli.invoke(main, ["publish", "--project", "p", "--from-file", name])

    assert result.exit_code == 2
    assert result.output
    assert_harmless(result.output)


SETTINGS = [
    f"{json.dumps(HOSTILE)} = 1",
    f"project = [{json.dumps(HOSTILE)}]",
    f"output = {json.dumps(HOSTILE)}",
    f"project = '{HOSTILE}",
]


@pytest.mark.parametrize("content", SETTINGS, ids=range(len(SETTINGS)))
def test_a_settings_file_steers_nothing(cli: CliRunner, content: str):
    Path("config.toml").write_text(content)

    result = cli.invoke(main, ["--config", "config.toml", "config", "show"])

    assert result.exit_code == 2
    assert_harmless(result.output)


def test_shown_settings_steer_nothing(cli: CliRunner):
    Path("config.toml").write_text(f"project = {json.dumps(HOSTILE)}")

    for output in ("text", "json"):
        result = cli.invoke(main, ["--config", "config.toml", "config", "show", "--output", output])
        assert result.exit_code == 0
        assert_harmless(result.output)


WORDS = [
    [HOSTILE],
    [f"--{HOSTILE}"],
    ["publish", f"--{HOSTILE}"],
    ["publish", "--project", HOSTILE, "1", "a"],
    ["publish", "--project", "p", HOSTILE, "a"],
    ["publish", "--project", "p", "1", HOSTILE],
    ["publish", "--project", "p", "1", "a", HOSTILE],
    ["publish", "--project", "p", "--if-exists", HOSTILE, "1", "a"],
    ["publish", "--project", "p", "--correlation", HOSTILE, "1", "a"],
    ["publish", "--project", "p", "--deadline-seconds", HOSTILE, "1", "a"],
    ["publish", "--project", "p", "--request-id", HOSTILE, "1", "a"],
    ["publish", "--project", "p", "--request-source", HOSTILE, "1", "a"],
    ["publish", "--project", "p", "--from-file", HOSTILE],
    ["publish", "--project", "p", "--credentials-file", HOSTILE, "1", "a"],
    ["wait", "--project", "p", HOSTILE],
    ["status", "--project", "p", "--request-source", HOSTILE, "r-1"],
    ["cancel", "--project", "p", HOSTILE],
    ["watch", "--project", "p", "--outcome", HOSTILE],
    ["watch", "--project", "p", "--timeout", HOSTILE],
    ["dead-letters", HOSTILE],
    ["dead-letters", "restore", "--project", "p", HOSTILE],
    ["dead-letters", "replay", "--project", "p", "--set", HOSTILE, "r-1"],
    ["doctor", "--project", "p", "--clock", HOSTILE],
    ["--config", HOSTILE, "config", "show"],
    ["config", HOSTILE],
    ["completion", HOSTILE],
]


@pytest.mark.parametrize("words", WORDS, ids=range(len(WORDS)))
def test_words_of_a_command_steer_nothing(cli: CliRunner, words: list[str]):
    """In a pipeline they come from inputs that others give."""
    result = cli.invoke(main, words)

    assert result.exit_code in {1, 2, 4}
    assert result.output
    assert_harmless(result.output)


def test_a_backup_steers_nothing(cli: CliRunner):
    for content in (HOSTILE, json.dumps({HOSTILE: 1}), json.dumps({"letter": HOSTILE})):
        Path("night.jsonl").write_text(content)
        words = ["dead-letters", "restore", "--project", "p", "night.jsonl"]

        result = cli.invoke(main, words)

        assert result.exit_code == 2
        assert_harmless(result.output)


def test_one_module_prints():
    """Whatever another module would print by itself would pass the escaping by."""
    printing = {
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in PACKAGE.rglob("*.py")
        if file.name != "terminal.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func)
        in {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"}
        | {"traceback.print_exception", "traceback.print_exc"}
    }
    # The script that a shell completes with is click's own, and a program.
    assert {each.partition(":")[0] for each in printing} <= {"cli/completing.py"}
