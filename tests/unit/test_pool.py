"""Things by name: bounded, and never closed under whoever uses them."""

from contextlib import AsyncExitStack

from model_copier.adapters.pool import Pool


async def closing(closed: list[str], name: str) -> None:
    closed.append(name)


def pool_of(most: int, closed: list[str]) -> Pool[str]:
    return Pool(str.upper, most=most, close=lambda thing: closing(closed, thing))


async def test_one_name_is_one_thing():
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name

    pool = Pool(make, most=2)

    for name in ("a", "a", "b", "a"):
        async with pool.use(name):
            pass

    assert made == ["a", "b"]


async def test_those_unused_the_longest_go_first():
    closed: list[str] = []
    pool = pool_of(2, closed)

    for name in ("a", "b", "a", "c"):
        async with pool.use(name):
            pass

    assert closed == ["B"]


async def test_what_is_in_use_is_not_closed():
    closed: list[str] = []
    pool = pool_of(1, closed)

    async with pool.use("a") as thing:
        for name in ("b", "c"):
            async with pool.use(name):
                pass
        assert thing == "A"
        assert closed == ["B", "C"]

    assert len(pool) == 1


async def test_more_than_most_live_only_while_all_are_used():
    closed: list[str] = []
    pool = pool_of(2, closed)

    async with AsyncExitStack() as using:
        for number in range(10):
            await using.enter_async_context(pool.use(f"{number}"))
        assert len(pool) == 10
        assert closed == []

    assert len(pool) == 2
    await pool.close()
    assert len(pool) == 0
    assert len(closed) == 10
