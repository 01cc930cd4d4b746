"""Locations: which host serves each, held to Google's package, and what a wrong one is told."""

import asyncio
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import aiplatform
from google.cloud.aiplatform import initializer
from google.cloud.aiplatform.constants import base

from model_copier.adapters.vertex import VertexModelService
from model_copier.app import request_defaults
from model_copier.contract.request_schema import Defaults, read_copy_data
from model_copier.domain.errors import Code, RefusedError, RejectedError, UnavailableError
from model_copier.domain.locations import HOSTS, LOCATIONS, host_of
from model_copier.domain.resource_names import ModelName
from model_copier.settings import Settings, SettingsError

ENV = {
    "SOURCE_PROJECT": "tuning",
    "TARGET_PROJECT": "serving",
    "STORE": "sqlite:///jobs.db",
    "TOKEN_CHECKS": "none",
    "HOST": "127.0.0.1",
}


def defaults(**env: str) -> Defaults:
    return request_defaults(Settings.from_env(ENV | env))


def test_locations_are_those_of_googles_package():
    """An upgrade of the package that adds a location fails here until the table has it."""
    assert LOCATIONS == base.SUPPORTED_REGIONS | base.MREP_JURISDICTIONS


@pytest.mark.parametrize("location", sorted(LOCATIONS))
def test_host_is_that_of_googles_package(location: str):
    aiplatform.init(project="tuning", location=location)

    options = initializer.global_config.get_client_options(location_override=location)

    assert host_of(location) == options.api_endpoint == HOSTS[location]


@pytest.mark.parametrize("location", ["us", "eu", "global", "us-central1", "us-newplace3"])
async def test_client_dials_the_host_of_its_location(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Google's client dials through a proxy of this machine, which notes where to and refuses."""
    dialled: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        dialled.append(head.decode().partition("\r\n")[0])
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(_account_key(tmp_path)))
    models = VertexModelService(call_seconds=2)

    async with proxy:
        with pytest.raises(UnavailableError):
            await models.get_model(
                ModelName(project="tuning", location=location, model="7", version=None)
            )
        await models.close()

    assert {f"CONNECT {host_of(location)}:443 HTTP/1.1"} == set(dialled)


def _account_key(folder: Path) -> Path:
    """A service account's key, which nobody but this test knows."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "key.json"
    account = {
        "type": "service_account",
        "client_email": "copier@tuning.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    file.write_text(json.dumps(account))
    return file


@pytest.mark.parametrize("location", ["us-central1-a", "moon", "aiplatform", "us-central"])
def test_name_without_a_host_is_an_error(location: str):
    with pytest.raises(ValueError, match=location):
        host_of(location)


async def test_stored_zone_is_refused_for_good():
    """A record of an older service may hold any name."""
    models = VertexModelService(call_seconds=1)

    with pytest.raises(RefusedError, match="is a zone") as refusal:
        await models.get_model(
            ModelName(project="tuning", location="us-central1-a", model="7", version=None)
        )

    assert refusal.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("field", "location", "told"),
    [
        ("target_location", "us-central1-a", "is a zone, not a region; did you mean us-central1?"),
        ("target_location", "us-cental1", "is not a known location of Vertex AI; did you mean us"),
        ("source_location", "europe", "is not a known location of Vertex AI; did you mean eu?"),
        ("source_location", "us-central", "did you mean us-central1?"),
        ("source_location", "x000017", "is not a known location of Vertex AI; allowed are"),
        ("source_location", "US", "is no region such as us-central1; did you mean us?"),
    ],
)
def test_refusal_names_field_and_nearest_location(field: str, location: str, told: str):
    with pytest.raises(RejectedError, match=f"{field}: '{location}'") as refusal:
        read_copy_data({"source_model_id": "7", field: location}, defaults())

    assert told in str(refusal.value)


def test_location_in_a_full_name_is_checked():
    name = "projects/tuning/locations/us-central1-b/models/7"

    with pytest.raises(RejectedError, match="source_model_id: 'us-central1-b' is a zone"):
        read_copy_data({"source_model_id": name}, defaults())


def test_allow_list_refuses_a_known_location():
    listed = defaults(LOCATIONS="us-central1,eu")

    with pytest.raises(RejectedError, match="target_location: 'us' is not an allowed location"):
        read_copy_data({"source_model_id": "7", "target_location": "us"}, listed)


def test_allow_list_may_hold_a_newer_region():
    listed = defaults(LOCATIONS="us-central1,us-newplace3")

    asked = read_copy_data({"source_model_id": "7", "target_location": "us-newplace3"}, listed)

    assert asked.target_location == "us-newplace3"


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"LOCATIONS": "us-central1,us-east4-a"}, "'us-east4-a' is a zone, not a region"),
        ({"LOCATION": "europ-west4"}, "did you mean europe-west4?"),
        (
            {"LOCATIONS": "eu"},
            "LOCATIONS does not contain LOCATION: 'us-central1' is not an allowed",
        ),
    ],
)
def test_wrong_location_in_a_setting_stops_the_start(env: dict[str, str], told: str):
    with pytest.raises(SettingsError, match="Invalid configuration") as refusal:
        Settings.from_env(ENV | env)

    assert told in str(refusal.value)


@pytest.mark.parametrize("location", sorted(LOCATIONS))
def test_every_location_of_the_table_is_accepted(location: str):
    asked = read_copy_data({"source_model_id": "7", "target_location": location}, defaults())

    assert asked.target_location == location
