"""A push endpoint that answers as told, well or badly, and remembers what came."""

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """One POST, as it came."""

    headers: dict[str, str]  # by lower-case name
    raw: bytes
    at: float  # by the monotonic clock

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def text(self) -> str:
        return base64.b64decode(self.body["message"]["data"]).decode()


Answer = Callable[[BaseHTTPRequestHandler], None]


class Endpoint:
    """Each of ``answers`` (a status, or what to do instead) is used once, then it is 204."""

    def __init__(self, *, port: int = 0, patience_seconds: float = 10) -> None:
        endpoint = self
        self._pushes: Queue[Pushed] = Queue()
        self._patience_seconds = patience_seconds
        self.answers: Queue[int | Answer] = Queue()
        self.released = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                answer = 204 if endpoint.answers.empty() else endpoint.answers.get()
                at = time.monotonic()
                headers = {name.lower(): value for name, value in self.headers.items()}
                endpoint._pushes.put(Pushed(headers=headers, raw=raw, at=at))
                if callable(answer):
                    self.close_connection = True
                    answer(self)
                    return
                self.send_response(answer)
                self.send_header("content-length", "0")
                self.send_header("set-cookie", "session=1; path=/")
                self.send_header("location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                """Where a redirect leads."""
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent: the test says what happened."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/push"
        self.config = {"push_endpoint": self.url}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def hang(self, _: BaseHTTPRequestHandler) -> None:
        """An answer: none, until ``released``; then the connection ends."""
        self.released.wait()

    def next(self) -> Pushed:
        """Wait for what comes next."""
        return self._pushes.get(timeout=self._patience_seconds)

    def is_quiet(self) -> bool:
        """Whether nothing came that was not asked for."""
        return self._pushes.empty()
