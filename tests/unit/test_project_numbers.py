"""A project's number and its id are one project: in settings, requests, locks and answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_cloud.vertex import Vertex
from model_copier.adapters.vertex import VertexModelService
from model_copier.app import request_defaults
from model_copier.contract.request_schema import Defaults, read_copy_data
from model_copier.domain.copy_request import CopyRequest
from model_copier.domain.errors import RejectedError
from model_copier.domain.resource_names import ModelName, ProjectNumbers
from model_copier.engine.outcome_waiter import OutcomeWaiter
from model_copier.engine.ports import Wanted
from model_copier.settings import Settings, SettingsError
from model_copier.web.health import Readiness
from model_copier.web.rest import Rest
from world import CONTRACT, World

ENV = {
    "SOURCE_PROJECT": "tuning",
    "TARGET_PROJECT": "serving",
    "STORE": "sqlite:///jobs.db",
    "TOKEN_CHECKS": "none",
    "HOST": "127.0.0.1",
    "ALLOWED_SOURCE_PROJECTS": "tuning=110495173025,lab",
    "ALLOWED_TARGET_PROJECTS": "serving=123456789012",
}
BY_NUMBER = "projects/110495173025/locations/us-central1/models/7704127342733426688"


def settings(**env: str) -> Settings:
    return Settings.from_env(ENV | env)


def asked(defaults: Defaults | None = None, **data: Any) -> CopyRequest:
    return read_copy_data(
        {"source_model_id": "7", **data}, defaults or request_defaults(settings())
    )


def test_settings_know_each_project_by_its_id():
    assert settings().source_projects == {"tuning", "lab"}
    assert settings().target_projects == {"serving"}
    assert settings().project_ids == {"110495173025": "tuning", "123456789012": "serving"}
    assert settings(SOURCE_PROJECT="110495173025").source_project == "tuning"


@pytest.mark.parametrize(
    ("by_number", "by_id"),
    [
        (
            {"source_model_id": BY_NUMBER},
            {"source_model_id": BY_NUMBER.replace("110495173025", "tuning")},
        ),
        ({"source_project": "110495173025"}, {"source_project": "tuning"}),
        ({"target_project": "123456789012"}, {"target_project": "serving"}),
        (
            {"source_model_id": BY_NUMBER, "source_project": "tuning"},
            {"source_model_id": BY_NUMBER},
        ),
        (
            {
                "destination_parent_model": "projects/123456789012/locations/us-central1/models/p",
                "target_project": "serving",
            },
            {"destination_parent_model": "p"},
        ),
    ],
)
def test_both_spellings_make_the_same_request(by_number: dict[str, Any], by_id: dict[str, Any]):
    """The lock on the destination is made of this request, and so is every comparison."""
    assert asked(**by_number) == asked(**by_id)
    assert "110495173025" not in str(asked(**by_number))


def test_unlisted_number_is_told_what_to_write():
    with pytest.raises(RejectedError, match="name the id, or list it as ID=NUMBER") as refusal:
        asked(source_project="999999999999")

    assert "source_project: '999999999999' is not allowed" in str(refusal.value)


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (
            {"ALLOWED_TARGET_PROJECTS": "serving,123456789012"},
            "123456789012 is listed beside project ids, without an id of its own; write ID=1234",
        ),
        (
            {"ALLOWED_SOURCE_PROJECTS": "tuning,110495173025"},
            "ALLOWED_SOURCE_PROJECTS: 110495173025 is listed beside project ids",
        ),
        (
            {"ALLOWED_TARGET_PROJECTS": "serving=123456789012,serving=2"},
            "id 'serving' appears in several pairs: serving=123456789012, serving=2",
        ),
        (
            {"ALLOWED_TARGET_PROJECTS": "serving=1,other=1"},
            "number '1' appears in several pairs: other=1, serving=1",
        ),
        ({"ALLOWED_TARGET_PROJECTS": "serving=x"}, "invalid: serving=x"),
    ],
)
def test_two_spellings_in_a_list_stop_the_start(env: dict[str, str], told: str):
    """They would make two locks on one model."""
    with pytest.raises(SettingsError) as refusal:
        settings(**env)

    assert told in str(refusal.value)


def test_number_that_another_list_explains_is_fine():
    listed = settings(ALLOWED_SOURCE_PROJECTS="tuning,123456789012")

    assert listed.source_projects == {"tuning", "serving"}


def test_callers_projects_are_spelled_by_id(tmp_path: Path):
    file = tmp_path / "callers.toml"
    file.write_text(
        '[[caller]]\naccount = "a@b.example"\nsource_projects = ["110495173025"]\n'
        'target_projects = ["serving"]\n'
    )

    read = settings(
        CALLERS_FILE=str(file), TOKEN_CHECKS="verify", AUDIENCE="https://copier.example"
    )

    assert read.callers_file.callers[0].source_projects == frozenset({"tuning"})
    assert read.callers_file.callers[0].target_projects == frozenset({"serving"})


def test_number_is_never_learned_for_a_number():
    """A project that is used by its number alone keeps that name, and its locks."""
    numbers = ProjectNumbers()

    numbers.learn(asked="123456789012", answered="serving")
    numbers.learn(asked="123456789012", answered="123456789012")
    numbers.learn(asked="serving", answered="serving")

    assert numbers.spelled("123456789012") == "123456789012"
    assert numbers.spelled("serving") == "serving"


async def test_number_is_learned_from_an_answer():
    """Afterwards a request may name it, and names that come back are spelled by id."""
    name = ModelName.parse("projects/lab/locations/us-central1/models/7")
    numbers = ProjectNumbers(settings().project_ids)
    defaults = request_defaults(settings(), numbers)
    vertex = Vertex(dialect="names-by-number", project_numbers={"lab": "777777777777"})
    vertex.add_model(str(name))
    async with vertex:
        models = VertexModelService(
            call_seconds=5, endpoint=f"http://{vertex.address}", numbers=numbers
        )
        with pytest.raises(RejectedError, match="is not allowed"):
            asked(defaults, source_project="777777777777")

        found = await models.get_model(name)
        versions = await models.list_versions(name)
        await models.close()

    assert [str(found.name), str(versions[0].name)] == [f"{name}@1", f"{name}@1"]
    assert asked(defaults, source_project="777777777777").source.project == "lab"


def test_list_of_copies_is_filtered_by_either_spelling():
    """Jobs are stored with ids."""
    world = World()
    numbers = ProjectNumbers({"110495173025": "tuning"})
    contract = replace(CONTRACT, defaults=replace(CONTRACT.defaults, numbers=numbers))
    rest = Rest(
        deliveries=replace(world.deliveries, contract=contract),
        watch=OutcomeWaiter(store=world.store),
        readiness=Readiness(workflow=world.workflow, max_skew_seconds=1, outside_now=None),
        wait_seconds=1,
    )

    wanted = rest._spelled(Wanted(request_source="//rest/a", source=BY_NUMBER))

    assert wanted.source == BY_NUMBER.replace("110495173025", "tuning")
    assert wanted.target == ""
