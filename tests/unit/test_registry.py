"""The registry's rules, with time passed in by hand."""

# Fixtures and parameters speak by name:
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_cloud.registry import Registry
from local_cloud.vertex_dialects import DIALECTS, WORST
from local_cloud.vertex_history import History
from local_cloud.vertex_records import (
    Code,
    CopyOperation,
    CopyState,
    Dialect,
    ModelName,
    ModelVersion,
    Names,
    VertexError,
)
from local_cloud.vertex_view import View

SOURCE = "projects/src/locations/us-central1/models/7"
TARGET = "projects/dst/locations/europe-west4"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
A_MINUTE = timedelta(minutes=1)
LATER = NOON + A_MINUTE


@pytest.fixture
def registry():
    return world()


def world(**options: Any) -> Registry:
    """A registry whose source model has version 1, and 2 as the default and the best."""
    registry = Registry(**options)
    registry.add_model(SOURCE, display_name="cats", labels={"team": "pets"}, now=NOON)
    registry.add_model(SOURCE, version="2", aliases=["default", "best"], now=NOON)
    return registry


def copy(registry: Registry, **asked: Any) -> CopyOperation:
    request: dict[str, Any] = {
        "parent": TARGET,
        "source_model": f"{SOURCE}@1",
        "now": NOON,
        "takes": A_MINUTE,
    }
    return registry.copy(**{**request, **asked})


def refused(code: Code, words: str = ""):
    return pytest.raises(VertexError, match=f"{code.name}: .*{words}")


@pytest.mark.parametrize(
    ("asked", "version"), [("", "2"), ("@1", "1"), ("@2", "2"), ("@best", "2"), ("@default", "2")]
)
def test_a_model_is_found_by_its_default_a_number_or_an_alias(registry, asked, version):
    assert registry.model(SOURCE + asked).name == ModelName.parse(f"{SOURCE}@{version}")


@pytest.mark.parametrize("name", [f"{SOURCE}@3", f"{SOURCE}@worst", f"{SOURCE}0"])
def test_what_is_not_there_is_not_found(registry, name):
    with refused(Code.NOT_FOUND, "was not found"):
        registry.model(name)


@pytest.mark.parametrize("name", ["7", "models/7", f"{SOURCE}/versions/1", f"{SOURCE}@", ""])
def test_a_name_that_is_none_is_an_invalid_argument(registry, name):
    with refused(Code.INVALID_ARGUMENT, "not the name of a model"):
        registry.model(name)


def test_an_alias_points_at_one_version_only(registry):
    registry.add_model(SOURCE, version="3", aliases=["best"], now=LATER)

    assert registry.model(f"{SOURCE}@best").name.version == "3"
    assert registry.model(f"{SOURCE}@2").aliases == ("default",)


def test_a_version_is_never_added_twice(registry):
    with refused(Code.ALREADY_EXISTS):
        registry.add_model(SOURCE, version="2", now=LATER)


def test_a_copy_makes_its_model_when_it_ends_and_not_before(registry):
    operation = copy(registry, model_id="cats")

    registry.settle(LATER - timedelta(microseconds=1))
    with refused(Code.NOT_FOUND):
        registry.model(f"{TARGET}/models/cats")

    registry.settle(LATER)
    assert registry.operation(operation.name).state is CopyState.SUCCEEDED
    made = registry.model(f"{TARGET}/models/cats")
    assert (made.name.version, made.aliases) == ("1", ("default",))
    assert (made.display_name, made.labels) == ("cats", {"team": "pets"})
    assert made.created_at == made.model_created_at == LATER
    assert str(made.copied_from) == f"{SOURCE}@1"


@pytest.mark.parametrize("asked", [SOURCE, f"{SOURCE}@2", f"{SOURCE}@best"])
def test_a_copy_is_pinned_to_the_version_that_its_source_named_when_it_began(registry, asked):
    copy(registry, source_model=asked, model_id="cats")
    registry.add_model(SOURCE, version="3", aliases=["default", "best"], now=NOON)

    registry.settle(LATER)

    assert str(registry.model(f"{TARGET}/models/cats").copied_from) == f"{SOURCE}@2"


def test_an_operation_is_named_below_the_model_that_it_will_make(registry):
    operation = copy(registry, model_id="cats")

    assert operation.name == f"{TARGET}/models/cats/operations/{operation.number}"
    assert operation.number.isdecimal()


def test_a_copy_without_a_destination_gets_a_number_of_its_own_each_time(registry):
    copies = [copy(registry), copy(registry)]

    assert len({each.destination for each in copies}) == 2
    assert all(each.destination.model.isdecimal() for each in copies)


def test_a_copy_below_a_parent_becomes_its_next_version_and_leaves_its_default(registry):
    registry.add_model(f"{TARGET}/models/cats", version="4", now=NOON)

    copy(registry, parent_model=f"{TARGET}/models/cats")
    copy(registry, parent_model=f"{TARGET}/models/cats")
    registry.settle(LATER)

    versions = registry.versions(f"{TARGET}/models/cats")
    assert [version.name.version for version in versions] == ["4", "5", "6"]
    assert registry.model(f"{TARGET}/models/cats").name.version == "4"


def test_a_missing_source_is_taken_and_fails_in_the_operation_with_a_bare_word(registry):
    operation = copy(registry, source_model=f"{SOURCE}@9", model_id="cats")
    registry.settle(LATER)

    ended = registry.operation(operation.name)
    assert ended.state is CopyState.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.error.message) == (Code.NOT_FOUND, "NOT_FOUND")


def test_a_doomed_copy_runs_its_time_then_fails_and_makes_nothing(registry):
    operation = copy(registry, model_id="cats")
    registry.doom(operation, VertexError(Code.PERMISSION_DENIED, "no"))
    assert not registry.operation(operation.name).done

    registry.settle(LATER)

    assert registry.operation(operation.name).state is CopyState.FAILED
    assert [model.name.model for model in registry.models()] == ["7"]


def test_a_cancelled_copy_ends_at_once_and_makes_nothing(registry):
    operation = copy(registry, model_id="cats")
    registry.cancel(operation.name, now=NOON)
    registry.settle(LATER)

    ended = registry.operation(operation.name)
    assert (ended.state, ended.ends_at) == (CopyState.CANCELLED, NOON)
    assert [model.name.model for model in registry.models()] == ["7"]


def test_cancelling_a_finished_copy_changes_nothing(registry):
    operation = copy(registry, model_id="cats")
    registry.settle(LATER)

    registry.cancel(operation.name, now=LATER)

    assert registry.operation(operation.name).state is CopyState.SUCCEEDED


def test_a_deleted_operation_is_forgotten_but_its_copy_goes_on(registry):
    operation = copy(registry, model_id="cats")
    registry.delete(operation.name)
    registry.settle(LATER)

    view = View(registry)
    with refused(Code.NOT_FOUND):
        view.operation(operation.name)
    assert view.operations(TARGET) == []
    assert registry.model(f"{TARGET}/models/cats")


@pytest.mark.parametrize("model_id", ["7", "-a", "Cats", "a.b", "a" * 64, "a/b", "ä"])
def test_an_id_outside_googles_rule_is_refused(registry, model_id):
    with refused(Code.INVALID_ARGUMENT, "model_id"):
        copy(registry, model_id=model_id)


@pytest.mark.parametrize("model_id", ["a", "_", "m-7_b", "a" * 63])
def test_an_id_inside_googles_rule_is_taken(registry, model_id):
    assert copy(registry, model_id=model_id).destination.model == model_id


@pytest.mark.parametrize(
    "asked",
    [
        {"parent": "projects/dst"},
        {"source_model": "7"},
        {"model_id": "a", "parent_model": SOURCE},
        {"parent_model": SOURCE},
        {"parent_model": f"{TARGET}/models/cats@1"},
    ],
    ids=["parent", "source", "two destinations", "parent elsewhere", "parent with a version"],
)
def test_a_request_that_makes_no_sense_starts_nothing(registry, asked):
    with refused(Code.INVALID_ARGUMENT):
        copy(registry, **asked)
    assert registry.operations() == []


def test_a_parent_that_is_missing_is_refused_at_once(registry):
    with refused(Code.NOT_FOUND):
        copy(registry, parent_model=f"{TARGET}/models/cats")


def test_an_id_that_exists_is_refused_while_it_is_copied_and_afterwards(registry):
    copy(registry, model_id="cats")

    with refused(Code.ALREADY_EXISTS):
        copy(registry, model_id="cats")
    registry.settle(LATER)
    with refused(Code.ALREADY_EXISTS):
        copy(registry, model_id="cats")


def test_a_dialect_may_answer_aborted_while_the_first_copy_runs():
    registry = world(dialect=Dialect(in_flight_id=Code.ABORTED))
    copy(registry, model_id="cats")

    with refused(Code.ABORTED):
        copy(registry, model_id="cats")


def test_an_id_is_free_again_after_its_copy_was_cancelled(registry):
    registry.cancel(copy(registry, model_id="cats").name, now=NOON)

    assert copy(registry, model_id="cats").state is CopyState.RUNNING


def test_a_model_that_appears_during_a_copy_makes_the_copy_fail(registry):
    operation = copy(registry, model_id="cats")
    registry.add_model(f"{TARGET}/models/cats", now=NOON)
    registry.settle(LATER)

    assert registry.operation(operation.name).state is CopyState.FAILED
    assert len(registry.versions(f"{TARGET}/models/cats")) == 1


@pytest.mark.parametrize("suffix", ["", "/operations"])
def test_operations_are_listed_by_region_and_by_model_even_before_the_model_exists(
    registry, suffix
):
    cats = copy(registry, model_id="cats")
    dogs = copy(registry, model_id="dogs")
    copy(registry, model_id="cats", parent="projects/dst/locations/us-central1")

    assert registry.operations(f"{TARGET}{suffix}") == [cats, dogs]
    assert registry.operations(f"{TARGET}/models/dogs{suffix}") == [dogs]
    assert registry.operations(f"{TARGET}/models/birds{suffix}") == []


def test_an_operation_is_found_without_its_model_too_but_never_in_another_region(registry):
    operation = copy(registry, model_id="cats")

    assert registry.operation(f"{TARGET}/operations/{operation.number}") == operation
    for name in (
        f"{TARGET}/models/dogs/operations/{operation.number}",
        f"projects/dst/locations/us-central1/operations/{operation.number}",
    ):
        with refused(Code.NOT_FOUND):
            registry.operation(name)


def test_models_are_listed_by_region_with_their_default_versions(registry):
    registry.add_model(f"{TARGET}/models/cats", now=NOON)

    listed = registry.models("projects/src/locations/us-central1")

    assert [str(version.name) for version in listed] == [f"{SOURCE}@2"]
    assert len(registry.models()) == 2


def test_a_project_is_understood_by_id_and_number_and_spelled_as_the_dialect_says():
    registry = world(
        dialect=Dialect(names=Names.NUMBERS), project_numbers={"src": "111", "dst": "222"}
    )

    operation = copy(
        registry,
        parent="projects/222/locations/europe-west4",
        source_model=SOURCE.replace("src", "111"),
        model_id="cats",
    )

    assert operation.name.startswith(f"{TARGET}/models/cats/")
    assert registry.spelled(operation.name).startswith("projects/222/locations/europe-west4/")
    assert registry.operation(registry.spelled(operation.name)) == operation


def test_a_project_without_a_given_number_always_gets_the_same_one():
    first, second = (world(dialect=Dialect(names=Names.NUMBERS)) for _ in range(2))

    spelled = first.spelled(SOURCE)

    assert spelled == second.spelled(SOURCE) != SOURCE
    assert str(first.model(spelled).name) == f"{SOURCE}@2"


def test_reads_tell_what_is_whatever_the_dialect_keeps_from_callers():
    registry = world(dialect=WORST)
    operation = copy(registry, model_id="cats")

    registry.settle(NOON)

    assert registry.operation(operation.name) == registry.operations()[0]
    assert str(registry.model(f"{TARGET}/models/cats").copied_from) == f"{SOURCE}@1"


def test_a_wreck_takes_the_id_that_its_copy_was_for():
    registry = world(dialect=Dialect(leaves_wreck=True))
    registry.doom(copy(registry, model_id="cats"), VertexError(Code.INTERNAL, "no"))
    registry.settle(LATER)

    (wreck,) = registry.versions(f"{TARGET}/models/cats")
    assert (wreck.wreck, wreck.copied_from) == (True, None)
    with refused(Code.ALREADY_EXISTS):
        copy(registry, model_id="cats", now=LATER)


def test_a_copy_that_fails_for_a_taken_id_or_a_missing_source_leaves_no_wreck():
    registry = world(dialect=Dialect(leaves_wreck=True, existing_id=None))
    registry.add_model(f"{TARGET}/models/cats", now=NOON)
    copy(registry, model_id="cats")
    copy(registry, model_id="dogs", source_model=f"{SOURCE}@9")
    registry.settle(LATER)

    assert [operation.state for operation in registry.operations()] == [CopyState.FAILED] * 2
    assert not [model for model in registry.models(TARGET) if model.wreck]
    assert len(registry.versions(f"{TARGET}/models/cats")) == 1


def test_a_source_that_cannot_be_copied_makes_nothing_in_any_dialect():
    registry = world(
        dialect=Dialect(refuses_in_operation=True, model_after_seconds=0, leaves_wreck=True)
    )
    registry.add_model(SOURCE, version="3", kind="BQML", now=NOON)
    copy(registry, source_model=f"{SOURCE}@3", model_id="cats")

    for now in (NOON, LATER):
        registry.settle(now)
        assert registry.models(TARGET) == []
    assert registry.operations()[0].state is CopyState.FAILED


def test_an_id_is_free_again_after_its_copy_failed_and_was_deleted(registry):
    operation = copy(registry, model_id="cats")
    registry.doom(operation, VertexError(Code.INTERNAL, "no"))
    registry.settle(LATER)
    registry.delete(operation.name)

    assert copy(registry, model_id="cats", now=LATER).state is CopyState.RUNNING


def test_a_version_that_shows_late_is_not_shown_early_by_a_change():
    history, name = History(), ModelName.parse(f"{TARGET}/models/cats@1")
    version = ModelVersion(
        name=name, display_name="", model_created_at=NOON, created_at=NOON, updated_at=NOON
    )
    history.put(version, shows_at=LATER)
    history.put(replace(version, name=name.at("2"), aliases=("default",)), shows_at=NOON)

    assert list(history.versions(name, at=NOON)) == ["2"]
    assert list(history.versions(name, at=LATER)) == ["1", "2"]


def test_what_was_built_on_an_early_model_falls_with_it():
    """A copy of it, and a version below it, both end after it was taken back."""
    registry = world(dialect=Dialect(model_after_seconds=0))
    first = copy(registry, model_id="cats")
    registry.settle(NOON)
    copy_of_it = copy(registry, source_model=f"{TARGET}/models/cats", model_id="dogs")
    below_it = copy(registry, parent_model=f"{TARGET}/models/cats")

    registry.cancel(first.name, now=NOON)
    registry.settle(LATER)

    for operation in (copy_of_it, below_it):
        error = registry.operation(operation.name).error
        assert error
        assert error.code is Code.NOT_FOUND
    assert registry.models(TARGET) == []


def test_the_oldest_version_left_is_the_default_when_an_early_one_is_taken_back():
    registry = world(dialect=Dialect(model_after_seconds=0))
    first = copy(registry, model_id="cats")
    registry.settle(NOON)
    copy(registry, parent_model=f"{TARGET}/models/cats")
    registry.settle(NOON)

    registry.cancel(first.name, now=NOON)

    assert registry.model(f"{TARGET}/models/cats").name.version == "2"


def test_a_stale_reader_sees_what_once_was_true():
    registry = world()
    registry.settle(LATER)
    registry.add_model(SOURCE, version="3", aliases=["best"], now=LATER)

    assert registry.model(f"{SOURCE}@best", at=NOON).name.version == "2"
    assert registry.model(f"{SOURCE}@best").name.version == "3"
    assert len(registry.versions(SOURCE, at=NOON)) == 2
    assert registry.models(at=NOON - A_MINUTE) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.sampled_from(["a", "b"])),
        st.tuples(st.just("version"), st.sampled_from(["a", "b"])),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("doom"), st.integers(0, 9)),
        st.tuples(st.just("pass"), st.integers(1, 90)),
    ),
    max_size=25,
)


@given(steps=STEPS, dialect=st.sampled_from(list(DIALECTS.values())))
def test_whatever_happens_each_version_comes_from_one_copy_that_succeeded(steps, dialect):
    registry, now, copies = world(dialect=dialect), NOON, []
    for step, value in steps:
        registry.settle(now)
        target = f"{TARGET}/models/{value}"
        with contextlib.suppress(VertexError):
            match step:
                case "new":
                    copies.append(copy(registry, model_id=value, now=now).name)
                case "version":
                    copies.append(copy(registry, parent_model=target, now=now).name)
                case "cancel" if value < len(copies):
                    registry.cancel(copies[value], now=now)
                case "doom" if value < len(copies) and not registry.operation(copies[value]).done:
                    registry.doom(registry.operation(copies[value]), VertexError(Code.INTERNAL, ""))
                case "pass":
                    now += timedelta(seconds=value)
    registry.settle(now + A_MINUTE)

    ended = [registry.operation(name) for name in copies]
    assert all(operation.done for operation in ended)
    made = sorted(
        str(operation.destination.at(operation.version))
        for operation in ended
        if operation.state is CopyState.SUCCEEDED
    )
    models = [registry.versions(str(model.name)) for model in registry.models(TARGET)]
    versions = [version for model in models for version in model]
    assert made == sorted(str(version.name) for version in versions if not version.wreck)
    for model in models:
        numbers = [int(version.name.version) for version in model]
        if dialect.model_after_seconds is None:  # else one that is taken back leaves a gap
            assert numbers == [*range(1, len(model) + 1)]
        assert sum("default" in version.aliases for version in model) == 1
