"""The examples in docs/messages.md: JSON blocks that name the golden message they come from."""

import json
import re
from functools import reduce
from pathlib import Path
from typing import Any

from golden.stories import Story

FILE = Path(__file__).parents[2] / "docs" / "messages.md"
# After ```json: the word golden, the name of the message, and where in it.
EXAMPLE = re.compile(
    r"^```json golden (?P<name>\S+) (?P<path>\S+)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)
_WIDTH = 150


def golden(name: str, path: str) -> Any:
    """Find what an example shows."""
    story = Story.read(name)
    told: Any = {"message": story.message, "expected": story.expected}
    return reduce(
        lambda inside, key: inside[int(key) if key.isdigit() else key], path.split("."), told
    )


def with_examples(page: str) -> str:
    """Bring the examples up to date; those that are true stay as they are laid out."""

    def mended(found: re.Match[str]) -> str:
        value = golden(found["name"], found["path"])
        if json.loads(found["text"]) == value:
            return found[0]
        return f"```json golden {found['name']} {found['path']}\n{_packed(value)}\n```"

    return EXAMPLE.sub(mended, page)


def _packed(value: dict[str, Any]) -> str:
    """Several fields a line, so that the page stays short."""
    lines = [""]
    for name, inner in value.items():
        field = json.dumps({name: inner}, ensure_ascii=False)[1:-1] + ","
        if len(lines[-1]) + len(field) > _WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {field}".strip()
    inside = "\n".join(f"  {line}" for line in lines).rstrip(",")
    return "{\n" + inside + "\n}"
