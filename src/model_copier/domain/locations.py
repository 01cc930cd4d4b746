"""Locations of Vertex AI and the hosts that serve them. Pure, standard library only.

A region is served by a host of its own, the multi-regions ``us`` and ``eu`` by REP hosts,
``global`` by the host without a region. The table is our own literal, because Google's
package takes seconds to import; a test holds it to what the installed package says.
"""

import difflib
import re
from collections.abc import Collection, Mapping

_REGIONS = (
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "australia-southeast2",
    "europe-central2",
    "europe-north1",
    "europe-north2",
    "europe-southwest1",
    "europe-west1",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "europe-west12",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "southamerica-east1",
    "southamerica-west1",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-east7",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
    "us-west8",
)
_REGION = re.compile(r"[a-z]+-[a-z]+[1-9][0-9]?")
_ZONE = re.compile(r"(?P<region>[a-z]+-[a-z]+[1-9][0-9]?)-[a-z]")
# What people write for the multi-regions; no spelling of theirs is near enough to be found.
_MEANT = {"europe": "eu", "usa": "us", "america": "us", "worldwide": "global"}

# https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/tuning/supervised-tuning:
# tuned Gemini 3 models are served in `us` and `eu` only.
HOSTS: Mapping[str, str] = {
    **{region: f"{region}-aiplatform.googleapis.com" for region in _REGIONS},
    "us": "aiplatform.us.rep.googleapis.com",
    "eu": "aiplatform.eu.rep.googleapis.com",
    "global": "aiplatform.googleapis.com",
}
LOCATIONS = frozenset(HOSTS)


def host_of(location: str) -> str:
    """Return the host that serves a location; a region newer than the table has the usual form.

    Raises:
        ValueError: no host serves a location of such a name.
    """
    if host := HOSTS.get(location):
        return host
    if bad := explain_no_location(location):
        raise ValueError(bad)
    return f"{location}-aiplatform.googleapis.com"


def explain_no_location(text: str) -> str | None:
    """Say why no host can serve a location of this name, or None where one may."""
    if text in HOSTS or _REGION.fullmatch(text):
        return None
    return _told(text, LOCATIONS)


def explain_unknown_location(text: str, allowed: Collection[str]) -> str | None:
    """Say why a request may not name this location, with the nearest one that it may."""
    return None if text in allowed else _told(text, allowed)


def _told(text: str, allowed: Collection[str]) -> str:
    shown = repr(text if len(text) <= 80 else text[:77] + "...")
    zone = _ZONE.fullmatch(text)
    what = "is a zone, not a region" if zone else "is not an allowed location"
    if text not in HOSTS and not zone:
        what = "is not a known location of Vertex AI"
    if near := nearest(text, allowed):
        return f"{shown} {what}; did you mean {near}?"
    return f"{shown} {what}; allowed are {', '.join(sorted(allowed))}"


def nearest(text: str, allowed: Collection[str] = LOCATIONS) -> str | None:
    """Return the allowed location that was probably meant, if one looks like it."""
    lower = text[:80].lower()
    zone = _ZONE.fullmatch(lower)
    guess = zone["region"] if zone else _MEANT.get(lower, lower)
    if guess in allowed:
        return guess
    return next(iter(difflib.get_close_matches(guess, sorted(allowed), n=1)), None)
