"""Files that only their owner reads: journals, backups, and how far a restore got.

They hold names of models and projects, error texts and whatever a request said. What must
not break: nothing is written through a link that somebody else has put in the way.
"""

import os
from pathlib import Path
from typing import BinaryIO

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, as far as they are missing, for the owner alone.

    One that is there is left as it is: it may be shared on purpose.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    # Made by another process a moment ago: that one is as good.
    folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)


def open_to_append(file: Path) -> BinaryIO:
    """Open a file to read and append to, and make it if it is not there.

    One of our own that an earlier version made readable to others is closed to them.

    Raises:
        OSError: ELOOP where it is a link; EISDIR, EACCES and others as they are.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    number = os.open(file, flags | os.O_NONBLOCK, _PRIVATE_FILE)
    out = open(number, "a+b")  # noqa: PTH123, SIM115  it is open; the caller closes it
    found = os.fstat(number)
    if found.st_uid == os.geteuid() and found.st_mode & 0o077:
        os.fchmod(number, _PRIVATE_FILE)
    return out


def open_new(file: Path) -> BinaryIO:
    """Open a file that is not there yet, for writing.

    Raises:
        FileExistsError: something of that name is there, a link among them.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(file, flags, _PRIVATE_FILE), "wb")  # noqa: PTH123  as above
