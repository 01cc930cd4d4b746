"""What befalls a call by chance. Pure: knobs and a seed in, fates out.

The Nth call of a method has the same fate under the same seed and knobs, however the calls
of other methods fall between; and a knob that is turned changes no other fate.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from local_cloud.vertex_knobs import Failures, Knobs, Refusals
from local_cloud.vertex_records import Code, VertexError
from local_cloud.vertex_refusals import worded


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One call's."""

    refusal: VertexError | None = None
    # The others are for copies that were taken.
    failure: Failures | None = None
    lost_answer: VertexError | None = None
    copy_seconds: float = 0.0


class Chance:
    """Counts the calls, and draws for each."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls: Counter[str] = Counter()

    def next_fate(self, method: str, knobs: Knobs) -> Fate:
        self._calls[method] += 1
        random = Random(f"{self._seed} {method} {self._calls[method]}")  # noqa: S311  no secret
        refused, failed, lost, length = (random.random() for _ in range(4))
        refusal = _drawn(refused, [each for each in knobs.refusals if each.method == method])
        failure = _drawn(failed, knobs.failures)
        shortest, longest = (
            knobs.copy_seconds
            if isinstance(knobs.copy_seconds, tuple)
            else (knobs.copy_seconds, knobs.copy_seconds)
        )
        return Fate(
            refusal=worded(refusal.code, refusal.message, reason=refusal.reason)
            if refusal
            else None,
            failure=failure,
            lost_answer=worded(Code.UNAVAILABLE) if lost < knobs.lost_answers else None,
            copy_seconds=shortest + (longest - shortest) * length,
        )


_Kind = TypeVar("_Kind", Refusals, Failures)


def _drawn(number: float, kinds: Sequence[_Kind]) -> _Kind | None:
    """Take the one into whose share ``number`` falls, if it falls into any."""
    for kind in kinds:
        if number < kind.share:
            return kind
        number -= kind.share
    return None
