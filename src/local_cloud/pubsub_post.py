"""One POST over HTTP/1.1: out with the body, back with the status.

It follows no redirect, uses no proxy, and keeps neither cookie nor connection: a connection
that the server is just closing would cost a delivery attempt. Written on h11 because a push
costs several times as much with a whole HTTP client around it.
"""

import asyncio
import ssl
from collections.abc import Sequence
from functools import cache
from urllib.parse import urlsplit

import h11

# What an endpoint may say beside its status; nobody reads it.
MAX_ANSWER_BYTES = 1_000_000

Headers = Sequence[tuple[bytes, bytes]]


class NoAnswerError(Exception):
    """The endpoint was not reached, broke off, or said what is no HTTP."""


class UrlError(ValueError):
    """No URL to post to; the sentence says why."""


def check_url(url: str) -> None:
    """Refuse what could never be posted to.

    Raises:
        UrlError: it is no http(s) URL, or not written as it goes over the wire.
    """
    try:
        parts = urlsplit(url)
        found = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise UrlError(f"{url[:200]!r} is no URL: {error}") from error
    if not found:
        raise UrlError(f"{url[:200]!r} is no http(s) URL.")
    if not all("!" <= each <= "~" for each in url):
        raise UrlError(f"{url[:200]!r} has characters that a URL writes as %XX.")


async def post(url: str, *, headers: Headers, body: bytes) -> int:
    """Post ``body`` and return the status of the answer, or 102 once that has come.

    Set your own deadline: this waits for as long as the endpoint does.

    Raises:
        NoAnswerError: there was none; whether the endpoint acted is unknown.
    """
    parts = urlsplit(url)
    assert parts.hostname
    secure = parts.scheme == "https"
    loop = asyncio.get_running_loop()
    request = request_to(url, headers=headers, body=body)
    exchange = _Exchange(request, body, status=loop.create_future())
    try:
        transport, _ = await loop.create_connection(
            lambda: exchange,
            parts.hostname,
            parts.port or (443 if secure else 80),
            ssl=_tls() if secure else None,
        )
    except OSError as error:
        raise NoAnswerError(str(error)) from error
    try:
        return await exchange.status
    finally:
        transport.abort()


def request_to(url: str, *, headers: Headers, body: bytes) -> h11.Request:
    """The head of a POST to a URL that was checked."""
    parts = urlsplit(url)
    return h11.Request(
        method="POST",
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        headers=[
            (b"Host", parts.netloc.rpartition("@")[2].encode()),
            (b"Content-Length", str(len(body)).encode()),
            (b"Connection", b"close"),
            *headers,
        ],
    )


class _Exchange(asyncio.Protocol):
    """One request and its answer; asyncio's streams would double what a push costs here."""

    def __init__(self, request: h11.Request, body: bytes, *, status: asyncio.Future[int]) -> None:
        self.status = status
        self._line = h11.Connection(h11.CLIENT)
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        self._request = b"".join(self._line.send(part) or b"" for part in parts)
        self._received_bytes = 0
        self._said = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.status.done():
            return
        self._received_bytes += len(data)
        try:
            self._line.receive_data(data)
            status = self._read()
        except (h11.RemoteProtocolError, NoAnswerError) as error:
            self.status.set_exception(NoAnswerError(str(error)))
        else:
            if status:
                self.status.set_result(status)

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, _: Exception | None) -> None:
        if not self.status.done():
            self.status.set_exception(NoAnswerError("The connection was cut."))

    def _read(self) -> int:
        """The status, once the answer is whole; until then 0."""
        while True:
            event = self._line.next_event()
            match event:
                case h11.InformationalResponse(status_code=102):  # it is an acknowledgement
                    return 102
                case h11.Response():
                    self._said = event.status_code
                case h11.EndOfMessage():
                    return self._said
                case h11.PAUSED | h11.ConnectionClosed():
                    raise NoAnswerError("The answer is none to a POST.")
                case h11.NEED_DATA:
                    if self._received_bytes > MAX_ANSWER_BYTES:
                        raise NoAnswerError("The answer has no end.")
                    return 0


@cache
def _tls() -> ssl.SSLContext:
    """Made on the first push: it reads every root certificate, which takes a while."""
    return ssl.create_default_context()
