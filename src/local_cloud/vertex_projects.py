"""Projects by id and by number, as they stand in resource names.

Both spellings come in, one is kept (the id), and one goes out.
"""

import zlib
from collections.abc import Mapping

from local_cloud.vertex_records import Names


class Projects:
    """Every project has a number: the one that it was given, or one that its id always gets."""

    def __init__(self, numbers: Mapping[str, str]) -> None:
        self._number_of = dict(numbers)
        self._id_of = {number: project for project, number in numbers.items()}

    def number_of(self, project: str) -> str:
        if project.isdecimal():
            return project
        number = self._number_of.setdefault(project, str(10**11 + zlib.crc32(project.encode())))
        self._id_of[number] = project
        return number

    def canonical(self, name: str) -> str:
        """Spell a caller's resource name as it is kept: with the project's id."""
        collection, _, rest = name.partition("/")
        project, _, rest = rest.partition("/")
        if collection != "projects" or project not in self._id_of:
            return name
        return f"projects/{self._id_of[project]}/{rest}"

    def spelled(self, name: str, names: Names) -> str:
        """Spell a resource name that is kept for a caller."""
        if names is Names.IDS:
            return name
        _, project, rest = name.split("/", 2)
        return f"projects/{self.number_of(project)}/{rest}"
