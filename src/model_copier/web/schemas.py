"""What is told of a copy over HTTP: its reply, as far as it is known, and how it came to it.

Pure. The types here are the contract: ``/openapi.json`` is written from them.
"""

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_copier.contract import replies
from model_copier.contract.replies import Error, Time
from model_copier.domain.errors import Code
from model_copier.domain.job import Job, State
from model_copier.domain.job_events import MAX_MOMENTS, Happened

_KEY = re.compile("[0-9a-f]{32}")  # of a job


class Moment(BaseModel):
    """One step of a copy's way."""

    model_config = ConfigDict(frozen=True)

    at: Time = Field(description="when; of `copying` by Vertex AI's clock, else by the copier's")
    step: Literal["accepted"] | Happened = Field(description="what happened. More may come")
    detail: str = Field(description="more of it, for a person; may be empty")
    code: Code | None = Field(default=None, description="why, where something went wrong")


class Copy(replies.OfJob):
    """A copy that was asked for: how it stands and, once it is done, how it ended."""

    id: str = Field(description="names the copy in this API: the Idempotency-Key, or the call's id")
    state: State = Field(
        description="ACCEPTED, QUEUED or REQUESTED: not copying yet; COPYING; or how it ended"
    )
    done: bool = Field(description="it has ended, well or not")
    outcome: Literal["succeeded", "failed", "cancelled"] | None = Field(None, description="if done")
    resource_name: str | None = Field(None, description="the model, where it succeeded")
    version: str | None = Field(None, description="its new version, a number")
    verified: bool | None = Field(None, description="it was read back and names the source")
    already_existed: bool | None = Field(None, description="nothing was copied: it was there")
    warnings: list[str] | None = Field(None, description="what somebody should know")
    possible_duplicates: list[str] | None = Field(None, description="somebody should look")
    error: Error | None = Field(None, description="why there is no copy, where it failed")
    dead_letter: str | None = Field(None, description="`outcome_id` of its letter, if it failed")
    history: list[Moment] | None = Field(
        None, description=f"what happened, in order: its acceptance, and the newest {MAX_MOMENTS}"
    )


class Copied(Copy):
    """The seed's answer: the copy is there."""

    status: Literal["success"] = "success"


class Pending(Copy):
    """Not over yet: look at `Location` later."""

    status: Literal["pending"] = "pending"


class Taken(BaseModel):
    """It was taken on; how it stands cannot be told now: look at `Location` later."""

    status: Literal["pending"] = "pending"
    id: str = Field(description="names the copy in this API")


class Page(BaseModel):
    """Some of the caller's copies, the newest first (AIP-158)."""

    copies: list[Copy] = Field(description="as many as page_size, or fewer")
    next_page_token: str = Field(description="of the next page; empty: this was the last one")


def copy_of(job: Job, *, history: bool = False) -> dict[str, Any]:
    """Write down how a copy stands; once it has ended, all that its reply tells."""
    reply = replies.outcome_of(job) if job.state.final else replies.known_of(job)
    view = Copy(
        **reply.model_dump(),
        id=job.request_id,
        state=job.state,
        done=job.state.final,
        history=list(history_of(job)) if history else None,
    )
    return view.model_dump(mode="json", exclude_none=True)


def history_of(job: Job) -> Iterator[Moment]:
    yield Moment(at=job.accepted_at, step="accepted", detail="")
    for known in job.history:
        yield Moment(at=known.at, step=known.step, detail=known.detail, code=known.code)


def page_token(job: Job, query: str) -> str:
    """Say where a page ended, for the same query only."""
    place = [job.accepted_at.timestamp(), job.key, query]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place_of(token: str, query: str) -> tuple[datetime, str]:
    """Read a page token back.

    Raises:
        ValueError: it is not one of ours, or of another query.
    """
    try:
        place = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        at, key, asked = place
        moment = datetime.fromtimestamp(at, UTC)
        if not _KEY.fullmatch(key) or not 1970 < moment.year < 9000:
            raise ValueError(key)  # noqa: TRY301
    except (ValueError, TypeError, OverflowError, OSError, RecursionError):
        raise ValueError("page_token: is none that this service gave") from None
    if asked != query:
        raise ValueError("page_token: belongs to another query")
    return moment, key
