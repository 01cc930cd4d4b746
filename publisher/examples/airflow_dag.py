"""Copy a model to the project that serves: a DAG with the deferrable operator."""

import pendulum
from airflow.sdk import DAG

from model_copy_publisher.airflow import CopyModelOperator

with DAG("promote", schedule=None, start_date=pendulum.datetime(2026, 1, 1), params={"model": ""}):
    CopyModelOperator(
        task_id="copy",
        project="team-models",
        request={
            "source_model_id": "{{ params.model }}",
            "destination_model_id": "faker_{{ ds_nodash }}",
            "correlation": {"dag_run": "{{ run_id }}"},
        },
    )
