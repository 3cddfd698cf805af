"""A secrets backend that the tests make slow, or fail."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

try:
    from airflow.sdk.bases.secrets_backend import BaseSecretsBackend
except ImportError:
    from airflow.secrets.base_secrets import BaseSecretsBackend

CONN_ID = "kept_by_a_backend"
FILE = "secrets_backend.json"


class ControlledBackend(BaseSecretsBackend):
    """Knows one connection; a file in Airflow's home says which, and how the backend is."""

    def get_conn_value(self, conn_id: str, *_: Any, **__: Any) -> str | None:
        """Return the connection as JSON."""
        if conn_id != CONN_ID:
            return None
        state = json.loads(Path(os.environ["AIRFLOW_HOME"], FILE).read_text())
        time.sleep(state["seconds"])
        if state["fails"]:
            raise OSError("no route to the vault")
        return json.dumps(state["connection"])
