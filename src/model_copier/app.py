"""The one place that knows every adapter: builds the app of a process on its first request.

Nothing here runs at import: the Functions Framework imports ``main.py`` and then forks,
and gRPC channels may hang across a fork (grpc/grpc#41768). Heavy imports are in here too,
so that an instance listens before it has read them.
"""

import asyncio
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_copier.adapters.guarded_models import GuardedModelService
from model_copier.adapters.pubsub import PubsubTopics
from model_copier.adapters.shared_reads import SharedReads
from model_copier.adapters.vertex import VertexModelService
from model_copier.contract.request_schema import Defaults
from model_copier.contract.requests import Contract
from model_copier.domain.errors import UnavailableError
from model_copier.domain.job import Job
from model_copier.domain.resource_names import ProjectNumbers
from model_copier.domain.timing import Timing
from model_copier.engine.outcome_waiter import OutcomeWaiter
from model_copier.engine.ports import Clock, JobStore, ModelService
from model_copier.engine.request_handler import RequestHandler
from model_copier.engine.scheduler import Scheduler
from model_copier.engine.steady_clock import SteadyClock
from model_copier.engine.workflow import Workflow
from model_copier.logs import log
from model_copier.settings import Settings, TokenChecks
from model_copier.web.auth import Guard
from model_copier.web.body_limits import Bodies
from model_copier.web.call_context import call_of, numbered
from model_copier.web.certificates import Certificates, fetch_from
from model_copier.web.error_responses import HANDLERS, bug, unavailable
from model_copier.web.health import Readiness, date_of
from model_copier.web.local_only import local_only
from model_copier.web.openapi import document_routes
from model_copier.web.push import Push
from model_copier.web.rest import Rest, health_route

if TYPE_CHECKING:
    from model_copier.adapters.firestore import FirestoreJobStore
    from model_copier.adapters.sqlite import SqliteJobStore

# Longest that one call to the job store may take, and opening it. A slow disk or Firestore
# answers within a second or two; more than half a lease would leave no time to ask.
STORE_SECONDS = 10.0


def system_clock(max_skew: float) -> SteadyClock:
    """This machine's clock, as long as nobody sets it by more than ``max_skew`` seconds."""
    # Counts a suspended machine's sleep, as the wall clock does. Linux alone has it.
    kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return SteadyClock(
        wall=lambda: datetime.now(UTC),
        elapsed=lambda: time.clock_gettime(kind),
        max_skew=max_skew,
        on_adopted=lambda moved: log("clock_changed", severity="WARNING", seconds=round(moved, 1)),
    )


def request_defaults(settings: Settings, numbers: ProjectNumbers | None = None) -> Defaults:
    """Return what completes a request, and whom it may name.

    ``numbers`` is shared with the adapter that learns more of them from Vertex AI.
    """
    return Defaults(
        numbers=numbers or ProjectNumbers(settings.project_ids),
        source_project=settings.source_project,
        target_project=settings.target_project,
        location=settings.location,
        source_projects=settings.source_projects,
        target_projects=settings.target_projects,
        service_accounts=settings.allowed_service_accounts,
        locations=settings.allowed_locations,
        require_kms_key=settings.require_kms_key,
    )


async def connect(settings: Settings) -> tuple[RequestHandler, Scheduler, Callable[[], None]]:
    """Connect everything; the last is what to do with the store when the process ends.

    Raises:
        UnavailableError: the store cannot be opened; the next request may try again.
    """
    timing = Timing(
        call_seconds=settings.call_timeout_seconds,
        max_skew_seconds=settings.max_skew_seconds,
        visibility_seconds=settings.visibility_seconds,
        copy_deadline_seconds=settings.copy_deadline_seconds,
        min_poll_seconds=settings.poll_seconds,
        starts_per_minute=settings.starts_per_minute,
    )
    request_topic = settings.topic(settings.request_topic)
    clock = system_clock(timing.max_skew_seconds)
    store = await _open_store(settings, timing, clock)
    numbers = ProjectNumbers(settings.project_ids)  # of which Vertex AI tells more
    workflow = Workflow(
        store=store,
        models=_models(settings, timing, store, clock, numbers),
        topics=PubsubTopics(
            reply_topic=settings.topic(settings.reply_topic),
            dead_letter_topic=settings.topic(settings.dead_letter_topic),
            tick_topic=settings.topic(settings.tick_topic),
            call_seconds=timing.call_seconds,
            emulator_host=settings.pubsub_emulator_host,
        ),
        clock=clock,
        service_name=f"//model-copier/{request_topic}",
        timing=timing,
        on_trouble=_tell_trouble,
        start_cost=settings.senders.cost,
    )
    checked = settings.token_checks is not TokenChecks.NONE
    contract = Contract(
        request_topic=request_topic,
        defaults=request_defaults(settings, numbers),
        callers={each.account: each for each in settings.callers_file.callers} if checked else None,
    )
    deliveries = RequestHandler(
        workflow=workflow,
        contract=contract,
        senders=settings.senders,
        restored_at=store.restored_at,
    )
    return deliveries, Scheduler(workflow=workflow), store.leave


def _models(
    settings: Settings, timing: Timing, store: JobStore, clock: Clock, numbers: ProjectNumbers
) -> ModelService:
    """Vertex AI behind its guards: what is shared, what is budgeted, what is asked."""
    reads = int(settings.reads_per_minute)
    vertex = VertexModelService(
        call_seconds=timing.call_seconds,
        read_seconds=settings.read_timeout_seconds,
        endpoint=settings.vertex_endpoint,
        numbers=numbers,
    )
    guarded = GuardedModelService(
        vertex, store=store, clock=clock, call_seconds=timing.call_seconds, reads_per_minute=reads
    )
    return SharedReads(guarded, clock=clock, reads_per_minute=reads, on_listed=guarded.leave_line)


async def _open_store(
    settings: Settings, timing: Timing, clock: Clock
) -> "SqliteJobStore | FirestoreJobStore":
    """Open the one that STORE names; the other is not even imported."""
    longest = min(STORE_SECONDS, timing.call_seconds)  # below the lease
    if settings.store.startswith("firestore:"):
        from model_copier.adapters.firestore import FirestoreJobStore  # noqa: PLC0415
        from model_copier.adapters.firestore_documents import Place  # noqa: PLC0415

        place = Place.parse(settings.store)
        return FirestoreJobStore.open(place, clock=clock, call_seconds=longest)
    from model_copier.adapters.sqlite import SqliteJobStore  # noqa: PLC0415

    file = Path(settings.store.removeprefix("sqlite:///"))
    return await SqliteJobStore.open(file, busy_seconds=longest / 2, call_seconds=longest)


def build_app(
    target: str,
    deliveries: RequestHandler,
    ticks: Scheduler,
    settings: Settings,
    *,
    watch: OutcomeWaiter | None = None,
    bodies: Bodies | None = None,
) -> ASGIApp:
    """Make the whole application of a target, with its own 404, 405 and 500."""
    watch = watch or OutcomeWaiter(store=deliveries.workflow.store)
    routes = routes_of(target, deliveries, ticks, settings, watch)
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    # A redirect would hold the Host header as it came; a path is right or wrong.
    app.router.redirect_slashes = False
    certificates = Certificates(fetch=fetch_from(settings.certs_url))
    guard = Guard(settings=settings, certificates=certificates, clock=deliveries.workflow.clock)
    guarded = guard.before((bodies or Bodies()).held(app))
    if settings.token_checks is TokenChecks.NONE:
        guarded = local_only(guarded)
    return numbered(contained(guarded))


def routes_of(
    target: str,
    deliveries: RequestHandler,
    ticks: Scheduler,
    settings: Settings,
    watch: OutcomeWaiter,
) -> list[Route]:
    """Say what a target serves."""
    pushed = Push(
        deliveries=deliveries, ticks=ticks, follow_seconds=settings.follow_seconds
    ).routes()
    # Without tokens there is no Google that we are sure to reach.
    with_google = settings.token_checks is not TokenChecks.NONE
    readiness = Readiness(
        workflow=deliveries.workflow,
        max_skew_seconds=settings.max_skew_seconds,
        outside_now=date_of(settings.certs_url) if with_google else None,
    )
    rest = Rest(
        deliveries=deliveries, watch=watch, readiness=readiness, wait_seconds=settings.wait_seconds
    )
    called = [*rest.routes(), *document_routes()]
    return {"worker": pushed, "api": called, "all": [*called, *pushed]}[target]


def _tell_trouble(job: Job, why: str) -> None:
    log("put_off", severity="WARNING", request_id=job.request_id, state=job.state,
        retries=job.retries, why=why)  # fmt: skip


def contained(app: ASGIApp) -> ASGIApp:
    """Log a bug here, and answer it once: raised on, the framework would answer its own way."""

    async def containing(scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def send_noting(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await app(scope, receive, send_noting)
        except Exception:  # noqa: BLE001  whatever it is
            path, call_id = scope["path"], call_of(Request(scope)).id
            trace = traceback.format_exc()
            log("bug", severity="ERROR", path=path, request_id=call_id, stack_trace=trace)
            if not answered:
                await bug(request_id=call_id)(scope, receive, send)

    return containing


def without_store() -> ASGIApp:
    """Answer as long as the store cannot be opened: the process lives, and can do nothing.

    To whoever asks, since nobody is asked for a token: so no word of why.
    """

    async def away(request: Request, _error: Exception) -> Response:
        told = "the job store cannot be opened"
        error = UnavailableError(told, told=told)
        return unavailable(error, request_id=call_of(request).id)

    handlers = {**HANDLERS, HTTPException: away}
    return numbered(contained(Starlette(routes=[health_route()], exception_handlers=handlers)))


class Service:
    """The application of one process, built when it is first asked for."""

    def __init__(self, target: str, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        # Of all who ask at once: a disk that hangs costs one thread, however many ask.
        self._building: asyncio.Task[ASGIApp] | None = None
        self._app: ASGIApp | None = None

    async def app(self) -> ASGIApp:
        """Return the application, or a 503 as long as it cannot be built."""
        if self._app is not None:
            return self._app
        if self._building is None:
            self._building = asyncio.create_task(self._build())
        building = self._building
        try:
            async with asyncio.timeout(STORE_SECONDS):
                self._app = await asyncio.shield(building)
        except (UnavailableError, TimeoutError) as error:
            why = str(error) or f"the job store cannot be opened in {STORE_SECONDS:g} s"
            log("unavailable", severity="ERROR", why=why)
            return without_store()
        finally:
            if building.done() and self._building is building:
                self._building = None
        return self._app

    async def _build(self) -> ASGIApp:
        deliveries, ticks, leave = await connect(self._settings)
        watch = OutcomeWaiter(store=deliveries.workflow.store)
        app = build_app(self._target, deliveries, ticks, self._settings, watch=watch)
        last = LastOut(app, leave)
        _on_sigterm(ticks.close, watch.close, last.leave)
        return last


class LastOut:
    """Before an application: once the process was told to go, the last request closes the store.

    There is no later moment: the server ends with the signal that it was sent, and runs
    nothing more.
    """

    def __init__(self, app: ASGIApp, close: Callable[[], None]) -> None:
        self._app = app
        self._close = close
        self._inside = 0
        self._leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
            self._close_if_last()

    def leave(self) -> None:
        self._leaving = True
        self._close_if_last()

    def _close_if_last(self) -> None:
        if self._leaving and not self._inside:
            # It blocks the loop, on purpose: or the server might be gone first.
            self._close()


def _on_sigterm(*leave: Callable[[], None]) -> None:
    """End follows and waits when the process is told to go; the server waits for open requests.

    The framework passes no signal on, and an open request would hold the exit for 30 s
    where Cloud Run kills after 10.
    """
    loop = asyncio.get_running_loop()
    previous = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        for leaving in leave:
            loop.call_soon_threadsafe(leaving)
        if callable(previous):
            previous(number, frame)

    with suppress(ValueError):  # not in the main thread: a test serves us there
        signal.signal(signal.SIGTERM, handle)
