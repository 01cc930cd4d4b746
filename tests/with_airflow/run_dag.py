"""Runs a DAG with our operator once, in an environment that has Airflow.

``DAG.test`` runs the tasks as a worker does and the triggers as a triggerer does, with the
metadata database of AIRFLOW_HOME. Prints one JSON object: the states, and what XCom got.
"""

import json
import os

import pendulum
from airflow.sdk import DAG

from model_copy_publisher.airflow import CopyModelOperator

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
