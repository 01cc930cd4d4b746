"""Keeps web pages out of the REST servers: nobody proves who they are to the local cloud.

A browser sends simple posts for any page that is open in it, to localhost or to a name that
was made to mean 127.0.0.1 (DNS rebinding). What must not break: only a request that names this
machine, and that no page of another origin has sent, reaches an application.
"""

import re
from ipaddress import ip_address

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_PORT = re.compile(r":[0-9]{1,5}$")
# A client that was aimed at this machine may still name the host that it meant. No page can: the
# names below googleapis.com are Google's to give.
_GOOGLES = re.compile(r"[a-z0-9.-]+\.googleapis\.com")


def local_only(app: ASGIApp) -> ASGIApp:
    async def walled(scope: Scope, receive: Receive, send: Send) -> None:
        wrong = _wrong_with(scope) if scope["type"] == "http" else ""
        if not wrong:
            await app(scope, receive, send)
            return
        message = f"{wrong}: the local cloud answers programs of this machine, and no web page"
        told = {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}}
        await JSONResponse(told, status_code=403)(scope, receive, send)

    return walled


def _wrong_with(scope: Scope) -> str:
    """Name the header that speaks of another machine, or of a web page."""
    named: dict[bytes, list[str]] = {}
    for name, value in scope["headers"]:
        named.setdefault(name.lower(), []).append(value.decode("latin-1").strip())
    hosts = named.get(b"host", [])
    if len(hosts) > 1 or not all(_is_ours(_PORT.sub("", host)) for host in hosts):
        return "Host"
    if not {f"http://{host}" for host in hosts}.issuperset(named.get(b"origin", [])):
        return "Origin"
    if not {"same-origin", "none"}.issuperset(named.get(b"sec-fetch-site", [])):
        return "Sec-Fetch-Site"
    return ""


def _is_ours(host: str) -> bool:
    name = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761
        return True
    if _GOOGLES.fullmatch(name):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
