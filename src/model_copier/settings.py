"""The one place that reads the environment: a frozen ``Settings`` or a list of all that is wrong.

Only the standard library is imported here, and by what is imported here: ``main.py`` reads the
settings at start, and start-up time is a feature.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from model_copier.domain.access_policy import CallersFile, read_callers
from model_copier.domain.copy_request import RequireKmsKey
from model_copier.domain.locations import (
    LOCATIONS,
    explain_no_location,
    explain_unknown_location,
    nearest,
)
from model_copier.domain.senders import SenderLimits, SenderPolicy

_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,62}")
_LISTED_PROJECT = re.compile(r"[a-z][a-z0-9.:-]{0,62}(?:=[0-9]{1,19})?|[0-9]{1,19}")
# https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
_TOPIC = re.compile(r"(?:projects/[^/\s]+/topics/)?(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_TOPIC_NAME = "a topic's name: 3 to 255 letters, digits and -._~+%, a letter first, and not goog"
# Every service account has such an address, Google's own among them.
_SERVICE_ACCOUNT = re.compile(r"[a-z0-9._%+:-]+@(?:[a-z0-9.-]+\.)?gserviceaccount\.com")
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_ADDRESS = re.compile(rf"[^/\s]+:{_PORT}")
_HTTP_ADDRESS = rf"http://[^/\s,=]+:{_PORT}"
_ADDRESS_FORM = "HOST:PORT, with a port from 1 to 65535"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_EMULATORS = ("PUBSUB_EMULATOR_HOST", "FIRESTORE_EMULATOR_HOST", "VERTEX_ENDPOINT")
STORE_FORM = re.compile(
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
            raise ValueError(f"should be {expected}, comma-separated; invalid: {', '.join(wrong)}")
        return frozenset(names)

    return read


def _projects(value: str) -> frozenset[str]:
    """Read ids, numbers, and ID=NUMBER where the number of an id is known."""
    names = [part.strip() for part in value.split(",") if part.strip()]
    if wrong := [name for name in names if not _LISTED_PROJECT.fullmatch(name)]:
        raise ValueError(
            "should be comma-separated project ids, or ID=NUMBER so that both name the project;"
            f" invalid: {', '.join(wrong)}"
        )
    return frozenset(names)


def _location(value: str) -> str:
    if explain_no_location(value):
        near = nearest(value)
        raise ValueError(
            "should be a region such as us-central1, or us, eu, global"
            + (f"; did you mean {near}?" if near else "")
        )
    return value


def _locations(value: str) -> frozenset[str]:
    names = [part.strip() for part in value.split(",") if part.strip()]
    if wrong := [bad for name in names if (bad := explain_no_location(name))]:
        raise ValueError(f"should be comma-separated locations of Vertex AI; {'; '.join(wrong)}")
    return frozenset(names)


def _audiences(value: str) -> tuple[str, ...]:
    """In the order given: the first is the one that the pushes carry."""
    words = [part.strip() for part in value.split(",")]
    if not all(re.fullmatch(r"[^\s,]{1,512}", word) for word in words):
        raise ValueError(
            "should be comma-separated words, such as https://model-copier.example, the service's"
            " URL, or that URL with /v1/models/copy"
        )
    return tuple(dict.fromkeys(words))


def _token_checks(value: str) -> TokenChecks:
    try:
        return TokenChecks(value)
    except ValueError:
        raise ValueError(f"should be {', '.join(TokenChecks)}") from None


def _require_kms_key(value: str) -> RequireKmsKey:
    try:
        return RequireKmsKey(value)
    except ValueError:
        raise ValueError(f"should be {', '.join(RequireKmsKey)}") from None


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
        "default project of source models",
        _text(_PROJECT, "a project id"),
    )
    target_project: str = _setting(
        "default project of copied models",
        _text(_PROJECT, "a project id"),
    )
    store: str = _setting(
        "job store: `sqlite:///FILE` (shared by the processes of one machine) or"
        " `firestore://PROJECT/DATABASE?collection=PREFIX` (default PREFIX: model-copier)",
        _text(STORE_FORM, "sqlite:///FILE or firestore://PROJECT/DATABASE?collection=PREFIX"),
    )
    # The region that most tuned Gemini models live in, and the one the first users named.
    location: str = _setting(
        "default location of source and target",
        _location,
        "us-central1",
    )
    # A copier that takes any name for a location makes a client for each, and waits for hosts
    # that do not exist. An operator may add one that is newer than this version.
    locations: frozenset[str] = _setting(
        "comma-separated locations that a request may name; empty: all that this version knows",
        _locations,
        frozenset(),
    )
    # Empty: only SOURCE_PROJECT. A copier that copies from anywhere would lend its rights out.
    allowed_source_projects: frozenset[str] = _setting(
        "comma-separated projects that a request may copy from, each as `ID=NUMBER` or by its id;"
        " empty: only SOURCE_PROJECT",
        _projects,
        frozenset(),
    )
    allowed_target_projects: frozenset[str] = _setting(
        "comma-separated projects that a request may copy to, each as `ID=NUMBER` or by its id;"
        " empty: only TARGET_PROJECT",
        _projects,
        frozenset(),
    )
    allowed_service_accounts: frozenset[str] = _setting(
        "comma-separated accounts that a request may name as custom_service_account",
        _names(_SERVICE_ACCOUNT, "service accounts, such as NAME@PROJECT.iam.gserviceaccount.com"),
        frozenset(),
    )
    require_kms_key: RequireKmsKey = _setting(  # noqa: RUF009  a frozen enum
        "when a request without kms_key_name is rejected: `never`,"
        " `when-source-has-one` or `always`",
        _require_kms_key,
        RequireKmsKey.NEVER,
    )
    # Topics, subscriptions and the worker live in one project; the target's is the usual one.
    pubsub_project: str = _setting(
        "project of the topics; empty: TARGET_PROJECT", _text(_PROJECT, "a project id"), ""
    )
    request_topic: str = _setting(
        "topic of requests", _text(_TOPIC, _TOPIC_NAME), "model-copy-requests"
    )
    reply_topic: str = _setting(
        "topic of replies", _text(_TOPIC, _TOPIC_NAME), "model-copy-replies"
    )
    dead_letter_topic: str = _setting(
        "topic of failed requests", _text(_TOPIC, _TOPIC_NAME), "model-copy-dead-letters"
    )
    tick_topic: str = _setting(
        "topic that wakes the worker", _text(_TOPIC, _TOPIC_NAME), "model-copy-ticks"
    )
    # Most copies end within seconds or within an hour; this catches the first kind at once.
    follow_seconds: float = _setting(
        "seconds for which a tick polls young copies; 0 costs least and delays replies by up to a"
        " minute",
        _seconds(0, 540),
        30.0,
    )
    # An hour is the longest copy heard of; twice that is surely stuck.
    copy_deadline_seconds: float = _setting(
        "time budget of a copy, if its request names none", _seconds(1, 604_800), 7200.0
    )
    # What young copies are worth; many at once share lists, and READS_PER_MINUTE bounds it all.
    poll_seconds: float = _setting(
        "minimum seconds between two polls of a copy", _seconds(0.05, 60), 5.0
    )
    # Vertex AI takes 60 in a minute, in each project and region; others ask there too.
    starts_per_minute: float = _setting(
        "maximum number of copies started per minute, in each target project and region",
        _number(2, 6000, "copies"),
        50.0,
    )
    # Below the shortest push deadline that our set-up gives (60 s), well above a slow answer.
    call_timeout_seconds: float = _setting(
        "timeout of one call to Google", _seconds(0.1, 120), 30.0
    )
    # A read answers within a second, or its region is not well; nobody is to wait for it then.
    read_timeout_seconds: float = _setting(
        "timeout of one read from Vertex AI", _seconds(0.1, 120), 10.0
    )
    # Half of what Vertex AI allows: others read there too.
    reads_per_minute: float = _setting(
        "maximum number of reads from Vertex AI per minute, in each project and region",
        _number(10, 60_000, "reads"),
        300.0,
    )
    # Cloud clocks agree within milliseconds; an unattended machine may drift by seconds. Not 0:
    # it is also the margin between noting in the store that Vertex AI is asked, and asking.
    max_skew_seconds: float = _setting(
        "maximum difference between the clocks of two machines", _seconds(0.1, 60), 10.0
    )
    # Seconds is what anybody has seen; a minute leaves room. Once rests on it: see failures.md.
    visibility_seconds: float = _setting(
        "seconds until an accepted copy is visible in Vertex AI, counted from its request and from"
        " its end",
        _seconds(0.1, 3600),
        60.0,
    )
    # A caller without `Prefer` gets the outcome, not a promise, of any copy that ends in an hour.
    # A minute below Cloud Run's longest request leaves time to answer.
    wait_seconds: float = _setting(
        "maximum seconds that `POST /v1/models/copy` waits for the outcome",
        _seconds(0, 3540),
        3540.0,
    )
    token_checks: TokenChecks = _setting(  # noqa: RUF009  a frozen enum
        "`verify`: check each caller's token; `trust-cloud-run`: also accept a token whose"
        " signature Cloud Run has checked and removed; `none`: no checks, for one machine only",
        _token_checks,
        TokenChecks.VERIFY,
    )
    # One that does not change with the service's URLs, of which Cloud Run has two; and those URLs,
    # since Google's own samples mint tokens for the URL that they call, with and without its path.
    audience: tuple[str, ...] = _setting(
        "comma-separated audiences (`aud`) that tokens may name; required unless TOKEN_CHECKS is"
        " `none`",
        _audiences,
        (),
    )
    push_account: str = _setting(
        "service account of Pub/Sub's pushes; empty: no account may push",
        _text(re.compile(r"[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]+"), "an e-mail address"),
        "",
    )
    callers_file: CallersFile = _setting(  # noqa: RUF009  frozen
        "TOML file of the accounts that may call `/v1` (empty: none may) and of the limits of"
        " senders; the same file for api and worker",
        read_callers,
        CallersFile(),
    )
    # An honest batch of 20,000 requests passes, with room to come again.
    max_unfinished: float = _setting(
        "maximum number of unfinished requests of one sender",
        _number(1, 1_000_000, "requests"),
        25_000.0,
    )
    # As many as the reads that Vertex AI takes: a validation is two. Each process counts its own.
    requests_per_minute: float = _setting(
        "maximum number of requests per minute in each process, of one account over REST and of one"
        " sender by message; copy requests by message do not count",
        _number(1, 1_000_000, "requests"),
        600.0,
    )
    # Half of the calls that an instance takes at once.
    max_waits: float = _setting(
        "maximum number of concurrent waits of one account over REST, in each process",
        _number(0, 100_000, "waits"),
        500.0,
    )
    certs_url: str = _setting(
        "URL of the public keys that verify tokens",
        _text(
            re.compile(rf"https://\S+|http://(?:127\.0\.0\.1|localhost):{_PORT}/\S*"),
            "an https URL",
        ),
        "https://www.googleapis.com/oauth2/v1/certs",
    )
    # The framework's own default is every address. Its `--host` would win over this; so with
    # `none` each request is looked at, too: web/local_only.py.
    host: str = _setting(
        "listen address of the Functions Framework; with TOKEN_CHECKS=none a loopback address such"
        " as 127.0.0.1",
        _text(re.compile(r"[A-Za-z0-9.:-]{1,253}"), "a name or an address"),
        "",
    )
    k_service: str = _setting(
        "name of the service; set by Cloud Run, not by you", _text(re.compile(r"\S+"), "a name"), ""
    )
    vertex_endpoint: str = _setting(
        "alternative Vertex AI endpoint, as `http://HOST:PORT` (gRPC), with"
        " `,LOCATION=http://HOST:PORT` for each location that has its own port; for tests and local"
        " runs",
        _text(
            re.compile(rf"{_HTTP_ADDRESS}(?:,[a-z][a-z0-9-]{{0,30}}={_HTTP_ADDRESS})*"),
            f"http://{_ADDRESS_FORM}",
        ),
        "",
    )
    pubsub_emulator_host: str = _setting(
        "address of a Pub/Sub emulator, as Google's clients read it",
        _text(_ADDRESS, _ADDRESS_FORM),
        "",
    )
    firestore_emulator_host: str = _setting(
        "address of a Firestore emulator; Google's client reads this variable itself",
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
        wrong += _wrong_with_numbers(values)
        _spell_by_id(values)
        wrong += _wrong_with_callers(values, env)
        if "K_SERVICE" in env and str(values.get("store", "")).startswith("sqlite:"):
            wrong.append(
                f"STORE={values['store']!r} is not allowed on Cloud Run: a file there is the"
                " memory of one instance, and jobs would be lost with it; set"
                " STORE=firestore://PROJECT/DATABASE"
            )
        locations = values.get("locations") or LOCATIONS
        if bad := explain_unknown_location(values.get("location", "us-central1"), locations):
            wrong.append(f"LOCATIONS does not contain LOCATION: {bad}")
        wrong += _wrong_on_cloud_run(env)
        wrong += _wrong_topics(cls, values)
        for kind in ("source", "target"):
            allowed = _ids_of(values, kind)
            default = values.get(f"{kind}_project")
            if allowed and default and default not in allowed:
                wrong.append(
                    f"ALLOWED_{kind.upper()}_PROJECTS does not contain {kind.upper()}_PROJECT"
                    f" ({default!r}): every request that names no project would be rejected"
                )
        if wrong:
            raise SettingsError("Invalid configuration:\n" + "\n".join(f"  - {w}" for w in wrong))
        return cls(**values)

    @property
    def source_projects(self) -> frozenset[str]:
        listed = _spelled(self.allowed_source_projects, self.project_ids)
        return listed or frozenset({self.source_project})

    @property
    def target_projects(self) -> frozenset[str]:
        listed = _spelled(self.allowed_target_projects, self.project_ids)
        return listed or frozenset({self.target_project})

    @property
    def project_ids(self) -> Mapping[str, str]:
        """The id of each number that the operator wrote beside one."""
        return _pairs(self.allowed_source_projects | self.allowed_target_projects)

    @property
    def allowed_locations(self) -> frozenset[str]:
        return self.locations or LOCATIONS

    @property
    def senders(self) -> SenderPolicy:
        """What each sender may do."""
        default = SenderLimits(
            max_unfinished=int(self.max_unfinished),
            requests_per_minute=int(self.requests_per_minute),
            max_waits=int(self.max_waits),
        )
        return self.callers_file.policy(default)

    def topic(self, name: str) -> str:
        """Return the full name of one of the topics above."""
        project = self.pubsub_project or self.target_project
        return _full_topic(name, project)


def _full_topic(name: str, project: str) -> str:
    return name if name.startswith("projects/") else f"projects/{project}/topics/{name}"


def _wrong_on_cloud_run(env: Mapping[str, str]) -> Iterator[str]:
    """Emulators take no credentials and speak in the clear: whoever sets one gets everything."""
    if "K_SERVICE" not in env:
        return
    for variable in _EMULATORS:
        if env.get(variable, "").strip():
            yield (
                f"{variable} is not allowed on Cloud Run: it is for local runs, without"
                " credentials or encryption; remove it"
            )


def _wrong_topics(settings: type[Settings], values: Mapping[str, Any]) -> Iterator[str]:
    """Topics must differ: a reply or a dead letter would come in as a request, without end."""
    project = values.get("pubsub_project") or values.get("target_project") or ""
    seen: dict[str, str] = {}
    for setting in fields(settings):
        if not setting.name.endswith("_topic"):
            continue
        full = _full_topic(values.get(setting.name, setting.default), project)
        other = seen.setdefault(full, setting.name)
        if other != setting.name:
            yield f"{setting.name.upper()} and {other.upper()} are one topic, {full}; use two"


def _pairs(entries: Iterable[str]) -> dict[str, str]:
    """The id of each number, from entries that are ID=NUMBER."""
    pairs = (entry.partition("=") for entry in sorted(entries) if "=" in entry)
    return {number: project for project, _, number in pairs}


def _spelled(entries: Iterable[str], ids: Mapping[str, str]) -> frozenset[str]:
    """Name each listed project once, by its id where that is known."""
    names = (entry.partition("=")[0] for entry in entries)
    return frozenset(ids.get(name, name) for name in names)


def _listed(values: Mapping[str, Any]) -> frozenset[str]:
    none: frozenset[str] = frozenset()
    sources: frozenset[str] = values.get("allowed_source_projects", none)
    targets: frozenset[str] = values.get("allowed_target_projects", none)
    return sources | targets


def _ids_of(values: Mapping[str, Any], kind: str) -> frozenset[str]:
    return _spelled(values.get(f"allowed_{kind}_projects", ()), _pairs(_listed(values)))


def _spell_by_id(values: dict[str, Any]) -> None:
    """Name the projects of the other settings as the lists do."""
    ids = _pairs(_listed(values))
    for name in ("source_project", "target_project"):
        if name in values:
            values[name] = ids.get(values[name], values[name])
    file = values.get("callers_file", CallersFile())
    callers = tuple(
        replace(
            caller,
            source_projects=caller.source_projects and _spelled(caller.source_projects, ids),
            target_projects=caller.target_projects and _spelled(caller.target_projects, ids),
        )
        for caller in file.callers
    )
    values["callers_file"] = replace(file, callers=callers)


def _wrong_with_numbers(values: Mapping[str, Any]) -> Iterator[str]:
    """A project that can be named in two ways would have two locks on each of its models."""
    pairs = {entry for entry in _listed(values) if "=" in entry}
    for position, what in ((0, "id"), (2, "number")):
        sides = [pair.partition("=")[position] for pair in sorted(pairs)]
        for twice in sorted({side for side in sides if sides.count(side) > 1}):
            told = ", ".join(p for p in sorted(pairs) if p.partition("=")[position] == twice)
            yield f"ALLOWED_*_PROJECTS: {what} {twice!r} appears in several pairs: {told}"
    for kind in ("source", "target"):
        names = _ids_of(values, kind)
        numbers = sorted(name for name in names if name.isdigit())
        if numbers and len(numbers) < len(names):
            yield (
                f"ALLOWED_{kind.upper()}_PROJECTS: {', '.join(numbers)} is listed beside project"
                f" ids, without an id of its own; write ID={numbers[0]} (`gcloud projects describe"
                f" {numbers[0]} --format='value(projectId)'` prints the id): a project with two"
                " names would have two locks on each of its models"
            )


def _wrong_with_callers(values: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[str]:
    if values.get("token_checks") is TokenChecks.NONE:
        if "K_SERVICE" in env:
            yield "TOKEN_CHECKS='none' is not allowed on Cloud Run: any caller could copy models"
        elif env.get("HOST", "").strip() not in _LOOPBACK:
            yield (
                "TOKEN_CHECKS='none' is not allowed where other machines can reach the port: set"
                " HOST=127.0.0.1, on which the Functions Framework then listens, or check tokens"
            )
        return
    if not env.get("AUDIENCE", "").strip():
        yield (
            "AUDIENCE is missing: comma-separated audiences (`aud`) that tokens may name; on a"
            " machine that no other can reach, TOKEN_CHECKS=none needs no tokens"
        )
    for caller in values.get("callers_file", CallersFile()).callers:
        for kind in ("source", "target"):
            known = _ids_of(values, kind) or {values.get(f"{kind}_project")}
            named = getattr(caller, f"{kind}_projects") or frozenset()
            for project in sorted(named - known):
                yield (
                    f"CALLERS_FILE allows {caller.account} to name {project!r}, which"
                    f" ALLOWED_{kind.upper()}_PROJECTS does not allow"
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
