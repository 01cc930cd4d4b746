"""Everything on one machine: the local cloud, its topics, and the copier's own processes.

The worker is pushed to and the api is called; both share one file of jobs. Whatever was
started here is stopped on leaving.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from google.api_core.exceptions import GoogleAPICallError

from local_cloud.cloud import LocalCloud
from local_cloud.cloud import Ports as CloudPorts
from local_cloud.private_files import private_folder, write_private
from local_cloud.process import Process, free_port, without_proxy
from local_cloud.pubsub import PubSub
from local_cloud.topics import (
    DEAD_LETTERS,
    PROJECT,
    REPLIES,
    REQUESTS,
    Topics,
    subscription_path,
    topic_path,
)
from local_cloud.vertex import Vertex

SOURCE_PROJECT = "gemini-fine-tuning-source"
TARGET_PROJECT = PROJECT  # one project holds topics, subscriptions and worker
# Vertex AI names projects by number, and so does the local one here.
PROJECT_NUMBERS = {SOURCE_PROJECT: "110495173025", TARGET_PROJECT: "123456789012"}
LOCATION = "us-central1"
# Tuned Gemini 3 models are served in the multi-regions alone; others where they were tuned.
LOCATIONS = ("us-central1", "europe-west4", "us", "eu")
SOURCE_MODEL = "7704127342733426688"
# One in each of the first three: docs/tuned-gemini.md.
MODELS = {
    LOCATION: (SOURCE_MODEL, "gemini-tuned"),
    "europe-west4": ("5309481215774326784", "gemini-tuned-in-europe"),
    "us": ("3821945067100209152", "gemini-3-flash-tuned"),
}
AUDIENCE = "https://model-copier.example"
PUSH_ACCOUNT = f"pusher@{PROJECT}.iam.gserviceaccount.com"
CALLER = "pipeline@ec2-pipelines.iam.gserviceaccount.com"


def _with_number(project: str) -> str:
    return f"{project}={PROJECT_NUMBERS[project]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports(CloudPorts):
    """Of the two servers and the copier's processes; 0 takes a free one."""

    worker: int = 0
    api: int = 0


@dataclass(kw_only=True)
class Stack:
    """``async with Stack(...) as stack``: all of it, running."""

    folder: Path  # the jobs, and the logs of the processes
    ports: Ports = field(default_factory=Ports)
    location: str = LOCATION  # where requests that name none find source and target
    copy_seconds: float = 5.0
    vertex_knobs: Mapping[str, Any] = field(default_factory=dict)  # see vertex_knobs.Knobs
    tick_seconds: float = 60.0  # Cloud Scheduler's shortest is a minute
    # How soon a push that was refused comes again.
    backoff_seconds: float = 10.0
    # After how many Pub/Sub gives a request up; 100 with backoff last about 15 hours.
    max_delivery_attempts: int = 100
    kept_days: int = 31  # requests and letters; Google's emulator takes 7 at most
    settings: Mapping[str, str] = field(default_factory=dict)  # of worker and api
    pubsub: PubSub = field(default_factory=PubSub)
    with_api: bool = False
    # Check the tokens of pushes and callers, signed by the local cloud; else nobody is asked.
    check_tokens: bool = False
    callers: Sequence[str] = (CALLER,)  # who may call the api, where tokens are checked

    def __post_init__(self) -> None:
        knobs = {"copy_seconds": self.copy_seconds, "dialect": "names-by-number"}
        self.vertex = Vertex(
            locations=LOCATIONS,
            project_numbers=PROJECT_NUMBERS,
            **{**knobs, **self.vertex_knobs},
        )
        for location, (model, display_name) in MODELS.items():
            self.vertex.add_model(
                f"projects/{SOURCE_PROJECT}/locations/{location}/models/{model}",
                display_name=display_name,
            )
        self.cloud = LocalCloud(pubsub=self.pubsub, vertex=self.vertex, ports=self.ports)
        self.worker = self._process("worker", self.ports.worker)
        self.api = self._process("api", self.ports.api)
        self.topics: Topics | None = None
        self._ticking: asyncio.Task[None] | None = None

    def _process(self, target: str, port: int) -> Process:
        return Process(target=target, port=port or free_port(), log=self.folder / f"{target}.log")

    async def __aenter__(self) -> Self:
        private_folder(self.folder)
        entries = [f'[[caller]]\naccount = "{name}"\n' for name in self.callers]
        write_private(self._callers_file, "\n".join(entries))
        try:
            await self.cloud.start()
            self.topics = Topics(address=self.pubsub.address)
            await self.topics.create(
                worker_url=self.worker.url,
                backoff_seconds=self.backoff_seconds,
                max_delivery_attempts=self.max_delivery_attempts,
                push_account=PUSH_ACCOUNT if self.check_tokens else "",
                audience=AUDIENCE,
                kept_days=self.kept_days,
            )
            await self.worker.start(self.env)
            if self.with_api:
                await self.api.start(self.env)
        except BaseException:
            await self._stop()
            raise
        # The first one at once: it has the worker build its application.
        await self.tick()
        self._ticking = asyncio.create_task(self._schedule())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        await asyncio.gather(self.worker.stop(), self.api.stop())
        if self.topics is not None:
            await self.topics.close()
        await self.cloud.stop()

    @property
    def env(self) -> Mapping[str, str]:
        """The settings of the copier's processes."""
        return {
            "PUBSUB_EMULATOR_HOST": self.pubsub.address,
            "VERTEX_ENDPOINT": self.vertex.endpoint,
            "SOURCE_PROJECT": SOURCE_PROJECT,
            "TARGET_PROJECT": TARGET_PROJECT,
            "ALLOWED_SOURCE_PROJECTS": _with_number(SOURCE_PROJECT),
            "ALLOWED_TARGET_PROJECTS": _with_number(TARGET_PROJECT),
            "LOCATION": self.location,
            "STORE": f"sqlite:///{self.folder / 'jobs.db'}",
            **self._tokens(),
            **self.settings,
        }

    @property
    def _callers_file(self) -> Path:
        return self.folder / "callers.toml"

    def _tokens(self) -> Mapping[str, str]:
        if not self.check_tokens:
            return {"TOKEN_CHECKS": "none"}
        return {
            "AUDIENCE": ",".join(self.audiences),
            "PUSH_ACCOUNT": PUSH_ACCOUNT,
            "CALLERS_FILE": str(self._callers_file),
            "CERTS_URL": self.pubsub.certs_url,
        }

    @property
    def audiences(self) -> Sequence[str]:
        """What tokens may be for: the fixed one, the api's URL, and the URL of its endpoint."""
        return (AUDIENCE, self.api.url, f"{self.api.url}/v1/models/copy")

    def token(self, account: str = CALLER) -> str:
        """Sign an ID token for the api."""
        return self.pubsub.signer.mint(email=account, audience=AUDIENCE)

    # Topics, subscriptions, ticks

    async def tick(self) -> None:
        assert self.topics is not None
        await self.topics.tick()

    async def _schedule(self) -> None:
        """Stand in for Cloud Scheduler."""
        while True:
            await asyncio.sleep(self.tick_seconds)
            with suppress(GoogleAPICallError):  # Pub/Sub is away: the next one is due soon
                await self.tick()

    async def letters(self) -> Sequence[Mapping[str, str]]:
        """Attributes of the dead letters that are there now; none is settled."""
        assert self.topics is not None
        return await self.topics.letters()

    def exports(self) -> dict[str, str]:
        """What aims Google's clients, gcloud, curl and the publisher at this cloud."""
        return {
            **without_proxy(os.environ),
            **self.cloud.exports(project=PROJECT),
            "MODEL_COPY_PROJECT": PROJECT,
            "MODEL_COPY_REQUEST_TOPIC": topic_path(REQUESTS),
            "MODEL_COPY_REPLY_TOPIC": topic_path(REPLIES),
            "MODEL_COPY_DEAD_LETTER_TOPIC": topic_path(DEAD_LETTERS),
            "MODEL_COPY_DEAD_LETTER_SUBSCRIPTION": subscription_path(DEAD_LETTERS),
            "MODEL_COPY_REQUEST_SUBSCRIPTION": subscription_path(REQUESTS),
            "MODEL_COPY_CLOCK": self.pubsub.rest_url,
            **({"MODEL_COPY_AUDIENCE": AUDIENCE} if self.check_tokens else {}),
            "WORKER_URL": self.worker.url,
            "API_URL": self.api.url,
            # Whom a token must name, and for what: see PUBSUB_REST/control/tokens.
            "API_CALLER": CALLER,
            "API_AUDIENCE": AUDIENCE,
        }
