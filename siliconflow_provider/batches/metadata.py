"""The keys of a batch's metadata by which its task finds it again. Their prefix is reserved."""

from __future__ import annotations

RESERVED_PREFIX = "airflow_"
# SHA-256 (hex) of the deployment, the task instance and its `submission_key`.
AIRFLOW_KEY = "airflow_key"
# SHA-256 (hex) of the deployment and the DAG run, for a teardown task.
AIRFLOW_RUN = "airflow_run"
# SHA-256 (hex) of the requests, the model, the endpoint and the window.
AIRFLOW_INPUT = "airflow_input"
# Of a job: 1 for all requests, 2 and more for those that are sent again.
AIRFLOW_ROUND = "airflow_round"
# Airflow's own retries leave the task instance's number unchanged; clearing the task changes it.
AIRFLOW_MAX_TRIES = "airflow_max_tries"
# The task instance for people.
AIRFLOW_TASK = "airflow_task"
