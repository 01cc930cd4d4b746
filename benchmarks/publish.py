"""Start to published: ``model-copy publish`` beside gcloud and a bare google-cloud-pubsub script.

All of them publish the same request to the same local Pub/Sub, by turns, in one run; each run
is a new process, from its start to its end. What is compared is therefore what a cron job or a
shell loop pays: starting, importing, connecting, publishing, ending. No credentials are asked
for, which spares every one of them the same calls.

    python benchmarks/publish.py --runs 15
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
from google.pubsub_v1 import PublisherAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport

from local_cloud.pubsub import PubSub

PROJECT, TOPIC = "bench", "model-copy-requests"
DATA = {"source_model_id": "7704127342733426688@1", "destination_model_id": "faker_251230"}
ATTRIBUTES = {
    "ce-specversion": "1.0",
    "ce-id": "nightly-260213",
    "ce-source": "//ec2/pipeline",
    "ce-type": "dev.modelcopier.copy.requested.v1",
    "content-type": "application/json",
}
BARE = """\
import json
from google.cloud import pubsub_v1

publisher = pubsub_v1.PublisherClient()
topic = publisher.topic_path({project!r}, {topic!r})
print(publisher.publish(topic, json.dumps({data!r}).encode(), **{attributes!r}).result(30))
"""
# What is promised: at least so much faster than gcloud, at most so much slower than the script.
FASTER_THAN_GCLOUD, OF_THE_BARE_SCRIPT = 2.0, 1.3
ROWS = 10_000


async def main() -> int:
    """Measure, print a table, and return 1 where a promise is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=11, help="of each, by turns; default 11")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-publish-") as name:
        folder = Path(name)
        async with PubSub() as pubsub:
            await create_topic(pubsub.address)
            env = environment(pubsub, folder)
            commands = the_commands(folder)
            seconds: dict[str, list[float]] = {command: [] for command in commands}
            for turn in range(arguments.runs + 1):  # the first warms up the disk's cache
                for command, words in commands.items():
                    took = await run(words, env)
                    if turn:
                        seconds[command].append(took)
            many = await run(many_requests(folder), env)
    kept = report(seconds)
    print(f"\n{ROWS:,} requests from a file: {many:.2f} s, {ROWS / many:,.0f} a second")
    return 0 if kept else 1


def the_commands(folder: Path) -> dict[str, Sequence[str]]:
    """Return what is compared; gcloud only where it is installed."""
    bare = folder / "bare.py"
    bare.write_text(BARE.format(project=PROJECT, topic=TOPIC, data=DATA, attributes=ATTRIBUTES))
    ours = str(Path(sys.executable).with_name("model-copy"))
    commands: dict[str, Sequence[str]] = {
        "model-copy publish": [
            *(ours, "publish", *DATA.values()),
            *("--request-id", ATTRIBUTES["ce-id"], "--request-source", ATTRIBUTES["ce-source"]),
        ],
        "google-cloud-pubsub script": [sys.executable, str(bare)],
    }
    gcloud = shutil.which("gcloud")
    if gcloud is not None:
        attributes = ",".join(f"{name}={value}" for name, value in ATTRIBUTES.items())
        commands["gcloud pubsub topics publish"] = [
            *(gcloud, "pubsub", "topics", "publish", TOPIC, f"--project={PROJECT}"),
            *(f"--message={json.dumps(DATA)}", f"--attribute={attributes}"),
        ]
    return commands


def many_requests(folder: Path) -> Sequence[str]:
    """Return the command that publishes a large file."""
    file = folder / "many.csv"
    rows = "".join(f"7704127342733426688@1,model-{n}\n" for n in range(ROWS))
    file.write_text(f"source_model_id,destination_model_id\n{rows}")
    ours = str(Path(sys.executable).with_name("model-copy"))
    return [ours, "publish", "--from-file", str(file)]


def environment(pubsub: PubSub, folder: Path) -> Mapping[str, str]:
    """Return the environment that all of them run in."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PUBSUB_EMULATOR_HOST": pubsub.address,
        "MODEL_COPY_PROJECT": PROJECT,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"{pubsub.rest_url}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "true",
    }


async def create_topic(address: str) -> None:
    """Make what is published to; nobody subscribes, so nothing piles up."""
    async with grpc.aio.insecure_channel(address) as channel:
        client = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
        await client.create_topic(name=f"projects/{PROJECT}/topics/{TOPIC}")


async def run(words: Sequence[str], env: Mapping[str, str]) -> float:
    """Run one process to its end, and return its seconds."""
    began_at = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*words, env=env, stdout=DEVNULL, stderr=DEVNULL)
    code = await process.wait()
    took = time.perf_counter() - began_at
    if code != 0:
        raise SystemExit(f"failed: {' '.join(words)}")
    return took


def report(seconds: Mapping[str, Sequence[float]]) -> bool:
    """Print the table; True where the promises are kept."""
    ours = statistics.median(seconds["model-copy publish"])
    version = importlib.metadata.version("google-cloud-pubsub")
    print(
        f"Python {platform.python_version()}, google-cloud-pubsub {version}, {os.cpu_count()} cores"
    )
    print(f"{'start to published':<30} {'median':>8} {'fastest':>8} {'slowest':>8}  ratio")
    for command, took in seconds.items():
        median = statistics.median(took)
        print(
            f"{command:<30} {median:>6.3f} s {min(took):>6.3f} s {max(took):>6.3f} s"
            f"  {median / ours:.2f}"
        )
    kept = ours <= OF_THE_BARE_SCRIPT * statistics.median(seconds["google-cloud-pubsub script"])
    gcloud = seconds.get("gcloud pubsub topics publish")
    if gcloud is None:
        print("gcloud was not found, and not compared")
    else:
        kept = kept and ours * FASTER_THAN_GCLOUD <= statistics.median(gcloud)
    print(
        f"{'kept' if kept else 'BROKEN'}: at least {FASTER_THAN_GCLOUD:g} times as fast as gcloud,"
        f" at most {OF_THE_BARE_SCRIPT:g} times the script"
    )
    return kept


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
