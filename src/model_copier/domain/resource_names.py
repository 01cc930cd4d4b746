"""Names of Vertex AI models: ``projects/P/locations/L/models/M[@VERSION]``.

Knows nothing of any service. A name that was parsed here is well formed; whether
the thing exists, only Vertex AI can tell.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from model_copier.domain.locations import nearest

# A model id that Google generated is a number; one that a caller chose matches CHOSEN_ID.
MODEL_NAME = re.compile(
    r"projects/(?P<project>[a-z0-9][a-z0-9.:-]{0,62})"
    r"/locations/(?P<location>[a-z][a-z0-9-]{0,30})"
    r"/models/(?P<model>[A-Za-z0-9_-]{1,63})"
    r"(?:@(?P<version>[A-Za-z0-9_-]{1,128}))?"
)
CHOSEN_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
LOCATION = re.compile(r"[a-z][a-z0-9-]{0,30}")
# An id or a number; domain-scoped ids have a colon and dots.
PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """A model, or one version of it.

    ``version`` is a number, an alias, or None for the default version. ``project`` may be
    an id or a number: Vertex AI answers with either.
    """

    project: str
    location: str
    model: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a full resource name.

        Raises:
            ValueError: the text is not of the form above.
        """
        found = MODEL_NAME.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{_shown(text)} is not a model name;"
                " it should read projects/PROJECT/locations/LOCATION/models/MODEL[@VERSION]"
            )
        return cls(**found.groupdict())

    def __str__(self) -> str:
        suffix = f"@{self.version}" if self.version else ""
        return f"{self.location_name}/models/{self.model}{suffix}"

    @property
    def location_name(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    def at(self, version: str | None) -> Self:
        return replace(self, version=version)

    def may_be(self, other: Self) -> bool:
        """Tell whether both can name the same version of the same model.

        Vertex AI writes a project by id or by number, and does not document when. An id
        and a number cannot be compared, so they are not held against each other.
        """
        return (self.location, self.model, self.version) == (
            other.location,
            other.model,
            other.version,
        ) and (
            self.project == other.project or self.project.isdigit() is not other.project.isdigit()
        )


class ProjectNumbers:
    """Which number is which project's, so that each project has one spelling here: its id.

    Vertex AI writes either into the names that it answers. Two spellings of one project would
    be two locks on one model. Numbers come from the operator's settings, and from answers.
    """

    def __init__(self, ids: Mapping[str, str] | None = None) -> None:
        """``ids``: the id of each number that is known from the start."""
        self._ids = dict(ids or {})

    def spelled(self, project: str) -> str:
        """Return the project's id, where its number is known; else what was given."""
        return self._ids.get(project, project)

    def name(self, name: ModelName) -> ModelName:
        return replace(name, project=self.spelled(name.project))

    def learn(self, *, asked: str, answered: str) -> None:
        """Note what Vertex AI calls a project that it was asked about.

        Never the other way round: a project that is used by its number alone keeps that name.
        """
        if answered.isdigit() and not asked.isdigit():
            self._ids.setdefault(answered, asked)


def explain_bad_model_id(text: str) -> str | None:
    """Say what is wrong with an id that a caller chose, or None when nothing is.

    The rule is CopyModel's: https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.models/copy
    """
    if CHOSEN_ID.fullmatch(text):
        return None
    if not text:
        found = "empty"
    elif re.search("[A-Z]", text):
        found = "upper-case letter"
    elif odd := re.search("[^a-z0-9_-]", text):
        found = repr(odd[0])
    elif len(text) > 63:
        found = f"{len(text)} characters"
    else:
        found = f"begins with {text[0]!r}"
    return f"{_shown(text)} must match {CHOSEN_ID.pattern} ({found})"


def explain_bad_project(text: str) -> str | None:
    """Say what is wrong with the form of a project, or None when nothing is.

    https://docs.cloud.google.com/resource-manager/docs/creating-managing-projects
    """
    return None if PROJECT.fullmatch(text) else f"{_shown(text)} must be a project id or number"


def explain_bad_location(text: str) -> str | None:
    """Say what is wrong with the form of a location, or None when nothing is.

    Whether it is one of Vertex AI's, ``locations`` knows.
    """
    if LOCATION.fullmatch(text):
        return None
    near = nearest(text)
    return f"{_shown(text)} is no region such as us-central1" + (
        f"; did you mean {near}?" if near else ""
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
