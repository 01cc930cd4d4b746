"""A Terraform configuration as it is written: its blocks, by address, and what they refer to.

Nothing is evaluated: a value is the text of its expression. A literal text keeps its quotes,
so that ``"a"`` can be told from the expression ``a``.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import hcl2
from hcl2.utils import SerializationOptions
from lark.exceptions import UnexpectedInput

_BLOCK = "__is_block__"
# Blocks that are named by two labels, by one, by none.
_LABELS = {"resource": 2, "data": 2, "variable": 1, "output": 1, "provider": 1}
_INTERPOLATION = re.compile(r"\$\{")


class UnreadableError(Exception):
    """A file is not Terraform's language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """``kind`` and ``labels`` as in ``resource "google_pubsub_topic" "requests"``."""

    file: str
    kind: str
    labels: tuple[str, ...]
    body: Mapping[str, Any]

    @property
    def address(self) -> str:
        """As Terraform writes it: without ``resource`` in front."""
        named = ".".join(self.labels)
        if self.kind == "resource":
            return named
        return f"{self.kind}.{named}" if named else self.kind

    @property
    def type(self) -> str:
        return self.labels[0] if self.labels else ""

    def text(self, name: str) -> str:
        """Return an argument of this block; a literal text without its quotes, "" for none."""
        return text_of(self.body.get(name, ""))

    def inner(self, name: str) -> list[Mapping[str, Any]]:
        """Return the blocks of this name within this one, dynamic ones too."""
        return inner(self.body, name)


@dataclass(frozen=True, slots=True)
class Configuration:
    """All ``*.tf`` files of a folder."""

    blocks: tuple[Block, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder.

        Raises:
            UnreadableError: naming the file and the place.
        """
        blocks: list[Block] = []
        for file in sorted(folder.glob("*.tf")):
            blocks += _blocks(file.name, file.read_text(encoding="utf-8"))
        return cls(tuple(blocks))

    def of(self, kind: str, type_: str = "") -> list[Block]:
        return [b for b in self.blocks if b.kind == kind and type_ in ("", b.type)]

    @property
    def locals(self) -> Mapping[str, Any]:
        return {
            name: value
            for block in self.of("locals")
            for name, value in block.body.items()
            if name != _BLOCK
        }


def inner(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the blocks of this name in a body, and what a dynamic one would make."""
    found = [b for b in _list(body.get(name)) if isinstance(b, Mapping) and _BLOCK in b]
    for dynamic in _list(body.get("dynamic")):
        for label, made in dynamic.items():
            if text_of(label) == name:
                found += _list(made["content"])
    return found


def members(body: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Yield name, value and whether it is a block, for all in a body; blocks one by one."""
    for name, value in body.items():
        if name == _BLOCK:
            continue
        if name == "dynamic":
            for dynamic in _list(value):
                for label, made in dynamic.items():
                    for content in _list(made.get("content")):
                        yield text_of(label), content, True
            continue
        blocks = [b for b in _list(value) if isinstance(b, Mapping) and _BLOCK in b]
        if blocks:
            for block in blocks:
                yield name, block, True
        else:
            yield name, value, False


def is_literal(value: Any) -> bool:
    """Say whether a value is what it says, without anything to evaluate."""
    return not isinstance(value, str) or (
        value.startswith('"') and not _INTERPOLATION.search(value)
    )


def text_of(value: Any) -> str:
    """Return a literal text without its quotes, an expression without what marks it as one."""
    text = str(value)
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    return text[2:-1] if text.startswith("${") and text.endswith("}") else text


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a value, however deep, keys of objects too."""
    if isinstance(value, Mapping):
        for key, held in value.items():
            if key != _BLOCK:
                yield str(key)
                yield from texts_in(held)
    elif isinstance(value, list):
        for held in value:
            yield from texts_in(held)
    elif isinstance(value, str):
        yield value


@functools.cache
def _blocks(file: str, text: str) -> tuple[Block, ...]:
    try:
        parsed = hcl2.loads(text, serialization_options=SerializationOptions(with_comments=False))
    except UnexpectedInput as error:
        why = str(error).strip().splitlines()[0]
        raise UnreadableError(f"{file}: cannot be read: {why}") from error
    blocks: list[Block] = []
    for kind, found in parsed.items():
        for body in _list(found):
            labels: tuple[str, ...] = ()
            for _ in range(_LABELS.get(kind, 0)):
                [(label, body)] = body.items()  # noqa: PLW2901  down to the block itself
                labels += (text_of(label),)
            blocks.append(Block(file=file, kind=kind, labels=labels, body=body))
    return tuple(blocks)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
