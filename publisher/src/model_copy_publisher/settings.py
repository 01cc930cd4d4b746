"""The settings file: a small TOML file for what is the same in every call.

Options come first, then the environment, then the file, then the defaults. The file is
``$MODEL_COPY_CONFIG``, or ``model-copy/config.toml`` in the user's configuration folder.

    project = "team-models"
    target_location = "europe-west4"
"""

import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.request_schema import max_deadline_seconds

# What may stand in the file: options by their long names. What names one request may not.
NAMES = (
    "project",
    "request_topic",
    "reply_topic",
    "dead_letter_topic",
    "tick_topic",
    "request_subscription",
    "tick_subscription",
    "forwarded_subscription",
    "dead_letter_subscription",
    "audience",
    "clock",
    "request_source",
    "credentials_file",
    "source_project",
    "source_location",
    "target_project",
    "target_location",
    "location",
    "kms_key_name",
    "custom_service_account",
    "deadline_seconds",
    "reply_tag",
    "timeout",
    "output",
    "subscription",
)
OUTPUTS = ("text", "json")


def default_file(env: Mapping[str, str]) -> Path:
    """Return where the file is looked for; it need not be there."""
    folder = env.get("XDG_CONFIG_HOME") or _home() / ".config"
    return Path(folder) / "model-copy" / "config.toml"


def state_folder(env: Mapping[str, str]) -> Path:
    """Return where journals are kept."""
    folder = env.get("XDG_STATE_HOME") or _home() / ".local" / "state"
    return Path(folder) / "model-copy"


def _home() -> Path:
    """Return this user's folder; without HOME, and with an unlisted user, there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")


def read(file: Path | None) -> Mapping[str, Any]:
    """Return what the file says; nothing where there is none and none was named.

    Raises:
        InvalidRequestError: it cannot be read, or says what is no setting.
    """
    path = file or default_file(os.environ)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if file is None:
            return {}
        raise InvalidRequestError("config", f"{path} does not exist") from None
    except OSError as error:
        raise InvalidRequestError("config", f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequestError("config", f"{path}: {error}") from error
    for name, value in values.items():
        if name not in NAMES:
            raise InvalidRequestError(
                "config", f"{path}: {name} is not a setting; settings are {', '.join(NAMES)}"
            )
        expected = _unmet(name, value)
        if expected:
            raise InvalidRequestError("config", f"{path}: {name} should be {expected}")
    return values


def _unmet(name: str, value: object) -> str:
    """Say what a setting should be, where its value is nothing of the kind."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match name, value:
        case "deadline_seconds", int() if number and 1 <= value <= max_deadline_seconds():
            return ""
        case "deadline_seconds", _:
            return f"a whole number from 1 to {max_deadline_seconds()}"
        case "timeout", int() | float() if number and 0 < value < math.inf:
            return ""
        case "timeout", _:
            return "a number of seconds greater than 0"
        case "output", _:
            return "" if value in OUTPUTS else " or ".join(OUTPUTS)
        case _:
            return "" if number or isinstance(value, str) else "a string or a number"
