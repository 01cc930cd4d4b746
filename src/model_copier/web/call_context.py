"""What every call has: an id of its own, an account behind it, and headers that harm nobody.

What must not break: nothing that a caller sent decides the id, and every answer carries it.
"""

from dataclasses import dataclass
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_copier.domain.access_policy import Caller

_KEY = "model_copier.call"
# https://owasp.org/www-project-secure-headers: for an API that no page should show or keep.
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "strict-transport-security": "max-age=31536000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    id: str
    account: str = ""  # empty: nobody was asked who they are
    caller: Caller | None = None  # None: no limits of their own


def call_of(request: Request) -> Call:
    call = request.scope[_KEY]
    assert isinstance(call, Call)
    return call


def with_call(scope: Scope, call: Call) -> Scope:
    return {**scope, _KEY: call}


def numbered(app: ASGIApp) -> ASGIApp:
    """Give each call its id, and each answer that id and the headers above."""

    async def numbering(scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(id=uuid4().hex)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = call.id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app(with_call(scope, call), receive, send_with_headers)

    return numbering
