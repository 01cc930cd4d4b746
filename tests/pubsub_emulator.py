"""Google's Pub/Sub emulator, where this machine has it: the jar that gcloud installs, and Java.

The jar is run itself. gcloud's own command wraps it in two processes, and ending the outer
ones leaves the inner one running.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

START_SECONDS = 30


class EmulatorMissingError(Exception):
    """There is nothing to run on this machine; the sentence says what is missing."""


@contextmanager
def running_emulator(folder: Path) -> Iterator[str]:
    """The address of an emulator; ``folder`` gets its log.

    Raises:
        EmulatorMissingError: Java, gcloud or the emulator's jar was not found.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "pubsub-emulator.log"
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
    java, jar = shutil.which("java"), _jar()
    if java is None:
        raise EmulatorMissingError("Google's emulator needs Java, which was not found")
    return [java, "-Xmx256m", "-jar", str(jar), "--host=127.0.0.1", f"--port={port}"]


def clear(address: str, *, project: str) -> None:
    """Delete everything of ``project``: the emulator has no reset."""
    with grpc.insecure_channel(address) as channel:
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        for subscription in subscriber.list_subscriptions(project=project):
            subscriber.delete_subscription(subscription=subscription.name)
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        for topic in publisher.list_topics(project=project):
            publisher.delete_topic(topic=topic.name)


def _jar() -> Path:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise EmulatorMissingError("Google's emulator comes with gcloud, which was not found")
    folder = Path(gcloud).resolve().parents[1] / "platform" / "pubsub-emulator" / "lib"
    jars = sorted(folder.glob("cloud-pubsub-emulator-*-all.jar"))
    if not jars:
        raise EmulatorMissingError(f"Google's emulator was not found in {folder}")
    return jars[-1]


def _wait_until_started(emulator: "subprocess.Popen[bytes]", log: Path) -> None:
    patience_ends = time.monotonic() + START_SECONDS
    while b"Server started" not in log.read_bytes():
        assert emulator.poll() is None, log.read_text()
        assert time.monotonic() < patience_ends, log.read_text()
        time.sleep(0.05)
