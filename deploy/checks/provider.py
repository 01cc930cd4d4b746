"""Every block and argument beside what the provider takes, as ``facts`` wrote it down.

What a value comes to is not known here; a literal one is held to its type. Terraform itself
does all this too, once it has the provider; here it must not need it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from deploy.checks.configuration import Block, Configuration, is_literal, members, text_of
from deploy.checks.facts import FACTS
from deploy.checks.problem import Problem

# Terraform's own, in every resource.
_META = {
    "count": "any", "depends_on": "any", "for_each": "any", "lifecycle": ["?", None],
    "provider": "any",
}  # fmt: skip
_VALIDATION = ["*", {"condition": "any!", "error_message": "string!"}]
_OWN: Mapping[str, Mapping[str, Any]] = {
    "variable": {
        "type": "any!", "description": "string!", "default": "any", "nullable": "bool",
        "sensitive": "bool", "validation": _VALIDATION,
    },
    "output": {"value": "any!", "description": "string!", "sensitive": "bool"},
}  # fmt: skip
_COUNTS = {
    "1": (1, 1, "one"),
    "?": (0, 1, "at most one"),
    "*": (0, 1000, "any number"),
    "+": (1, 1000, "at least one"),
}


def problems(configuration: Configuration) -> Iterator[Problem]:
    known = json.loads(FACTS.read_text(encoding="utf-8"))["known"]
    for block in configuration.blocks:
        if block.kind in ("resource", "data"):
            facts = known.get(f"{block.kind} {block.type}")
            if facts is None:
                what = (
                    f"the provider's facts know no {block.kind} {block.type}{_like(block, known)}"
                )
                yield Problem.in_block(block, f"{what}; if it is right: make provider-facts")
                continue
            takes = facts["takes"] | _META
        elif block.kind in _OWN:
            takes = _OWN[block.kind]
        else:
            continue
        for what in _compare(block.body, takes, ""):
            yield Problem.in_block(block, what)
    yield from _twice(configuration)


def _compare(body: Mapping[str, Any], takes: Mapping[str, Any], path: str) -> Iterator[str]:
    found: Counter[str] = Counter()
    for name, value, is_block in members(body):
        found[name] += 1
        expected = takes.get(name)
        if expected is None:
            like = get_close_matches(name, takes, 1)
            meant = f"; meant was perhaps {like[0]}" if like else ""
            yield f"{path}{name} is no argument here{meant}"
        elif isinstance(expected, list) != is_block:
            form = f"a block: {name} {{ ... }}" if isinstance(expected, list) else f"{name} = ..."
            yield f"{path}{name} should be written as {form}"
        elif is_block:
            if expected[1] is not None:
                yield from _compare(value, expected[1], f"{path}{name}.")
        else:
            yield from _typed(value, expected.rstrip("!"), path + name)
    for name, expected in takes.items():
        if isinstance(expected, list):
            least, most, wanted = _COUNTS[expected[0]]
            if not least <= found[name] <= most and not _is_dynamic(body, name):
                yield f"{path}{name} is there {found[name]} times; there should be {wanted}"
        elif expected.endswith("!") and not found[name]:
            yield f"{path}{name} is missing: the provider requires it"


def _typed(value: Any, type_: str, name: str) -> Iterator[str]:
    if not is_literal(value):
        return
    text = text_of(value).lower()
    wrong = {
        "number": not re.fullmatch(r"-?\d+(\.\d+)?", text),
        "bool": text not in ("true", "false"),
        "string": isinstance(value, list | dict),
        "map": not isinstance(value, dict),
        "list(string)": not isinstance(value, list),
        "list(number)": not isinstance(value, list),
    }
    if wrong.get(type_) and text != "null":
        yield f"{name} = {value} should be a {type_}"


def _twice(configuration: Configuration) -> Iterator[Problem]:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for block in configuration.blocks:
        if block.labels and (block.kind, block.labels) in seen:
            yield Problem.in_block(block, "is there twice")
        seen.add((block.kind, block.labels))


def _is_dynamic(body: Mapping[str, Any], name: str) -> bool:
    return any(text_of(label) == name for each in body.get("dynamic", []) for label in each)


def _like(block: Block, known: Mapping[str, Any]) -> str:
    like = get_close_matches(f"{block.kind} {block.type}", known, 1)
    return f"; meant was perhaps {like[0].split()[1]}" if like else ""
