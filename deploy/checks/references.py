"""Whatever an expression names is there, gives what is asked of it, and needs nobody in turn."""

import json
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from deploy.checks.configuration import Block, Configuration, is_literal, members, texts_in
from deploy.checks.facts import FACTS
from deploy.checks.problem import Problem

_SIMPLE = re.compile(r"(?<![\w.])(var|local)\.(\w+)")
_RESOURCE = re.compile(r"(?<![\w.\"/])(data\.)?(google_\w+)\.(\w+)(?:\[[^\]]*\])?(?:\.([a-z]\w*))?")


def problems(configuration: Configuration) -> Iterator[Problem]:
    yield from _values(configuration)
    yield from _resources(configuration)
    yield from _circles(configuration)


def _values(configuration: Configuration) -> Iterator[Problem]:
    """Variables and locals: each that is named is declared, and the other way round."""
    declared = {("var", b.labels[0]): b for b in configuration.of("variable")}
    for block in configuration.of("locals"):
        declared |= {("local", name): block for name, _, _ in members(block.body)}
    used: set[tuple[str, str]] = set()
    for block in configuration.blocks:
        named = {found for text in _expressions(block) for found in _SIMPLE.findall(text)}
        used |= named
        for kind, name in sorted(named - declared.keys()):
            yield Problem.in_block(block, f"{kind}.{name} is declared nowhere")
    for kind, name in declared.keys() - used:
        yield Problem(declared[kind, name].file, f"{kind}.{name}", "is used nowhere")


def _resources(configuration: Configuration) -> Iterator[Problem]:
    known = json.loads(FACTS.read_text(encoding="utf-8"))["known"]
    there = {b.address for b in configuration.blocks}
    for block in configuration.blocks:
        named = {found for text in _expressions(block) for found in _RESOURCE.findall(text)}
        for data, type_, name, attribute in sorted(named):
            address = f"{data}{type_}.{name}"
            facts = known.get(f"{'data' if data else 'resource'} {type_}")
            if address not in there:
                yield Problem.in_block(block, f"{address} is declared nowhere")
            elif facts and attribute and attribute not in facts["gives"].split():
                yield Problem.in_block(block, f"{address} gives no {attribute}")


def _circles(configuration: Configuration) -> Iterator[Problem]:
    """Terraform makes things one after the other: nothing may wait for itself."""
    needs = {b.address: _named(b.body) for b in configuration.of("resource")}
    needs |= {f"local.{name}": _named(value) for name, value in configuration.locals.items()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        yield Problem("", error.args[1][0], f"waits for itself: {' <- '.join(error.args[1])}")


def _named(value: Any) -> set[str]:
    texts = [text for text in texts_in(value) if not is_literal(text)]
    simple = {
        f"local.{name}" for t in texts for kind, name in _SIMPLE.findall(t) if kind == "local"
    }
    return simple | {f"{d}{type_}.{n}" for t in texts for d, type_, n, _ in _RESOURCE.findall(t)}


def _expressions(block: Block) -> Iterator[str]:
    for text in texts_in(block.body):
        if not is_literal(text):
            yield text
