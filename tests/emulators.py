"""Google's emulators, where this machine has them: the jars that gcloud installs, and Java.

A jar is run itself. gcloud's own command wraps it in two processes, and ending the outer
ones leaves the inner one running.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.api_core.exceptions import NotFound
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from local_cloud.process import free_port

START_SECONDS = 60


class EmulatorMissingError(Exception):
    """There is nothing to run on this machine; the sentence says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Emulator:
    name: str
    jars: str  # below gcloud's ``platform``; the last is the newest
    main: str = ""  # the class to start, where the jar names none
    says: bytes  # once it is there
    heap: str = "256m"

    @contextmanager
    def running(self, folder: Path) -> Iterator[str]:
        """The address of one that runs; ``folder`` gets its log.

        Raises:
            EmulatorMissingError: Java, gcloud or the emulator's jar was not found.
        """
        port = free_port()
        log = folder / f"{self.name}-emulator.log"
        with log.open("wb") as out:
            emulator = subprocess.Popen(self.command(port), stdout=out, stderr=subprocess.STDOUT)
        try:
            self._wait_until_started(emulator, log)
            yield f"127.0.0.1:{port}"
        finally:
            emulator.kill()
            emulator.wait()

    def command(self, port: int) -> list[str]:
        """What starts an emulator on ``port``.

        Raises:
            EmulatorMissingError: Java, gcloud or the emulator's jar was not found.
        """
        java = shutil.which("java")
        if java is None:
            raise EmulatorMissingError("Google's emulators need Java, which was not found")
        jar = str(self._jar())
        started = ["-cp", jar, self.main] if self.main else ["-jar", jar]
        return [java, f"-Xmx{self.heap}", *started, "--host=127.0.0.1", f"--port={port}"]

    def _jar(self) -> Path:
        gcloud = shutil.which("gcloud")
        if gcloud is None:
            raise EmulatorMissingError("Google's emulators come with gcloud, which was not found")
        platform = Path(gcloud).resolve().parents[1] / "platform"
        jars = sorted(platform.glob(self.jars))
        if not jars:
            raise EmulatorMissingError(f"Google's {self.name} emulator was not found in {platform}")
        return jars[-1]

    def _wait_until_started(self, emulator: "subprocess.Popen[bytes]", log: Path) -> None:
        patience_ends = time.monotonic() + START_SECONDS
        while self.says not in log.read_bytes():
            assert emulator.poll() is None, log.read_text()
            assert time.monotonic() < patience_ends, log.read_text()
            time.sleep(0.05)


PUBSUB = Emulator(
    name="PubSub",
    jars="pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar",
    says=b"Server started",
)
FIRESTORE = Emulator(
    name="Firestore",
    jars="cloud-firestore-emulator/cloud-firestore-emulator.jar",
    main="com.google.cloud.datastore.emulator.firestore.CloudFirestore",
    says=b"is now running",
    heap="2g",  # it keeps all that it was ever given
)


def first_call(address: str) -> None:
    """Ask the Firestore emulator once.

    On a busy machine its first answer takes longer than a store waits.
    """
    with grpc.insecure_channel(address) as channel, suppress(NotFound):
        client = FirestoreClient(transport=FirestoreGrpcTransport(channel=channel))
        name = "projects/first-call/databases/(default)/documents/jobs/none"
        client.get_document(request={"name": name}, retry=None, timeout=START_SECONDS)


def clear(address: str, *, project: str) -> None:
    """Delete everything of ``project`` in the Pub/Sub emulator, which has no reset."""
    with grpc.insecure_channel(address) as channel:
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        for subscription in subscriber.list_subscriptions(project=project):
            subscriber.delete_subscription(subscription=subscription.name)
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        for topic in publisher.list_topics(project=project):
            publisher.delete_topic(topic=topic.name)
