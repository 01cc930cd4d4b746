"""The command ``model-copy``: options in, one result on standard output, an exit code.

Progress and complaints go to standard error. Google's client is imported only
once there is something to send: ``--help`` and a usage error cost nothing of it.
"""

import json
import shlex
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import click
from click.core import ParameterSource

from model_copy_publisher.errors import (
    BrokerError,
    InvalidRequestError,
    NoReplyError,
    UnreachableError,
)
from model_copy_publisher.messages import (
    DEFAULT_SOURCE,
    CopyRequest,
    IfExists,
    Published,
    Reply,
    json_kind,
)
from model_copy_publisher.progress import progress
from model_copy_publisher.report import as_json, published_line, reply_lines

DONE, NOT_DONE, NO_ANSWER, NO_BROKER, DETACHED = 0, 1, 3, 4, 130

EXIT_CODES = """\b
Exit codes:
  0    succeeded or validated; without --wait: published
  1    failed, rejected or cancelled
  2    wrong usage; nothing was sent
  3    no answer in time; the copy may go on
  4    could not publish or subscribe
  130  detached by Ctrl-C or SIGTERM; the copy goes on
"""

EXAMPLES = """\b
Examples:
  model-copy publish 7704127342733426688@1 faker_251230 --wait
  model-copy publish 7704127342733426688 --parent-model faker --wait
  model-copy publish 7704127342733426688 faker_251230 --validate-only --wait
  model-copy publish 7704127342733426688 faker_251230 --wait --output json

\b
The same request (source, id and content) published again is never a second
copy: it makes the service announce the outcome again. That is how to wait again.
"""


@click.group(epilog=EXIT_CODES)
@click.version_option(package_name="model-copy-publisher", prog_name="model-copy")
def main() -> None:
    """Copy Vertex AI models between projects by message."""


@main.command(epilog=f"{EXAMPLES}\n{EXIT_CODES}")
@click.argument("source_model_id", metavar="SOURCE")
@click.argument("destination_model_id", metavar="[DESTINATION]", required=False)
@click.option("--parent-model", help="Copy as a new version of this model, not to DESTINATION.")
@click.option(
    "--if-exists",
    type=click.Choice([each.value for each in IfExists]),
    help="What to do when DESTINATION is there already.",
)
@click.option("--source-project", help="Where SOURCE is, if not in the service's own default.")
@click.option("--source-location", help="The region of SOURCE.")
@click.option("--target-project", help="Where the copy goes.")
@click.option("--target-location", help="The region of the copy.")
@click.option("--location", help="Both regions at once, as far as they are not said otherwise.")
@click.option("--kms-key-name", help="The key that encrypts the copy.")
@click.option("--custom-service-account", help="The account that the copy will serve as.")
@click.option("--deadline-seconds", type=int, help="How long the copy may take.")
@click.option("--correlation", metavar="JSON", help="An object to be echoed in the reply.")
@click.option("--validate-only", is_flag=True, help="Check everything, copy nothing.")
@click.option("--reply-tag", help="An attribute of the reply, for subscribers that filter.")
@click.option("--request-id", help="What the request is known by.  [default: a random one]")
@click.option(
    "--request-source", default=DEFAULT_SOURCE, show_default=True, help="Whose request it is."
)
@click.option(
    "--project",
    envvar=["MODEL_COPY_PROJECT", "GOOGLE_CLOUD_PROJECT"],
    show_envvar=True,
    help="The project of the topics.",
)
@click.option(
    "--request-topic",
    envvar="MODEL_COPY_REQUEST_TOPIC",
    default="model-copy-requests",
    show_default=True,
    show_envvar=True,
)
@click.option(
    "--reply-topic",
    envvar="MODEL_COPY_REPLY_TOPIC",
    default="model-copy-replies",
    show_default=True,
    show_envvar=True,
)
@click.option("--wait", is_flag=True, help="Wait for the outcome and print it.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait.",
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--debug", is_flag=True, help="Show the traceback of what went wrong.")
@click.pass_context
def publish(context: click.Context, /, **options: Any) -> None:
    """Ask for a copy of SOURCE (an id, id@version, id@alias or full resource name).

    DESTINATION is the id of the new model; without it the service makes one up.
    """
    # As Ctrl-C: a stopped task detaches too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        request = _request(options)
        project = _project(options)
    except InvalidRequestError as error:
        raise click.UsageError(str(error)) from error
    session = _Session(request=request, options=options, again=_again(context, request))
    context.exit(session.run(project))


@dataclass(slots=True, kw_only=True)
class _Session:
    """One request on its way: what is known of it at the moment that something ends it."""

    request: CopyRequest
    options: Mapping[str, Any]
    again: str
    published: Published | None = None
    reply: Reply | None = None
    waited_seconds: float | None = None

    def run(self, project: str) -> int:
        """Publish, wait if wanted, print the result and return the exit code."""
        try:
            self._ask(project)
        except InvalidRequestError as error:
            raise click.UsageError(str(error)) from error
        except NoReplyError as error:
            say(f"{error} The copy may go on; to wait again:\n  {self.again}")
            self._print()
            return NO_ANSWER
        except BrokerError as error:
            self._complain(error)
            return NO_BROKER
        except KeyboardInterrupt:
            if self.reply is None:
                self._detach()
                return DETACHED
        self._print()
        return DONE if self.reply is None or self.reply.ok else NOT_DONE

    def _ask(self, project: str) -> None:
        from model_copy_publisher.client import Publisher  # noqa: PLC0415  see the header

        with Publisher(
            project=project,
            request_topic=self.options["request_topic"],
            reply_topic=self.options["reply_topic"],
        ) as publisher:
            if not self.options["wait"]:
                self.published = publisher.publish(self.request)
                return
            with publisher.listen(self.request) as replies:
                began_at = time.monotonic()
                self.published = publisher.publish(self.request)
                say(published_line(self.published))
                try:
                    with progress() as shown:
                        self.reply = publisher.wait(
                            replies,
                            timeout_seconds=self.options["timeout"],
                            on_trouble=shown.trouble,
                        )
                finally:
                    self.waited_seconds = time.monotonic() - began_at

    def _print(self) -> None:
        assert self.published is not None
        waited = self.options["wait"]
        if self.options["output"] == "json":
            line = as_json(
                self.published,
                waited=waited,
                reply=self.reply,
                waited_seconds=self.waited_seconds,
            )
            click.echo(line)
        elif self.reply is not None and self.waited_seconds is not None:
            click.echo("\n".join(reply_lines(self.published, self.reply, self.waited_seconds)))
        elif not waited:
            click.echo(published_line(self.published))
        if not waited:
            say(f"To wait for the outcome:\n  {self.again}")

    def _detach(self) -> None:
        if self.published is None:
            say(
                "Interrupted: it is not known whether the request was published. "
                f"Publishing it again is harmless:\n  {self.again}"
            )
            return
        say(f"Detached: the copy goes on. To wait again:\n  {self.again}")
        if self.options["output"] == "json":
            self._print()

    def _complain(self, error: BrokerError) -> None:
        say(f"{error}\n{error.advice}")
        if isinstance(error, UnreachableError) or self.published is not None:
            say(f"Publishing the same request again is harmless:\n  {self.again}")
        if self.options["debug"]:
            traceback.print_exception(error)


def say(text: str) -> None:
    """Tell a person; programs read only standard output."""
    click.echo(text, err=True)


def _request(options: Mapping[str, Any]) -> CopyRequest:
    source, location = options["source_model_id"], options["location"]
    if_exists, request_id = options["if_exists"], options["request_id"]
    return CopyRequest(
        source_model_id=source,
        destination_model_id=options["destination_model_id"],
        destination_parent_model=options["parent_model"],
        if_exists=None if if_exists is None else IfExists(if_exists),
        source_project=options["source_project"],
        # A full resource name says its own region.
        source_location=options["source_location"] or (None if "/" in source else location),
        target_project=options["target_project"],
        target_location=options["target_location"] or location,
        kms_key_name=options["kms_key_name"],
        custom_service_account=options["custom_service_account"],
        deadline_seconds=options["deadline_seconds"],
        correlation=_correlation(options["correlation"]),
        validate_only=options["validate_only"],
        request_id=uuid4().hex if request_id is None else request_id,
        request_source=options["request_source"],
        reply_tag=options["reply_tag"],
    )


def _correlation(text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("correlation", f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        # ``null`` would be None, and count as not given.
        raise InvalidRequestError("correlation", f"must be a JSON object, not {json_kind(value)}")
    return value


def _project(options: Mapping[str, Any]) -> str:
    if options["project"]:
        return str(options["project"])
    topics = [options["reply_topic"], options["request_topic"]]
    if all(topic.startswith("projects/") for topic in topics):
        # The subscription of a wait is made where the replies are.
        return str(topics[0].split("/")[1])
    raise InvalidRequestError(
        "project", "is missing: give --project or set MODEL_COPY_PROJECT or GOOGLE_CLOUD_PROJECT"
    )


def _again(context: click.Context, request: CopyRequest) -> str:
    """Write the command that publishes the very same request and waits for its outcome.

    Options that came from the environment are written out too: it may be typed elsewhere.
    """
    words = ["model-copy", "publish"]
    fixed = {"request_id": request.request_id, "wait": True}
    for parameter in context.command.params:
        name = str(parameter.name)
        defaulted = context.get_parameter_source(name) is ParameterSource.DEFAULT
        value = fixed.get(name, None if defaulted else context.params[name])
        if value is None or value is False:
            continue
        if isinstance(parameter, click.Option):
            words.append(parameter.opts[0])
        if value is not True:
            words.append(str(value))
    return shlex.join(words)
