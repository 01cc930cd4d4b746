"""Copy a model by REST with nothing but requests: python rest.py SOURCE DESTINATION KEY.

The answer to a copy that takes longer than the service waits is 202, and says where to look.
"""

import os
import sys
from urllib.parse import urljoin

import requests

API_URL = os.environ["API_URL"]
TOKEN = os.environ.get("MODEL_COPY_TOKEN")


def copy_model(source: str, destination: str, key: str) -> str:
    """Return the full name of the copy; the same key again is the same copy."""
    with requests.Session() as http:
        if TOKEN:
            http.headers["Authorization"] = f"Bearer {TOKEN}"
        answer = http.post(
            f"{API_URL}/v1/models/copy",
            json={"source_model_id": source, "destination_model_id": destination},
            headers={"Idempotency-Key": key},
            timeout=320,  # the service itself answers after 290 s at the latest
        )
        place = answer.headers.get("Location")
        while answer.status_code == requests.codes.accepted or (
            answer.ok and answer.json().get("done") is False
        ):
            answer = http.get(urljoin(API_URL, place), params={"wait": 60}, timeout=90)
    told = answer.json()
    if not answer.ok:
        raise SystemExit(f"{told.get('title')}: {told.get('detail')}")
    outcome = told.get("copy", told)
    if "resource_name" not in outcome:
        raise SystemExit(f"not copied: {outcome.get('error') or outcome}")
    return str(outcome["resource_name"])


if __name__ == "__main__":
    print(copy_model(*sys.argv[1:4]))
