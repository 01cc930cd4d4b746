"""The API, written down for machines (OpenAPI 3.1) and for people, from the types it is made of.

Pure. What must not break: it loads nothing from anywhere, and says what ``rest`` does.
"""

import base64
import hashlib
import html
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from model_copier.contract.replies import Validated
from model_copier.contract.request_schema import CopyData
from model_copier.domain.job import State
from model_copier.web.error_responses import Problem
from model_copier.web.params import DEFAULT_PAGE, ID_PATTERN, MAX_PAGE
from model_copier.web.schemas import Copied, Copy, Page, Pending, Taken

_ERRORS: Mapping[int, str] = {
    400: "The request is wrong; `detail` names each field and the rule.",
    401: "No token, or none that names a Google account for this service.",
    403: "This account may not do this; or Vertex AI refused it.",
    404: "You have asked for no copy with this id; or the source model is not there.",
    405: "This path is for another method; `Allow` names it.",
    409: "It has ended otherwise already, or the destination is taken.",
    413: "The body is too large.",
    415: "A body is JSON.",
    422: "The Idempotency-Key was used for another request.",
    429: "Vertex AI's quota is used up, or a limit of this caller is reached.",
    500: "A bug; the request_id finds it in the log.",
    502: "Vertex AI failed; `detail` tells how.",
    503: "Nothing was done; try again after `Retry-After` seconds.",
    504: "The copy did not end within its time.",
}
_GOOD = {200: "As asked.", 202: "It is not over yet."}
_READS = (400, 401, 403, 404, 405, 500, 503)
_ASKS = (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 502, 503, 504)
# An outcome of the copy as well as of the call: then the copy is in it.
_OUTCOMES = (400, 401, 403, 404, 409, 429, 502, 504)
_MOVES = (400, 401, 403, 404, 405, 409, 413, 415, 429, 500, 503)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f4f4f4}pre{padding:.6rem}"
    "td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}"
)


def document_routes() -> list[Route]:
    return [
        Route("/openapi.json", _openapi, methods=["GET"]),
        Route("/docs", _docs, methods=["GET"]),
    ]


async def _openapi(_request: Request) -> Response:
    return JSONResponse(document())


async def _docs(_request: Request) -> Response:
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'"
    return HTMLResponse(page(), headers={"Content-Security-Policy": policy})


@cache
def document() -> dict[str, Any]:
    """Write the OpenAPI document."""
    _, schemas = models_json_schema(
        [(CopyData, "validation"), *((form, "serialization") for form in _ANSWERS)],
        ref_template="#/components/schemas/{model}",
    )
    query_fields = schemas["$defs"]["CopyData"]["properties"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "model copier",
            "version": "1",
            "description": (
                "Copies Vertex AI models between projects. A copy goes on whether or not anybody"
                " waits for it; the same `Idempotency-Key` is the same copy."
            ),
        },
        "security": [{"idToken": []}],
        "paths": {
            "/v1/models/copy": {"post": _copy(query_fields)},
            "/v1/copies": {"get": _list()},
            "/v1/copies/{id}": {"get": _show()},
            "/v1/copies/{id}:cancel": {"post": _cancel()},
            "/v1/copies/{id}:replay": {"post": _replay()},
            "/health": {"get": _health()},
            "/ready": {"get": _ready()},
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "idToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "a Google ID token for this service's audience",
                }
            },
        },
    }


_ANSWERS = (Copied, Copy, Page, Pending, Problem, Taken, Validated)
_CHECKS = {
    "type": "object",
    "description": "of each part: ok, not checked, or what is wrong",
    "additionalProperties": {"type": "string"},
}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**members: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(members), "properties": members}


def _problem_with(**members: Any) -> dict[str, Any]:
    """Some have more members; none of them has it always."""
    return {"allOf": [_ref("Problem"), {"type": "object", "properties": members}]}


def _answers(
    good: Mapping[int, Any],
    *bad: int,
    more: Mapping[int, Any] = MappingProxyType({}),
    headers: Mapping[int, tuple[str, ...]] = MappingProxyType({}),
) -> dict[str, Any]:
    """``more``: the schemas of problems that have more than the others; ``headers``: likewise."""
    found: dict[str, Any] = {}
    for status in (*good, *bad):
        names = ("X-Request-Id", *_HEADERS_OF.get(status, ()), *headers.get(status, ()))
        found[str(status)] = {
            "description": _GOOD.get(status) or _ERRORS[status],
            "headers": {name: _HEADERS[name] for name in names},
            "content": {"application/json": {"schema": good[status]}}
            if status in good
            else {"application/problem+json": {"schema": more.get(status, _ref("Problem"))}},
        }
    return found


_PENDING = {"anyOf": [_ref("Pending"), _ref("Taken")]}


def _parameter(place: str, name: str, about: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"in": place, "name": name, "description": about, "schema": schema}


def _header(about: str, kind: str = "string") -> dict[str, Any]:
    return {"description": about, "schema": {"type": kind}}


_HEADERS = {
    "Allow": _header("the methods of this path"),
    "Location": _header("where the copy can be looked at"),
    "Preference-Applied": _header("what of `Prefer` was granted"),
    "Retry-After": _header("seconds", "integer"),
    "WWW-Authenticate": _header("`Bearer`"),
    "X-Request-Id": _header("of this call; say it when you ask us") | {"required": True},
}
_HEADERS_OF = {
    202: ("Location", "Retry-After"),
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_ID = _parameter("path", "id", "of the copy", {"type": "string", "pattern": f"^{ID_PATTERN}$"}) | {
    "required": True
}
_WAIT = _parameter("query", "wait", "seconds to wait for its end", {"type": "number", "minimum": 0})


def _copy(fields: Mapping[str, Any]) -> dict[str, Any]:
    key = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
    return {
        "operationId": "copyModel",
        "summary": "Copy a model, and wait until it is there",
        "description": (
            "Fields are given as query parameters or as a JSON body, not as both. When the wait"
            " ends first, 202 says where to look."
        ),
        "parameters": [
            *(_query_field(name, field) for name, field in fields.items()),
            _parameter("header", "Idempotency-Key", "the same key is the same copy", key),
            _parameter(
                "header", "Prefer", "`respond-async`, or `wait=SECONDS`", {"type": "string"}
            ),
        ],
        "requestBody": {"content": {"application/json": {"schema": _ref("CopyData")}}},
        "responses": _answers(
            {200: {"anyOf": [_ref("Copied"), _ref("Validated")]}, 202: _PENDING},
            *_ASKS,
            more=dict.fromkeys(_OUTCOMES, _problem_with(copy=_ref("Copy"))),
            headers=dict.fromkeys((200, 202, *_OUTCOMES), ("Preference-Applied",)),
        ),
    }


def _query_field(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    about = field.get("description", "")
    # In a query everything is text; an object is written as JSON.
    kind = {"validate_only": "boolean", "deadline_seconds": "integer"}.get(name, "string")
    return _parameter("query", name, about, {"type": kind})


def _list() -> dict[str, Any]:
    moment = {"type": "string", "format": "date-time"}
    model = {"type": "string", "description": "projects/P/locations/L/models/M"}
    return {
        "operationId": "listCopies",
        "summary": "Your copies, the newest first",
        "parameters": [
            _parameter("query", "state", "only in this state", {"enum": list(map(str, State))}),
            _parameter("query", "source", "only of this model", model),
            _parameter("query", "target", "only to this model", model),
            _parameter("query", "accepted_from", "only from then on", moment),
            _parameter("query", "accepted_before", "only before", moment),
            _parameter(
                "query",
                "page_size",
                f"how many; {DEFAULT_PAGE} if not given, {MAX_PAGE} at most",
                {"type": "integer", "minimum": 0},
            ),
            _parameter("query", "page_token", "`next_page_token` of a page", {"type": "string"}),
        ],
        "responses": _answers({200: _ref("Page")}, 400, 401, 403, 405, 500, 503),
    }


def _show() -> dict[str, Any]:
    return {
        "operationId": "getCopy",
        "summary": "How a copy stands, with its history",
        "parameters": [_ID, _WAIT],
        "responses": _answers({200: _ref("Copy")}, *_READS, headers={200: ("Retry-After",)}),
    }


def _cancel() -> dict[str, Any]:
    return {
        "operationId": "cancelCopy",
        "summary": "Ask for the end of a copy; whether it came in time, its outcome tells",
        "parameters": [_ID],
        "responses": _moved(),
    }


def _replay() -> dict[str, Any]:
    return {
        "operationId": "replayCopy",
        "summary": "Work on a failed copy once more; a body repairs its request",
        "parameters": [_ID],
        "requestBody": {"content": {"application/json": {"schema": _ref("CopyData")}}},
        "responses": _moved(),
    }


def _moved() -> dict[str, Any]:
    good = {200: _ref("Copy"), 202: _PENDING}
    return _answers(good, *_MOVES, more={409: _problem_with(copy=_ref("Copy"))})


def _health() -> dict[str, Any]:
    return {
        "operationId": "health",
        "summary": "Whether the process answers",
        "security": [],
        "responses": _answers({200: _object(status={"const": "ok"})}, 405),
    }


def _ready() -> dict[str, Any]:
    return {
        "operationId": "ready",
        "summary": "Whether store, reply topic and clock will do",
        "security": [],
        "responses": _answers(
            {200: _object(status={"const": "ready"}, checks=_CHECKS)},
            *(405, 503),
            more={503: _problem_with(checks=_CHECKS)},
        ),
    }


@cache
def page() -> str:
    """Write the same for a person: plain HTML, no script."""
    found = document()
    parts = "".join(_section(path, ways) for path, ways in found["paths"].items())
    info = found["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{info['title']}</title>"
        f"<style>{_STYLE}</style><h1>{info['title']}</h1><p>{_shown(info['description'])}</p>"
        f'<p>For machines: <a href="/openapi.json">/openapi.json</a></p>{parts}</html>'
    )


def _section(path: str, ways: Mapping[str, Any]) -> str:
    return "".join(_way(f"{method.upper()} {path}", way) for method, way in ways.items())


def _way(title: str, way: Mapping[str, Any]) -> str:
    return (
        f"<h2><code>{_shown(title)}</code></h2><p>{_shown(way['summary'])}."
        f" {_shown(way.get('description', ''))}</p><table>{''.join(_rows(way))}</table>"
    )


def _rows(way: Mapping[str, Any]) -> Iterator[str]:
    for parameter in way.get("parameters", []):
        what = f"{parameter['name']} ({parameter['in']})"
        yield f"<tr><td><code>{_shown(what)}</code><td>{_shown(parameter['description'])}"
    for status, answer in way["responses"].items():
        yield f"<tr><td>{status}<td>{_shown(answer['description'])}"


def _shown(text: str) -> str:
    return html.escape(text)
