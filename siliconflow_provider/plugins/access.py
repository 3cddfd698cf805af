"""Ask Airflow's auth manager what a user may do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.configuration import conf
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException
from sqlalchemy import select

# The pages of a task instance show its XComs, too.
_SHOWN_OF_TASK = (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)


@dataclass(frozen=True)
class DagAccess:
    """The DAGs of this Airflow, by what a user may do with them."""

    existing: frozenset[str]
    readable: frozenset[str]
    editable: frozenset[str]


@dataclass(frozen=True)
class Viewer:
    """A user who has signed in. All methods ask the auth manager, and may read Airflow's database."""

    user: Any

    @property
    def user_id(self) -> str:
        """The id of the user, which is unique in this Airflow."""
        return str(self.user.get_id())

    def may_read_connection(self, conn_id: str) -> bool:
        """Return True if the user may read a connection."""
        return self._may("connection", "GET", conn_id)

    def may_edit_connection(self, conn_id: str) -> bool:
        """Return True if the user may edit a connection."""
        return self._may("connection", "PUT", conn_id)

    def may_edit_dag(self, dag_id: str) -> bool:
        """Return True if the user may edit a DAG."""
        return self._may("dag", "PUT", dag_id)

    def may_read_xcoms(self, dag_id: str) -> bool:
        """Return True if the user may read XComs of a DAG."""
        return self._may("dag", "GET", dag_id, access_entity=DagAccessEntity.XCOM)

    def check_reads_task(self, dag_id: str) -> None:
        """Raise HTTPException 403 if the user may not read task instances of a DAG and their XComs."""
        if not all(self._may("dag", "GET", dag_id, access_entity=entity) for entity in _SHOWN_OF_TASK):
            raise HTTPException(403, f"You may not read task instances of the DAG {dag_id!r}.")

    @cached_property
    def dags(self) -> DagAccess:
        """The DAGs that the user may read and edit."""
        manager = get_auth_manager()
        with create_session() as session:
            existing = frozenset(session.scalars(select(DagModel.dag_id)))
        readable = manager.get_authorized_dag_ids(user=self.user, method="GET")
        editable = manager.get_authorized_dag_ids(user=self.user, method="PUT")
        return DagAccess(existing, frozenset(readable), frozenset(editable))

    def _may(self, kind: str, method: str, name: str, **options: Any) -> bool:
        manager: Any = get_auth_manager()
        if kind == "connection":
            details = _details(ConnectionDetails, Connection, conn_id=name)
            return bool(manager.is_authorized_connection(method=method, details=details, user=self.user))
        details = _details(DagDetails, DagModel, id=name)
        return bool(manager.is_authorized_dag(method=method, details=details, user=self.user, **options))


def _details(kind: type[Any], model: Any, **names: str) -> Any:
    """Return a resource for the auth manager, with its team if Airflow has teams."""
    has_team = any(field.name == "team_name" for field in fields(kind))
    if has_team and conf.getboolean("core", "multi_team", fallback=False):
        return kind(**names, team_name=model.get_team_name(*names.values()))
    return kind(**names)


def viewer_of(user: GetUserDep) -> Viewer:
    """Return the user of a request. Airflow refuses a request without a valid token."""
    return Viewer(user)


ViewerDep = Annotated[Viewer, Depends(viewer_of)]
