"""Settings of the local Vertex AI that last until they are changed.

Each field is a knob: of ``Vertex(...)``, of ``python -m local_cloud up --vertex``, and, at
run time, of ``Vertex.turn`` and ``POST /control/knobs``. Values only; what goes wrong once
or N times is armed in ``vertex_faults``.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from local_cloud.vertex_dialects import DIALECTS
from local_cloud.vertex_methods import MethodName, known_method
from local_cloud.vertex_records import Code, CodeName, Dialect, Seconds

Share = Annotated[float, Field(ge=0, le=1)]
Grant = Annotated[str, Field(pattern=r"^[^>\s]+->[^>\s]+$")]


def _dialect(value: object) -> object:
    """Find a dialect of the catalogue by name; anything else is read as its fields."""
    if isinstance(value, str):
        if value not in DIALECTS:
            raise ValueError(f"{value!r} is not a dialect; dialects are {', '.join(DIALECTS)}")
        return DIALECTS[value]
    if isinstance(value, Mapping) and isinstance(methods := value.get("unimplemented"), list):
        for method in methods:
            known_method(method)
    return value


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Refusals(_Values):
    """A share of the calls of a method that are answered with an error, and do nothing."""

    method: MethodName = "CopyModel"
    code: CodeName = Code.UNAVAILABLE
    share: Share
    message: str = ""
    reason: str = ""  # of its ErrorInfo


class Failures(_Values):
    """A share of the copies that fail in their operation."""

    code: CodeName = Code.INTERNAL
    share: Share
    message: str = ""


class Outage(_Values):
    """A time in which every call is answered UNAVAILABLE, once or over and over."""

    after_seconds: Seconds = 0.0  # counted from when the knob was set
    seconds: Seconds
    every_seconds: Annotated[Seconds, Field(gt=0)] | None = None  # None: once

    def covers(self, elapsed_seconds: float) -> bool:
        since = elapsed_seconds - self.after_seconds
        if self.every_seconds:
            since = since % self.every_seconds if since >= 0 else since
        return 0 <= since < self.seconds


class Knobs(_Values):
    """The knobs and their defaults."""

    copy_seconds: Annotated[
        Seconds | tuple[Seconds, Seconds],
        "duration of a copy, or its minimum and maximum",
    ] = 5.0
    dialect: Annotated[
        Dialect,
        BeforeValidator(_dialect),
        "behaviour that Google does not document: a name from the table below, or an object of its"
        " fields",
    ] = Dialect()
    seed: Annotated[
        int, "random seed of the faults below: with the same seed, the Nth call meets the same ones"
    ] = 1
    lost_answers: Annotated[
        Share, "probability (0-1) that a CopyModel call is accepted, but answered UNAVAILABLE"
    ] = 0.0
    refusals: Annotated[
        tuple[Refusals, ...],
        "calls that are refused with an error: `method`, `code`, `share`, `message`, `reason`",
    ] = ()
    failures: Annotated[
        tuple[Failures, ...],
        "accepted copies whose operation fails: `code`, `share`, `message`",
    ] = ()
    outages: Annotated[
        tuple[Outage, ...],
        "periods in which every call is answered UNAVAILABLE: `after_seconds`, `seconds`,"
        " `every_seconds`",
    ] = ()
    # Off, for most who run this want to see copies, not to wait for a minute to be over.
    submissions_per_minute: Annotated[
        PositiveInt | None,
        "maximum CopyModel calls per minute, in each project and region; Google's: 60",
    ] = None
    reads_per_minute: Annotated[
        PositiveInt | None,
        "maximum other calls per minute, in each project and region; Google's: 600",
    ] = None
    grants: Annotated[
        frozenset[Grant] | None,
        "permissions to copy from another project, each `READER->SOURCE_PROJECT`; a reader is a"
        " destination project or a custom service account; none: every copy is permitted",
    ] = None

    @model_validator(mode="after")
    def _shortest_first(self) -> Self:
        if isinstance(self.copy_seconds, tuple) and self.copy_seconds[0] > self.copy_seconds[1]:
            raise ValueError("copy_seconds: the minimum comes first")
        return self

    def turned(self, changes: Mapping[str, Any]) -> "Knobs":
        """Return the knobs with these set anew.

        Raises:
            pydantic.ValidationError: a name or a value is not one; nothing was changed.
        """
        return Knobs.model_validate({**dict(self), **changes})


def complaint(error: ValidationError) -> str:
    """Return every invalid field with the reason."""
    told = (
        ": ".join([".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")])
        for each in error.errors()
    )
    return "; ".join(told).lstrip(": ")
