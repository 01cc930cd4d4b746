"""What is in the publisher's wheel; ``make try-wheel`` installs it in an empty environment."""

import zipfile
from email.parser import Parser
from pathlib import Path

from try_wheel import NEEDED, ROOT, build


def test_the_wheel_has_the_package_its_types_and_its_command_and_nothing_else(tmp_path: Path):
    with zipfile.ZipFile(build(tmp_path)) as wheel:
        names = set(wheel.namelist())
        [metadata] = [name for name in names if name.endswith("METADATA")]
        told = Parser().parsestr(wheel.read(metadata).decode())
        [points] = [name for name in names if name.endswith("entry_points.txt")]

        assert "model-copy = model_copy_publisher.cli:main" in wheel.read(points).decode()
    source = ROOT / "publisher" / "src"
    files = {str(each.relative_to(source)) for each in source.rglob("*.py")}
    required = {
        each.partition(">")[0] for each in told.get_all("Requires-Dist", []) if "extra" not in each
    }
    assert files <= names
    assert "model_copy_publisher/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"model_copy_publisher"}
    assert required == NEEDED
    assert told["Requires-Python"] == ">=3.11"
