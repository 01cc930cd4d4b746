"""What the engine reads of Vertex AI for starts, and what comes of reads that are postponed."""

from collections import Counter
from typing import Any

from model_copier.domain.errors import BudgetExhaustedError, CircuitOpenError, PostponedError
from model_copier.domain.job import State
from model_copier.domain.timing import Timing
from world import World, request


class CountedModels:
    """Models that count what they are asked, and may postpone all reads."""

    def __init__(self, models: Any) -> None:
        self._models = models
        self.asked: Counter[str] = Counter()
        self.postpones: PostponedError | None = None

    def __getattr__(self, name: str) -> Any:
        answer = getattr(self._models, name)
        if name not in ("get_model", "list_versions", "list_operations", "get_operation"):
            return answer

        async def counting(*asked: Any) -> Any:
            self.asked[name] += 1
            if self.postpones:
                raise self.postpones
            return await answer(*asked)

        return counting


def counted(**how: Any) -> World:
    world = World(**how)
    world.models = CountedModels(world.models)
    world.start_worker()
    return world


async def test_a_queued_start_reads_no_versions():
    world = counted(timing=Timing(starts_per_minute=2))
    for number in range(12):
        data = {
            "source_model_id": "7704127342733426688",
            "destination_model_id": f"model-{number}",
        }
        await world.deliver(request(data, request_id=f"request-{number}"))

    await world.pass_time(55)

    started = sum(job.attempts for job in world.store.jobs.values())
    assert started == 2
    assert world.models.asked["list_versions"] == started


async def test_a_postponed_read_is_no_failed_try():
    """However often it is postponed, nobody is paged and nothing is given up."""
    trouble: list[str] = []
    world = counted()
    world.workflow.on_trouble = lambda _job, why: trouble.append(why)
    await world.deliver()
    world.models.postpones = BudgetExhaustedError("used up", retry_seconds=30)

    await world.pass_time(5 * 3600)
    assert world.job.state is State.COPYING
    assert world.job.retries == 0
    assert world.models.asked["get_operation"] <= 5 * 120 + 20
    world.models.postpones = None
    await world.pass_time(60)

    assert trouble == []
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_a_location_that_is_away_ends_jobs_in_the_end():
    """Its jobs wait as their time allows, then are told; each line of the log is the breaker's."""
    trouble: list[str] = []
    world = counted()
    world.workflow.on_trouble = lambda _job, why: trouble.append(why)
    await world.deliver()
    world.models.postpones = CircuitOpenError("does not answer", retry_seconds=60)

    await world.pass_time(3 * 3600)

    assert trouble == []
    assert [reply["outcome"] for reply in world.replies] == ["failed"]
