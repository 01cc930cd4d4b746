"""The wall where tokens are not checked: this machine's programs get in, its web pages do not.

Pure, but for the answer. A browser sends requests for any page that is open in it: to
localhost, or to a name that was made to mean 127.0.0.1 (DNS rebinding). What must not break:
with TOKEN_CHECKS=none nothing is answered but what a program of this machine asked for.
"""

import re
from ipaddress import IPv6Address, ip_address

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from model_copier.domain.errors import Code
from model_copier.logs import log
from model_copier.web.call_context import call_of
from model_copier.web.error_responses import problem

_PORT = re.compile(r":[0-9]{1,5}$")


def is_loopback(host: str) -> bool:
    """Tell whether a host, by name or address, is this machine and nothing else."""
    name = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def refusal(scope: Scope) -> str | None:
    """Say why a request is not one of a program of this machine, if it is not."""
    client = scope.get("client")
    if client and not is_loopback(client[0]):
        return "tokens are not checked here, so only this machine is answered"
    named: dict[bytes, list[str]] = {}
    for name, value in scope["headers"]:
        named.setdefault(name.lower(), []).append(value.decode("latin-1").strip())
    hosts = named.get(b"host", [])
    if len(hosts) > 1 or not all(is_loopback(_PORT.sub("", host)) for host in hosts):
        return "Host: tokens are not checked here, so only localhost and 127.0.0.1 are answered"
    own = {f"{scope['scheme']}://{host}" for host in hosts}
    if not own.issuperset(named.get(b"origin", [])):
        return "Origin: tokens are not checked here, so no web page may ask"
    if not {"same-origin", "none"}.issuperset(named.get(b"sec-fetch-site", [])):
        return "Sec-Fetch-Site: tokens are not checked here, so no web page may ask"
    return None


def local_only(app: ASGIApp) -> ASGIApp:
    """Put the wall before an application."""

    async def walled(scope: Scope, receive: Receive, send: Send) -> None:
        why = refusal(scope)
        if why is None:
            await app(scope, receive, send)
            return
        call, path = call_of(Request(scope)), scope["path"][:200]
        log("refused", severity="WARNING", status=403, request_id=call.id, path=path, why=why)
        answer = problem(why, code=Code.PERMISSION_DENIED, request_id=call.id)
        await answer(scope, receive, send)

    return walled
