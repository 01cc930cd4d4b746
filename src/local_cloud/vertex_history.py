"""Every version of every model, as it is and as it was.

Pure and append-only: a change is a new entry with the time from which readers may know
of it, so a reader who is behind sees a state that once was true, never a mixture. A time
may lie ahead: until then the change is there, but shows to nobody.
"""

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from local_cloud.vertex_records import DEFAULT_ALIAS, ModelName, ModelVersion


class _Entry(NamedTuple):
    shows_at: datetime
    version: ModelVersion | None  # None: it is gone


class History:
    """Read ``at`` a time for what showed then, without one for what is."""

    def __init__(self) -> None:
        self._entries: dict[ModelName, dict[str, list[_Entry]]] = {}

    def put(self, version: ModelVersion, *, shows_at: datetime) -> ModelVersion:
        """Add a version to its model; it never shows before what was put there earlier.

        Its aliases leave the versions that had them, and the first one is the default.
        """
        others = self.versions(version.name)
        for other in others.values():
            kept = tuple(alias for alias in other.aliases if alias not in version.aliases)
            if kept != other.aliases:
                self._append(other.name, replace(other, aliases=kept), shows_at)
        if others:
            first = next(iter(others.values()))
            version = replace(version, model_created_at=first.model_created_at)
        elif DEFAULT_ALIAS not in version.aliases:
            version = replace(version, aliases=(DEFAULT_ALIAS, *version.aliases))
        self._append(version.name, version, shows_at)
        return version

    def remove(self, name: ModelName, *, shows_at: datetime) -> None:
        """Take a version away; if it was the default, the oldest that is left becomes it."""
        self._append(name, None, shows_at)
        left = self.versions(name)
        if left and not any(DEFAULT_ALIAS in each.aliases for each in left.values()):
            oldest = next(iter(left.values()))
            aliases = (DEFAULT_ALIAS, *oldest.aliases)
            self._append(oldest.name, replace(oldest, aliases=aliases), shows_at)

    def versions(self, model: ModelName, at: datetime | None = None) -> dict[str, ModelVersion]:
        """The versions of a model by number; none when there is no such model."""
        found = {}
        for number, entries in self._entries.get(model.unversioned, {}).items():
            shown = (each for each in reversed(entries) if at is None or each.shows_at <= at)
            newest = next(shown, None)
            if newest and newest.version:
                found[number] = newest.version
        return found

    def find(self, name: ModelName, at: datetime | None = None) -> ModelVersion | None:
        """Find a model's default version, or the ``@version`` or ``@alias`` of the name."""
        versions = self.versions(name, at)
        wanted = name.version or DEFAULT_ALIAS
        return versions.get(wanted) or next(
            (version for version in versions.values() if wanted in version.aliases), None
        )

    def models(self, at: datetime | None = None) -> list[ModelName]:
        """Return the names of the models that have a version, in order."""
        return sorted((name for name in self._entries if self.versions(name, at)), key=str)

    def _append(self, name: ModelName, version: ModelVersion | None, shows_at: datetime) -> None:
        model = self._entries.setdefault(name.unversioned, {})
        entries = model.setdefault(name.version, [])
        if entries:
            shows_at = max(shows_at, entries[-1].shows_at)
        entries.append(_Entry(shows_at, version))
