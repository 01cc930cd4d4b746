"""The filter language of a subscription: text in, a predicate over attributes out.

Filters see the attributes of a message and nothing else. The grammar is the documented one
(cloud.google.com/pubsub/docs/subscription-message-filter)::

    filter    = condition
    condition = term {"AND" term} | term {"OR" term}
    term      = {"NOT" | "-"} (match | "(" condition ")")
    match     = "attributes" ":" key
              | "attributes" "." key ("=" | "!=") string
              | "hasPrefix" "(" "attributes" "." key "," string ")"

AND and OR in one condition need parentheses, as in the real service: a filter that this
module accepts must not be refused on the day of deployment. ``!=`` is the negation of ``=``,
so it also matches a message without the key.
"""

import re
from collections.abc import Callable, Mapping
from typing import NoReturn

MAX_FILTER_BYTES = 256

Predicate = Callable[[Mapping[str, str]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<word>[A-Za-z0-9_][A-Za-z0-9_-]*)
      | (?P<symbol>!=|[=:.,()-])
      | (?P<end>$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|([0-7]{3})|(.))", re.DOTALL)
_CONTROL = {"n": "\n", "r": "\r", "t": "\t"}


class FilterSyntaxError(ValueError):
    """The text is not a filter; the sentence says where and what was expected."""


def parse_filter(text: str) -> Predicate:
    """Compile ``text``; an empty filter matches every message.

    Raises:
        FilterSyntaxError: the text is no filter, or is longer than 256 bytes.
    """
    if len(text.encode()) > MAX_FILTER_BYTES:
        raise FilterSyntaxError(f"a filter has at most {MAX_FILTER_BYTES} bytes")
    if not text.strip():
        return lambda _attributes: True
    parser = _Parser(text)
    predicate = parser.condition()
    parser.expect("")
    return predicate


class _Parser:
    """One token of look-ahead; each method reads one rule of the grammar above."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._next = 0
        self._advance()

    def condition(self) -> Predicate:
        terms = [self._term()]
        joint = self._seen
        if joint not in ("AND", "OR"):
            return terms[0]
        while self._seen == joint:
            self._advance()
            terms.append(self._term())
        if self._seen in ("AND", "OR"):
            self._refuse("parentheses, because AND and OR are mixed")
        join = all if joint == "AND" else any
        return lambda attributes: join(term(attributes) for term in terms)

    def _term(self) -> Predicate:
        negated = False
        while self._seen in ("NOT", "-"):
            negated = not negated
            self._advance()
        if self._seen == "(":
            self._advance()
            predicate = self.condition()
            self.expect(")")
        else:
            predicate = self._match()
        return (lambda attributes: not predicate(attributes)) if negated else predicate

    def _match(self) -> Predicate:
        if self._seen == "hasPrefix":
            self._advance()
            self.expect("(")
            self.expect("attributes")
            self.expect(".")
            key = self._key()
            self.expect(",")
            prefix = self._string()
            self.expect(")")
            return lambda attributes: key in attributes and attributes[key].startswith(prefix)
        self.expect("attributes")
        if self._seen == ":":
            self._advance()
            key = self._key()
            return lambda attributes: key in attributes
        self.expect(".")
        key = self._key()
        operator = self._seen
        if operator not in ("=", "!="):
            self._refuse("= or !=")
        self._advance()
        value = self._string()
        if operator == "=":
            return lambda attributes: attributes.get(key) == value
        return lambda attributes: attributes.get(key) != value

    def _key(self) -> str:
        if self._sort == "word":
            key = self._seen
            self._advance()
            return key
        return self._string()

    def _string(self) -> str:
        if self._sort != "string":
            self._refuse("a quoted string")
        value = _ESCAPE.sub(_unescape, self._seen[1:-1])
        self._advance()
        return value

    def expect(self, token: str) -> None:
        if self._sort == "string" or self._seen != token:
            self._refuse(repr(token) if token else "the end")
        self._advance()

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._next)
        if found is None or found.lastgroup is None:
            raise FilterSyntaxError(f"unreadable at position {self._next}: {self._text!r}")
        self._sort = found.lastgroup
        self._seen = found[found.lastgroup]
        self._start = found.start(found.lastgroup)
        self._next = found.end()

    def _refuse(self, expected: str) -> NoReturn:
        raise FilterSyntaxError(f"expected {expected} at position {self._start}: {self._text!r}")


def _unescape(found: re.Match[str]) -> str:
    hexadecimal = found[1] or found[2]
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    if found[3]:
        return chr(int(found[3], 8))
    return _CONTROL.get(found[4], found[4])
