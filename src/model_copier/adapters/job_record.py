"""A job as it lies in a store: ``[record version, job]`` in JSON, the same for every store.

The version tells a record of a newer service from one of our own; it goes up when an
older service could no longer carry such a job on safely.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from model_copier.domain.errors import UnreadableRecordError
from model_copier.domain.job import Job
from model_copier.logs import log

RECORD_VERSION: Final = 1
# Around a tuple, because pydantic takes no configuration for a dataclass of somebody else's.
_RECORD: TypeAdapter[tuple[Literal[1], Job]] = TypeAdapter(
    tuple[Literal[1], Job], config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
)


def to_record(job: Job) -> bytes:
    return _RECORD.dump_json((RECORD_VERSION, job))


def from_record(record: bytes | str) -> Job:
    """Read a job back.

    Raises:
        UnreadableRecordError: this service cannot read the record.
    """
    try:
        return _RECORD.validate_json(record)[1]
    except ValidationError as error:
        raise UnreadableRecordError(_what_is_wrong(record, error)) from error


def readable(records: Iterable[bytes | str]) -> Iterator[Job]:
    """Read many records; one that this service cannot read is logged and left alone.

    A newer service may have written it.
    """
    for record in records:
        try:
            yield from_record(record)
        except UnreadableRecordError as error:
            log("unreadable_record", severity="ERROR", why=str(error))


def _what_is_wrong(record: bytes | str, error: ValidationError) -> str:
    try:
        match from_json(record):
            case [int(version), *_] if version != RECORD_VERSION:
                return f"a record of version {version}; this service reads version {RECORD_VERSION}"
    except ValueError:
        return f"not a record: {record[:80]!r}"
    problem = error.errors()[0]
    return f"a broken record: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
