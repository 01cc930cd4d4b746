"""Pages, filters and orders of the lists that the local Vertex AI gives.

It reads less than Google does, and says so: a filter or an order that it does not
understand is INVALID_ARGUMENT, never ignored, for a caller would take a whole list for
a filtered one.
"""

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

from local_cloud.vertex_records import Code, CopyOperation, ModelVersion, VertexError

PAGE_SIZE = 100

_MODEL_FILTER = re.compile(
    r'\s*(model|display_?name|labels\.[\w-]+)\s*(!?=)\s*"?([^"\s]+)"?\s*', re.IGNORECASE
)
_DONE_FILTER = re.compile(r"\s*(?:done\s*[:=]\s*(true|false))?\s*", re.IGNORECASE)

_Item = TypeVar("_Item")


def page(
    items: Sequence[_Item],
    request: Any,
    *,
    key: Callable[[_Item], str],
    wanted: Callable[[_Item], bool] = lambda _: True,
) -> tuple[Sequence[_Item], str]:
    """Cut one page of what is wanted. The token is the key of the last item of the page before.

    That one may no longer be wanted: an operation ends between two pages.
    """
    if request.page_size < 0:
        raise VertexError(Code.INVALID_ARGUMENT, "page_size must not be negative.")
    start = 0
    if request.page_token:
        keys = [key(item) for item in items]
        if request.page_token not in keys:
            raise VertexError(Code.INVALID_ARGUMENT, "page_token is not one of this list.")
        start = keys.index(request.page_token) + 1
    size = min(request.page_size or PAGE_SIZE, PAGE_SIZE)
    rest = list(islice((item for item in items[start:] if wanted(item)), size + 1))
    return rest[:size], key(rest[size - 1]) if len(rest) > size else ""


def refuse_order(order_by: str) -> None:
    if order_by:
        raise VertexError(
            Code.INVALID_ARGUMENT, "The local Vertex AI lists in one order; leave out order_by."
        )


def model_filter(text: str) -> Callable[[ModelVersion], bool]:
    if not text.strip():
        return lambda _: True
    found = _MODEL_FILTER.fullmatch(text)
    if not found:
        raise VertexError(
            Code.INVALID_ARGUMENT,
            "The local Vertex AI reads one comparison, = or !=, of model, display_name or "
            f"labels.KEY as a filter, not {text!r}.",
        )
    field_name, comparison, value = found.groups()

    def wanted(version: ModelVersion) -> bool:
        match field_name.lower().replace("_", "").partition("."):
            case ("model", _, _):
                actual: str | None = version.name.model
            case ("displayname", _, _):
                actual = version.display_name
            case _:
                actual = version.labels.get(field_name.partition(".")[2])
        return (actual == value) is (comparison == "=")

    return wanted


def operation_filter(text: str) -> Callable[[CopyOperation], bool]:
    found = _DONE_FILTER.fullmatch(text)
    if not found:
        raise VertexError(
            Code.INVALID_ARGUMENT,
            f"The local Vertex AI reads done=true or done=false as a filter, not {text!r}.",
        )
    state = found[1]
    return lambda operation: not state or operation.done is (state.lower() == "true")
