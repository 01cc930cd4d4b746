"""Every test of the contract asks for a ``server`` and knows no more about it than its address.

So Google's emulator, where this machine has it, is held to the same promises as ours; where it
is known to keep another, ``behaviours`` says which, and the test is expected to fail. Tests of
what only our own server promises, of its knobs and of its life, are named ``test_ours_``.
"""

import re
from collections.abc import Iterator

import pytest

from contract.pubsub.behaviours import departures
from emulators import clear
from local_cloud.pubsub import PubSub
from pubsub_clients import PATIENCE_SECONDS, Clients, Served, serving
from push_endpoint import Endpoint

DEPARTURES = departures()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        ours_only = metafunc.function.__name__.startswith("test_ours_")
        metafunc.parametrize("server", ["ours"] if ours_only else ["ours", "emulator"])


@pytest.fixture
def departure(server: str, request: pytest.FixtureRequest) -> str | None:
    """What the server under test is known to do instead of what the test asks for."""
    if server == "ours":
        return None
    name = re.sub(r"-?emulator-?", "", request.node.name).replace("[]", "")
    return DEPARTURES.get(name) or DEPARTURES.get(name.partition("[")[0])


@pytest.fixture
def patience_seconds(departure: str | None) -> float:
    """What is not expected to come is not waited for long."""
    return 2 if departure else PATIENCE_SECONDS


@pytest.fixture
def min_ack_deadline_seconds() -> float:
    """Less than the documented 10 s, so that tests need not wait as long."""
    return 1


@pytest.fixture
def pubsub(
    server: str,
    departure: str | None,
    min_ack_deadline_seconds: float,
    request: pytest.FixtureRequest,
) -> Iterator[Served]:
    if departure:
        request.applymarker(pytest.mark.xfail(strict=True, reason=departure))
    if server == "ours":
        with serving(PubSub(min_ack_deadline_seconds=min_ack_deadline_seconds)) as ours:
            yield Served(address=ours.address, certs_url=ours.certs_url)
    else:
        yield Served(address=request.getfixturevalue("emulator"))


@pytest.fixture
def clients(
    pubsub: Served, server: str, patience_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clients]:
    """Of a project with one topic in it."""
    clients = Clients(pubsub.address, monkeypatch, patience_seconds=patience_seconds)
    clients.plain.create_topic(name=clients.topic)
    yield clients
    clients.close()
    if server == "emulator":
        clear(pubsub.address, project=clients.project)


@pytest.fixture
def endpoint(patience_seconds: float) -> Iterator[Endpoint]:
    with Endpoint(patience_seconds=patience_seconds) as endpoint:
        yield endpoint
