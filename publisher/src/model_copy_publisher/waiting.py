"""Waiting for what is told of many requests at once, over one subscription.

Outages of the broker do not end a wait. A subscription that is lost is made again,
and whatever is still awaited is asked for again: it is then announced once more.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from model_copy_publisher.errors import MissingError, NoReplyError, UnreachableError
from model_copy_publisher.events import Outcome, Reply, ReplyError, Status
from model_copy_publisher.messages import STATUS_TYPE, CopyRequest, Named, Question
from model_copy_publisher.subscription import Received, Subscription

# One pull. Also the longest silence on the connection.
PULL_SECONDS = 30.0
# After a pull that failed, or was answered empty at once: neither may become a busy loop.
PAUSE_SECONDS = 0.5
# States are asked for only where a person can follow them, and seldom: each is a delivery.
FOLLOWED_COPIES = 20
FIRST_QUESTION_SECONDS = 5.0
NEXT_QUESTION_SECONDS = 15.0
# A question may overtake the request that it is about.
UNKNOWN_TRIES = 4
UNKNOWN_PAUSE_SECONDS = 1.5

Awaited = CopyRequest | Named


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong now, in a few words; empty once it is over."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The service knows no such request."""

    request: Awaited
    error: ReplyError | None


Event = Reply | Status | Trouble | Unknown


class Questions:
    """What was asked about requests, by the ids of the questions."""

    def __init__(
        self, *, publish: Callable[[Sequence[Question], float], object], kind: str = STATUS_TYPE
    ) -> None:
        self.prefix = f"ask-{uuid4().hex[:16]}-"
        self._publish = publish
        self._kind = kind
        self._about: dict[str, Awaited] = {}

    def ask(self, requests: Sequence[Awaited], within_seconds: float) -> None:
        """Ask about each, under an id of its own."""
        questions = []
        for request in requests:
            named = Named(request_id=request.request_id, request_source=request.request_source)
            question_id = f"{self.prefix}{len(self._about)}"
            self._about[question_id] = request
            questions.append(Question(kind=self._kind, about=named, question_id=question_id))
        self._publish(questions, within_seconds)

    def about(self, event: Reply | Status) -> Awaited | None:
        """Return the request whose question was rejected by ``event``."""
        rejected = isinstance(event, Reply) and event.outcome is Outcome.REJECTED
        return self._about.get(event.request_id or "") if rejected else None


class Waiting:
    """The events of ``awaited``, until each has ended.

    ``ask`` makes the service tell again; it is called when the subscription was lost, and for
    what has ended by its state without its outcome having come. Where ``states_will_do``, such
    a state is an end, because there is nothing that would have the outcome told again.
    """

    def __init__(
        self,
        *,
        subscription: Subscription,
        awaited: Iterable[Awaited],
        ask: Callable[[Sequence[Awaited], float], object],
        questions: Questions,
        states_will_do: bool = False,
        on_subscribed: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.pending = {(each.request_source, each.request_id): each for each in awaited}
        self._subscription = subscription
        self._ask = ask
        self._questions = questions
        self._states_will_do = states_will_do
        self._on_subscribed = on_subscribed
        self._seen: set[str] = set()
        self._trouble = ""
        self._lost, self._asked = False, True
        self._question_at = float("inf")
        self._unknown: dict[tuple[str, str], int] = {}
        self._ended_unheard: set[tuple[str, str]] = set()

    def events(self, *, timeout_seconds: float) -> Iterator[Sequence[Event]]:
        """Yield what came, in lots. A lot is acknowledged once the next one is asked for.

        An outcome comes once only, however often it is announced.

        Raises:
            NoReplyError: not all had ended in time.
            RefusedError: permission or credentials were withdrawn meanwhile.
        """
        began_at = time.monotonic()
        deadline = began_at + timeout_seconds
        if len(self.pending) <= FOLLOWED_COPIES:
            self._question_at = began_at + FIRST_QUESTION_SECONDS
        while self.pending:
            tried_at = time.monotonic()
            left = deadline - tried_at
            if left <= 0:
                raise NoReplyError(self._unanswered(timeout_seconds))
            received: list[Received] = []
            try:
                self._ask_again(left)
                self._ask_how_they_stand(left)
                until_question = max(0.1, self._question_at - time.monotonic())
                received = self._subscription.pull(
                    within_seconds=min(left, PULL_SECONDS, until_question)
                )
                trouble = ""
            except MissingError:
                trouble = "the subscription was lost; asking again"
                # Missing to a pull is the subscription; to the steps before it, a topic.
                self._lost = self._lost or self._asked
            except UnreachableError:
                trouble = "Pub/Sub does not answer; trying again"
            lot = [event for each in received for event in self._ours(each)]
            if trouble != self._trouble:
                self._trouble = trouble
                lot.append(Trouble(trouble))
            if lot:
                yield lot
            self._subscription.acknowledge(received)
            if not received and time.monotonic() - tried_at < PAUSE_SECONDS:
                time.sleep(min(PAUSE_SECONDS, left))

    def _ask_again(self, left: float) -> None:
        if self._lost:
            self._subscription.create(within_seconds=left)
            self._on_subscribed(self._subscription.name)
            self._lost, self._asked = False, False
        if not self._asked:
            self._ask(list(self.pending.values()), left)
            self._asked = True

    def _ask_how_they_stand(self, left: float) -> None:
        if time.monotonic() < self._question_at:
            return
        unknown = [self.pending[key] for key in self._unknown if key in self.pending]
        unheard = [self.pending[key] for key in self._ended_unheard if key in self.pending]
        if unheard:
            self._ask(unheard, left)
            self._ended_unheard.clear()
        elif unknown or len(self.pending) <= FOLLOWED_COPIES:
            self._questions.ask(unknown or list(self.pending.values()), left)
        self._question_at = time.monotonic() + NEXT_QUESTION_SECONDS

    def _ours(self, received: Received) -> Iterator[Event]:
        event = received.event
        if event is None or event.event_id in self._seen:
            return
        asked_about = self._questions.about(event)
        if asked_about is not None and isinstance(event, Reply):
            self._seen.add(event.event_id)
            yield from self._not_known(asked_about, event)
            return
        awaited = self._awaited(event)
        if awaited is None or not event.answers(awaited):
            return
        key = (awaited.request_source, awaited.request_id)
        self._unknown.pop(key, None)
        if isinstance(event, Reply):
            self._seen.add(event.event_id)
        if isinstance(event, Reply) or (event.ended and self._states_will_do):
            del self.pending[key]
        elif event.ended:
            self._ended_unheard.add(key)
        yield event

    def _awaited(self, event: Reply | Status) -> Awaited | None:
        if event.request_source is not None:
            return self.pending.get((event.request_source, event.request_id or ""))
        # What could not be read may have no source.
        return next(
            (each for (_, name), each in self.pending.items() if name == event.request_id), None
        )

    def _not_known(self, request: Awaited, rejection: Reply) -> Iterator[Event]:
        key = (request.request_source, request.request_id)
        if key not in self.pending:
            return
        self._unknown[key] = self._unknown.get(key, 0) + 1
        if self._unknown[key] <= UNKNOWN_TRIES:
            self._question_at = time.monotonic() + UNKNOWN_PAUSE_SECONDS
            return
        del self.pending[key]
        yield Unknown(request, rejection.error)

    def _unanswered(self, timeout_seconds: float) -> str:
        names = [request_id for _, request_id in self.pending]
        which = (
            f"the request {names[0]}"
            if len(names) == 1
            else f"{len(names):,} requests ({', '.join(names[:3])}{', ...' if names[3:] else ''})"
        )
        wrong = f" ({self._trouble})" if self._trouble else ""
        return f"No reply to {which} within {timeout_seconds:g} s{wrong}."
