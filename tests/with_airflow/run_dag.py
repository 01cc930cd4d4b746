"""Runs a DAG with the example's operator once, in an environment that has Airflow.

``DAG.test`` runs the tasks as a worker does and the triggers as a triggerer does, with the
metadata database of AIRFLOW_HOME. Prints one JSON object: the states, and what XCom got.
"""

import json
import os
import sys
from pathlib import Path

import pendulum

EXAMPLE = Path(__file__).parents[2] / "publisher" / "examples" / "airflow"
sys.path.insert(0, str(EXAMPLE))

from airflow.sdk import DAG  # noqa: E402  the example's folder comes first
from copy_model import CopyModelOperator  # noqa: E402  see above

# Airflow also reads this file as one of its DAGs, and then there is nothing to run.
run, project, model, destination = os.environ.get("RUN_DAG", "0 p m d").split()
with DAG(
    "promote", schedule=None, start_date=pendulum.datetime(2026, 1, 1), params={"model": model}
) as dag:
    CopyModelOperator(
        task_id="copy",
        project=project,
        timeout_seconds=60,
        request={
            "source_model_id": "{{ params.model }}",
            "destination_model_id": destination,
            "correlation": {"dag_run": "{{ run_id }}"},
        },
    )

if __name__ == "__main__":
    # The same moment is the same run, as when a task is cleared and run again.
    when = pendulum.datetime(2026, 2, 13, 9, int(run))
    ended = dag.test(run_after=when, logical_date=when)
    [task] = ended.get_task_instances()
    xcom = task.xcom_pull(task_ids="copy") if ended.state == "success" else None
    print("\nRESULT " + json.dumps({"run": ended.run_id, "task": task.state, "xcom": xcom}))
