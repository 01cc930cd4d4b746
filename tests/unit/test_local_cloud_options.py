"""``python -m local_cloud``: what cannot be is refused before anything starts."""

import click
import pytest

from local_cloud.__main__ import cli

PORTS = ["pubsub", "pubsub-rest", "vertex", "vertex-rest"]


@pytest.mark.parametrize("value", ["-5", "nan", "inf"])
@pytest.mark.parametrize("command", ["demo", "up", "serve"])
def test_a_copy_takes_a_time_that_can_be(command, value):
    with pytest.raises(click.BadParameter, match=r"range|number"):
        cli.commands[command].make_context(command, [f"--copy-seconds={value}"])


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_ticks_leave_time_between_them(value):
    with pytest.raises(click.BadParameter, match=r"range|number"):
        cli.commands["up"].make_context("up", [f"--tick-seconds={value}"])


@pytest.mark.parametrize(
    ("command", "port"),
    [*(("serve", port) for port in PORTS), *(("up", port) for port in [*PORTS, "worker", "api"])],
)
def test_a_port_is_one_that_there_is_or_any(command, port):
    for value in ("-1", "65536", "99999"):
        with pytest.raises(click.BadParameter, match="0<=x<=65535"):
            cli.commands[command].make_context(command, [f"--{port}-port={value}"])

    assert cli.commands[command].make_context(command, [f"--{port}-port=0"])
