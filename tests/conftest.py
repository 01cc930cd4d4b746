"""What all tests share: Google's emulator, and at the end what was skipped, and why."""

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

import stores
from emulators import FIRESTORE, PUBSUB, EmulatorMissingError, first_call

# How long one example takes says more of the machine than of the code.
settings.register_profile("copier", deadline=None)
settings.load_profile("copier")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Google's Pub/Sub emulator, where this machine has it."""
    try:
        with PUBSUB.running(tmp_path_factory.mktemp("emulator")) as address:
            yield address
    except EmulatorMissingError as error:
        pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons: Counter[str] = Counter()
    for report in terminalreporter.getreports("skipped"):
        _, _, why = report.longrepr  # file, line, "Skipped: ..."
        reasons[why.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("skipped here")
        for why, count in reasons.most_common():
            terminalreporter.line(f"{count:4}  {why}")
    departures = len(terminalreporter.getreports("xfailed"))
    if departures:
        terminalreporter.line(f"{departures:4}  expected departures of Google's emulator, by name")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs with Ctrl-C ignored, and all that they start inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def firestore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Google's Firestore emulator; the test is skipped where it is not found."""
    try:
        with FIRESTORE.running(tmp_path_factory.mktemp("firestore")) as address:
            first_call(address)
            yield address
    except EmulatorMissingError as error:
        pytest.skip(str(error))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=["usual", "firestore"],
        default="usual",
        help="firestore: Google's emulator in place of SQLite and of the simulated store",
    )


@pytest.fixture(scope="session", autouse=True)
def _store_under_test(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--store") == "firestore":
        stores.emulator = request.getfixturevalue("firestore")
        # Google's clients read it here, and the copier's processes inherit it.
        os.environ["FIRESTORE_EMULATOR_HOST"] = stores.emulator
