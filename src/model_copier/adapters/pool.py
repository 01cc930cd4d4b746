"""Things by name, made when they are first used; never more than so many that nobody uses.

Names come with requests, so there is no end to them. What must not break: what somebody
uses is neither forgotten nor closed under them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(slots=True)
class _Entry(Generic[_T]):
    thing: _T
    users: int = 0


class Pool(Generic[_T]):
    """Keeps at most ``most``, the most recently used; more only while all of them are in use."""

    def __init__(
        self,
        make: Callable[[str], _T],
        *,
        most: int,
        close: Callable[[_T], Awaitable[object]] | None = None,
    ) -> None:
        self._make = make
        self._most = most
        self._close = close
        self._entries: dict[str, _Entry[_T]] = {}  # the least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[_T]:
        """Lend the thing of this name."""
        entry = self._entries.pop(name, None) or _Entry(self._make(name))
        self._entries[name] = entry
        entry.users += 1
        try:
            yield entry.thing
        finally:
            entry.users -= 1
            await self._drop(len(self._entries) - self._most)

    async def close(self) -> None:
        """Drop everything that is not in use."""
        await self._drop(len(self._entries))

    async def _drop(self, count: int) -> None:
        if count <= 0:
            return
        unused = [name for name, entry in self._entries.items() if not entry.users]
        dropped = [self._entries.pop(name) for name in unused[:count]]
        if self._close:
            for entry in dropped:
                await self._close(entry.thing)
