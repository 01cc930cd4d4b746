"""How plainly docs and help speak: ``make words``.

Counts private idioms for each thousand words of prose: README, docs, changelog, and the help of
the commands. Code blocks and ADRs, which keep their text, are left out. Also prints the longest
names of tests. Exit code 1: over the limit.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_IDIOMS = 1.0  # for each thousand words
# Words that readers of other projects' docs never meet, and that they would not search for.
IDIOMS = (
    r"whoever|whomever|nobody(?:'s)?|somebody(?:'s)?|whatever|whichever",
    r"told|announced|unanswered for",
    r"lies (?:in|there|beside|on)|lie there|lay there",
    r"mends?|mended|mending",
    r"tak(?:e|es|en) (?:up|in|on)|took up",
    r"hand(?:s|ed)? on|puts? off|sets? right",
    r"c(?:ame|omes?) to nothing|c(?:ame|omes?) of",
    r"stands? still|how (?:it|one|they|copies|requests?|all) stands?",
    r"for good",
)
IDIOM = re.compile(rf"\b(?:{'|'.join(IDIOMS)})\b", re.IGNORECASE)
_FENCED = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`[^`\n]*`|\]\([^)\s]*\)")


def main() -> int:
    counted: Counter[str] = Counter()
    words = 0
    for name, text in sorted([*pages(), *helps()]):
        prose = _INLINE.sub(" ", _FENCED.sub(" ", text))
        size, found = len(re.findall(r"[A-Za-z][\w'-]*", prose)), IDIOM.findall(prose)
        words += size
        counted.update(each.lower() for each in found)
        rate = 1000 * len(found) / size if size else 0
        print(f"{rate:6.1f}  {len(found):4d} of {size:6,d} words  {name}")
    rate = 1000 * counted.total() / words
    print(f"{rate:6.1f}  {counted.total():4d} of {words:6,d} words  in all; at most {MOST_IDIOMS}")
    print("most:", ", ".join(f"{word} {count}" for word, count in counted.most_common(12)))
    for length, test in sorted(tests(), reverse=True)[:3]:
        print(f"{length} words: {test}")
    return 1 if rate > MOST_IDIOMS else 0


def pages() -> Iterator[tuple[str, str]]:
    """Yield each page that a reader meets, by its path."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("publisher/*.md")]
    for page in found:
        yield str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")


def helps() -> Iterator[tuple[str, str]]:
    """Yield what the commands say of themselves."""
    folder = Path(sys.executable).parent
    for command in ("model-copy", "model-copier-store"):
        yield f"{command} --help", _help(folder / command)
    publisher = _help(folder / "model-copy")
    names = re.findall(r"^  ([a-z-]+)  ", publisher.partition("Commands:")[2], re.MULTILINE)
    for name in names:
        yield f"model-copy {name} --help", _help(folder / "model-copy", name)


def _help(*command: str | Path) -> str:
    """Run ``command --help``, which reads no settings and opens no connection."""
    return subprocess.run(
        [*command, "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def tests() -> Iterator[tuple[int, str]]:
    """Yield how many words each test's name has."""
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = node.name
                if name.startswith("test_"):
                    yield len(name.split("_")) - 1, name


if __name__ == "__main__":
    sys.exit(main())
