"""Airflow's REST API, which its UI uses too: version 2 on Airflow 3, version 1 on Airflow 2."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import requests

AIRFLOW_3 = int(version("apache-airflow").partition(".")[0]) >= 3
LOCKED_ATTEMPTS = 5


class RestApi:
    """The calls that the tests need, under the names that both versions share.

    :param url: of the api-server or webserver
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the decoded answer.

        :raises requests.HTTPError: with the answer's text, when it is a refusal
        """
        if AIRFLOW_3 and "Authorization" not in self._session.headers:
            answer = self._session.get(f"{self.url}/auth/token", timeout=30)
            self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        version_path = "/api/v2" if AIRFLOW_3 else "/api/v1"
        for _ in range(LOCKED_ATTEMPTS):
            answer = self._session.request(method, f"{self.url}{version_path}{path}", json=body, timeout=60)
            if answer.status_code != requests.codes.server_error:
                break
            time.sleep(0.5)  # SQLite was locked, and nothing done
        if not answer.ok:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text}", response=answer)
        return answer.json()

    def page(self, path: str) -> str:
        """Return the HTML of a page that a plugin has in the UI, below `/siliconflow`."""
        self.call("GET", "/version")  # signs in
        answer = self._session.get(f"{self.url}/siliconflow{path}", timeout=60)
        answer.raise_for_status()
        return answer.text

    def health(self) -> dict[str, dict[str, Any]]:
        """Status and latest heartbeat of each component."""
        path = "/api/v2/monitor/health" if AIRFLOW_3 else "/api/v1/health"
        answer = self._session.get(self.url + path, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG has been read.

        :raises AssertionError: when some file of the DAGs folder cannot be imported
        """
        errors = self.call("GET", "/importErrors")["import_errors"]
        assert not errors, "\n".join(each["stack_trace"] for each in errors)
        return any(each["dag_id"] == dag_id for each in self.call("GET", "/dags?limit=100")["dags"])

    def trigger_dag_run(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Unpause the DAG and trigger a run; gives the run's id."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        body = {"conf": conf} | ({"logical_date": None} if AIRFLOW_3 else {})
        return self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"]

    def set_task_instance_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """What the UI's "Mark state as" does."""
        if AIRFLOW_3:
            path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
            self.call("PATCH", path, {"new_state": state})
            return
        others = dict.fromkeys(("include_upstream", "include_downstream", "include_future", "include_past"), False)
        body = {"dry_run": False, "task_id": task_id, "dag_run_id": run_id, "new_state": state} | others
        self.call("POST", f"/dags/{dag_id}/updateTaskInstancesState", body)

    def clear_task_instances(self, dag_id: str, run_id: str, task_ids: list[str], downstream: bool) -> None:
        """What the UI's "Clear" does."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": task_ids,
            "only_failed": False,
            "reset_dag_runs": True,
            "include_downstream": downstream,
        }
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def create_connection(self, conn_id: str, host: str, password: str) -> None:
        """An Airflow connection of this provider's type."""
        body = {"connection_id": conn_id, "conn_type": "siliconflow", "host": host, "password": password}
        self.call("POST", "/connections", body)

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str) -> Any:
        """The value; text on Airflow 2, whose API gives no more."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", f"{path}?map_index={map_index}")["value"]
