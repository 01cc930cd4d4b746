"""The REST endpoints over the real application: asked, answered, refused."""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from model_copier.app import Service, build_app, contained
from model_copier.domain.errors import (
    Code,
    ExhaustedError,
    SetUpError,
    UnavailableError,
    UnreadableRecordError,
    outcome_of_read,
)
from model_copier.domain.job import Job
from model_copier.domain.vertex_types import Model
from model_copier.settings import Settings, TokenChecks
from model_copier.web.call_context import numbered
from model_copier.web.params import Waiting, preferred
from world import SOURCE, SOURCE_PROJECT, TARGET, TARGET_PROJECT, World

ASK = {
    "source_model_id": "7704127342733426688",
    "destination_model_id": "target-model-260213",
}
SETTINGS = Settings(
    source_project=SOURCE_PROJECT,
    target_project=TARGET_PROJECT,
    store="sqlite:///unused",
    token_checks=TokenChecks.NONE,
    wait_seconds=0,  # the clock of this world does not move by itself
)


@dataclass
class Api:
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        app = build_app("api", self.world.deliveries, self.world.ticks, SETTINGS)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://localhost"
        )

    async def ask(self, key: str = "first", **more: Any) -> httpx.Response:
        return await self.http.post(
            "/v1/models/copy", json=ASK | more, headers={"Idempotency-Key": key}
        )


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    yield api
    await api.http.aclose()


async def test_what_is_not_over_in_time_is_202_and_can_be_looked_at(api):
    answer = await api.ask()
    shown = await api.http.get(answer.headers["location"])
    await api.world.pass_time(60)
    later = await api.http.get(answer.headers["location"])

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert int(answer.headers["retry-after"]) > 0
    assert shown.json()["done"] is False
    assert later.json()["resource_name"] == TARGET


async def test_the_history_tells_each_step_in_order(api):
    await api.ask()
    await api.world.pass_time(60)

    shown = (await api.http.get("/v1/copies/first")).json()

    history = shown["history"]
    assert [moment["step"] for moment in history] == [
        "accepted", "asked", "copying", "succeeded", "announced",
    ]  # fmt: skip
    assert history[2]["detail"] == shown["operation"]
    assert history[3]["detail"] == f"{TARGET}@1"
    assert (history[0]["at"], history[3]["at"]) == (
        shown["timings"]["accepted_at"], shown["timings"]["ended_at"],
    )  # fmt: skip


async def test_the_history_keeps_how_each_attempt_ended_and_why(api):
    """A quota that passes, a refusal, a replay with another refusal, a cancelled replay."""
    api.world.models.dooms = [Code.ABORTED, Code.PERMISSION_DENIED]
    await api.ask()
    await api.world.pass_time(600)
    api.world.models.refusals = [Code.NOT_FOUND]
    await api.http.post("/v1/copies/first:replay")
    await api.world.pass_time(600)
    await api.http.post("/v1/copies/first:replay")
    await api.http.post("/v1/copies/first:cancel")
    await api.world.pass_time(600)

    history = (await api.http.get("/v1/copies/first")).json()["history"]

    assert [(m["step"], m.get("code")) for m in history] == [
        ("accepted", None),
        ("asked", None), ("copying", None), ("nothing_made", "ABORTED"),
        ("asked", None), ("copying", None), ("failed", "PERMISSION_DENIED"),
        ("letter_kept", None), ("announced", None),
        ("replayed", None),
        ("asked", None), ("nothing_made", "NOT_FOUND"), ("failed", "NOT_FOUND"),
        ("letter_kept", None), ("announced", None),
        ("replayed", None),
        ("asked", None), ("copying", None), ("cancel_requested", None), ("cancelled", None),
        ("announced", None),
    ]  # fmt: skip
    assert "PERMISSION_DENIED in the end" in history[6]["detail"]
    assert [m["detail"] for m in history if m["step"] == "replayed"] == [
        "run 2, by rest",
        "run 3, by rest",
    ]
    assert [m["at"] for m in history] == sorted(m["at"] for m in history)


async def test_a_list_has_no_histories(api):
    await api.ask()

    (listed,) = (await api.http.get("/v1/copies")).json()["copies"]

    assert "history" not in listed


async def test_the_same_key_again_is_the_same_copy_and_other_content_is_422(api):
    await api.ask()
    again = await api.ask()
    other = await api.ask(destination_model_id="another")

    assert again.status_code == 202
    assert other.status_code == 422
    assert api.world.models.copies_asked == 1
    assert api.world.topics.letters == []


async def test_a_query_can_say_what_is_no_text(api):
    answer = await api.http.post(
        "/v1/models/copy", params=ASK | {"validate_only": "true", "deadline_seconds": "60"}
    )

    assert answer.status_code == 200
    assert answer.json()["copy_model_request"]["model_id"] == "target-model-260213"
    assert api.world.store.jobs == {}


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("respond-async", "respond-async"),
        ("wait=10", "wait=0"),  # as long as this api waits
        ("respond-async, wait=5", "wait=0"),
        ("handling=lenient", None),
        ("wait=soon", None),
        ('hint="a,wait=1", respond-async', "respond-async"),
    ],
)
async def test_what_was_preferred_and_granted_is_told(api, prefer, applied):
    answer = await api.http.post("/v1/models/copy", params=ASK, headers={"Prefer": prefer})

    assert answer.status_code == 202
    assert answer.headers.get("preference-applied") == applied


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ({"params": [*ASK.items(), ("source_model_id", "8")]}, 400, "source_model_id: is given"),
        ({"params": ASK, "json": ASK}, 400, "query parameters or as JSON, not as both"),
        ({"params": ASK | {"deadline_seconds": "long"}}, 400, "deadline_seconds"),
        ({"params": ASK, "headers": {"Idempotency-Key": "a b"}}, 400, "Idempotency-Key"),
        ({"params": ASK, "headers": {"Idempotency-Key": ".."}}, 400, "Idempotency-Key"),
        ({"params": ASK | {"correlation": "{"}}, 400, "correlation: is not JSON"),
        ({"content": b"null"}, 400, "should be a JSON object"),
        ({"json": [1]}, 400, "should be a JSON object"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "not JSON"),
        ({"data": ASK}, 415, "Content-Type: application/json"),
        ({"content": b" " * 200_000}, 413, "at most"),
        ({}, 400, "source_model_id: is required"),
    ],
)
async def test_what_is_wrong_is_a_problem_that_says_so(api, how, status, words):
    answer = await api.http.post("/v1/models/copy", **how)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert answer.json().keys() == {"type", "status", "title", "detail", "code", "request_id"}
    assert api.world.store.jobs == {}


async def test_copies_are_listed_a_page_at_a_time_the_newest_first(api):
    for number in range(5):
        await api.ask(f"copy-{number}", destination_model_id=f"m-{number}")
        api.world.clock.advance(1)

    pages, token = [], ""
    while True:
        answer = await api.http.get("/v1/copies", params={"page_size": 2, "page_token": token})
        pages.append([copy["id"] for copy in answer.json()["copies"]])
        token = answer.json()["next_page_token"]
        if not token:
            break

    assert pages == [["copy-4", "copy-3"], ["copy-2", "copy-1"], ["copy-0"]]


async def test_copies_are_found_by_state_source_target_and_time(api):
    await api.ask("early", destination_model_id="m-1")
    await api.world.pass_time(60)
    await api.ask("late", destination_model_id="m-2")
    after = api.world.clock.now().isoformat()

    async def ids(**query: str) -> list[str]:
        found = await api.http.get("/v1/copies", params=query)
        assert found.status_code == 200, found.text
        return [copy["id"] for copy in found.json()["copies"]]

    assert await ids(state="SUCCEEDED") == ["early"]
    assert await ids(source=SOURCE) == ["late", "early"]
    assert await ids(target=TARGET.rpartition("/")[0] + "/m-2") == ["late"]
    assert await ids(accepted_before=after) == ["early"]
    assert await ids(accepted_from=after) == ["late"]


@pytest.mark.parametrize(
    "query",
    ["state=DONE", "source=7", "accepted_from=today", "page_size=-1", "page_token=x", "limit=5",
     "state=COPYING&state=FAILED", "page_token=WzEsMl0"],
)  # fmt: skip
async def test_a_list_that_cannot_be_made_is_refused(api, query):
    assert (await api.http.get(f"/v1/copies?{query}")).status_code == 400


async def test_a_page_token_is_good_for_its_own_query_only(api):
    for number in range(3):
        await api.ask(f"copy-{number}", destination_model_id=f"m-{number}")
    first = await api.http.get("/v1/copies?page_size=1")

    token = first.json()["next_page_token"]
    other = await api.http.get("/v1/copies", params={"page_token": token, "state": "COPYING"})

    assert other.status_code == 400


@pytest.mark.parametrize("place", [{1: "\ud800"}, {1: "\0" * 32}, {1: "a" * 20_000}, {0: -1e10}])
async def test_a_page_token_that_was_tampered_with_is_refused(api, place):
    for number in range(2):
        await api.ask(f"copy-{number}", destination_model_id=f"m-{number}")
    token = (await api.http.get("/v1/copies?page_size=1")).json()["next_page_token"]
    ours = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    forged = json.dumps([place.get(at, each) for at, each in enumerate(ours)])

    answer = await api.http.get(
        "/v1/copies",
        params={"page_size": 1, "page_token": base64.urlsafe_b64encode(forged.encode()).decode()},
    )

    assert answer.status_code == 400
    assert answer.json()["detail"] == "page_token: is none that this service gave"


async def test_a_copy_can_be_cancelled_and_that_can_be_said_twice(api):
    await api.ask()

    first = await api.http.post("/v1/copies/first:cancel")
    await api.world.pass_time(150)
    second = await api.http.post("/v1/copies/first:cancel")

    assert first.status_code == 202
    assert (second.status_code, second.json()["state"]) == (200, "CANCELLED")


async def test_what_has_ended_otherwise_cannot_be_cancelled(api):
    await api.ask()
    await api.world.pass_time(150)

    answer = await api.http.post("/v1/copies/first:cancel")

    assert (answer.status_code, answer.json()["copy"]["outcome"]) == (409, "succeeded")


async def test_a_failed_copy_is_replayed_and_may_be_repaired(api):
    api.world.models.dooms = [Code.PERMISSION_DENIED]
    await api.ask()
    await api.world.pass_time(150)

    answer = await api.http.post(
        "/v1/copies/first:replay", json=ASK | {"destination_model_id": "repaired"}
    )
    await api.world.pass_time(150)
    shown = (await api.http.get("/v1/copies/first")).json()

    assert answer.status_code == 202
    assert shown["run"] == 2
    assert shown["resource_name"].endswith("/repaired")


async def test_only_what_failed_can_be_replayed(api):
    await api.ask()

    assert (await api.http.post("/v1/copies/first:replay")).status_code == 409


@pytest.mark.parametrize("what", ["", ":cancel", ":replay"])
async def test_an_unknown_copy_is_404(api, what):
    method = "POST" if what else "GET"

    assert (await api.http.request(method, f"/v1/copies/nobody{what}")).status_code == 404


async def test_a_method_that_is_not_there_is_405_and_says_which_is(api):
    answer = await api.http.get("/v1/copies/first:cancel")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["detail"] == "another method is for this path: see Allow"


async def test_a_path_that_is_not_there_is_404_and_says_where_to_look(api):
    answer = await api.http.get("/v1/copies/not an id")

    assert answer.status_code == 404
    assert "/docs" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/copies", "/v1/copies/first"])
async def test_a_body_that_nothing_would_be_done_with_is_refused(api, path):
    await api.ask()

    answer = await api.http.request("GET", path, json={"state": "FAILED"})

    assert (answer.status_code, answer.json()["detail"]) == (400, "this takes no body")


async def test_each_kind_of_problem_has_a_type_of_its_own(api):
    await api.ask()
    answers = [
        await api.ask(destination_model_id="another"),
        await api.http.get("/nowhere"),
        await api.http.get("/v1/copies/first:cancel"),
        await api.http.post("/v1/models/copy", content=b" " * 200_000),
        await api.http.post("/v1/models/copy", data=ASK),
        await api.http.post("/v1/copies/first:replay"),
        await api.http.post("/v1/models/copy"),
    ]

    assert [(a.status_code, a.json()["type"].rpartition("/")[2]) for a in answers] == [
        (422, "key-used-otherwise"),
        (404, "not-found"),
        (405, "method-not-allowed"),
        (413, "too-large"),
        (415, "not-json"),
        (409, "failed-precondition"),
        (400, "invalid-argument"),
    ]


@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.RESOURCE_EXHAUSTED, 429), (Code.DEADLINE_EXCEEDED, 504), (Code.ABORTED, 502)],
)
async def test_a_copy_that_failed_is_told_by_its_code(api, code, status):
    api.world.models.dooms = [code] * 10
    await api.ask()
    await api.world.pass_time(3600)

    answer = await api.ask()

    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert ("retry-after" in answer.headers) is (status == 429)


async def test_a_store_that_is_away_is_503_and_nothing_was_done(api):
    async def away(_key: str) -> None:
        raise UnavailableError("job store: away")

    api.world.store.get = away

    answer = await api.ask()

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


INSIDE = "job store: 503 failed to connect: ipv4:10.0.0.7:443 /srv/jobs.db projects/p/topics/t"


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError(INSIDE),
        ExhaustedError(INSIDE),
        UnreadableRecordError(INSIDE),
        SetUpError(INSIDE, what="an index is missing", mends="gcloud firestore indexes create"),
        outcome_of_read(Code.UNAVAILABLE, INSIDE),
        outcome_of_read(Code.RESOURCE_EXHAUSTED, INSIDE),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/copy"),
        ("GET", "/v1/copies"),
        ("GET", "/v1/copies/first"),
        ("POST", "/v1/copies/first:cancel"),
        ("POST", "/v1/copies/first:replay"),
    ],
)
async def test_an_outage_tells_nothing_of_our_inside(api, capsys, error, method, path):
    """No address, file, topic or library's words in the body; the log has them, by its id."""

    async def away(*_: object) -> None:
        raise error

    api.world.store.get = api.world.store.find = away

    answer = await api.http.request(method, path, json=ASK if path.endswith("copy") else None)

    assert answer.status_code in {429, 503}
    told = answer.text.lower()
    for inside in ("ipv4", "10.0.0.7", "jobs.db", "projects/", "connect", "job store:"):
        assert inside not in told
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [line] = [each for each in logged if each["message"] == "unavailable"]
    assert line["request_id"] == answer.json()["request_id"]
    assert "ipv4:10.0.0.7:443" in line["why"]


async def test_a_reply_tells_nothing_of_our_inside(api):
    """Neither the outcome of a copy whose reads failed to the end, nor its history."""
    await api.ask(deadline_seconds=60)

    async def away(*_: object) -> None:
        raise outcome_of_read(Code.UNAVAILABLE, INSIDE)

    api.world.models.get_operation = away
    await api.world.pass_time(7200)

    shown = (await api.http.get("/v1/copies/first")).text
    assert api.world.job.failure
    assert "ipv4" not in shown
    assert all(b"ipv4" not in reply.data for reply in api.world.topics.replies)


async def test_what_was_taken_on_is_202_although_the_store_goes_away_right_then(api):
    """Else whoever has no key asks again, for a second version."""
    look = api.world.store.get

    async def away_once_it_is_stored(key: str) -> Job | None:
        if api.world.store.jobs:
            raise UnavailableError("job store: away")
        found: Job | None = await look(key)
        return found

    api.world.store.get = away_once_it_is_stored

    answer = await api.ask()

    assert (answer.status_code, answer.json()) == (202, {"status": "pending", "id": "first"})
    assert answer.headers["location"] == "/v1/copies/first"


async def test_a_quota_that_is_used_up_is_429_with_the_time_to_wait(api):
    async def exhausted(_name: object) -> Model:
        raise outcome_of_read(Code.RESOURCE_EXHAUSTED, "quota exceeded")

    api.world.models.get_model = exhausted

    answer = await api.ask(validate_only=True)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert answer.json()["code"] == "RESOURCE_EXHAUSTED"


async def test_a_caller_who_leaves_in_the_middle_of_a_body_is_no_bug(capsys):
    app = build_app("api", World().deliveries, World().ticks, SETTINGS)
    scope = {"type": "http", "method": "POST", "path": "/v1/models/copy", "headers": []}
    pieces: list[Any] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return pieces.pop(0)

    async def send(_message: Any) -> None:
        """Nobody is there."""

    await app({**scope, "query_string": b""}, receive, send)

    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["message"], line["severity"]) == ("hung_up", "INFO")


async def test_null_is_no_repair_of_a_failed_copy(api):
    api.world.models.refusals = [Code.NOT_FOUND]
    await api.ask()

    answer = await api.http.post("/v1/copies/first:replay", content=b"null")

    assert answer.status_code == 400


async def test_a_bug_is_500_and_tells_nothing_of_itself(api, capsys):
    async def broken(_key: str) -> None:
        raise ZeroDivisionError("secret")

    api.world.store.get = broken

    answer = await api.ask()

    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "ZeroDivisionError" not in answer.text
    (bug,) = (
        line for line in map(json.loads, capsys.readouterr().out.splitlines())
        if line["message"] == "bug"
    )  # fmt: skip
    assert bug["request_id"] == answer.json()["request_id"]
    assert "secret" in bug["stack_trace"]


async def test_it_is_ready_when_store_and_topic_are_there(api):
    ready = await api.http.get("/ready")

    assert ready.json()["checks"] == {
        "store": "ok", "reply_topic": "ok", "clock": "not checked: TOKEN_CHECKS is none",
    }  # fmt: skip


@pytest.mark.parametrize("part", ["reply_topic", "store"])
async def test_it_is_not_ready_without_its_topic_or_its_store(api, part):
    async def away() -> None:
        raise UnavailableError("projects/p/topics/t: 404")

    if part == "store":
        api.world.store.check = away
    else:
        api.world.topics.check = away

    answer = await api.http.get("/ready")
    alive = await api.http.get("/health")

    assert (answer.status_code, alive.status_code) == (503, 200)
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["checks"][part] == "cannot be reached"
    assert "projects/p" not in answer.text


@pytest.mark.parametrize("target", ["api", "worker"])
async def test_a_store_that_cannot_be_opened_is_503_and_says_nothing_of_it(
    tmp_path, target, capsys
):
    """No one is asked for a token then, so nobody is told where the store is."""
    (tmp_path / "taken").write_text("no folder")
    store = f"sqlite:///{tmp_path / 'taken' / 'jobs.db'}"
    app = await Service(target, replace(SETTINGS, store=store)).app()

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://localhost"
    ) as http:
        alive = await http.get("/health")
        answers = [await http.get("/v1/copies"), await http.post("/"), await http.post("/health")]

    assert alive.json() == {"status": "ok"}
    for answer in answers:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert "taken" not in answer.text
    assert "taken" in capsys.readouterr().out


async def test_a_bug_before_the_application_is_told_in_the_same_way(capsys):
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError("secret")

    transport = httpx.ASGITransport(app=numbered(contained(broken)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.get("/v1/copies")

    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert "secret" not in answer.text
    assert "secret" in capsys.readouterr().out


async def test_what_is_not_set_up_is_told_with_what_mends_it_and_no_names(api, capsys):
    async def not_there() -> None:
        message, command = "projects/p has no database jobs", "gcloud firestore databases create"
        raise SetUpError(message, what="the database is not there", mends=command)

    api.world.store.check = not_there

    answer = await api.http.get("/ready")

    assert answer.status_code == 503
    assert answer.json()["checks"]["store"] == (
        "is not set up: the database is not there; this mends it: gcloud firestore databases create"
    )
    assert "projects/p" not in answer.text
    assert "projects/p has no database jobs" in capsys.readouterr().out


def test_a_copy_of_an_hour_is_waited_for():
    """Without ``Prefer``; a minute is left of Cloud Run's longest request, 3,600 s."""
    settings = Settings(source_project="a", target_project="b", store="sqlite:///x")
    call = Request({"type": "http", "headers": []})

    assert preferred(call, settings.wait_seconds) == Waiting(seconds=3540)


# What senders write in their own way


async def test_a_number_for_an_id_is_refused_by_name(api):
    """The first document's own id is beyond what JSON's numbers hold."""
    answer = await api.ask(source_model_id=7704127342733426688)

    assert answer.status_code == 400
    assert answer.json()["detail"] == (
        "source_model_id: should be a string, not 7704127342733426688"
    )


async def test_a_large_number_inside_is_refused_by_its_place(api):
    answer = await api.ask(correlation={"models": [{"id": 7704127342733426688}]})

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(
        "correlation.models.0.id: 7704127342733426688 is beyond"
    )


async def test_a_repair_with_a_number_is_refused_by_name(api):
    api.world.models.refusals = [Code.PERMISSION_DENIED]
    await api.ask()
    await api.world.pass_time(60)

    answer = await api.http.post("/v1/copies/first:replay", json={"source_model_id": 7})

    assert answer.json()["detail"] == "source_model_id: should be a string, not 7"


async def test_a_quoted_key_is_the_key(api):
    """As the IETF draft writes it."""
    quoted = await api.ask('"8e03978e"')
    plain = await api.ask("8e03978e")

    assert quoted.status_code == plain.status_code == 202
    assert quoted.json()["id"] == plain.json()["id"] == "8e03978e"
    assert len(api.world.store.jobs) == 1


@pytest.mark.parametrize("key", ['"', '""', '"a', 'a"', '"a b"', '"."', '"a\\"b"', "'a'"])
async def test_a_key_that_is_badly_quoted_is_refused(api, key):
    answer = await api.ask(key)

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Idempotency-Key: ")


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
async def test_true_in_a_query_has_any_case(api, text):
    answer = await api.http.post("/v1/models/copy", params=ASK | {"validate_only": text})

    assert answer.json()["outcome"] == "validated"


async def test_a_gzip_body_is_read(api):
    body = gzip.compress(json.dumps(ASK).encode())

    answer = await api.http.post(
        "/v1/models/copy", content=body, headers={"Content-Encoding": "gzip"}
    )

    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(bytes(10_000_000), mtime=0), 413),
        ("gzip", json.dumps(ASK).encode(), 400),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4], 400),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more", 400),
        ("br", b"{}", 415),
        ("gzip, gzip", b"{}", 415),
        ("identity", json.dumps(ASK).encode(), 202),
    ],
)
async def test_what_is_no_small_gzip_is_refused(api, encoding, body, status):
    answer = await api.http.post(
        "/v1/models/copy", content=body, headers={"Content-Encoding": encoding}
    )

    assert answer.status_code == status
    assert answer.headers["x-request-id"]
    if status == 415:
        assert answer.headers["accept-encoding"] == "gzip, identity"


async def test_the_worker_does_not_name_a_page_it_lacks():
    world = World()
    app = build_app("worker", world.deliveries, world.ticks, SETTINGS)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://localhost"
    ) as http:
        answer = await http.get("/docs")

    assert answer.status_code == 404
    assert "/docs" not in answer.json()["detail"]
    assert "/pubsub/requests" in answer.json()["detail"]
