"""The targets that the Functions Framework serves: ``functions-framework --target worker``.

Only the framework and the settings are imported here, so that an instance listens within
a second; the application itself is built on the first request.
"""

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import functions_framework.aio
from starlette.convertors import PathConvertor

# A buildpack installs requirements.txt only: our own code is found from here.
sys.path.insert(0, str(Path(__file__).parent / "src"))

from model_copier.settings import Settings, SettingsError

# The framework hands every path to us, but for one with a line break in it, which it would answer
# itself, in plain text: the pattern of its route stops there. It reads this on making its routes.
PathConvertor.regex = "(?s:.*)"

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from model_copier.app import Service

try:
    SETTINGS = Settings.from_env(os.environ)
except SettingsError as error:
    sys.exit(f"model copier: {error}")


@functools.cache
def _service(target: str) -> "Service":
    from model_copier.app import Service  # noqa: PLC0415  see the header

    return Service(target, SETTINGS)


# An ASGI application is called the way a response is, which the framework's types do not say.
@functions_framework.aio.http  # type: ignore[arg-type]
async def worker(_request: "Request") -> "ASGIApp":
    """Pub/Sub push: requests and ticks."""
    return await _service("worker").app()


@functions_framework.aio.http  # type: ignore[arg-type]
async def api(_request: "Request") -> "ASGIApp":
    """REST."""
    return await _service("api").app()


@functions_framework.aio.http  # type: ignore[arg-type]
async def all(_request: "Request") -> "ASGIApp":  # noqa: A001  the target's name
    """Both, for one process on one machine."""
    return await _service("all").app()
