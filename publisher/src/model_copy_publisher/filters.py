"""Subscription filters: what Pub/Sub need not send us at all.

Pure. A filter only saves traffic. Whoever receives looks at every message himself,
because a filter has 256 bytes, which does not always say what is wanted, and because
Google's emulator accepts filters and ignores them.
"""

import json
from collections.abc import Collection, Sequence

MAX_FILTER_BYTES = 256


def of_requests(request_ids: Collection[str], *, prefixes: Sequence[str] = ()) -> str:
    """Let through what is about these requests, or about any whose id begins so.

    Many ids are narrowed to what they have in common, which for a batch is its name;
    where that is nothing, nothing is filtered.
    """
    if not all(each.isprintable() for each in request_ids):
        return ""
    also = [f"hasPrefix(attributes.request_id, {_quoted(prefix)})" for prefix in prefixes]
    exact = " OR ".join(
        [*(f"attributes.request_id = {_quoted(each)}" for each in request_ids), *also]
    )
    if len(exact.encode()) <= MAX_FILTER_BYTES:
        return exact
    common = _common_beginning(min(request_ids), max(request_ids))
    if not common:
        return ""
    text = " OR ".join([f"hasPrefix(attributes.request_id, {_quoted(common)})", *also])
    return text if len(text.encode()) <= MAX_FILTER_BYTES else ""


def of_events(*, outcomes: Collection[str] = (), tag: str | None = None) -> str:
    """Let through outcomes of these kinds and with this tag, as far as that fits."""
    either = " OR ".join(f'attributes.outcome = "{outcome}"' for outcome in sorted(outcomes))
    tagged = (
        f"attributes.reply_tag = {_quoted(tag)}" if tag is not None and tag.isprintable() else ""
    )
    both = f"({either}) AND {tagged}" if either and tagged else ""
    fitting = (text for text in (both, tagged, either) if text)
    return next((text for text in fitting if len(text.encode()) <= MAX_FILTER_BYTES), "")


def _quoted(printable: str) -> str:
    """Quote as JSON does: of its escapes, those that printable text needs are the filter's too."""
    return json.dumps(printable, ensure_ascii=False)


def _common_beginning(first: str, last: str) -> str:
    """Of sorted texts, the first and the last have in common what all have."""
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((i for i, (one, other) in pairs if one != other), len(first))]
