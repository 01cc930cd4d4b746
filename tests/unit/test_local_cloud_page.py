"""docs/local-cloud.md is true: its table is the suite's, its commands and fields are the code's."""

import json
import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

from contract.pubsub import behaviours, page
from local_cloud.pubsub import Fault, PubSub, Rates
from local_cloud.pubsub_options import pubsub_options
from local_cloud.pubsub_orders import read_orders
from local_cloud.pubsub_records import Counts

SUITE = Path(behaviours.__file__).parent
PAGE = page.FILE.read_text()
PUBSUB = PAGE[PAGE.index("## Pub/Sub") :].partition("\n## ")[0]


def test_the_table_is_what_the_suite_expects() -> None:
    assert page.with_table(PAGE) == PAGE, "run make contracts"


def test_every_behaviour_is_held_by_tests_that_there_are() -> None:
    written = "\n".join(each.read_text() for each in SUITE.glob("test_*.py"))
    tests = set(re.findall(r"^(?:async )?def (test_\w+)", written, re.MULTILINE))

    named = {name for each in behaviours.BEHAVIOURS for name in each.tests}
    assert named <= tests


def test_every_departure_belongs_to_one_behaviour_and_says_what_happens_instead() -> None:
    failing = [name for each in behaviours.BEHAVIOURS for name in each.fails]
    assert len(failing) == len(set(failing))

    for each in behaviours.BEHAVIOURS:
        if each.fails:
            assert each.emulator != behaviours.AS_DOCUMENTED, each.what


def test_every_option_of_the_pubsub_is_on_the_page() -> None:
    @click.command()
    @pubsub_options
    def command(pubsub: PubSub) -> None:
        """Nothing but the options."""

    options = {name for parameter in command.params for name in parameter.opts}

    assert options <= set(re.findall(r"--[a-z-]+", PUBSUB))


@pytest.mark.parametrize("kind", [Rates, Counts])
def test_every_field_is_on_the_page(kind: type) -> None:
    for field in fields(kind):
        assert field.name in PUBSUB

    assert set(Fault) <= set(re.findall(r"^\| `(\w+)`", PUBSUB, re.MULTILINE))


def test_the_orders_on_the_page_are_readable() -> None:
    orders = re.findall(r"/control/faults -d '(.*?)'", PUBSUB, re.DOTALL)
    assert len(orders) == 2

    for order in orders:
        read_orders(json.loads(order))
