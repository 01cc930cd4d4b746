"""Which host of Google's serves which location, as far as a caller of the local one can tell.

Pure. A server that stands for one location answers as Google's hosts do to a name of another
one: there is no such thing, in HTTP's words and not in the API's
(https://github.com/langchain4j/langchain4j/issues/5865).
"""

import re

from local_cloud.vertex_records import LOCATION_NAME, Code, VertexError

# What locations look like; a zone (us-central1-a) is none, and has no host.
_LOCATION = re.compile(r"[a-z]+-[a-z]+[1-9][0-9]?|us|eu|global")
_HOST = re.compile(
    r"(?:(?P<region>[a-z0-9-]+)-)?aiplatform(?:\.(?P<geo>[a-z]+)\.rep)?\.googleapis\.com(?::[0-9]+)?"
)
# What a gRPC client makes of the page that such a host answers.
_NOT_SERVED = "Received http2 header with status: 404"


def location_of_host(host: str) -> str:
    """Return the location that one of Google's hosts serves; "" for any other host.

    There is no us-aiplatform.googleapis.com: such a name serves a location that is none.
    """
    found = _HOST.fullmatch(host)
    if not found:
        return ""
    if found["region"] in {"us", "eu", "global"}:
        return "none"
    return found["region"] or found["geo"] or "global"


def check_served(resource: str, *, served: str) -> None:
    """Let a name pass where a server of this location answers for it; "" serves every one.

    Raises:
        VertexError: UNIMPLEMENTED, as a client tells of a host that serves no such name.
    """
    named = LOCATION_NAME.match(resource)
    if named and (
        not _LOCATION.fullmatch(named["location"]) or served not in {"", named["location"]}
    ):
        raise VertexError(Code.UNIMPLEMENTED, _NOT_SERVED)
