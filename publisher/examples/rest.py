"""Copy a model by REST with nothing but requests: python rest.py SOURCE DESTINATION KEY.

The answer to a copy that takes longer than a call waits is 202, and says where to look.
A token comes from MODEL_COPY_TOKEN, or a fresh one for each call from `model-copy token` where
MODEL_COPY_AUDIENCE is set: a token lasts an hour, and so may a copy.
"""

import os
import subprocess
import sys
from urllib.parse import urljoin

import requests

API_URL = os.environ["API_URL"]
WAIT_SECONDS = 240  # a NAT of AWS forgets a connection that is silent for 350 s


def authorization() -> dict[str, str]:
    """Return the header that says who calls; nothing where nobody is asked."""
    token, audience = os.environ.get("MODEL_COPY_TOKEN"), os.environ.get("MODEL_COPY_AUDIENCE")
    if not token and audience:
        command = ["model-copy", "token", "--audience", audience]
        token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
    return {"Authorization": f"Bearer {token}"} if token else {}


def copy_model(source: str, destination: str, key: str) -> str:
    """Return the full name of the copy; the same key again is the same copy."""
    with requests.Session() as http:
        wait = {"Prefer": f"wait={WAIT_SECONDS}"}
        answer = http.post(
            f"{API_URL}/v1/models/copy",
            json={"source_model_id": source, "destination_model_id": destination},
            headers=authorization() | wait | {"Idempotency-Key": key},
            timeout=WAIT_SECONDS + 60,
        )
        place = answer.headers.get("Location")
        while answer.status_code == requests.codes.accepted or (
            answer.ok and answer.json().get("done") is False
        ):
            answer = http.get(
                urljoin(API_URL, place),
                params={"wait": WAIT_SECONDS},
                headers=authorization(),
                timeout=WAIT_SECONDS + 60,
            )
    told = answer.json()
    if not answer.ok:
        raise SystemExit(f"{told.get('title')}: {told.get('detail')}")
    outcome = told.get("copy", told)
    if "resource_name" not in outcome:
        raise SystemExit(f"not copied: {outcome.get('error') or outcome}")
    return str(outcome["resource_name"])


if __name__ == "__main__":
    print(copy_model(*sys.argv[1:4]))
