"""A backup of letters: a file that is written once, and beside it how far its restore got.

What must not break: a letter that a backup is said to hold is on the disk; and one that was
restored, as far as anybody can know, is not restored again.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from model_copy_publisher.errors import InvalidRequestError, NotWrittenError
from model_copy_publisher.letters import Letter, of_line, to_line
from model_copy_publisher.private_files import make_folder, open_new, open_to_append


def write_backup(file: Path, letters: Sequence[Letter]) -> None:
    """Write a new file, and see it to the disk: whole, or none of that name.

    Raises:
        InvalidRequestError: it is there already, or cannot be written.
    """
    try:
        make_folder(file.parent)
        _write_new(file, letters)
        # The name, too: a file that nobody finds is no backup.
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError as error:
        raise InvalidRequestError("backup", f"{error.filename} exists; name a new file") from error
    except OSError as error:
        raise InvalidRequestError(
            "backup", f"{file} cannot be written: {error.strerror}; nothing was dropped"
        ) from error


def _write_new(file: Path, letters: Sequence[Letter]) -> None:
    part = file.with_name(f"{file.name}.part")
    with open_new(part) as out:  # by which no two write one backup, either
        try:
            if file.exists():
                raise FileExistsError(None, None, str(file))
            out.writelines(to_line(each) for each in letters)
            _sync(out)
            part.rename(file)
        finally:
            part.unlink(missing_ok=True)


def read_backup(file: Path) -> Sequence[Letter]:
    """Return the letters.

    Raises:
        InvalidRequestError: it cannot be read, or a line of it is no letter.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise InvalidRequestError("backup", f"{file} cannot be read: {error.strerror}") from error
    return [of_line(line, number=number) for number, line in enumerate(lines, 1)]


class Restoring:
    """A context manager: ``FILE.restored``, a line before each letter is published, one after.

    ``unknown`` are those that an earlier run began and did not see through: Pub/Sub may have
    taken them, or not.

    Raises:
        InvalidRequestError: the file cannot be read or written.
    """

    def __init__(self, backup: Path) -> None:
        self._file = backup.with_name(f"{backup.name}.restored")
        self._out: BinaryIO
        begun: set[str] = set()
        self.restored: set[str] = set()
        try:
            # A link would have it written elsewhere; opening it is refused.
            self._out = open_to_append(self._file)
            self._out.seek(0)
            lines = self._out.read().splitlines()
        except OSError as error:
            raise InvalidRequestError("backup", f"{self._file}: {error.strerror}") from error
        for line in lines:
            try:
                noted = json.loads(line)
            except ValueError:
                continue  # the last words of one who was killed: as if they had not been said
            match noted:
                case ["restored", str(message_id)]:
                    self.restored.add(message_id)
                case ["restoring", str(message_id)]:
                    begun.add(message_id)
                case _:
                    self._out.close()
                    raise InvalidRequestError(
                        "backup",
                        f"{self._file} is not a restore journal; move it away to restore all",
                    )
        self.unknown = begun - self.restored

    def __enter__(self) -> Self:
        if self._out.tell():
            self._out.write(b"\n")  # after a line that may have been broken off
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what could not be written before cannot be now; that was told
            self._out.close()

    def begin(self, letter: Letter) -> None:
        """Note that it will be published now."""
        self._note("restoring", letter)

    def end(self, letter: Letter) -> None:
        """Note that it was."""
        self._note("restored", letter)

    def _note(self, step: str, letter: Letter) -> None:
        try:
            self._out.write(json.dumps([step, letter.message_id]).encode() + b"\n")
            _sync(self._out)
        except OSError as error:
            raise NotWrittenError(
                f"{self._file} cannot be written: {error.strerror}. After the fix, run it again."
            ) from error


def _sync(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())
