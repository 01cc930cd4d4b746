"""What a local run leaves on the disk, for its owner alone: jobs, logs, settings, callers.

What must not break: nothing is written through a link that somebody else has made.
"""

import os
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def private_folder(folder: Path) -> None:
    """Make the folder, or close one of our own to others; what is in it is out of their reach."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)


def open_private(file: Path, how: int = os.O_TRUNC) -> BinaryIO:
    """Open a file for writing, ``how`` being O_TRUNC or O_APPEND; make it if it is not there.

    Raises:
        OSError: it is a link, or cannot be written.
    """
    number = os.open(file, _FLAGS | how, 0o600)
    os.fchmod(number, 0o600)
    return open(number, "ab" if how == os.O_APPEND else "wb")  # noqa: PTH123  it is open


def write_private(file: Path, text: str) -> None:
    """Write the whole file."""
    with open_private(file) as out:
        out.write(text.encode())
