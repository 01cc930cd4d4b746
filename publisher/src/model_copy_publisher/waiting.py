"""Waiting for what is told of many requests at once, over one subscription.

Outages of the broker do not end a wait. A subscription that is lost is made again,
and whatever is still awaited is asked for again: it is then announced once more.
Meanwhile the service is asked how each copy stands, never faster than ``Pace`` says.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from model_copy_publisher.errors import MissingError, NoReplyError, UnreachableError
from model_copy_publisher.events import Outcome, Reply, Status
from model_copy_publisher.messages import (
    MAX_ATTRIBUTE_BYTES,
    STATUS_TYPE,
    CopyRequest,
    Named,
    Question,
    is_of_rest,
)
from model_copy_publisher.subscription import Received, Subscription

# After a pull that failed, or was answered empty at once: neither may become a busy loop.
PAUSE_SECONDS = 0.5
# Questions go out so often, in lots.
LOT_SECONDS = 1.0
# A question may overtake the request that it is about.
UNKNOWN_TRIES = 3
UNKNOWN_PAUSE_SECONDS = 1.0

Awaited = CopyRequest | Named
Key = tuple[str, str]  # source and id


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often the service is asked how copies stand: each question is a delivery to it.

    The more copies, the older their states: those of a thousand, asked 20 in a second, are up
    to 50 s old. Outcomes come by themselves, as soon as they are told.
    """

    first_seconds: float = 5.0  # of the shortest copies nobody asks
    again_seconds: float = 15.0  # about the same copy
    per_second: int = 20  # in all


DEFAULT_PACE = Pace()


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong now, in a few words; empty once it is over."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The service knows no such request."""

    request: Awaited


Event = Reply | Status | Trouble | Unknown


class Questions:
    """What was asked about requests, by the ids of the questions; the last about each counts."""

    def __init__(
        self, *, publish: Callable[[Sequence[Question], float], object], kind: str = STATUS_TYPE
    ) -> None:
        self.prefix = f"ask-{uuid4().hex[:16]}-"
        self._publish = publish
        self._kind = kind
        self._ids = map(f"{self.prefix}{{}}".format, itertools.count())
        self._about: dict[str, Awaited] = {}
        self._last: dict[Key, str] = {}

    def ask(self, requests: Sequence[Awaited], within_seconds: float) -> None:
        """Ask about each, under an id of its own."""
        questions = []
        for request in requests:
            source = request.request_source
            if len(source.encode()) > MAX_ATTRIBUTE_BYTES or is_of_rest(source):
                continue  # of another's, whole, or of a REST caller: no message can ask about it
            named = Named(request_id=request.request_id, request_source=request.request_source)
            question_id = next(self._ids)
            self._about.pop(self._last.get(key_of(request), ""), None)
            self._about[question_id] = request
            self._last[key_of(request)] = question_id
            questions.append(Question(kind=self._kind, about=named, question_id=question_id))
        self._publish(questions, within_seconds)

    def about(self, event: Reply | Status) -> Awaited | None:
        """Return the request whose question was rejected by ``event``."""
        rejected = isinstance(event, Reply) and event.outcome is Outcome.REJECTED
        return self._about.get(event.request_id or "") if rejected else None


class Waiting:
    """The events of ``awaited``, until each has ended.

    ``ask`` makes the service tell again; it is called when the subscription was lost, and for
    what has ended by its state without its outcome having come, or is not known. Where
    ``states_will_do``, both are an end, because nothing would have the outcome told again.
    ``known_before`` are the event ids of earlier outcomes: repeats of them are not waited for.
    """

    def __init__(
        self,
        *,
        subscription: Subscription,
        awaited: Iterable[Awaited],
        ask: Callable[[Sequence[Awaited], float], object],
        questions: Questions,
        pace: Pace = DEFAULT_PACE,
        states_will_do: bool = False,
        on_subscribed: Callable[[str], object] = lambda _: None,
        known_before: Iterable[str] = (),
    ) -> None:
        self.pending = {key_of(each): each for each in awaited}
        self._subscription = subscription
        self._ask = ask
        self._questions = questions
        self._pace = pace
        self._states_will_do = states_will_do
        self._on_subscribed = on_subscribed
        self._seen: set[str] = set(known_before)
        self._trouble = ""
        self._lost, self._asked = False, True
        self._lot_at = 0.0
        self._ask_at: dict[Key, float] = {}  # those first that were not asked about for longest
        self._unknown: dict[Key, int] = {}
        self._unheard: set[Key] = set()  # to be told again

    def events(self, *, timeout_seconds: float) -> Iterator[Sequence[Event]]:
        """Yield what came, in lots. A lot is acknowledged once the next one is asked for.

        An outcome comes once only, however often it is announced.

        Raises:
            NoReplyError: not all had ended in time.
            RefusedError: permission or credentials were withdrawn meanwhile.
        """
        began_at = time.monotonic()
        deadline = began_at + timeout_seconds
        self._lot_at = began_at + self._pace.first_seconds
        self._ask_at = dict.fromkeys(self.pending, self._lot_at)
        while self.pending:
            tried_at = time.monotonic()
            left = deadline - tried_at
            if left <= 0:
                yield from self._last_words()
                if not self.pending:
                    return
                raise NoReplyError(self._unanswered(timeout_seconds))
            received: list[Received] = []
            try:
                self._ask_again(left)
                self._ask_how_they_stand(left)
                until_lot = max(0.1, self._lot_at - time.monotonic())
                received = self._subscription.pull(within_seconds=min(left, until_lot))
                trouble = ""
            except MissingError:
                trouble = "the subscription was lost; subscribing again"
                # Missing to a pull is the subscription; to the steps before it, a topic.
                self._lost = self._lost or self._asked
            except UnreachableError:
                trouble = "Pub/Sub does not answer; retrying"
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
        now = time.monotonic()
        if now < self._lot_at:
            return
        due = [key for key, ask_at in self._ask_at.items() if ask_at <= now]
        lot = due[: max(1, int(self._pace.per_second * LOT_SECONDS))]
        for key in lot:
            del self._ask_at[key]  # and in again, as the last
            self._ask_at[key] = now + self._pace.again_seconds
        next_at = now if len(lot) < len(due) else min(self._ask_at.values(), default=now)
        self._lot_at = max(now + LOT_SECONDS, next_at)
        if unheard := [self.pending[key] for key in lot if key in self._unheard]:
            self._ask(unheard, left)
        if others := [self.pending[key] for key in lot if key not in self._unheard]:
            self._questions.ask(others, left)
        self._unheard.difference_update(lot)

    def _ours(self, received: Received) -> Iterator[Event]:
        event = received.event
        if event is None or event.event_id in self._seen:
            return
        asked_about = self._questions.about(event)
        if asked_about is not None and isinstance(event, Reply):
            self._seen.add(event.event_id)
            yield from self._not_known(asked_about)
            return
        awaited = self._awaited(event)
        if awaited is None or not event.answers(awaited):
            return
        key = key_of(awaited)
        self._unknown.pop(key, None)
        if isinstance(event, Reply):
            self._seen.add(event.event_id)
        if isinstance(event, Reply) or (event.ended and self._states_will_do):
            self._drop(key)
        elif event.ended:
            self._unheard.add(key)
        yield event

    def _awaited(self, event: Reply | Status) -> Awaited | None:
        if event.request_source is not None:
            return self.pending.get((event.request_source, event.request_id or ""))
        # What could not be read may have no source.
        return next(
            (each for (_, name), each in self.pending.items() if name == event.request_id), None
        )

    def _not_known(self, request: Awaited) -> Iterator[Event]:
        key = key_of(request)
        if key not in self.pending:
            return
        self._unknown[key] = self._unknown.get(key, 0) + 1
        if self._unknown[key] <= UNKNOWN_TRIES:
            self._ask_at[key] = time.monotonic() + UNKNOWN_PAUSE_SECONDS
            self._lot_at = min(self._lot_at, self._ask_at[key])
        elif self._states_will_do:
            self._drop(key)
            yield Unknown(request)
        else:
            self._unheard.add(key)

    def _last_words(self) -> Iterator[Sequence[Event]]:
        """At the end of the time, say of which requests nothing was known so far."""
        if self._states_will_do and self._unknown:
            unknown = [self.pending[key] for key in self._unknown]
            for each in unknown:
                self._drop(key_of(each))
            yield [Unknown(each) for each in unknown]

    def _drop(self, key: Key) -> None:
        for known in (self.pending, self._ask_at, self._unknown):
            known.pop(key, None)
        self._unheard.discard(key)

    def _unanswered(self, timeout_seconds: float) -> str:
        names = [request_id for _, request_id in self.pending]
        which = (
            f"the request {names[0]}"
            if len(names) == 1
            else f"{len(names):,} requests ({', '.join(names[:3])}{', ...' if names[3:] else ''})"
        )
        wrong = f" ({self._trouble})" if self._trouble else ""
        return f"No reply to {which} within {timeout_seconds:g} s{wrong}."


def key_of(request: Awaited) -> Key:
    """Return what the request is known by."""
    return request.request_source, request.request_id
