"""Reading many records at once: what this service cannot read stops nobody."""

from collections.abc import Iterable, Iterator

from model_copier.errors import UnreadableRecordError
from model_copier.job import Job
from model_copier.logs import log
from model_copier.records import from_record


def readable(records: Iterable[bytes | str]) -> Iterator[Job]:
    """Leave alone what cannot be read: a newer service may have written it."""
    for record in records:
        try:
            yield from_record(record)
        except UnreadableRecordError as error:
            log("unreadable_record", severity="ERROR", why=str(error))
