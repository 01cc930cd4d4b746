"""The metadata server of a machine of Google's, as far as ID tokens go."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

DEFAULT = "/computeMetadata/v1/instance/service-accounts/default/"
ABOUT = {"email": "default@project.iam.gserviceaccount.com", "scopes": [], "aliases": ["default"]}


@contextmanager
def metadata_server(mint: Callable[[str], str]) -> Iterator[dict[str, str]]:
    """Serve tokens that ``mint`` makes for an audience; the value is the environment."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            known = self.headers.get("Metadata-Flavor") == "Google"
            audience = parse_qs(place.query).get("audience", [""])[0]
            body = kind = ""
            if known and place.path == f"{DEFAULT}identity":
                body, kind = mint(audience), "text/plain"
            elif known and place.path == DEFAULT:
                body, kind = json.dumps(ABOUT), "application/json"
            self.send_response(200 if known else 403)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f"127.0.0.1:{server.server_address[1]}"
        yield {"GCE_METADATA_HOST": place, "GCE_METADATA_IP": place}
    finally:
        server.shutdown()
        server.server_close()
