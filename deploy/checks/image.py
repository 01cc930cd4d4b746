"""The Dockerfile: its instructions as they are written, and what must hold of the image.

Whoever performs the instructions without a container engine (``tests/try_image.py``) reads
them here too, so that what is tried is what is built.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.checks.problem import Problem

_CONTINUED = re.compile(r"\\\n")
_COMMENT = re.compile(r"^\s*#.*\n", re.MULTILINE)
_USER = re.compile(r"[1-9]\d*(?::\d+)?")
# An image is asked these by whoever finds it running.
_LABELS = ("title", "description", "licenses", "version", "revision")


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """Stages in order; what stands before the first FROM is left out."""

    stages: tuple[tuple[Instruction, ...], ...]

    @classmethod
    def read(cls, file: Path) -> "Dockerfile":
        text = _CONTINUED.sub(" ", _COMMENT.sub("", file.read_text(encoding="utf-8")))
        stages: list[list[Instruction]] = []
        for line in filter(str.strip, text.splitlines()):
            name, _, rest = line.strip().partition(" ")
            instruction = Instruction(name.upper(), " ".join(rest.split()))
            if instruction.name == "FROM":
                stages.append([])
            if stages:
                stages[-1].append(instruction)
        return cls(tuple(tuple(stage) for stage in stages))

    @property
    def last(self) -> tuple[Instruction, ...]:
        return self.stages[-1]

    @property
    def command(self) -> list[str]:
        """Return the last CMD, which must be in the form that needs no shell."""
        found = json.loads(texts(self.last, "CMD")[-1])
        assert isinstance(found, list)
        return [str(part) for part in found]


def texts(stage: tuple[Instruction, ...], name: str) -> list[str]:
    return [each.text for each in stage if each.name == name]


def problems(file: Path) -> Iterator[Problem]:
    """Yield what breaks a rule; hadolint tells the rest."""
    dockerfile = Dockerfile.read(file)
    every = [each for stage in dockerfile.stages for each in stage]
    runs = " ".join(each.text for each in every if each.name == "RUN")
    users = texts(dockerfile.last, "USER")
    yield from (
        Problem(file.name, place, what)
        for place, what, holds in (
            ("FROM", "should be there twice: one builds, one runs", len(dockerfile.stages) > 1),
            ("USER", "should be a number above 0: nobody, not root",
             bool(users and _USER.fullmatch(users[-1]))),
            ("RUN", "pip should --require-hashes", "--require-hashes" in runs),
            ("RUN", "pip should resolve nothing: --no-deps", "--no-deps" in runs),
            ("RUN", "pip should build nothing: --only-binary=:all:", "--only-binary=:all:" in runs),
            ("RUN", "bytecode should be compiled: python -m compileall", "compileall" in runs),
            ("RUN", "should take pip out of the last stage",
             "pip uninstall" in " ".join(texts(dockerfile.last, "RUN"))),
            ("CMD", 'should be a list: ["functions-framework", ...]',
             [t[:1] for t in texts(dockerfile.last, "CMD")] == ["["]),
        )
        if not holds
    )  # fmt: skip
    for copied in (each.text for each in every if each.name in ("COPY", "ADD")):
        if copied.split()[0] in (".", "./"):
            yield Problem(file.name, "COPY", "should name what runs, not everything")
    labels = " ".join(texts(dockerfile.last, "LABEL"))
    for label in _LABELS:
        if f"org.opencontainers.image.{label}=" not in labels:
            yield Problem(file.name, "LABEL", f"org.opencontainers.image.{label} is missing")
