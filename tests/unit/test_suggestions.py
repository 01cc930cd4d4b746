"""A mistyped command is refused with the nearest one, at every level of every command line."""

import pytest
from click.testing import CliRunner

from local_cloud.__main__ import cli as local_cloud
from model_copier.store_admin import main as store_admin
from model_copy_publisher.cli import main as model_copy


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["publsh"], "publish"),
        (["stauts", "r-1"], "status"),
        (["dead_letters", "list"], "dead-letters"),
        (["dead-letters", "lst"], "list"),
        (["config", "shw"], "show"),
        (["publish", "--wiat"], "--wait"),
    ],
)
def test_model_copy_suggests(words, meant):
    result = CliRunner().invoke(model_copy, words)

    assert result.exit_code == 2
    assert "Did you mean" in result.stderr
    assert repr(meant) in result.stderr


def test_model_copy_suggests_nothing_for_nonsense():
    result = CliRunner().invoke(model_copy, ["zzz\x1b[2J"])

    assert result.exit_code == 2
    assert result.stderr.endswith("Error: No such command 'zzz\\x1b[2J'.\n")


@pytest.mark.parametrize("words", [["bakup"], ["mark-restord"], ["backup", "--output", "jsn"]])
def test_the_store_command_suggests(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        store_admin(words)

    assert "Did you mean" in capsys.readouterr().err


def test_the_local_cloud_suggests():
    result = CliRunner().invoke(local_cloud, ["dmo"])

    assert "Did you mean 'demo'?" in result.stderr
