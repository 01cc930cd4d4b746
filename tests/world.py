"""A small world around the real workflow: one worker, simulated ports, a clock moved by hand."""

import json
from dataclasses import dataclass, field
from typing import Any

import stores
from model_copier.contract.request_schema import Defaults
from model_copier.contract.requests import Contract, Message, Received
from model_copier.domain.job import Job
from model_copier.domain.timing import Timing
from model_copier.engine.request_handler import HandlingResult, RequestHandler
from model_copier.engine.scheduler import Scheduler
from model_copier.engine.workflow import Workflow
from simulators import SimulatedClock, SimulatedModels, SimulatedTopics

SOURCE_PROJECT = "gemini-fine-tuning-source"
TARGET_PROJECT = "gemini-fine-tuning-target"
SOURCE = f"projects/{SOURCE_PROJECT}/locations/us-central1/models/7704127342733426688"
TARGET = f"projects/{TARGET_PROJECT}/locations/us-central1/models/target-model-260213"
PARENT = f"projects/{TARGET_PROJECT}/locations/us-central1/models/shared-parent"
TOPIC = f"projects/{TARGET_PROJECT}/topics/model-copy-requests"
DEFAULTS = Defaults(
    source_project=SOURCE_PROJECT,
    target_project=TARGET_PROJECT,
    location="us-central1",
    source_projects=frozenset({SOURCE_PROJECT}),
    target_projects=frozenset({TARGET_PROJECT}),
    service_accounts=frozenset(),
)
CONTRACT = Contract(request_topic=TOPIC, defaults=DEFAULTS)
REQUEST: dict[str, Any] = {
    "source_model_id": "7704127342733426688",
    "destination_model_id": "target-model-260213",
}


def request(
    data: object = REQUEST, *, request_id: str = "request-1", **attributes: str
) -> Received:
    """A delivery of a request in binary mode."""
    return Received(
        data=data if isinstance(data, bytes) else json.dumps(data).encode(),
        attributes={
            "ce-specversion": "1.0",
            "ce-id": request_id,
            "ce-source": "//ec2/pipeline",
            "ce-type": "dev.modelcopier.copy.requested.v1",
            "content-type": "application/json",
            **attributes,
        },
        message_id="1",
    )


@dataclass
class World:
    timing: Timing = field(default_factory=Timing)
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    store: Any = None
    topics: Any = field(default_factory=SimulatedTopics)
    models: Any = None
    workflow: Workflow = field(init=False)
    deliveries: RequestHandler = field(init=False)
    ticks: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        if self.store is None:
            self.store = stores.new_store(self.clock)
        if self.models is None:
            self.models = SimulatedModels(self.clock)
            self.models.add(SOURCE)
        self.start_worker()

    def start_worker(self) -> None:
        """A process that knows nothing but the store."""
        self.workflow = Workflow(
            store=self.store,
            models=self.models,
            topics=self.topics,
            clock=self.clock,
            service_name=f"//model-copier/{TOPIC}",
            timing=self.timing,
            jitter=lambda: 0.0,
        )
        self.deliveries = RequestHandler(workflow=self.workflow, contract=CONTRACT)
        self.ticks = Scheduler(workflow=self.workflow)

    async def deliver(self, received: Received | None = None) -> HandlingResult:
        return await self.deliveries.accept(received or request())

    async def pass_time(self, seconds: float) -> None:
        """Let time pass with a tick whenever a job falls due or is queued, as a follower would."""
        end = self.clock.monotonic() + seconds
        while True:
            due_at = await self.store.next_due_at()
            wait = (due_at - self.clock.now()).total_seconds() if due_at else seconds + 1
            if await self.store.queues():
                wait = min(wait, self.timing.min_poll_seconds)
            if self.clock.monotonic() + max(wait, 0) > end:
                self.clock.advance(end - self.clock.monotonic())
                return
            self.clock.advance(max(wait, 0.001))
            await self.ticks.take(0)

    @property
    def job(self) -> Job:
        """The only job."""
        (job,) = self.store.jobs.values()
        assert isinstance(job, Job)
        return job

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [read(message) for message in self.topics.replies]

    @property
    def copies(self) -> int:
        """Models and versions in the target that were not there from the start."""
        return len(self.models.versions(TARGET)) + len(self.models.versions(PARENT))


def read(message: Message) -> dict[str, Any]:
    """The data of a reply, with its event id and type."""
    data: dict[str, Any] = json.loads(message.data)
    return data | {"id": message.attributes["ce-id"], "type": message.attributes["ce-type"]}
