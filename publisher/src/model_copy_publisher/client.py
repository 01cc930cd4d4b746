"""The publisher: publishes a request, and waits for its outcome.

Waiting again is publishing again: the same request (source, id and content)
makes the service announce its outcome once more and never copies twice. So the
wait needs topics alone, and may be broken off and taken up at any point.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

from model_copy_publisher.broker import Broker
from model_copy_publisher.errors import (
    InvalidRequestError,
    MissingError,
    NoReplyError,
    UnreachableError,
)
from model_copy_publisher.messages import CopyRequest, Published, Reply
from model_copy_publisher.replies import Replies

REQUEST_TOPIC = "model-copy-requests"
REPLY_TOPIC = "model-copy-replies"
DEFAULT_TIMEOUT_SECONDS = 3600.0

# One pull. Also the longest silence on the connection.
PULL_SECONDS = 30.0
# After a pull that failed, or was answered empty at once: neither may become a busy loop.
PAUSE_SECONDS = 0.5

_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]*")
_TOPIC = re.compile(r"(projects/[^/\s]+/topics/)?[A-Za-z][A-Za-z0-9._~%+-]{2,254}")


class Publisher:
    """Publishes requests to a model copier and waits for its replies.

    ``project`` holds the topics. A topic may be a short or a full name.

        with Publisher(project="team-models") as publisher:
            request = CopyRequest(source_model_id="7704127342733426688@1")
            published = publisher.publish(request)         # and go on, or:
            reply = publisher.copy(request)                # the same request: never a second copy

    ``PUBSUB_EMULATOR_HOST`` is obeyed; otherwise Google's application default
    credentials are used.

    Raises:
        InvalidRequestError: ``project`` or a topic is not a name.
        BrokerError: there are no usable credentials.
    """

    def __init__(
        self, *, project: str, request_topic: str = REQUEST_TOPIC, reply_topic: str = REPLY_TOPIC
    ) -> None:
        if _PROJECT.fullmatch(project) is None:
            raise InvalidRequestError("project", f"{project!r} is not a project id or number")
        self._project = project
        self._request_topic = _topic_path("request_topic", request_topic, project)
        self._reply_topic = _topic_path("reply_topic", reply_topic, project)
        self._broker = Broker()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()

    def publish(self, request: CopyRequest, *, within_seconds: float | None = None) -> Published:
        """Publish ``request`` and return once Pub/Sub has confirmed it.

        May publish the message more than once; the service copies once.

        Raises:
            UnreachableError: not confirmed within ``within_seconds`` (default 60, with an
                emulator 5); it may have been published.
            BrokerError: Pub/Sub refused.
        """
        now = datetime.now(UTC)
        message = {"data": request.body, "attributes": request.attributes(now)}
        with self._broker.explained(
            task="publish the request",
            missing=f"the topic {self._request_topic}",
            needs=f"roles/pubsub.publisher on {self._request_topic}",
        ):
            response = self._broker.publisher.publish(
                {"topic": self._request_topic, "messages": [message]},
                **self._broker.tries(within_seconds or self._broker.patience_seconds),
            )
        return Published(
            request_id=request.request_id,
            request_source=request.request_source,
            request_digest=request.digest,
            message_id=response.message_ids[0],
            published_at=now,
        )

    def listen(self, request: CopyRequest) -> Replies:
        """Listen for the replies to ``request``: enter it before publishing."""
        return Replies(
            broker=self._broker,
            project=self._project,
            reply_topic=self._reply_topic,
            request=request,
        )

    def copy(
        self, request: CopyRequest, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> Reply:
        """Publish ``request`` and wait for its outcome, whichever it is.

        Call it again with the same request to wait again.

            reply = publisher.copy(request, timeout_seconds=600)
            if not reply.ok:
                raise RuntimeError(reply.error)

        Raises:
            NoReplyError: nothing was announced in time; the copy may go on.
            BrokerError: Pub/Sub refused, or could not be reached to publish.
        """
        with self.listen(request) as replies:
            self.publish(request)
            return self.wait(replies, timeout_seconds=timeout_seconds)

    def wait(
        self,
        replies: Replies,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> Reply:
        """Wait for the first reply. Outages of the broker do not end the wait.

        When the subscription is lost it is made again, and the request published
        again: whatever was announced meanwhile is announced once more.
        ``on_trouble`` is told in a few words what is wrong, and "" once it is over.

        Raises:
            NoReplyError: nothing was announced in time.
            RefusedError: permission or credentials were withdrawn meanwhile.
        """
        deadline = time.monotonic() + timeout_seconds
        trouble, lost, asked = "", False, True
        while (left := deadline - time.monotonic()) > 0:
            began_at = time.monotonic()
            try:
                if lost:
                    replies.subscribe(within_seconds=left)
                    lost, asked = False, False
                if not asked:
                    self.publish(replies.request, within_seconds=left)
                    asked = True
                for reply in replies.receive(within_seconds=min(left, PULL_SECONDS)):
                    return reply
                now_wrong = ""
            except MissingError:
                now_wrong = "the subscription was lost; asking again"
                # Missing to a pull is the subscription; to the two steps before it, a topic.
                lost = lost or asked
            except UnreachableError:
                now_wrong = "Pub/Sub does not answer; trying again"
            if now_wrong != trouble:
                trouble = now_wrong
                on_trouble(trouble)
            if time.monotonic() - began_at < PAUSE_SECONDS:
                time.sleep(min(PAUSE_SECONDS, left))
        raise NoReplyError(
            f"No reply to the request {replies.request.request_id} within {timeout_seconds:g} s"
            + (f" ({trouble})." if trouble else ".")
        )


def _topic_path(option: str, topic: str, project: str) -> str:
    if _TOPIC.fullmatch(topic) is None:
        raise InvalidRequestError(option, f"{topic!r} is not a topic, short or projects/P/topics/T")
    return topic if "/" in topic else f"projects/{project}/topics/{topic}"
