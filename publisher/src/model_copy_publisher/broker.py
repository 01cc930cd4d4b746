"""The connection to Pub/Sub: one gRPC channel, and what its errors mean for a person.

It refuses to interpret messages. No error of gRPC or of Google's libraries leaves this
package: each becomes a ``BrokerError`` with one sentence and what to do next.
"""

import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self

import grpc

from model_copy_publisher.causes import advice_on_refusal, told_by
from model_copy_publisher.errors import BrokerError, MissingError, RefusedError, UnreachableError
from model_copy_publisher.wire import Method

HOST = "pubsub.googleapis.com"

# A call is tried again for this long in all; an emulator is on this machine or absent.
PATIENCE_SECONDS = 60.0
EMULATOR_PATIENCE_SECONDS = 5.0
# One try: a broker that took the connection and is silent must not use up the patience.
TRY_SECONDS = 15.0
TOKEN_SECONDS = 15.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0

# The list that Google's client retries publishes on.
PASSING = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)

_CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.primary_user_agent", "model-copy-publisher"),
    ("grpc.max_receive_message_length", -1),
    # Notice a connection that a NAT or a firewall dropped without telling us.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC's own ceiling is two minutes: a broker that is back would go unnoticed so long.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


class Broker:
    """Pub/Sub's two services over one channel; usable by several threads.

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
            options = [*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
            self._channel = grpc.insecure_channel(emulator, options=options)
        else:
            from model_copy_publisher import credentials  # noqa: PLC0415  half of the start-up

            self.address, self.patience_seconds = HOST, PATIENCE_SECONDS
            self._advice = "Check the network of this machine (proxy, firewall, DNS)."
            self._credentials = credentials.Credentials(credentials_file, host=HOST)
            self._check_token()
            options = [*_CHANNEL_OPTIONS, *proxy_options(HOST)]
            self._channel = grpc.secure_channel(
                f"{HOST}:443", self._credentials.of_channel(), options=options
            )
        self._calls: dict[str, Any] = {}
        self._starter: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def account(self) -> str:
        """The service account that we are, as far as it is known."""
        return self._credentials.account if self._credentials else ""

    def close(self) -> None:
        """Close the connection; open calls are cancelled."""
        if self._starter is not None:
            self._starter.shutdown(wait=False, cancel_futures=True)
        self._channel.close()

    def call(self, method: Method, request: Any, *, within_seconds: float) -> Any:
        """Call, and try again what may pass: it may be done more than once.

        Raises:
            RpcError: refused, or not answered in time; for ``explained``.
        """
        deadline = time.monotonic() + min(within_seconds, self.patience_seconds)
        pause = FIRST_PAUSE_SECONDS
        while True:
            left = deadline - time.monotonic()
            try:
                return self.call_once(method, request, within_seconds=min(left, TRY_SECONDS))
            except grpc.RpcError as error:
                wait = random.uniform(0, pause)  # noqa: S311  no secret: so that not all come at once
                if error.code() not in PASSING or time.monotonic() + wait >= deadline:
                    raise
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def call_once(self, method: Method, request: Any, *, within_seconds: float) -> Any:
        """Call, and take the first answer.

        Raises:
            RpcError: refused, or not answered in time; for ``explained``.
        """
        call = self._callable(method)
        return call(request, timeout=within_seconds, metadata=method.metadata(request))

    def start(self, method: Method, request: Any, *, within_seconds: float) -> Any:
        """Call without waiting: ``result()`` is as ``call_once``, ``cancel()`` ends it."""
        call = self._callable(method)
        metadata = method.metadata(request)
        # Off the main thread: a Ctrl-C that hits gRPC there leaves a channel that never closes.
        if self._starter is None:
            self._starter = ThreadPoolExecutor(1, thread_name_prefix="calls")
        started = self._starter.submit(
            call.future, request, timeout=within_seconds, metadata=metadata
        )
        return started.result()

    def _callable(self, method: Method) -> Any:
        call = self._calls.get(method.path)
        if call is None:
            call = self._calls[method.path] = self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        return call

    @contextmanager
    def explained(self, *, task: str, missing: str, needs: str) -> Iterator[None]:
        """Translate gRPC's errors: what was done, what may be missing, what it needs."""
        try:
            yield
        except grpc.RpcError as error:
            raise self._explain(error, task, missing, needs) from error

    def _explain(self, error: Any, task: str, missing: str, needs: str) -> BrokerError:
        code, details = error.code(), error.details() or ""
        match code:
            case grpc.StatusCode.NOT_FOUND:
                return MissingError(
                    f"Cannot {task}: {missing} does not exist.",
                    "Create it, or check the names of project and topics.",
                )
            case grpc.StatusCode.PERMISSION_DENIED:
                return RefusedError(
                    f"Cannot {task}: no permission ({details}).",
                    advice_on_refusal(told_by(error), HOST) or f"Needed: {needs}.",
                )
            case grpc.StatusCode.UNAUTHENTICATED:
                return RefusedError(
                    f"Cannot {task}: Pub/Sub does not accept the credentials ({details}).",
                    self._credentials.advice() if self._credentials else "Log in again.",
                )
            case grpc.StatusCode.UNAVAILABLE if "metadata from plugin" in details:
                # That is how gRPC says that the credentials got no token for the call.
                return self._token_error() or UnreachableError(
                    f"Cannot {task}: no token for the credentials ({details}).", self._advice
                )
            case _ if code in PASSING:
                return UnreachableError(
                    f"Cannot {task}: Pub/Sub at {self.address} does not answer ({details}).",
                    self._advice,
                )
            case _:
                return RefusedError(
                    f"Cannot {task}: Pub/Sub refused ({details}).", "Correct the named value."
                )

    def _token_error(self) -> BrokerError | None:
        try:
            self._check_token()
        except BrokerError as error:
            return error
        return None

    def _check_token(self) -> None:
        # Inside a gRPC call a refused token looks like an outage, and would be retried as one.
        self._credentials.check(within_seconds=TOKEN_SECONDS, offline_advice=self._advice)


def proxy_options(host: str) -> list[tuple[str, Any]]:
    """Return the channel options that take the proxy which HTTP calls take too.

    gRPC reads ``https_proxy`` and ``no_proxy`` itself, but only in lower case, and
    not the system's own list of exceptions.
    """
    import urllib.request  # noqa: PLC0415  a tenth of the start-up, and no emulator needs it

    if urllib.request.proxy_bypass(host):
        return [("grpc.enable_http_proxy", 0)]
    proxy = urllib.request.getproxies().get("https")
    if proxy is None:
        return []
    # gRPC knows one way to speak to a proxy, and takes no other scheme's name for it.
    return [("grpc.http_proxy", "http://" + proxy.rpartition("://")[2])]
