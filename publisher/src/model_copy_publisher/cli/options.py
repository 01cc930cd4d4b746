"""Options that several commands share."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from model_copy_publisher import settings
from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.messages import DEFAULT_SOURCE
from model_copy_publisher.resource_names import (
    DEAD_LETTER_SUBSCRIPTION,
    DEAD_LETTER_TOPIC,
    FORWARDED_SUBSCRIPTION,
    REPLY_TOPIC,
    REQUEST_SUBSCRIPTION,
    REQUEST_TOPIC,
    TICK_SUBSCRIPTION,
    TICK_TOPIC,
    check_project,
    full_name,
)

Decorator = Callable[[Any], Any]

# Environment variables by setting; the first that is set counts.
ENVIRONMENT: Mapping[str, tuple[str, ...]] = {
    "project": ("MODEL_COPY_PROJECT", "GOOGLE_CLOUD_PROJECT"),
    "credentials_file": ("MODEL_COPY_CREDENTIALS_FILE", "GOOGLE_APPLICATION_CREDENTIALS"),
}


def variables(setting: str) -> tuple[str, ...]:
    """Return the environment variables that ``setting`` is taken from."""
    return ENVIRONMENT.get(setting, (f"MODEL_COPY_{setting.upper()}",))


class Number(click.FloatRange):
    """A range of numbers; nan is neither below nor above anything, and so not in it."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def option(name: str, **keywords: Any) -> Decorator:
    """Make an option that may also come from the environment."""
    setting = name.removeprefix("--").replace("-", "_")
    return click.option(name, envvar=list(variables(setting)), show_envvar=True, **keywords)


def connection(function: Any) -> Any:
    """Add what is needed to reach the topics."""
    for decorate in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        option(
            "--credentials-file",
            metavar="FILE",
            help="Google credentials file.  [default: application default credentials]",
        ),
        option(
            "--reply-topic", default=REPLY_TOPIC, show_default=True, help="Topic of the replies."
        ),
        option(
            "--request-topic",
            default=REQUEST_TOPIC,
            show_default=True,
            help="Topic of the requests.",
        ),
        option("--project", help="Project of the topics."),
    ):
        function = decorate(function)
    return function


def request_source(function: Any) -> Any:
    """Add the option ``--request-source``."""
    decorate = option(
        "--request-source",
        default=DEFAULT_SOURCE,
        show_default=True,
        help="CloudEvent source of the request: with its id, the name of the request.",
    )
    return decorate(function)


def dead_letters(function: Any) -> Any:
    """Add the options for the dead-letter topic and its subscription."""
    for decorate in (
        option(
            "--dead-letter-topic",
            default=DEAD_LETTER_TOPIC,
            show_default=True,
            help="Topic of failed requests and of restored dead letters.",
        ),
        option(
            "--dead-letter-subscription",
            default=DEAD_LETTER_SUBSCRIPTION,
            show_default=True,
            help="Subscription that holds the dead letters.",
        ),
    ):
        function = decorate(function)
    return function


def pushes(function: Any) -> Any:
    """Add the options for the worker's push subscriptions."""
    for decorate in (
        option(
            "--forwarded-subscription",
            default=FORWARDED_SUBSCRIPTION,
            show_default=True,
            help="Subscription that pushes requests that Pub/Sub gave up to the worker.",
        ),
        option(
            "--tick-subscription",
            default=TICK_SUBSCRIPTION,
            show_default=True,
            help="Subscription that pushes ticks to the worker.",
        ),
        option(
            "--request-subscription",
            default=REQUEST_SUBSCRIPTION,
            show_default=True,
            help="Subscription that pushes requests to the worker.",
        ),
        option(
            "--tick-topic",
            default=TICK_TOPIC,
            show_default=True,
            help="Topic of the ticks that wake the worker.",
        ),
    ):
        function = decorate(function)
    return function


def timeout(default: float) -> Decorator:
    """Add the option ``--timeout``."""
    return option(
        "--timeout",
        type=Number(min=0, min_open=True),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help="Maximum seconds to wait.",
    )


output = option(
    "--output",
    type=click.Choice(settings.OUTPUTS),
    default="text",
    show_default=True,
    help="Format of standard output.",
)


def where(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how to reach the topics: arguments of ``Publisher``.

    Raises:
        InvalidRequestError: the project is missing, or a name is none.
    """
    topics = [options["reply_topic"], options["request_topic"]]
    project = options["project"]
    if not project and all(topic.startswith("projects/") for topic in topics):
        # The subscription of a wait is made where the replies are.
        project = topics[0].split("/")[1]
    if not project:
        raise InvalidRequestError(
            "project",
            "is missing: give --project, set MODEL_COPY_PROJECT or GOOGLE_CLOUD_PROJECT, or add"
            " it to the settings file",
        )
    check_project(project)
    return {
        "project": project,
        "reply_topic": full_name("reply_topic", options["reply_topic"], project),
        "request_topic": full_name("request_topic", options["request_topic"], project),
        "credentials_file": options["credentials_file"],
    }


def reached_by(options: Mapping[str, Any]) -> list[str]:
    """Write the options of ``connection`` for a shell, as far as they are not the defaults."""
    words = []
    for name in ("project", "request_topic", "reply_topic", "credentials_file"):
        value = options[name]
        if value and value not in {REQUEST_TOPIC, REPLY_TOPIC}:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def command_again(
    context: click.Context, fixed: Mapping[str, Any], *, arguments: Sequence[str] | None = None
) -> str:
    """Write the present command once more, for a shell; ``fixed`` are other values of options.

    Options that came from elsewhere are written out too: it may be typed elsewhere.
    """
    words = ["model-copy", str(context.command.name), *(arguments or [])]
    for parameter in context.command.params:
        name = str(parameter.name)
        if isinstance(parameter, click.Argument) and arguments is not None:
            continue
        defaulted = context.get_parameter_source(name) is ParameterSource.DEFAULT
        value = fixed.get(name, None if defaulted else context.params[name])
        for each in value if isinstance(value, tuple) else (value,):
            if each is None or each is False or _is_default(name, each, context.params):
                continue
            if isinstance(parameter, click.Option):
                words.append(parameter.opts[0])
            if each is not True:
                words.append(f"{each:g}" if isinstance(each, float) else str(each))
    return shlex.join(words)


def _is_default(name: str, value: object, options: Mapping[str, Any]) -> bool:
    """Tell whether ``value`` is the full name of the topic that is taken by default."""
    default = {"request_topic": REQUEST_TOPIC, "reply_topic": REPLY_TOPIC}.get(name)
    project = options.get("project")
    return bool(default and project) and value == f"projects/{project}/topics/{default}"
