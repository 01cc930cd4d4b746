"""The local Pub/Sub beside Google's emulator, in one run: how soon it is there, how fast it pushes.

    make bench-pubsub

Both run as processes of their own, and get the same calls from the same client here; both push
to the same endpoint, in this process, which does nothing but answer 204. Exit code 1 where ours
is slower to start. Without Java or the emulator's jar it shows ours alone.
"""

import asyncio
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import grpc
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import PubsubMessage, PushConfig, Subscription

from emulators import PUBSUB, EmulatorMissingError

STARTS = 5
PUSHES = 5_000
BATCH = 100
PATIENCE_SECONDS = 60
TOPIC = "projects/bench/topics/requests"
SUBSCRIPTION = "projects/bench/subscriptions/worker"

Command = Callable[[int], list[str]]


def our_command(port: int) -> list[str]:
    """Start Pub/Sub as a person would."""
    ports = [f"--pubsub-port={port}", "--pubsub-rest-port=0"]
    return [sys.executable, "-m", "local_cloud", "serve", "--no-vertex", *ports]


@contextmanager
def started(command: Command) -> Iterator[tuple[str, float]]:
    """Run a server; its address, and the seconds until its first publish was answered."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    began = time.perf_counter()
    process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_it_listens(port)
        address = f"127.0.0.1:{port}"
        with grpc.insecure_channel(address) as channel:
            publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
            publisher.create_topic(name=TOPIC)
            publisher.publish(topic=TOPIC, messages=[PubsubMessage(data=b"first")])
        yield address, time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


def wait_until_it_listens(port: int) -> None:
    """A channel that is refused once waits for a second before it asks again: look first."""
    patience_ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < patience_ends, "it does not start"
            time.sleep(0.005)
        else:
            return


class Endpoint(asyncio.Protocol):
    """Answers 204 to every POST, and keeps the connection where the client does."""

    posts = 0
    enough: asyncio.Event

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, length = head.lower().partition(b"content-length:")
        if len(body) < int(length.split(b"\r\n")[0]):
            return
        self._received = b""
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        Endpoint.posts += 1
        if Endpoint.posts == PUSHES:
            Endpoint.enough.set()


async def pushes_a_second(address: str) -> float:
    """From the first publish to the last push."""
    Endpoint.posts, Endpoint.enough = 0, asyncio.Event()
    server = await asyncio.get_running_loop().create_server(Endpoint, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    began = time.perf_counter()
    publishing = asyncio.create_task(asyncio.to_thread(publish, address, url))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await Endpoint.enough.wait()
    seconds = time.perf_counter() - began
    await publishing
    server.close()
    return PUSHES / seconds


def publish(address: str, url: str) -> None:
    with grpc.insecure_channel(address) as channel:
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        push = PushConfig(push_endpoint=url)
        subscriber.create_subscription(
            request=Subscription(
                name=SUBSCRIPTION, topic=TOPIC, push_config=push, ack_deadline_seconds=60
            )
        )
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        messages = [PubsubMessage(data=b"x" * 300, attributes={"ce-id": "7"})] * BATCH
        for _ in range(PUSHES // BATCH):
            publisher.publish(topic=TOPIC, messages=messages)


def measured(command: Command) -> tuple[float, float]:
    """Seconds from start to first publish, the median; and pushes a second."""
    seconds = []
    for _ in range(STARTS):
        with started(command) as (_, took):
            seconds.append(took)
    with started(command) as (address, _):
        rate = asyncio.run(pushes_a_second(address))
    return median(seconds), rate


def main() -> int:
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    our_seconds, our_rate = measured(our_command)
    try:
        PUBSUB.command(0)
    except EmulatorMissingError as error:
        print(f"start to first publish   {our_seconds:6.2f} s    (median of {STARTS})")
        print(f"pushes a second          {our_rate:6,.0f}      ({PUSHES:,} messages)")
        print(f"skipped: {error}")
        return 0
    seconds, rate = measured(PUBSUB.command)
    print(f"{'':24} {'ours':>9} {'emulator':>9} {'ratio':>7}")
    print(
        f"{'start to first publish':24} {our_seconds:7.2f} s {seconds:7.2f} s "
        f"{seconds / our_seconds:6.1f}x   sooner, median of {STARTS}"
    )
    print(
        f"{'pushes a second':24} {our_rate:9,.0f} {rate:9,.0f} "
        f"{our_rate / rate:6.1f}x   {PUSHES:,} messages"
    )
    return 0 if our_seconds < seconds else 1


if __name__ == "__main__":
    sys.exit(main())
