"""The places where Airflow looks for connections."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS


def secrets_backends() -> list[Any]:
    """Return the secrets backends in the order in which Airflow uses them."""
    if AIRFLOW_V_3_0_PLUS:
        from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

        return list(ensure_secrets_backend_loaded())
    from airflow.configuration import ensure_secrets_loaded

    return list(ensure_secrets_loaded())


def is_any_failing(conn_id: str) -> bool:
    """Return True if a backend fails or finds the connection now.

    Airflow skips a failing backend and reports that the connection does not exist.
    """
    for backend in secrets_backends():
        try:
            found = backend.get_connection(conn_id=conn_id)
        except Exception:
            return True
        if found:
            return True
    return False
