"""The Airflow operator in real Airflow, against the local cloud: ``make test-airflow``.

Airflow brings two hundred packages and pins many of them, so it lives in an environment of its
own (.airflow), which is made here when it is not there.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any

from local_cloud.stack import LOCATION, SOURCE_MODEL, TARGET_PROJECT, Stack
from local_cloud.topics import PROJECT
from show_publisher import running_stack

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".airflow"


def set_up(home: Path) -> dict[str, str]:
    """Make the environment and an empty database of Airflow's; the variables to run it with."""
    if not (ENVIRONMENT / "installed").exists():
        print("setting up .airflow (once)")
        uv = str(Path(sys.executable).with_name("uv"))
        python = str(ENVIRONMENT / "bin" / "python")
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", "3.11", str(ENVIRONMENT)], check=True
        )
        install = [uv, "pip", "install", "--quiet", "--python", python]
        subprocess.run([*install, "-e", f"{ROOT / 'publisher'}[airflow]"], check=True)
        (ENVIRONMENT / "installed").touch()
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent),
    }
    # A DAG can be run once it is in the database.
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        words = [str(ENVIRONMENT / "bin" / "airflow"), *command]
        subprocess.run(words, env=env, check=True, stdout=DEVNULL, stderr=DEVNULL)
    # The example is a DAG that Airflow takes.
    example = ROOT / "publisher" / "examples" / "airflow_dag.py"
    subprocess.run([str(ENVIRONMENT / "bin" / "python"), str(example)], env=env, check=True)
    return env


async def run_dag(stack: Stack, env: dict[str, str], *, run: int, source: str, to: str) -> Any:
    """Run the DAG once in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        ENVIRONMENT / "bin" / "python",
        Path(__file__).with_name("run_dag.py"),
        env=env | stack.exports() | {"RUN_DAG": f"{run} {PROJECT} {source} {to}"},
        stdout=PIPE,
        stderr=STDOUT,
        limit=2**20,
    )
    output, _ = await process.communicate()
    results = [line for line in output.decode().splitlines() if line.startswith("RESULT ")]
    assert results, output.decode()[-4000:]
    return json.loads(results[0].removeprefix("RESULT ")) | {"log": output.decode()}


async def check() -> None:
    """Copy, run the same again, and have a copy fail."""
    with tempfile.TemporaryDirectory(prefix="airflow-") as name:
        folder = Path(name)
        env = set_up(folder / "airflow")
        async with running_stack(folder / "cloud") as stack:
            first = await run_dag(stack, env, run=1, source=SOURCE_MODEL, to="of_airflow")
            again = await run_dag(stack, env, run=1, source=SOURCE_MODEL, to="of_airflow")
            failed = await run_dag(stack, env, run=2, source="404", to="never")
            copies = len(stack.vertex.copy_calls)

    model = f"projects/{TARGET_PROJECT}/locations/{LOCATION}/models/of_airflow"
    print(f"{'run':<28} {'task':<10} outcome")
    for what, result in (
        ("first", first),
        ("the same run again", again),
        ("no such source", failed),
    ):
        print(f"{what:<28} {result['task']:<10} {(result['xcom'] or {}).get('resource_name', '')}")
    print(f"copies asked of Vertex AI    {copies}")
    assert first["task"] == again["task"] == "success"
    assert first["xcom"]["resource_name"] == again["xcom"]["resource_name"] == model
    assert first["xcom"]["event_id"] == again["xcom"]["event_id"]
    assert first["xcom"]["correlation"]["dag_run"]
    assert copies == 1
    assert failed["task"] == "failed"
    assert "failed: source_model_id: " in failed["log"]


if __name__ == "__main__":
    asyncio.run(check())
