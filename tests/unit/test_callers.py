"""The file of callers: read at start, and refused with all that is wrong with it."""

from pathlib import Path

import pytest

from model_copier.domain.access_policy import Caller, Sender, callers_of, read_callers
from model_copier.domain.senders import SenderLimits
from model_copier.settings import Settings, SettingsError

ENV = {
    "SOURCE_PROJECT": "tuning",
    "TARGET_PROJECT": "serving",
    "STORE": "sqlite:///jobs.db",
    "AUDIENCE": "https://copier.example",
}
A = "airflow@pipelines.iam.gserviceaccount.com"


def written(folder: Path, text: str) -> str:
    file = folder / "callers.toml"
    file.write_text(text)
    return str(file)


def test_each_caller_has_an_account_and_may_have_limits(tmp_path: Path):
    text = f"""
        [[caller]]
        account = "{A}"
        target_projects = ["serving"]

        [[caller]]
        account = "ci@pipelines.iam.gserviceaccount.com"
    """

    settings = Settings.from_env(ENV | {"CALLERS_FILE": written(tmp_path, text)})

    assert settings.callers_file.callers == (
        Caller(account=A, target_projects=frozenset({"serving"})),
        Caller(account="ci@pipelines.iam.gserviceaccount.com"),
    )


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({}, "should hold at least one [[caller]] or [[sender]]"),
        ({"caller": []}, "should hold at least one [[caller]] or [[sender]]"),
        ({"caller": {"account": A}}, "should hold at least one [[caller]] or [[sender]]"),
        ({"caller": [1]}, "caller 1: should be a table, [[caller]]"),
        ({"caller": [{}]}, "caller 1: account should be an e-mail address in small letters"),
        ({"caller": [{"account": "*"}]}, "caller 1: account should be an e-mail address"),
        ({"caller": [{"account": A.upper()}]}, "caller 1: account should be an e-mail address"),
        ({"caller": [{"account": A}, {"account": A}]}, f"{A} is there twice"),
        ({"caller": [{"account": A, "projects": []}]}, "caller 1: 'projects' is unknown"),
        (
            {"caller": [{"account": A, "source_projects": []}]},
            "caller 1: source_projects should be a list of project ids, at least one",
        ),
        (
            {"caller": [{"account": A, "target_projects": "serving"}]},
            "caller 1: target_projects should be a list of project ids, at least one",
        ),
        ({"caller": [{"account": A}], "callers": 1}, "'callers' is unknown; known are [[caller]]"),
        ({"sender": {}}, "should hold at least one [[caller]] or [[sender]]"),
        ({"sender": [1]}, "sender 1: should be a table, [[sender]]"),
        ({"sender": [{}]}, "sender 1: source should be the ce-source of messages"),
        ({"sender": [{"source": "é" * 600}]}, "sender 1: source should be the ce-source"),
        ({"sender": [{"source": "//model-copier/rest/a"}]}, "which is a [[caller]]"),
        ({"sender": [{"source": "//a"}, {"source": "//a"}]}, "'//a' is there twice"),
        ({"sender": [{"source": "//a", "weight": 0}]}, "weight should be a number from 0.01 to"),
        ({"sender": [{"source": "//a", "weight": float("nan")}]}, "weight should be a number"),
        ({"sender": [{"source": "//a", "weight": True}]}, "weight should be a number from"),
        ({"sender": [{"source": "//a", "weight": "2"}]}, "weight should be a number from"),
        ({"sender": [{"source": "//a", "max_waits": 1}]}, "sender 1: 'max_waits' is unknown"),
        (
            {"caller": [{"account": A, "max_unfinished": 1.5}]},
            "caller 1: max_unfinished should be a whole number from 1 to 1e+06",
        ),
    ],
)
def test_what_is_unclear_lets_nobody_in(found, sentence):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the sentence is what counts
        callers_of(found)

    assert sentence in str(refusal.value)


def test_a_file_that_cannot_be_read_ends_the_start(tmp_path: Path):
    for file in (str(tmp_path / "nowhere.toml"), written(tmp_path, "caller = [")):
        with pytest.raises(SettingsError, match="CALLERS_FILE="):
            Settings.from_env(ENV | {"CALLERS_FILE": file})


def test_a_limit_that_the_service_does_not_allow_anyway_is_refused(tmp_path: Path):
    text = f'[[caller]]\naccount = "{A}"\nsource_projects = ["lab"]'

    with pytest.raises(SettingsError, match="name 'lab', which ALLOWED_SOURCE_PROJECTS does not"):
        Settings.from_env(ENV | {"CALLERS_FILE": written(tmp_path, text)})


def test_doing_without_tokens_is_refused_on_cloud_run():
    with pytest.raises(SettingsError, match="any caller could copy models"):
        Settings.from_env(ENV | {"TOKEN_CHECKS": "none", "K_SERVICE": "model-copier"})


def test_without_an_audience_tokens_could_be_for_anybody(tmp_path: Path):
    del tmp_path
    with pytest.raises(SettingsError, match="AUDIENCE is missing"):
        Settings.from_env({name: value for name, value in ENV.items() if name != "AUDIENCE"})


def test_a_caller_may_name_their_own_projects_only():
    caller = Caller(account=A, target_projects=frozenset({"serving"}))

    assert caller.refusal(source_project="any", target_project="serving") is None
    refusal = caller.refusal(source_project="any", target_project="lab")
    assert refusal == f"target_project: 'lab' is not for {A}; it may name serving"


def test_a_file_is_read_as_it_is_documented(tmp_path: Path):
    shown = read_callers.__globals__["__doc__"].partition("does not start with it.")[2]

    found = read_callers(written(tmp_path, "\n".join(map(str.strip, shown.splitlines()))))

    (caller,) = found.callers
    assert caller.source_projects == frozenset({"tuning"})
    assert found.senders == (Sender(source="//ec2/pipeline", loads={"weight": 0.5}),)


def test_limits_of_the_file_replace_the_settings(tmp_path: Path):
    """By sender: an account, or the source of messages."""
    text = f"""
        [[caller]]
        account = "{A}"
        weight = 2
        max_waits = 5

        [[sender]]
        source = "//ec2/pipeline"
        max_unfinished = 7
    """
    settings = Settings.from_env(
        ENV | {"CALLERS_FILE": written(tmp_path, text), "REQUESTS_PER_MINUTE": "9"}
    )

    found = settings.senders

    assert found.limits("//anybody") == SenderLimits(requests_per_minute=9)
    assert found.limits(f"//model-copier/rest/{A}") == SenderLimits(
        weight=2, requests_per_minute=9, max_waits=5
    )
    assert found.limits("//ec2/pipeline").max_unfinished == 7
    assert (found.cost(f"//model-copier/rest/{A}"), found.cost("//anybody")) == (0.5, 1)
