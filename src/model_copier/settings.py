"""The one place that reads the environment: a frozen ``Settings`` or a list of all that is wrong.

Only the standard library is imported here, and by what is imported here: ``main.py`` reads the
settings at start, and start-up time is a feature.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from model_copier.callers import Caller, read_callers

_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,62}")
_LOCATION = re.compile(r"[a-z][a-z0-9-]{0,30}")
# https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
_TOPIC = re.compile(r"(?:projects/[^/\s]+/topics/)?(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_TOPIC_NAME = "a topic's name: 3 to 255 letters, digits and -._~+%, a letter first, and not goog"
# Every service account has such an address, Google's own among them.
_SERVICE_ACCOUNT = re.compile(r"[a-z0-9._%+:-]+@(?:[a-z0-9.-]+\.)?gserviceaccount\.com")
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_ADDRESS = re.compile(rf"[^/\s]+:{_PORT}")
_ADDRESS_FORM = "HOST:PORT, with a port from 1 to 65535"
_STORE = re.compile(
    r"sqlite:///.+"
    r"|firestore://[a-z0-9][a-z0-9.:-]{0,62}/(?:\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9])"
    r"(?:\?collection=[A-Za-z][A-Za-z0-9_-]{0,99})?"
)


class TokenChecks(StrEnum):
    """How callers prove who they are."""

    # Every token's signature is verified here: the only way that rests on nobody else.
    VERIFY = "verify"
    # As verify; a token whose signature Cloud Run has checked and taken off is believed too.
    TRUST_CLOUD_RUN = "trust-cloud-run"
    # Whoever reaches the port may do anything: for one machine.
    NONE = "none"


class SettingsError(Exception):
    """One or more settings are missing or wrong; the message lists them all."""


def _text(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"should be {expected}")
        return value

    return read


def _names(pattern: re.Pattern[str], expected: str) -> Callable[[str], frozenset[str]]:
    def read(value: str) -> frozenset[str]:
        names = [part.strip() for part in value.split(",") if part.strip()]
        if wrong := [name for name in names if not pattern.fullmatch(name)]:
            raise ValueError(f"should be {expected}, by comma; not so: {', '.join(wrong)}")
        return frozenset(names)

    return read


def _audiences(value: str) -> tuple[str, ...]:
    """In the order given: the first is the one that the pushes carry."""
    words = [part.strip() for part in value.split(",")]
    if not all(re.fullmatch(r"[^\s,]{1,512}", word) for word in words):
        raise ValueError(
            "should be words, by comma, such as https://model-copier.example, the service's URL,"
            " or that with /v1/models/copy"
        )
    return tuple(dict.fromkeys(words))


def _token_checks(value: str) -> TokenChecks:
    try:
        return TokenChecks(value)
    except ValueError:
        raise ValueError(f"should be {', '.join(TokenChecks)}") from None


def _number(least: float, most: float, of: str) -> Callable[[str], float]:
    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1
        # 1_000 is a number in Python alone.
        if "_" in value or not least <= number <= most:
            raise ValueError(f"should be a number of {of} from {least:g} to {most:g}")
        return number

    return read


def _seconds(least: float, most: float) -> Callable[[str], float]:
    return _number(least, most, "seconds")


def _setting(about: str, read: Callable[[str], Any], default: Any = MISSING) -> Any:
    """Declare a setting: the variable's name is the field's in capitals."""
    return field(default=default, metadata={"about": about, "read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator decides. A field without a default is required."""

    source_project: str = _setting(
        "project that models come from, unless a request says otherwise",
        _text(_PROJECT, "a project id"),
    )
    target_project: str = _setting(
        "project that models are copied to, unless a request says otherwise",
        _text(_PROJECT, "a project id"),
    )
    store: str = _setting(
        "where jobs are kept: `sqlite:///FILE` (processes of one machine share it) or"
        " `firestore://PROJECT/DATABASE?collection=PREFIX` (default: model-copier)",
        _text(_STORE, "sqlite:///FILE or firestore://PROJECT/DATABASE?collection=PREFIX"),
    )
    # The region that most tuned Gemini models live in, and the one the first users named.
    location: str = _setting(
        "region of source and target, unless a request says otherwise",
        _text(_LOCATION, "a region such as us-central1"),
        "us-central1",
    )
    # Empty: only SOURCE_PROJECT. A copier that copies from anywhere would lend its rights out.
    allowed_source_projects: frozenset[str] = _setting(
        "projects that a request may copy from, by comma; empty: only SOURCE_PROJECT",
        _names(_PROJECT, "ids or numbers of projects"),
        frozenset(),
    )
    allowed_target_projects: frozenset[str] = _setting(
        "projects that a request may copy to, by comma; empty: only TARGET_PROJECT",
        _names(_PROJECT, "ids or numbers of projects"),
        frozenset(),
    )
    allowed_service_accounts: frozenset[str] = _setting(
        "accounts that a request may name as custom_service_account, by comma",
        _names(_SERVICE_ACCOUNT, "service accounts, such as NAME@PROJECT.iam.gserviceaccount.com"),
        frozenset(),
    )
    # Topics, subscriptions and the worker live in one project; the target's is the usual one.
    pubsub_project: str = _setting(
        "project of the topics; empty: TARGET_PROJECT", _text(_PROJECT, "a project id"), ""
    )
    request_topic: str = _setting(
        "topic of requests", _text(_TOPIC, _TOPIC_NAME), "model-copy-requests"
    )
    reply_topic: str = _setting(
        "topic of outcomes", _text(_TOPIC, _TOPIC_NAME), "model-copy-replies"
    )
    dead_letter_topic: str = _setting(
        "topic of failed requests", _text(_TOPIC, _TOPIC_NAME), "model-copy-dead-letters"
    )
    tick_topic: str = _setting(
        "topic that wakes the worker", _text(_TOPIC, _TOPIC_NAME), "model-copy-ticks"
    )
    # Most copies end within seconds or within an hour; this catches the first kind at once.
    follow_seconds: float = _setting(
        "how long a tick follows young copies; 0 costs least: told within a minute",
        _seconds(0, 540),
        30.0,
    )
    # An hour is the longest copy heard of; twice that is surely stuck.
    copy_deadline_seconds: float = _setting(
        "budget of a copy whose request names none", _seconds(1, 604_800), 7200.0
    )
    # Vertex AI allows 600 reads a minute for each project and region; 5 s keeps fifty copies
    # that were started within a minute below that.
    poll_seconds: float = _setting(
        "shortest wait between two looks at a copy", _seconds(0.05, 60), 5.0
    )
    # Vertex AI takes 60 in a minute, in each project and region; others ask there too.
    starts_per_minute: float = _setting(
        "how many copies are started in a minute, in each target project and region",
        _number(2, 6000, "copies"),
        50.0,
    )
    # Below the shortest push deadline that our set-up gives (60 s), well above a slow answer.
    call_timeout_seconds: float = _setting(
        "longest that one call to Google may take", _seconds(0.1, 120), 30.0
    )
    # Cloud clocks agree within milliseconds; an unattended machine may drift by seconds. Not 0:
    # it is also the margin between noting in the store that Vertex AI is asked, and asking.
    max_skew_seconds: float = _setting(
        "how far apart the clocks of two machines may be", _seconds(0.1, 60), 10.0
    )
    # Seconds is what anybody has seen; a minute leaves room. Once rests on it: see failures.md.
    shown_within_seconds: float = _setting(
        "how long after it was sent, or has ended, an accepted copy may show nowhere",
        _seconds(0.1, 3600),
        60.0,
    )
    # A caller without `Prefer` gets the outcome, not a promise, of any copy that ends in an hour.
    # A minute below Cloud Run's longest request leaves time to answer.
    wait_seconds: float = _setting(
        "longest that `POST /v1/models/copy` waits for the outcome", _seconds(0, 3540), 3540.0
    )
    token_checks: TokenChecks = _setting(  # noqa: RUF009  a frozen enum
        "`verify` each caller's token; `trust-cloud-run` where it has taken the signature off;"
        " `none`: on one machine only",
        _token_checks,
        TokenChecks.VERIFY,
    )
    # One that does not change with the service's URLs, of which Cloud Run has two; and those URLs,
    # since Google's own samples mint tokens for the URL that they call, with and without its path.
    audience: tuple[str, ...] = _setting(
        "audiences (`aud`) that tokens may name, by comma; required unless TOKEN_CHECKS is `none`",
        _audiences,
        (),
    )
    push_account: str = _setting(
        "service account that Pub/Sub pushes as; empty: nobody may push",
        _text(re.compile(r"[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]+"), "an e-mail address"),
        "",
    )
    callers_file: tuple[Caller, ...] = _setting(
        "TOML file of the accounts that may call `/v1`; empty: nobody may", read_callers, ()
    )
    certs_url: str = _setting(
        "where the keys that sign tokens are published",
        _text(
            re.compile(rf"https://\S+|http://(?:127\.0\.0\.1|localhost):{_PORT}/\S*"),
            "an https URL",
        ),
        "https://www.googleapis.com/oauth2/v1/certs",
    )
    k_service: str = _setting(
        "set by Cloud Run, not by you: the service's name", _text(re.compile(r"\S+"), "a name"), ""
    )
    vertex_endpoint: str = _setting(
        "Vertex AI somewhere else, as `http://HOST:PORT` (gRPC); for tests and the local run",
        _text(re.compile(f"http://{_ADDRESS.pattern}"), f"http://{_ADDRESS_FORM}"),
        "",
    )
    pubsub_emulator_host: str = _setting(
        "a Pub/Sub emulator, as Google's clients read it",
        _text(_ADDRESS, _ADDRESS_FORM),
        "",
    )
    firestore_emulator_host: str = _setting(
        "a Firestore emulator; Google's client reads it by itself",
        _text(_ADDRESS, _ADDRESS_FORM),
        "",
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read all settings.

        Raises:
            SettingsError: naming everything that is missing or wrong, not just the first.
        """
        values: dict[str, Any] = {}
        wrong: list[str] = []
        for setting in fields(cls):
            variable = setting.name.upper()
            text = env.get(variable, "").strip()
            if not text:
                if _is_required(setting):
                    wrong.append(f"{variable} is missing: {setting.metadata['about']}")
                continue
            try:
                values[setting.name] = setting.metadata["read"](text)
            except ValueError as error:
                wrong.append(f"{variable}={text!r} {error}")
        wrong += _wrong_with_callers(values, env)
        if "K_SERVICE" in env and str(values.get("store", "")).startswith("sqlite:"):
            wrong.append(
                f"STORE={values['store']!r} will not do on Cloud Run: a file there is the memory"
                " of one instance, and jobs would be lost with it; set"
                " STORE=firestore://PROJECT/DATABASE"
            )
        for kind in ("source", "target"):
            allowed = values.get(f"allowed_{kind}_projects")
            default = values.get(f"{kind}_project")
            if allowed and default and default not in allowed:
                wrong.append(
                    f"ALLOWED_{kind.upper()}_PROJECTS leaves out {kind.upper()}_PROJECT"
                    f" ({default!r}): every request that names no project would be refused"
                )
        if wrong:
            raise SettingsError("settings to mend:\n" + "\n".join(f"  - {w}" for w in wrong))
        return cls(**values)

    @property
    def source_projects(self) -> frozenset[str]:
        return self.allowed_source_projects or frozenset({self.source_project})

    @property
    def target_projects(self) -> frozenset[str]:
        return self.allowed_target_projects or frozenset({self.target_project})

    def topic(self, name: str) -> str:
        """Return the full name of one of the topics above."""
        project = self.pubsub_project or self.target_project
        return name if name.startswith("projects/") else f"projects/{project}/topics/{name}"


def _wrong_with_callers(values: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[str]:
    if values.get("token_checks") is TokenChecks.NONE:
        if "K_SERVICE" in env:
            yield "TOKEN_CHECKS='none' will not do on Cloud Run: anybody could copy models"
        return
    if not env.get("AUDIENCE", "").strip():
        yield (
            "AUDIENCE is missing: the `aud` that tokens may name; where nobody else reaches this"
            " machine, TOKEN_CHECKS=none does without tokens"
        )
    for caller in values.get("callers_file", ()):
        for kind in ("source", "target"):
            known = values.get(f"allowed_{kind}_projects") or {values.get(f"{kind}_project")}
            named = getattr(caller, f"{kind}_projects") or frozenset()
            for project in sorted(named - known):
                yield (
                    f"CALLERS_FILE lets {caller.account} name {project!r}, which"
                    f" ALLOWED_{kind.upper()}_PROJECTS does not"
                )


def _is_required(setting: Field[Any]) -> bool:
    return setting.default is MISSING


def rows() -> list[tuple[str, str, str]]:
    """Variable, default ("" for none, "required"), what it is for: the README's table."""
    table: list[tuple[str, str, str]] = []
    for setting in fields(Settings):
        default: Any = setting.default
        if _is_required(setting):
            default = "required"
        elif isinstance(default, float):
            default = f"{default:g}"
        table.append((setting.name.upper(), default or "", setting.metadata["about"]))
    return table
