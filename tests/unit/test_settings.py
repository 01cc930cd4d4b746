"""Settings: what is needed, what is assumed, and how everything wrong is told at once."""

from dataclasses import fields

import pytest

from model_copier.settings import Settings, SettingsError, rows

TOPIC = "a topic's name: 3 to 255 letters, digits and -._~+%, a letter first, and not goog"
ADDRESS = "HOST:PORT, with a port from 1 to 65535"
STORES = "sqlite:///FILE or firestore://PROJECT/DATABASE?collection=PREFIX"
REQUIRED = {"SOURCE_PROJECT": "tuning", "TARGET_PROJECT": "serving", "STORE": "sqlite:///jobs.db"}
ENV = REQUIRED | {"AUDIENCE": "https://copier.example"}


def test_four_settings_are_enough():
    settings = Settings.from_env(ENV)

    assert settings == Settings(
        source_project="tuning",
        target_project="serving",
        store="sqlite:///jobs.db",
        audience=("https://copier.example",),
    )


def test_everything_that_is_missing_or_wrong_is_named_at_once():
    env = {
        "TARGET_PROJECT": "Serving",
        "STORE": "redis://here",
        "AUDIENCE": "https://copier.example",
        "LOCATION": "us central1",
        "REPLY_TOPIC": "a/b",
        "FOLLOW_SECONDS": "long",
        "COPY_DEADLINE_SECONDS": "0",
        "CALL_TIMEOUT_SECONDS": "nan",
        "MAX_SKEW_SECONDS": "0",
        "VERTEX_ENDPOINT": "https://vertex:443",
        "PUBSUB_EMULATOR_HOST": "localhost",
    }

    with pytest.raises(SettingsError) as refusal:
        Settings.from_env(env)

    title, *lines = str(refusal.value).splitlines()
    assert title == "Invalid configuration:"
    assert lines == [
        "  - SOURCE_PROJECT is missing: default project of source models",
        "  - TARGET_PROJECT='Serving' should be a project id",
        f"  - STORE='redis://here' should be {STORES}",
        (
            "  - LOCATION='us central1' should be a region such as us-central1, or us, eu, global;"
            " did you mean us-central1?"
        ),
        f"  - REPLY_TOPIC='a/b' should be {TOPIC}",
        "  - FOLLOW_SECONDS='long' should be a number of seconds from 0 to 540",
        "  - COPY_DEADLINE_SECONDS='0' should be a number of seconds from 1 to 604800",
        "  - CALL_TIMEOUT_SECONDS='nan' should be a number of seconds from 0.1 to 120",
        "  - MAX_SKEW_SECONDS='0' should be a number of seconds from 0.1 to 60",
        f"  - VERTEX_ENDPOINT='https://vertex:443' should be http://{ADDRESS}",
        f"  - PUBSUB_EMULATOR_HOST='localhost' should be {ADDRESS}",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ALLOWED_TARGET_PROJECTS", "serving, Other Project/!", "invalid: Other Project/!"),
        (
            "ALLOWED_SOURCE_PROJECTS",
            "tuning lab",
            "comma-separated project ids, or ID=NUMBER so that both name the project",
        ),
        ("ALLOWED_SERVICE_ACCOUNTS", "garbage", "invalid: garbage"),
        ("ALLOWED_SERVICE_ACCOUNTS", "a@notgserviceaccount.com", "service accounts"),
        ("REPLY_TOPIC", "goog-x", "not goog"),
        ("REPLY_TOPIC", "projects/p/topics/goog-x", "not goog"),
        ("REPLY_TOPIC", "ab", "3 to 255"),
        ("TICK_TOPIC", "a" * 256, "3 to 255"),
        ("TICK_TOPIC", "1-tick", "a letter first"),
        ("WAIT_SECONDS", "1_0", "a number of seconds from 0 to 3540"),
        ("WAIT_SECONDS", "3541", "a number of seconds from 0 to 3540"),
        ("AUDIENCE", "https://a.example,,b", "comma-separated words"),
        ("AUDIENCE", "two words", "comma-separated words"),
        ("STARTS_PER_MINUTE", "6_0", "a number of copies"),
        ("PUBSUB_EMULATOR_HOST", "localhost:99999", "a port from 1 to 65535"),
        ("PUBSUB_EMULATOR_HOST", "http://localhost:8085", "HOST:PORT"),
        ("FIRESTORE_EMULATOR_HOST", "localhost:65536", "a port from 1 to 65535"),
        ("VERTEX_ENDPOINT", "http://x:999999", "a port from 1 to 65535"),
        ("VERTEX_ENDPOINT", "http://x:0", "a port from 1 to 65535"),
    ],
)
def test_what_google_would_refuse_later_is_refused_at_the_start(variable, value, told):
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env(ENV | {variable: value})

    _, *lines = str(refusal.value).splitlines()
    assert [line.startswith(f"  - {variable}={value!r} should be ") for line in lines] == [True]
    assert told in lines[0]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALLOWED_TARGET_PROJECTS", "serving,example.com:old=123456789012"),
        (
            "ALLOWED_SERVICE_ACCOUNTS",
            "copier@old.example.com.iam.gserviceaccount.com, serving@appspot.gserviceaccount.com",
        ),
        (
            "ALLOWED_SERVICE_ACCOUNTS",
            "a@serving.iam.gserviceaccount.com,123-compute@developer.gserviceaccount.com",
        ),
        ("REPLY_TOPIC", "Good.news-%7E~+_"),
        ("REPLY_TOPIC", "projects/example.com:old/topics/" + "a" * 255),
        ("WAIT_SECONDS", "1e2"),
        ("PUBSUB_EMULATOR_HOST", "[::1]:65535"),
        ("VERTEX_ENDPOINT", "http://vertex.local:1"),
    ],
)
def test_what_google_takes_is_taken(variable, value):
    assert Settings.from_env(ENV | {variable: value})


def test_audiences_are_a_list_in_their_order():
    several = "https://copier.example, https://a.run.app,https://a.run.app/v1/models/copy"

    assert Settings.from_env(ENV | {"AUDIENCE": several}).audience == (
        "https://copier.example",
        "https://a.run.app",
        "https://a.run.app/v1/models/copy",
    )


def test_an_empty_variable_is_one_that_was_not_set():
    assert Settings.from_env(ENV | {"LOCATION": "", "WAIT_SECONDS": " "}) == Settings.from_env(ENV)


def test_a_file_on_cloud_run_is_refused_because_it_is_memory():
    with pytest.raises(SettingsError, match="jobs would be lost") as refusal:
        Settings.from_env(ENV | {"K_SERVICE": "model-copier"})

    assert "STORE='sqlite:///jobs.db' is not allowed on Cloud Run" in str(refusal.value)
    assert "set STORE=firestore://PROJECT/DATABASE" in str(refusal.value)


@pytest.mark.parametrize(
    "store",
    [
        "firestore://serving/jobs",
        "firestore://serving/(default)",
        "firestore://example.com:serving/jobs?collection=copier_2",
    ],
)
def test_firestore_is_named_by_project_database_and_prefix(store):
    assert Settings.from_env(ENV | {"STORE": store, "K_SERVICE": "model-copier"}).store == store


@pytest.mark.parametrize(
    "store",
    [
        "firestore://serving",
        "firestore:///jobs",
        "firestore://serving/",
        "firestore://serving/JOBS",
        "firestore://serving/jobs?collections=copier",
        "firestore://serving/jobs?collection=__copier__",
        "firestore://serving/jobs/more",
    ],
)
def test_a_firestore_that_is_not_named_whole_is_refused(store):
    with pytest.raises(SettingsError, match="firestore://PROJECT/DATABASE"):
        Settings.from_env(ENV | {"STORE": store})


def test_only_the_usual_projects_are_allowed_unless_others_are_listed():
    usual = Settings.from_env(ENV)
    listed = Settings.from_env(
        ENV | {"ALLOWED_SOURCE_PROJECTS": "tuning, lab,", "ALLOWED_TARGET_PROJECTS": "serving,test"}
    )

    assert usual.source_projects == {"tuning"}
    assert usual.target_projects == {"serving"}
    assert listed.source_projects == {"tuning", "lab"}
    assert listed.target_projects == {"serving", "test"}


def test_no_service_account_is_allowed_unless_it_is_listed():
    listed = Settings.from_env(
        ENV | {"ALLOWED_SERVICE_ACCOUNTS": "a@serving.iam.gserviceaccount.com"}
    )

    assert Settings.from_env(ENV).allowed_service_accounts == frozenset()
    assert listed.allowed_service_accounts == {"a@serving.iam.gserviceaccount.com"}


def test_a_topic_lives_in_the_target_project_unless_said_otherwise():
    settings = Settings.from_env(ENV)
    moved = Settings.from_env(
        ENV | {"PUBSUB_PROJECT": "messages", "TICK_TOPIC": "projects/ops/topics/ticks"}
    )

    assert settings.topic(settings.reply_topic) == "projects/serving/topics/model-copy-replies"
    assert moved.topic(moved.reply_topic) == "projects/messages/topics/model-copy-replies"
    assert moved.topic(moved.tick_topic) == "projects/ops/topics/ticks"


def test_the_table_names_every_setting_once_and_says_what_it_is_for():
    table = rows()

    assert [name for name, _, _ in table] == [field.name.upper() for field in fields(Settings)]
    assert all(about for _, _, about in table)
    assert {name for name, default, _ in table if default == "required"} == REQUIRED.keys()


def test_the_defaults_in_the_table_are_the_ones_that_count():
    written_out = {n: default for n, default, _ in rows() if default not in ("", "required")}

    assert Settings.from_env(ENV | written_out) == Settings.from_env(ENV)


def test_an_allow_list_without_the_default_project_is_refused():
    env = ENV | {"ALLOWED_TARGET_PROJECTS": "another"}

    with pytest.raises(
        SettingsError, match="ALLOWED_TARGET_PROJECTS does not contain TARGET_PROJECT"
    ):
        Settings.from_env(env)


@pytest.mark.parametrize(
    "variable", ["PUBSUB_EMULATOR_HOST", "FIRESTORE_EMULATOR_HOST", "VERTEX_ENDPOINT"]
)
def test_emulators_are_refused_on_cloud_run(variable: str):
    """F12: requests, jobs and models would go to whoever listens there, in the clear."""
    address = "http://10.0.0.7:80" if variable == "VERTEX_ENDPOINT" else "10.0.0.7:80"
    env = ENV | {"STORE": "firestore://serving/(default)", variable: address}

    assert Settings.from_env(env)
    with pytest.raises(SettingsError, match=f"{variable} is not allowed on Cloud Run"):
        Settings.from_env(env | {"K_SERVICE": "worker"})


@pytest.mark.parametrize("host", [None, "", "0.0.0.0", "::", "10.0.0.7", "copier.example"])
def test_without_tokens_others_cannot_reach_the_port(host: str | None):
    """The framework listens on every address unless HOST says otherwise."""
    env = REQUIRED | {"TOKEN_CHECKS": "none"} | ({} if host is None else {"HOST": host})

    with pytest.raises(
        SettingsError, match="where other machines can reach the port: set HOST=127"
    ):
        Settings.from_env(env)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_without_tokens_a_loopback_address_will_do(host: str):
    assert Settings.from_env(REQUIRED | {"TOKEN_CHECKS": "none", "HOST": host}).host == host


@pytest.mark.parametrize(
    "same",
    [
        {"REPLY_TOPIC": "one", "DEAD_LETTER_TOPIC": "one"},
        {"REQUEST_TOPIC": "one", "REPLY_TOPIC": "projects/gemini-target/topics/one"},
        {"TICK_TOPIC": "model-copy-requests"},
    ],
    ids=str,
)
def test_two_topics_are_never_one(same: dict[str, str]):
    """A reply on the request topic would be rejected, and its rejection too, without end."""
    env = ENV | {"TARGET_PROJECT": "gemini-target"} | same

    with pytest.raises(SettingsError, match="are one topic, projects/"):
        Settings.from_env(env)
