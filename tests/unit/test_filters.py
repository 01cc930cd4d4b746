"""The filter language: what is accepted, what it matches, what is refused."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_cloud.filters import FilterSyntaxError, Predicate, parse_filter


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("", {}, None),
        ("  ", {"a": "b"}, None),
        ("attributes:colour", {"colour": ""}, {"color": "red"}),
        ('attributes.ce-type = "copy"', {"ce-type": "copy"}, {"ce-type": "Copy"}),
        ('attributes.a="b"', {"a": "b"}, {}),
        ('attributes.a != "b"', {"a": "c"}, {"a": "b"}),
        ('attributes.a != "b"', {}, {"a": "b"}),
        ('hasPrefix(attributes.a, "eu-")', {"a": "eu-west1"}, {"a": "us-eu-"}),
        ('hasPrefix(attributes.a, "")', {"a": ""}, {}),
        ('NOT hasPrefix(attributes.a, "eu-")', {}, {"a": "eu-"}),
        ("-attributes:a", {"b": ""}, {"a": ""}),
        ("NOT NOT attributes:a", {"a": ""}, {}),
        ("attributes:a AND attributes:b", {"a": "", "b": ""}, {"a": ""}),
        ("attributes:a OR attributes:b OR attributes:c", {"c": ""}, {"d": ""}),
        (
            "attributes:a AND (attributes:b OR NOT attributes:c)",
            {"a": ""},
            {"a": "", "c": ""},
        ),
        ("(((attributes:a)))", {"a": ""}, {}),
        ('attributes:"iana.org/language tag"', {"iana.org/language tag": ""}, {}),
        ("attributes:AND", {"AND": ""}, {}),
    ],
)
def test_a_filter_matches_what_it_says(
    text: str, matching: dict[str, str], other: dict[str, str] | None
) -> None:
    matches = parse_filter(text)

    assert matches(matching)
    assert other is None or not matches(other)


def test_escapes_in_strings_are_read() -> None:
    matches = parse_filter('attributes.a = "say \\"x\\" \\\\ \\n \\x41 \\u00e9 \\101"')

    assert matches({"a": 'say "x" \\ \n A é A'})


@pytest.mark.parametrize(
    "text",
    [
        "colour",
        "attributes",
        "attributes:",
        "attributes.a",
        "attributes.a = b",
        "attributes.a = 'b'",
        'attributes.a < "b"',
        'attributes.a = "b',
        "attributes:iana.org",
        'hasSuffix(attributes.a, "b")',
        'hasPrefix(attributes.a "b")',
        "attributes:a AND",
        "attributes:a attributes:b",
        "attributes:a and attributes:b",
        "(attributes:a",
        "attributes:a)",
        "NOT",
        "(" * 256,
        "-(" * 128,
        'attributes.a = "1" ""',
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(FilterSyntaxError):
        parse_filter(text)


def test_and_with_or_needs_parentheses() -> None:
    """The real service refuses the mixture, so accepting it here would hide the mistake."""
    with pytest.raises(FilterSyntaxError, match="parentheses"):
        parse_filter("attributes:a AND attributes:b OR attributes:c")


def test_a_filter_has_at_most_256_bytes() -> None:
    longest = 'attributes.a = "{}"'.format("x" * (256 - 17))

    assert parse_filter(longest)({"a": "x" * 239})
    with pytest.raises(FilterSyntaxError, match="256"):
        parse_filter(longest + " ")
    with pytest.raises(FilterSyntaxError, match="256"):
        parse_filter(longest.replace("xx", "é€"))


# Other work on the machine is no failure of a filter.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_keys = st.sampled_from(["a", "b", "ce-type"])
_values = st.sampled_from(["", "x", "xy"])
_matches = st.one_of(
    _keys.map(lambda k: (f"attributes:{k}", lambda m: k in m)),
    st.tuples(_keys, _values).map(
        lambda kv: (f'attributes.{kv[0]} = "{kv[1]}"', lambda m: m.get(kv[0]) == kv[1])
    ),
    st.tuples(_keys, _values).map(
        lambda kv: (f'attributes."{kv[0]}" != "{kv[1]}"', lambda m: m.get(kv[0]) != kv[1])
    ),
    st.tuples(_keys, _values).map(
        lambda kv: (
            f'hasPrefix(attributes.{kv[0]},"{kv[1]}")',
            lambda m: kv[0] in m and m[kv[0]].startswith(kv[1]),
        )
    ),
)


def _joined(parts: list[tuple[str, Predicate]], word: str) -> tuple[str, Predicate]:
    text = f" {word} ".join(f"({part})" for part, _ in parts)
    join = all if word == "AND" else any
    return text, lambda attributes: join(matches(attributes) for _, matches in parts)


def _negated(part: tuple[str, Predicate], sign: str) -> tuple[str, Predicate]:
    return f"{sign}({part[0]})", lambda attributes: not part[1](attributes)


_filters = st.recursive(
    _matches,
    lambda inner: st.one_of(
        st.builds(_joined, st.lists(inner, min_size=2, max_size=3), st.sampled_from(["AND", "OR"])),
        st.builds(_negated, inner, st.sampled_from(["NOT ", "-"])),
    ),
    max_leaves=5,
).filter(lambda pair: len(pair[0]) <= 256)


@unhurried
@given(pair=_filters, attributes=st.dictionaries(_keys, _values))
def test_a_filter_agrees_with_its_meaning(
    pair: tuple[str, Predicate], attributes: dict[str, str]
) -> None:
    text, meaning = pair

    assert parse_filter(text)(attributes) == meaning(attributes)


@unhurried
@given(text=st.text(alphabet='attributes.:=!"\\-() ANDORT\nxé', max_size=80))
def test_any_text_is_a_filter_or_a_syntax_error(text: str) -> None:
    try:
        matches = parse_filter(text)
    except FilterSyntaxError:
        return
    assert matches({}) in (True, False)
