"""The table in docs/local-cloud.md that sets the servers beside the documentation.

``python -m contract.pubsub.page`` writes it anew.
"""

import re
from pathlib import Path

from contract.pubsub.behaviours import table

FILE = Path(__file__).parents[3] / "docs" / "local-cloud.md"
_PLACE = re.compile(r"(?<=<!-- generated: make contracts -->\n).*?(?=<!-- end -->)", re.DOTALL)


def with_table(page: str) -> str:
    """Put the table where the page has room for it."""
    assert _PLACE.search(page)
    return _PLACE.sub(lambda _: "\n".join(table()) + "\n", page)


if __name__ == "__main__":
    FILE.write_text(with_table(FILE.read_text()))
