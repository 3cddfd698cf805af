"""Keys in a batch's metadata that identify its task. Their prefix is reserved."""

from __future__ import annotations

RESERVED_PREFIX = "airflow_"
# SHA-256 (hex) of the deployment, the task instance and its `submission_key`.
AIRFLOW_KEY = "airflow_key"
# SHA-256 (hex) of the deployment and the DAG run; a teardown task finds the run's batches by it.
AIRFLOW_RUN = "airflow_run"
# SHA-256 (hex) of the requests, the model, the endpoint and the window.
AIRFLOW_INPUT = "airflow_input"
# Round of a job: 1 for all requests, 2 and more for resent ones.
AIRFLOW_ROUND = "airflow_round"
# The task instance's `max_tries`: automatic retries do not change it, clearing the task does.
AIRFLOW_MAX_TRIES = "airflow_max_tries"
# Readable name of the task instance.
AIRFLOW_TASK = "airflow_task"
