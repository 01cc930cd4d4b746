"""Refusals, quotas and chance of the local Vertex AI, as Google's clients meet them."""

# Fixtures and parameters speak by name:
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.api_core import exceptions
from google.longrunning import operations_pb2

from local_cloud.vertex import Code, Vertex
from simulators import SimulatedClock
from vertex_clients import CATS, SOURCE, TARGET, Caller, calling

COPY_SECONDS = 60.0
HERE = SOURCE.rpartition("/models/")[0]
OWN_IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-3:latest"
OTHER_IMAGE = "europe-docker.pkg.dev/somebody/images/server:1"
ACCOUNT = "mover@dst.iam.gserviceaccount.com"
AGENT = "service-222@gcp-sa-aiplatform.iam.gserviceaccount.com"
# What Google's clients raise, over gRPC and over REST.
REFUSED = {
    Code.PERMISSION_DENIED: exceptions.Forbidden,
    Code.FAILED_PRECONDITION: exceptions.BadRequest,
    Code.INVALID_ARGUMENT: exceptions.BadRequest,
}


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
async def vertex(clock) -> AsyncIterator[Vertex]:
    numbers = {"src": "111", "dst": "222"}
    cloud = Vertex(copy_seconds=COPY_SECONDS, clock=clock.now, project_numbers=numbers)
    cloud.add_model(SOURCE)
    async with cloud:
        yield cloud


async def ended(caller: Caller, clock: SimulatedClock, copy: Any) -> Any:
    clock.advance(COPY_SECONDS)
    name = copy.operation.name
    return await caller("get_operation", operations_pb2.GetOperationRequest(name=name))


# What Google says is refused


@dataclass(frozen=True, kw_only=True)
class Refusal:
    code: Code
    words: str
    model: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)


REFUSALS = {
    "BigQuery ML": Refusal(
        model={"kind": "BQML"}, code=Code.FAILED_PRECONDITION, words="source_model: .*BigQuery ML"
    ),
    "third-party container": Refusal(
        model={"kind": "CUSTOM", "container_image": OTHER_IMAGE},
        code=Code.FAILED_PRECONDITION,
        words=f"source_model: .*third-party container image {OTHER_IMAGE}.* another project",
    ),
    "no grant": Refusal(
        knobs={"grants": ["src->dst"]},
        code=Code.PERMISSION_DENIED,
        words="aiplatform.models.export.*source_model: grant roles/aiplatform.serviceAgent .*"
        f"on project src to {AGENT}",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_a_source_that_cannot_be_copied_is_refused_at_once(caller, vertex, refusal):
    vertex.add_model(f"{HERE}/models/8", **refusal.model)
    vertex.turn(**refusal.knobs)

    with pytest.raises(REFUSED[refusal.code], match=refusal.words):
        await caller.copy(source_model=f"{HERE}/models/8", model_id="cats")

    assert vertex.operations == ()
    assert [call.answer for call in vertex.copy_calls] == [refusal.code.name]


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_or_it_is_taken_and_fails_in_the_operation(caller, vertex, clock, refusal):
    vertex.add_model(f"{HERE}/models/8", **refusal.model)
    vertex.turn(dialect="refused-in-operation", **refusal.knobs)

    copy = await caller.copy(source_model=f"{HERE}/models/8", model_id="cats")

    error = (await ended(caller, clock, copy)).error
    assert error.code == refusal.code
    assert re.search(refusal.words, error.message)
    assert vertex.versions(CATS) == ()


@dataclass(frozen=True, kw_only=True)
class Allowed:
    model: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)


ALLOWED = {
    "Vertex AI's own image": Allowed(model={"kind": "CUSTOM", "container_image": OWN_IMAGE}),
    "another image, one project": Allowed(
        model={"kind": "CUSTOM", "container_image": OTHER_IMAGE}, asked={"parent": HERE}
    ),
    "granted": Allowed(knobs={"grants": ["dst->src"]}),
    "no grant, one project": Allowed(asked={"parent": HERE}, knobs={"grants": []}),
    "granted to the account": Allowed(
        asked={"custom_service_account": ACCOUNT}, knobs={"grants": [f"{ACCOUNT}->src"]}
    ),
}


@pytest.mark.parametrize("allowed", ALLOWED.values(), ids=ALLOWED)
async def test_what_is_documented_to_be_copied_is_copied(caller, vertex, clock, allowed):
    vertex.add_model(f"{HERE}/models/8", **allowed.model)
    vertex.turn(**allowed.knobs)

    copy = await caller.copy(source_model=f"{HERE}/models/8", model_id="cats", **allowed.asked)

    assert (await ended(caller, clock, copy)).HasField("response")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"encryption_spec": {"kms_key_name": "my-key"}},
            "encryption_spec.kms_key_name: 'my-key' is not of the form",
        ),
        (
            {
                "encryption_spec": {
                    "kms_key_name": "projects/dst/locations/us-central1/keyRings/r/cryptoKeys/k"
                }
            },
            "encryption_spec.kms_key_name: .* is in us-central1, but must be in europe-west4",
        ),
        (
            {"custom_service_account": "mover@src.iam.gserviceaccount.com"},
            "custom_service_account: .* no service account of the destination project dst",
        ),
        ({"model_id": "7"}, "model_id: '7' must be"),
        ({"source_model": "7"}, "source_model: '7' is not"),
        ({"parent_model": "7", "model_id": ""}, "parent_model: '7' is not"),
    ],
)
async def test_a_field_that_is_wrong_is_named(caller, asked, words):
    with pytest.raises(exceptions.BadRequest, match=words):
        await caller.copy(**{"model_id": "cats", **asked})


async def test_an_account_without_a_grant_is_told_the_role_that_it_lacks(caller, vertex):
    vertex.turn(grants=["dst->src"])

    with pytest.raises(
        exceptions.Forbidden, match=r"roles/aiplatform\.user on project src to mover"
    ):
        await caller.copy(model_id="cats", custom_service_account=ACCOUNT)


# What a copy keeps and loses


async def test_a_copy_keeps_kind_image_and_labels_and_loses_evaluations_and_aliases(
    caller, vertex, clock
):
    source = f"{HERE}/models/8"
    vertex.add_model(
        source,
        display_name="cats",
        description="of the house",
        labels={"team": "pets"},
        aliases=["default", "best"],
        kind="CUSTOM",
        container_image=OWN_IMAGE,
        evaluations={"offline": {"accuracy": 0.9}},
    )

    await ended(caller, clock, await caller.copy(source_model=source, model_id="cats"))

    copy = await caller("get_model", {"name": CATS})
    assert (copy.display_name, copy.description) == ("cats", "of the house")
    assert dict(copy.labels) == {"team": "pets"}
    assert copy.model_source_info.source_type.name == "CUSTOM"
    assert copy.container_spec.image_uri == OWN_IMAGE
    assert list(copy.version_aliases) == ["default"]
    (evaluation,) = await caller.listed("list_model_evaluations", {"parent": source})
    assert (evaluation.display_name, dict(evaluation.metrics)) == ("offline", {"accuracy": 0.9})
    assert await caller.listed("list_model_evaluations", {"parent": CATS}) == []


async def test_labels_may_be_lost(caller, vertex, clock):
    vertex.add_model(SOURCE, version="2", display_name="cats", labels={"team": "pets"})
    vertex.turn(dialect="labels-lost")

    await ended(caller, clock, await caller.copy(source_model=f"{SOURCE}@2", model_id="dogs"))

    copy = await caller("get_model", {"name": f"{TARGET}/models/dogs"})
    assert (copy.display_name, dict(copy.labels)) == ("dogs", {})


# Quotas, chance, outages


async def test_a_spent_quota_is_429_until_the_next_minute(caller, vertex, clock):
    vertex.turn(submissions_per_minute=1, reads_per_minute=2)
    await caller.copy(model_id="cats")

    with pytest.raises(exceptions.TooManyRequests, match="Job or LRO submission requests"):
        await caller.copy(model_id="dogs")
    for _ in range(2):
        await caller("list_models", {"parent": TARGET})
    with pytest.raises(exceptions.TooManyRequests, match="Resource management"):
        await caller("list_models", {"parent": TARGET.replace("dst", "222")})

    assert await caller("get_model", {"name": SOURCE})
    assert [call.answer for call in vertex.copy_calls] == ["OK", "RESOURCE_EXHAUSTED"]
    clock.advance(60)
    await caller.copy(model_id="dogs")


async def test_a_share_of_the_copies_is_taken_and_answered_unavailable_the_same_for_a_seed():
    histories = []
    for seed in (5, 5, 6):
        async with (
            Vertex(lost_answers=0.2, seed=seed) as vertex,
            calling(vertex, "grpc_asyncio") as caller,
        ):
            vertex.add_model(SOURCE)
            for number in range(100):
                with contextlib.suppress(exceptions.ServiceUnavailable):
                    await caller.copy(model_id=f"m{number}")
            assert len(vertex.operations) == 100
            histories.append([call.answer for call in vertex.copy_calls])

    assert histories[0] == histories[1] != histories[2]
    assert set(histories[0]) == {"OK", "UNAVAILABLE"}
    assert 8 <= histories[0].count("UNAVAILABLE") <= 35


async def test_turning_a_knob_does_not_begin_the_others_anew(vertex, clock):
    vertex.turn(outages=[{"after_seconds": 10, "seconds": 5}], lost_answers=0.5)
    answers = []
    async with calling(vertex, "grpc_asyncio") as caller:
        for turned in (False, True):
            vertex.turn(seed=1)
            for number in range(20):
                if turned:
                    vertex.turn(copy_seconds=1)
                with contextlib.suppress(exceptions.ServiceUnavailable):
                    await caller.copy(model_id=f"m{number}{turned}".lower())
            answers.append([call.answer for call in vertex.copy_calls][-20:])

        clock.advance(10)
        vertex.turn(lost_answers=0)
        with pytest.raises(exceptions.ServiceUnavailable):
            await caller("get_model", {"name": SOURCE})

    assert answers[0] == answers[1]


async def test_a_copy_that_is_refused_in_its_operation_has_no_other_fate(caller, vertex, clock):
    vertex.add_model(f"{HERE}/models/8", kind="BQML")
    vertex.turn(dialect="refused-in-operation", failures=[{"code": "INTERNAL", "share": 1}])

    copy = await caller.copy(source_model=f"{HERE}/models/8", model_id="cats")

    assert (await ended(caller, clock, copy)).error.code == Code.FAILED_PRECONDITION


async def test_a_share_of_the_copies_fails_in_the_operation(caller, vertex, clock):
    vertex.turn(failures=[{"code": "INTERNAL", "share": 1, "message": "{model} fell over"}])

    copy = await caller.copy(model_id="cats")

    error = (await ended(caller, clock, copy)).error
    assert (error.code, error.message) == (Code.INTERNAL, f"{SOURCE}@1 fell over")


async def test_a_share_of_the_calls_is_refused(caller, vertex):
    vertex.turn(refusals=[{"method": "GetModel", "code": "INTERNAL", "share": 1}])

    with pytest.raises(exceptions.InternalServerError):
        await caller("get_model", {"name": SOURCE})

    vertex.turn(refusals=[])
    assert await caller("get_model", {"name": SOURCE})


async def test_in_an_outage_nothing_is_answered_and_nothing_is_taken(caller, vertex, clock):
    vertex.turn(outages=[{"after_seconds": 10, "seconds": 5, "every_seconds": 60}])
    await caller("get_model", {"name": SOURCE})

    for wait in (10, 60):
        clock.advance(wait)
        with pytest.raises(exceptions.ServiceUnavailable):
            await caller("list_models", {"parent": TARGET})
        with pytest.raises(exceptions.ServiceUnavailable):
            await caller.copy(model_id="cats")

    assert vertex.operations == ()
    clock.advance(5)
    assert await caller.copy(model_id="cats")


async def test_copies_take_a_time_out_of_a_range(vertex):
    vertex.turn(copy_seconds=(10, 20))
    async with calling(vertex, "grpc_asyncio") as caller:
        for number in range(20):
            await caller.copy(model_id=f"m{number}")

    lengths = {(each.ends_at - each.created_at).total_seconds() for each in vertex.operations}
    assert len(lengths) > 10
    assert all(10 <= length <= 20 for length in lengths)


# From another process


async def test_another_process_turns_knobs_and_reads_how_they_stand(vertex, http):
    before = (await http.get("/control/knobs")).json()
    asked = {"lost_answers": 0.05, "seed": 7, "dialect": "proof-late", "grants": ["dst->src"]}

    after = (await http.post("/control/knobs", json=asked)).json()

    assert (before["lost_answers"], after["lost_answers"]) == (0.0, 0.05)
    assert after["dialect"] == {**before["dialect"], "proof_after_seconds": 30.0}
    assert after == (await http.get("/control/knobs")).json()
    assert (vertex.knobs.seed, vertex.knobs.copy_seconds) == (7, COPY_SECONDS)
    assert (await http.post("/control/knobs", json=before)).json() == before


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("knobs", {"lost_answers": 2, "sed": 1}, "lost_answers: Input should be less than"),
        ("knobs", {"lost_answers": 2, "sed": 1}, "sed: Extra inputs are not permitted"),
        ("knobs", {"self": 1, "changes": 2}, "self: Extra inputs"),
        ("faults", {"refuse": [{"method": "Copy", "code": "INTERNAL"}]}, "refuse.0.method: 'Copy'"),
        ("models", {"name": f"{HERE}/models/8", "kind": "ODD"}, "kind: there are GENIE, CUSTOM"),
        ("models", {"name": f"{HERE}/models/8", "version": "0"}, "version: '0' is no number"),
        ("models", {"name": "8"}, "name: '8' is not the name of a model"),
        ("models", {"name": SOURCE}, "already exists"),
    ],
)
async def test_an_order_that_is_wrong_names_the_field_and_changes_nothing(http, path, body, words):
    before = (await http.get("/control/knobs")).json()

    refused = await http.post(f"/control/{path}", json=body)

    assert refused.status_code in {400, 409}
    assert words in refused.json()["error"]["message"]
    assert (await http.get("/control/knobs")).json() == before


async def test_the_log_tells_what_became_of_every_copy_also_of_one_deleted(vertex, http, clock):
    vertex.turn(dialect="worst")
    vertex.faults.copy_fails(Code.INTERNAL, times=1)
    vertex.faults.take_then_fail()
    async with calling(vertex, "grpc_asyncio") as caller:
        with pytest.raises(exceptions.ServiceUnavailable):
            await caller.copy(model_id="dogs")
        copy = await caller.copy(model_id="cats")
        clock.advance(2 * COPY_SECONDS)
        name = copy.operation.name
        await caller("delete_operation", operations_pb2.DeleteOperationRequest(name=name))

    log = (await http.get("/control/log")).json()

    assert [call["answer"] for call in log["copy_calls"]] == ["UNAVAILABLE", "OK"]
    lost, made = log["operations"]
    assert [call["operation"] for call in log["copy_calls"]] == [lost["name"], made["name"]]
    assert (lost["state"], lost["error"]["code"], lost["version"]) == ("FAILED", "INTERNAL", "")
    assert (made["state"], made["version"], made["deleted"]) == ("SUCCEEDED", "1", True)
    (wreck,) = next(each for each in log["models"] if each["name"].endswith("dogs"))["versions"]
    assert (wreck["wreck"], wreck["copied_from"]) == (True, "")


async def test_the_log_holds_five_thousand_copies(vertex, http, clock):
    async with calling(vertex, "grpc_asyncio") as caller:
        for first in range(0, 5000, 500):
            copies = (caller.copy(model_id=f"m{n}") for n in range(first, first + 500))
            await asyncio.gather(*copies)
    clock.advance(COPY_SECONDS)

    log = (await http.get("/control/log", timeout=30)).json()

    assert (len(log["copy_calls"]), len(log["operations"])) == (5000, 5000)
    assert {each["state"] for each in log["operations"]} == {"SUCCEEDED"}
    assert len(log["models"]) == 5001
