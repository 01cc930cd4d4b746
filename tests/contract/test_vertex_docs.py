"""docs/local-cloud.md: its tables are the code's, and its commands work as they stand."""

# Fixtures and parameters speak by name:
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import re
import shutil
import sys
from pathlib import Path

import pytest

from local_cloud.stack import LOCATION, SOURCE_MODEL, SOURCE_PROJECT
from local_cloud.vertex import Vertex
from local_cloud.vertex_dialects import WORST
from local_cloud.vertex_methods import REQUEST_CLASSES
from local_cloud.vertex_tables import with_tables
from vertex_clients import run

PAGE = Path(__file__).parents[2] / "docs" / "local-cloud.md"
SECTION = re.search(r"^## Vertex AI\n.*?(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def block(language: str) -> str:
    """The section's only block of code in this language."""
    assert SECTION
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", SECTION[0], re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
async def vertex():
    """As `make up` has it, but quicker."""
    cloud = Vertex(copy_seconds=0.1)
    cloud.add_model(f"projects/{SOURCE_PROJECT}/locations/{LOCATION}/models/{SOURCE_MODEL}")
    async with cloud:
        yield cloud


def test_the_tables_are_those_of_the_code():
    page = PAGE.read_text()

    assert with_tables(page) == page, "python -m local_cloud.vertex_tables docs/local-cloud.md"


def test_every_method_that_is_served_is_named():
    assert SECTION
    served = SECTION[0].partition("| served | methods |")[2].partition("\n\n")[0]

    assert set(re.findall(r"\b[A-Z][a-z]+(?:Model\w*|Operations?)\b", served)) == {*REQUEST_CLASSES}


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
async def test_the_gcloud_commands_copy_a_model_and_show_it(vertex):
    printed = await run("bash", "-euc", block("sh with gcloud"), VERTEX_REST=vertex.rest_url)

    assert printed.count("by-gcloud") >= 2
    assert printed.splitlines()[-1].endswith(f"/models/{SOURCE_MODEL}@1")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed on this machine")
async def test_the_curl_commands_turn_knobs_and_arm_faults(vertex):
    printed = await run("bash", "-euc", block("sh with curl"), VERTEX_REST=vertex.rest_url)

    assert '"error"' not in printed
    assert (vertex.knobs.lost_answers, vertex.knobs.dialect) == (0.05, WORST)
    assert vertex.faults.copy_failure("models/7") is not None


async def test_the_example_of_a_test_runs():
    printed = await run(sys.executable, "-c", block("python"))

    assert printed.strip() == "projects/dst/locations/europe-west4/models/cats"
