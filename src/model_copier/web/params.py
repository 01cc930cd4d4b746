"""What a call asks for, read from its query, headers and body, or refused with the reason.

What must not break: nothing that was given is passed over in silence.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request

from model_copier.contract import requests
from model_copier.contract.request_schema import MAX_REQUEST_ID
from model_copier.domain.errors import RejectedError
from model_copier.domain.job import State
from model_copier.domain.resource_names import ModelName
from model_copier.engine.ports import Wanted
from model_copier.web.body_limits import read_body
from model_copier.web.schemas import place_of

MAX_BODY_BYTES = 128 * 1024  # a request's data has at most half of that
MAX_PAGE = 100
DEFAULT_PAGE = 25
LIST_QUERY = (
    "state", "source", "target", "accepted_from", "accepted_before", "page_size", "page_token",
)  # fmt: skip
ID_PATTERN = rf"[A-Za-z0-9._~-]{{1,{MAX_REQUEST_ID}}}"
NOTHING = object()  # neither query nor body: JSON has its own null
_ID = re.compile(ID_PATTERN)
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"\\]*)"')
_PREFERENCE = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')  # a comma in quotes divides nothing
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})?")
_WHOLE = re.compile(r"[0-9]{1,9}")
# Fields that are no text: a query has nothing else.
_FROM_TEXT: Mapping[str, Mapping[str, bool]] = {"validate_only": {"true": True, "false": False}}


def idempotency_key(request: Request) -> str | None:
    """Return what names the request, if the caller gave it a name."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    # The IETF draft writes a structured string: "KEY" in quotes is KEY.
    # https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
    quoted = _QUOTED.fullmatch(given[0])
    key = quoted[1] if quoted else given[0]
    # A path cannot end in a dot or two: whoever follows it leaves them away.
    if len(given) > 1 or not _ID.fullmatch(key) or key in {".", ".."}:
        raise RejectedError(
            f"Idempotency-Key: should be there once, 1 to {MAX_REQUEST_ID} of A-Z a-z 0-9 . _ ~ -,"
            " with or without double quotes, and not . or .."
        )
    return key


async def fields_of(request: Request, *, from_query: bool) -> object:
    """Return a copy request's data from the query or the body; NOTHING where there is neither."""
    query = once_each(request.query_params)
    if query and not from_query:
        raise RejectedError(f"{', '.join(query)}: this takes its fields as a JSON body")
    body = bytes(await read_body(request, MAX_BODY_BYTES))
    if not body:
        return {name: _from_text(name, text) for name, text in query.items()} or NOTHING
    if query:
        raise RejectedError("give the fields as query parameters or as JSON, not as both")
    kind = request.headers.get("content-type", "application/json")
    if not _JSON.fullmatch(kind):
        raise HTTPException(415, "a body here is JSON: send `Content-Type: application/json`")
    found: object = requests.parse_json(body)
    return found


async def without_body(request: Request) -> None:
    """Refuse a body where nothing would be done with it, at its first byte."""
    async for chunk in request.stream():
        if chunk:
            raise RejectedError("this takes no body")


def once_each(query: QueryParams, known: Iterable[str] | None = None) -> dict[str, str]:
    """Return the query; what is there twice, or unknown, is refused."""
    found: dict[str, str] = {}
    for name, value in query.multi_items():
        if name in found:
            raise RejectedError(f"{name[:80]}: is given twice")
        if known is not None and name not in known:
            raise RejectedError(f"{name[:80]}: is unknown; known are {', '.join(known)}")
        found[name] = value
    return found


def _from_text(name: str, text: str) -> Any:
    if name == "deadline_seconds" and _WHOLE.fullmatch(text):
        return int(text)
    if name == "correlation":
        return requests.parse_json(text.encode(errors="replace"), field=name)
    # Any case: Python's requests writes True.
    return _FROM_TEXT.get(name, {}).get(text.lower(), text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How long the caller wants to wait, and what of RFC 7240 that grants."""

    seconds: float
    applied: str = ""


def preferred(request: Request, most: float) -> Waiting:
    """Read `Prefer`: `respond-async`, `wait=N`, or both; others do not count."""
    asked: dict[str, str] = {}
    for header in request.headers.getlist("prefer"):
        for part in _PREFERENCE.findall(header):
            name, _, value = part.partition(";")[0].strip().partition("=")
            asked.setdefault(name.strip().lower(), value.strip().strip('"'))  # the first counts
    if _WHOLE.fullmatch(asked.get("wait", "")):
        seconds = min(float(asked["wait"]), most)
        return Waiting(seconds=seconds, applied=f"wait={seconds:g}")
    if "respond-async" in asked:
        return Waiting(seconds=0, applied="respond-async")
    return Waiting(seconds=most)


def wait_of(request: Request, most: float) -> float:
    """Read ``?wait=N``, seconds."""
    text = once_each(request.query_params, ["wait"]).get("wait", "0")
    if not _NUMBER.fullmatch(text):
        raise RejectedError("wait: should be a number of seconds")
    return min(float(text), most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of copies that somebody wants to see."""

    wanted: Wanted
    size: int
    query: str  # names the filters: a page token is good for these only

    @classmethod
    def read(cls, request: Request, request_source: str) -> Self:
        """Read filters and page.

        Raises:
            RejectedError: naming the first that is wrong.
        """
        given = once_each(request.query_params, LIST_QUERY)
        size_text = given.get("page_size", "0")
        if not _WHOLE.fullmatch(size_text):
            raise RejectedError(f"page_size: should be a whole number from 0 to {MAX_PAGE}")
        filters = {n: v for n, v in given.items() if not n.startswith("page_")}
        query = hashlib.sha256(json.dumps([request_source, filters], sort_keys=True).encode())
        name = query.hexdigest()[:12]
        token = given.get("page_token", "")
        try:
            after = place_of(token, name) if token else None
        except ValueError as error:
            raise RejectedError(str(error)) from None
        return cls(
            wanted=Wanted(
                request_source=request_source,
                state=_state(given.get("state")),
                source=_model("source", given.get("source")),
                target=_model("target", given.get("target")),
                accepted_from=_moment("accepted_from", given.get("accepted_from")),
                accepted_before=_moment("accepted_before", given.get("accepted_before")),
                after=after,
            ),
            # AIP-158: 0 or none is ours to choose, too many is as many as we give.
            size=min(int(size_text) or DEFAULT_PAGE, MAX_PAGE),
            query=name,
        )


def _state(text: str | None) -> State | None:
    if text is None:
        return None
    try:
        return State(text)
    except ValueError:
        raise RejectedError(f"state: should be one of {', '.join(State)}") from None


def _model(field: str, text: str | None) -> str:
    if text is None:
        return ""
    try:
        name = ModelName.parse(text)
    except ValueError as error:
        raise RejectedError(f"{field}: {error}") from None
    if name.version:
        raise RejectedError(f"{field}: name the model, without a version")
    return text


def _moment(field: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # A plus sign that was not escaped is a blank in a query.
        at = datetime.fromisoformat(text.replace(" ", "+"))
        if at.tzinfo is None or not 1970 < at.year < 9000:
            raise ValueError  # noqa: TRY301
        return at.astimezone(UTC)
    except ValueError:
        raise RejectedError(f"{field}: should be a time such as 2026-02-13T09:00:00Z") from None
