"""An auth manager with permissions for single DAGs and connections, which Airflow's simple one lacks."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class PartialAuthManager(SimpleAuthManager):
    """Airflow's simple auth manager; only admins may see the DAG `secret` and the connection `secret`.

    Nobody may see XComs of `dags_without_xcoms`.
    """

    dags_without_xcoms: frozenset[str] = frozenset()

    def init(self) -> None:
        """Write no passwords: tests make tokens."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **arguments: Any) -> bool:
        """Return whether the user is authorized."""
        is_secret = details is not None and details.id == "secret" and user.role != "admin"
        if arguments.get("access_entity") is DagAccessEntity.XCOM and details.id in self.dags_without_xcoms:
            return False
        return not is_secret and super().is_authorized_dag(user=user, details=details, **arguments)

    def is_authorized_connection(self, *, user: Any, details: Any = None, **arguments: Any) -> bool:
        """Return whether the user is authorized."""
        is_secret = details is not None and details.conn_id == "secret" and user.role != "admin"
        return not is_secret and super().is_authorized_connection(user=user, details=details, **arguments)
