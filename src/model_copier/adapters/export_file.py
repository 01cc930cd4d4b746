"""An export: the records of a store as they lie there, in JSON Lines, whichever store it is.

The first line says what the file is, the last how many records there are and what their digest
is, so a file that was cut off or edited is told from a whole one before anything is written.
"""

import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from model_copier.adapters.sqlite_files import FOR_US_ALONE, sync_folder
from model_copier.domain.errors import RejectedError

FORMAT: Final = "model-copier-store"
VERSION: Final = 1


@dataclass
class Sum:
    """How many records there were, and their digest; the order counts."""

    jobs: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def add(self, record: bytes) -> None:
        self.jobs += 1
        self._digest.update(b"%d " % len(record))
        self._digest.update(record)

    @property
    def digest(self) -> str:
        return str(self._digest.hexdigest())


async def write_export(file: Path, records: AsyncIterator[bytes], now: datetime) -> Sum:
    """Write all records into a new file, whole or not at all.

    Raises:
        RejectedError: there is such a file; nothing is overwritten.
    """
    total = Sum()
    part = new_part(file)
    try:
        with part.open("wb") as out:
            head = {"format": FORMAT, "version": VERSION, "exported_at": now.isoformat()}
            out.write(_line(head))
            async for record in records:
                total.add(record)
                out.write(_line({"record": record.decode()}))
            out.write(_line({"jobs": total.jobs, "sha256": total.digest}))
            out.flush()
            os.fsync(out.fileno())
        publish(part, file)
    finally:
        part.unlink(missing_ok=True)
    return total


def read_export(file: Path) -> Iterator[bytes]:
    """Read an export's records, and hold them to what its last line says.

    Raises:
        RejectedError: it is none, or not all of it.
    """
    total = Sum()
    last: dict[str, Any] | None = None
    if not file.is_file():
        raise RejectedError(f"{file} is no file; name an export")
    with file.open("rb") as lines:
        head = _read(lines.readline(), 1)
        if head.get("format") != FORMAT or head.get("version") != VERSION:
            raise RejectedError(
                f"this is no export of version {VERSION}: its first line should hold"
                f' "format": "{FORMAT}" and "version": {VERSION}'
            )
        for number, line in enumerate(lines, start=2):
            if last is not None:
                raise RejectedError(f"line {number}: something follows the last line")
            fields = _read(line, number)
            if isinstance(record := fields.get("record"), str):
                total.add(record.encode())
                yield record.encode()
            else:
                last = fields
    if last != {"jobs": total.jobs, "sha256": total.digest}:
        raise RejectedError(
            f"this export is not whole: it holds {total.jobs} records whose digest is"
            f" {total.digest}, and its last line should say so. Export again"
        )


def new_part(file: Path) -> Path:
    """Make an empty file beside, for us alone, to be written and then given its name.

    Raises:
        RejectedError: the file that it is for is there already.
    """
    if file.exists() or file.is_symlink():
        raise _there(file)
    if not file.parent.is_dir():
        raise RejectedError(f"{file.parent} is no folder; make it, or name another FILE")
    part = file.with_name(f".{file.name}.part-{os.getpid()}")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FOR_US_ALONE))
    return part


def publish(part: Path, file: Path) -> None:
    """Give what is whole its name; a link refuses to overwrite, where a rename would not.

    Raises:
        RejectedError: somebody made such a file meanwhile.
    """
    try:
        os.link(part, file)
    except FileExistsError as error:
        raise _there(file) from error
    sync_folder(file)


def _there(file: Path) -> RejectedError:
    return RejectedError(f"{file} is there already; name a new file")


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _read(line: bytes, number: int) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise RejectedError(f"line {number}: should be a JSON object; the file may be cut off")
    return fields
