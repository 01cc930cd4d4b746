"""Google's Firestore emulator, where this machine has it: the jar that gcloud installs, and Java.

The jar is run itself, for the reason that ``pubsub_emulator`` gives.
"""

import functools
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pubsub_emulator import EmulatorMissingError

START_SECONDS = 60
MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"


@contextmanager
def running_firestore(folder: Path) -> Iterator[str]:
    """The address of an emulator; ``folder`` gets its log.

    Raises:
        EmulatorMissingError: Java, gcloud or the emulator's jar was not found.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "firestore-emulator.log"
    with log.open("wb") as out:
        emulator = subprocess.Popen(command(port), stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait_until_started(emulator, log)
        yield f"127.0.0.1:{port}"
    finally:
        emulator.kill()
        emulator.wait()


def command(port: int) -> list[str]:
    """What starts an emulator on ``port``.

    Raises:
        EmulatorMissingError: Java, gcloud or the emulator's jar was not found.
    """
    java = shutil.which("java")
    if java is None:
        raise EmulatorMissingError("Google's emulator needs Java, which was not found")
    # The jar names no main class.
    return [java, "-Xmx256m", "-cp", str(_jar()), MAIN, "--host=127.0.0.1", f"--port={port}"]


@functools.cache
def _jar() -> Path:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise EmulatorMissingError("Google's emulator comes with gcloud, which was not found")
    folder = Path(gcloud).resolve().parents[1] / "platform" / "cloud-firestore-emulator"
    jar = folder / "cloud-firestore-emulator.jar"
    if not jar.exists():
        raise EmulatorMissingError(f"Google's Firestore emulator was not found in {folder}")
    return jar


def _wait_until_started(emulator: "subprocess.Popen[bytes]", log: Path) -> None:
    patience_ends = time.monotonic() + START_SECONDS
    while b"is now running" not in log.read_bytes():
        assert emulator.poll() is None, log.read_text()
        assert time.monotonic() < patience_ends, log.read_text()
        time.sleep(0.05)
