"""The knobs of the local Pub/Sub as options of a command."""

import functools
from collections.abc import Callable
from typing import Any

import click

from local_cloud.pubsub import Fault, Faults, PubSub, Rates
from local_cloud.pubsub_records import InvalidArgumentError
from local_cloud.pubsub_requests import resource_name

_RATE = click.FloatRange(0, 1)
_SECONDS = click.FloatRange(0, 600, min_open=True)


class _FullName(click.ParamType[str]):
    name = "subscription"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            return resource_name("subscriptions", str(value), field="subscription")
        except InvalidArgumentError as error:
            self.fail(str(error), param, ctx)


class _NextFault(click.ParamType[tuple[str, Fault]]):
    name = "fault=subscription"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Fault]:
        fault, _, subscription = str(value).partition("=")
        if fault not in set(Fault):
            self.fail(f"{fault!r} is not a fault; faults are {', '.join(Fault)}.", param, ctx)
        return _FullName().convert(subscription, param, ctx), Fault(fault)


_OPTIONS = (
    click.option(
        "--pubsub-duplicate",
        type=_RATE,
        default=0.0,
        help="Probability (0-1) that a message is delivered twice.",
    ),
    click.option(
        "--pubsub-delay",
        type=_RATE,
        default=0.0,
        help="Probability (0-1) that a delivery is delayed.",
    ),
    click.option(
        "--pubsub-delay-seconds",
        type=_SECONDS,
        default=2.0,
        show_default=True,
        help="Length of a delay.",
    ),
    click.option(
        "--pubsub-reorder",
        type=_RATE,
        default=0.0,
        help="Probability (0-1) that a later message overtakes a delivery.",
    ),
    click.option(
        "--pubsub-reorder-seconds",
        type=_SECONDS,
        default=1.0,
        show_default=True,
        help="Maximum wait of a delivery for a message that overtakes it.",
    ),
    click.option(
        "--pubsub-drop-response",
        type=_RATE,
        default=0.0,
        help="Probability (0-1) that an acknowledgement is lost and counts as a nack.",
    ),
    click.option(
        "--pubsub-seed",
        type=int,
        default=0,
        show_default=True,
        help="Random seed for fault injection.",
    ),
    click.option(
        "--pubsub-faulty",
        type=_FullName(),
        multiple=True,
        help="Subscription that receives random faults: projects/P/subscriptions/S; repeatable."
        "  [default: all]",
    ),
    click.option(
        "--pubsub-next",
        type=_NextFault(),
        multiple=True,
        help="Fault of the next delivery: drop_response=projects/P/subscriptions/S; repeatable.",
    ),
    click.option(
        "--min-ack-deadline-seconds",
        type=click.FloatRange(1, 600),
        default=10.0,
        show_default=True,
        help="Minimum acknowledgement deadline; less than the real 10 s allows quicker tests.",
    ),
    click.option(
        "--max-parallel-pushes",
        type=click.IntRange(1),
        default=100,
        show_default=True,
        help="Maximum number of concurrent pushes of one subscription.",
    ),
)


def pubsub_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one parameter, ``pubsub``: the server that these options configure."""

    @functools.wraps(command)  # and with its name the options that it has already
    def with_server(
        *,
        pubsub_faulty: tuple[str, ...],
        pubsub_next: tuple[tuple[str, Fault], ...],
        min_ack_deadline_seconds: float,
        max_parallel_pushes: int,
        **others: Any,
    ) -> Any:
        rates = {
            name: others.pop(f"pubsub_{name}")
            for name in (*Fault, "delay_seconds", "reorder_seconds", "seed")
        }
        faults = Faults(Rates(**rates, subscriptions=frozenset(pubsub_faulty)))
        for subscription, fault in pubsub_next:
            faults.next_delivery(subscription, fault)
        server = PubSub(
            min_ack_deadline_seconds=min_ack_deadline_seconds,
            max_parallel_pushes=max_parallel_pushes,
            faults=faults,
        )
        return command(pubsub=server, **others)

    for option in reversed(_OPTIONS):
        option(with_server)
    return with_server
