"""Completion events as they come: an iterator, or a callback with flow control.

An event is settled once it was handled, and comes again if it was not: at least once,
also across a crash. Within one ``Replies`` repeats are dropped by event id, and so is
the outcome of an older run once a newer one is known.
"""

import fnmatch
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Self

from model_copy_publisher import filters
from model_copy_publisher.broker import Broker
from model_copy_publisher.errors import MissingError, UnreachableError
from model_copy_publisher.events import Outcome, Reply
from model_copy_publisher.handled import Handled, Verdict
from model_copy_publisher.leases import Leases
from model_copy_publisher.resource_names import REPLY_TOPIC, check_project, full_name
from model_copy_publisher.subscription import Received, Subscription

PULL_SECONDS = 10.0
PAUSE_SECONDS = 0.5
# How many events are fetched ahead.
MAX_OUTSTANDING = 100


class Replies:
    """A context manager: inside, every event is kept for us until it was handled.

        with Replies(project="team-models", outcomes=[Outcome.FAILED]) as replies:
            for reply in replies:
                print(reply.request_id, reply.error)   # settled when the next is asked for

    Without ``subscription`` a temporary one is made, which gets what is told from then
    on. A named one keeps events while nobody listens, and several may share its events;
    what our choice leaves out is settled all the same.

    ``model`` is a pattern (``*faker*``) for the id or the full name of source or target.
    ``on_trouble`` is told in a few words what is wrong, and "" once it is over.

    Raises:
        InvalidRequestError: a name is none.
        BrokerError: no credentials, no permission, no such topic.
    """

    def __init__(
        self,
        *,
        project: str,
        subscription: str | None = None,
        reply_topic: str = REPLY_TOPIC,
        outcomes: Collection[Outcome] = (),
        model: str | None = None,
        tag: str | None = None,
        credentials_file: str | None = None,
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        check_project(project)
        name = "" if subscription is None else full_name("subscription", subscription, project)
        topic = full_name("reply_topic", reply_topic, project)
        self._outcomes, self._model, self._tag = frozenset(outcomes), model, tag
        self._on_trouble = on_trouble
        self._trouble = ""
        self._handled = Handled()
        self._stopped = threading.Event()
        self._broker = Broker(credentials_file)
        self._subscription = Subscription(
            broker=self._broker,
            project=project,
            reply_topic=topic,
            narrowed_to=filters.of_events(outcomes=self._outcomes, tag=tag),
            name=name,
            temporary=not name,
            purpose="watch",
        )
        self._leases = Leases(self._subscription)

    def __enter__(self) -> Self:
        try:
            self._subscription.__enter__()
        except BaseException:
            self._broker.close()
            raise
        self._leases.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._leases.__exit__()
        self._subscription.__exit__()
        self._broker.close()

    @property
    def subscription(self) -> str:
        """The full name of the subscription."""
        return self._subscription.name

    @property
    def stopped(self) -> bool:
        """True once ``stop`` was called."""
        return self._stopped.is_set()

    def __iter__(self) -> Iterator[Reply]:
        return self.events()

    def events(self, *, timeout_seconds: float = float("inf")) -> Iterator[Reply]:
        """Yield events as they come, until ``stop`` or so long.

        An event is settled when the next one is asked for; it comes again to whoever
        listens next if the loop is left before that.

        Raises:
            BrokerError: permission was withdrawn, or a named subscription deleted.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._stopped.is_set() and time.monotonic() < deadline:
            lot = self._take(MAX_OUTSTANDING, deadline)
            for n, (received, reply) in enumerate(lot):
                if self._stopped.is_set():
                    return
                try:
                    yield reply
                except GeneratorExit:
                    for unhandled in lot[n:]:
                        self._give_back(*unhandled)
                    raise
                self._settle(received, reply)

    def run(
        self,
        handle: Callable[[Reply], object],
        *,
        workers: int = 1,
        max_outstanding: int = MAX_OUTSTANDING,
        timeout_seconds: float = float("inf"),
    ) -> None:
        """Call ``handle`` for each event, ``workers`` at once, until ``stop`` or so long.

        An event is settled once ``handle`` returned; if it returned False, the event comes
        again, a second later at first, then a minute. What it raises ends the run, and that
        event comes again to whoever listens next. At most ``max_outstanding`` events are
        fetched ahead, and kept ours for as long as they take.
        """
        deadline = time.monotonic() + timeout_seconds
        flying: set[Future[None]] = set()
        with ThreadPoolExecutor(workers, thread_name_prefix="handle") as pool:
            try:
                while not self._stopped.is_set() and time.monotonic() < deadline:
                    flying = _reap(flying, wait_for_room=len(flying) >= max_outstanding)
                    room = max_outstanding - len(flying)
                    if not room or self._stopped.is_set():
                        continue
                    for received, reply in self._take(room, deadline):
                        flying.add(pool.submit(self._handle, handle, received, reply))
                _reap(flying, wait_for_all=True)
            finally:
                pool.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """End the iteration or the run after what is in hand; from any thread or signal."""
        self._stopped.set()
        self._subscription.interrupt()

    def _handle(self, handle: Callable[[Reply], object], received: Received, reply: Reply) -> None:
        if self._stopped.is_set():
            return  # it is given back on leaving
        try:
            wanted_again = handle(reply) is False
        except BaseException:
            self.stop()
            self._give_back(received, reply)
            raise
        if wanted_again:
            self._leases.give_back(received, after_seconds=self._handled.failed(reply))
        else:
            self._settle(received, reply)

    def _settle(self, received: Received, reply: Reply) -> None:
        self._handled.done(reply)
        self._leases.settle(received)

    def _give_back(self, received: Received, reply: Reply) -> None:
        self._handled.put_back(reply)
        self._leases.give_back(received)

    def _take(self, at_most: int, deadline: float) -> list[tuple[Received, Reply]]:
        tried_at = time.monotonic()
        within = min(PULL_SECONDS, max(0.1, deadline - tried_at))
        received: list[Received] = []
        try:
            received = self._subscription.pull(within_seconds=within, at_most=at_most)
            trouble = ""
        except MissingError:
            if not self._subscription.temporary:
                raise
            trouble = self._subscribe_again(within)
        except UnreachableError:
            trouble = "Pub/Sub does not answer; retrying"
        if trouble != self._trouble:
            self._trouble = trouble
            self._on_trouble(trouble)
        if not received and time.monotonic() - tried_at < PAUSE_SECONDS:
            time.sleep(min(PAUSE_SECONDS, within))
        return self._choose(received)

    def _subscribe_again(self, within_seconds: float) -> str:
        try:
            self._subscription.create(within_seconds=within_seconds)
        except (MissingError, UnreachableError):
            return "the subscription was lost; trying to make a new one"
        return "the subscription was lost, and what was told meanwhile; listening again"

    def _choose(self, received: list[Received]) -> list[tuple[Received, Reply]]:
        ours: list[tuple[Received, Reply]] = []
        settled: list[Received] = []
        for each in received:
            verdict = (
                self._handled.take(each.event)
                if isinstance(each.event, Reply) and self._is_wanted(each.event)
                else Verdict.SETTLE
            )
            if verdict is Verdict.HANDLE:
                assert isinstance(each.event, Reply)
                ours.append((each, each.event))
            elif verdict is Verdict.SETTLE:
                settled.append(each)
        self._subscription.acknowledge(settled)
        if ours:
            self._leases.hold([each for each, _ in ours])
        return ours

    def _is_wanted(self, reply: Reply) -> bool:
        return (
            (not self._outcomes or reply.outcome in self._outcomes)
            and (self._tag is None or reply.reply_tag == self._tag)
            and (self._model is None or matches(reply, self._model))
        )


def matches(reply: Reply, pattern: str) -> bool:
    """Tell whether source or target is like ``pattern``, by id or by full name."""
    names = [name for name in (reply.source_model, reply.target_model, reply.resource_name) if name]
    return any(
        fnmatch.fnmatchcase(part, pattern)
        for name in names
        for part in (name, name.rpartition("/")[2], name.rpartition("/")[2].partition("@")[0])
    )


def _reap(
    flying: set["Future[None]"], *, wait_for_room: bool = False, wait_for_all: bool = False
) -> set["Future[None]"]:
    """Return those that go on; what one of the ended raised is raised here."""
    if wait_for_all:
        ended, going_on = wait(flying)
    elif wait_for_room:
        ended, going_on = wait(flying, timeout=PULL_SECONDS, return_when=FIRST_COMPLETED)
    else:
        ended = {each for each in flying if each.done()}
        going_on = flying - ended
    for each in ended:
        each.result()
    return going_on
