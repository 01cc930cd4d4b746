"""The connection to Pub/Sub: one gRPC channel, and what its errors mean for a person.

It refuses to interpret messages. No error of Google's libraries leaves this
package: each becomes a ``BrokerError`` with one sentence and what to do next.

The generated clients (``google.pubsub_v1``) are used instead of the batching
ones of ``google.cloud.pubsub``: one message has nothing to batch, no background
thread holds it back, and a publish that returned is a publish that was confirmed.
"""

import functools
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import google.auth.exceptions
import google.auth.transport.requests
import grpc
from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.api_core.timeout import ConstantTimeout
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from model_copy_publisher import credentials
from model_copy_publisher.errors import BrokerError, MissingError, RefusedError, UnreachableError

HOST = "pubsub.googleapis.com:443"

# A call is tried again for this long in all; an emulator is on this machine or absent.
PATIENCE_SECONDS = 60.0
EMULATOR_PATIENCE_SECONDS = 5.0
# One try: a broker that took the connection and is silent must not use up the patience.
TRY_SECONDS = 15.0
TOKEN_SECONDS = 15.0

# The list that Google's client retries publishes on.
_PASSING = (
    exceptions.Aborted,
    exceptions.Cancelled,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
    exceptions.Unknown,
)

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    # Notice a connection that a NAT or a firewall dropped without telling us.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC's own ceiling is two minutes: a broker that is back would go unnoticed so long.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


class Broker:
    """Pub/Sub's two services over one channel.

    Raises:
        BrokerError: there are no credentials, or they can get no token.
    """

    def __init__(self, credentials_file: str | None = None) -> None:
        # Google's own clients obey this variable; people set it for all of them at once.
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
        self._credentials: Any = None
        if emulator:
            self.address, self.patience_seconds = emulator, EMULATOR_PATIENCE_SECONDS
            self._advice = f"PUBSUB_EMULATOR_HOST says {emulator}: start it, or unset the variable."
            self._channel = grpc.insecure_channel(
                emulator, options=[*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
            )
        else:
            self.address, self.patience_seconds = HOST, PATIENCE_SECONDS
            self._advice = "Check the network of this machine (proxy, firewall, DNS)."
            self._credentials = credentials.find(credentials_file)
            self._check_token()
            self._channel = PublisherGrpcTransport.create_channel(
                HOST,
                credentials=self._credentials,
                options=[*_CHANNEL_OPTIONS, *proxy_options(HOST)],
            )
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; open calls are cancelled."""
        self._channel.close()

    def tries(self, within_seconds: float) -> dict[str, Any]:
        """Say how a call is tried again: arguments for a method of either client."""
        within_seconds = min(within_seconds, self.patience_seconds)
        attempt = ConstantTimeout(min(TRY_SECONDS, within_seconds))
        return {
            "retry": Retry(
                predicate=if_exception_type(*_PASSING),
                initial=0.1,
                multiplier=2.0,
                maximum=5.0,
                timeout=within_seconds,
            ),
            "timeout": attempt,
        }

    @contextmanager
    def explained(self, *, task: str, missing: str, needs: str) -> Iterator[None]:
        """Translate Google's errors: what was done, what may be missing, what it needs."""
        try:
            yield
        except exceptions.RetryError as error:
            raise self._explain(error.cause or error, task, missing, needs) from error
        except exceptions.GoogleAPICallError as error:
            raise self._explain(error, task, missing, needs) from error

    def _explain(self, error: Exception, task: str, missing: str, needs: str) -> BrokerError:
        message = error.message if isinstance(error, exceptions.GoogleAPICallError) else str(error)
        match error:
            case exceptions.NotFound():
                return MissingError(
                    f"Cannot {task}: {missing} does not exist.",
                    "Create it, or check the names of project and topics.",
                )
            case exceptions.PermissionDenied():
                return RefusedError(
                    f"Cannot {task}: no permission ({message}).", f"Needed: {needs}."
                )
            case exceptions.Unauthenticated():
                return RefusedError(
                    f"Cannot {task}: Pub/Sub does not accept the credentials ({message}).",
                    credentials.advice(self._credentials),
                )
            case exceptions.ServiceUnavailable() if "metadata from plugin" in message:
                # That is how gRPC says that the credentials got no token for the call.
                return self._token_error() or UnreachableError(
                    f"Cannot {task}: no token for the credentials ({message}).", self._advice
                )
            case _ if isinstance(error, _PASSING):
                return UnreachableError(
                    f"Cannot {task}: Pub/Sub at {self.address} does not answer ({message}).",
                    self._advice,
                )
            case _:
                return RefusedError(
                    f"Cannot {task}: Pub/Sub refused ({message}).", "Correct what it names."
                )

    def _token_error(self) -> BrokerError | None:
        try:
            self._check_token()
        except BrokerError as error:
            return error
        return None

    def _check_token(self) -> None:
        # Inside a gRPC call a refused token looks like an outage, and would be retried as one.
        call = functools.partial(google.auth.transport.requests.Request(), timeout=TOKEN_SECONDS)
        try:
            self._credentials.refresh(call)
        except google.auth.exceptions.TransportError as error:
            raise UnreachableError(
                f"Cannot get a token for Pub/Sub: {error}.", self._advice
            ) from error
        except google.auth.exceptions.GoogleAuthError as error:
            raise RefusedError(
                f"Cannot get a token for Pub/Sub: the credentials were refused ({error}).",
                credentials.advice(self._credentials),
            ) from error


def proxy_options(host: str) -> list[tuple[str, Any]]:
    """Return the channel options that take the proxy which HTTP calls take too.

    gRPC reads ``https_proxy`` and ``no_proxy`` itself, but only in lower case, and
    not the system's own list of exceptions.
    """
    if urllib.request.proxy_bypass(host.partition(":")[0]):
        return [("grpc.enable_http_proxy", 0)]
    proxy = urllib.request.getproxies().get("https")
    if proxy is None:
        return []
    # gRPC knows one way to speak to a proxy, and takes no other scheme's name for it.
    return [("grpc.http_proxy", "http://" + proxy.rpartition("://")[2])]
