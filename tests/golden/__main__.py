"""``python -m golden table`` prints the golden messages; ``write`` brings the files up to date."""

import asyncio
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from golden import asyncapi, page, schemas, stories


async def write() -> None:
    """Write the schemas, what each golden message is answered with, and what shows them."""
    for name, schema in schemas.schemas().items():
        (schemas.FOLDER / name).write_text(schemas.as_text(schema))
    schemas.PUBLISHERS.write_text(schemas.as_text(schemas.schemas()[schemas.PUBLISHERS.name]))
    for story in stories.stories():
        story.write(await stories.happened(story))
    page.FILE.write_text(page.with_examples(page.FILE.read_text()))
    asyncapi.FILE.write_text(asyncapi.as_text())


def table() -> Iterator[str]:
    """Input, verdict, reply, letter: a line for each golden message."""
    rows = [("MESSAGE", "VERDICT", "LETTER", "REPLY")]
    for story in stories.stories():
        told = story.expected
        letters = [letter["attributes"]["dead_letter_code"] for letter in told["letters"]]
        rows.append(
            (
                story.name,
                told["verdict"],
                ", ".join(letters) or "-",
                " | ".join(_reply(reply["data"]) for reply in told["replies"]) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    terminal = shutil.get_terminal_size(fallback=(200, 0)).columns
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()[:terminal]


def _reply(data: Mapping[str, Any]) -> str:
    told: str = data.get("outcome") or f"status {data['state']}"
    if "error" in data:
        return f"{told}: {data['error']['message']}"
    made = f"{data['resource_name']}" if "resource_name" in data else ""
    version = f"@{data['version']}" if "version" in data else ""
    return f"{told} {made.rpartition('/')[2]}{version}".strip()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write"]:
            asyncio.run(write())
        case ["table"]:
            print("\n".join(table()))
        case _:
            sys.exit(__doc__)
