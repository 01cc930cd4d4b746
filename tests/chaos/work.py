"""What is asked for in a run of chaos, and what befalls the asking: all from one seed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from local_cloud.stack import SOURCE_PROJECT, TARGET_PROJECT

PLACE = "locations/us-central1/models"
SOURCES = [f"projects/{SOURCE_PROJECT}/{PLACE}/{number}" for number in range(7001, 7006)]
PARENTS = [f"projects/{TARGET_PROJECT}/{PLACE}/parent-{number}" for number in range(10)]
SHARED_IDS = 50
CANCELLED_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, as it is published."""

    request_id: str
    data: bytes
    cancelled: bool  # a cancel is published for it a moment later

    @property
    def attributes(self) -> dict[str, str]:
        return {
            "ce-specversion": "1.0",
            "ce-id": self.request_id,
            "ce-source": "//chaos",
            "ce-type": "dev.modelcopier.copy.requested.v1",
            "content-type": "application/json",
        }


def asks(count: int, seed: int) -> Iterator[Ask]:
    """A third new models, a third models of fifty shared ids, a third versions of ten parents."""
    random = Random(seed)
    for number in range(count):
        data: dict[str, Any] = {"source_model_id": random.choice(SOURCES).rpartition("/")[2]}
        match number % 3:
            case 0:
                data["destination_model_id"] = f"own-{number}"
            case 1:
                data["destination_model_id"] = f"shared-{random.randrange(SHARED_IDS)}"
                data["if_exists"] = random.choice(["fail", "skip", "new_version"])
            case 2:
                data["destination_parent_model"] = f"parent-{random.randrange(len(PARENTS))}"
        yield Ask(
            request_id=f"chaos-{seed}-{number}",
            data=json.dumps(data).encode(),
            cancelled=random.random() < CANCELLED_SHARE,
        )


def cancel_of(ask: Ask) -> tuple[bytes, dict[str, str]]:
    attributes = ask.attributes | {
        "ce-id": f"cancel-{ask.request_id}",
        "ce-type": "dev.modelcopier.copy.cancel.requested.v1",
    }
    return json.dumps({"request_id": ask.request_id}).encode(), attributes
