"""docs/operations.md names every line that the service can log."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()


def logged() -> set[str]:
    """The first argument of each call of ``log`` in the service."""
    calls = (
        node
        for file in (ROOT / "src" / "model_copier").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "log"
    )
    return {str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)}


def test_the_page_names_what_is_logged_and_nothing_else():
    table = PAGE.partition("## Log lines")[2].partition("##")[0]
    named = {
        name
        for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }

    assert named - {"message"} == logged()
