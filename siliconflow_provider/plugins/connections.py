"""Airflow connections in the API server, which reads them without a task."""

from __future__ import annotations

import os
import re
from typing import Any

from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.utils.session import create_session
from sqlalchemy import select

from siliconflow_provider.exceptions import InvalidConnectionError, UnknownConnectionError
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID, SiliconFlowHook
from siliconflow_provider.plugins.access import Viewer

_VARIABLE = "AIRFLOW_CONN_"
# The ids that Airflow's API accepts. Others could lead a secrets backend elsewhere.
_ID = re.compile(r"[\w.-]{1,250}")
# A URI, or JSON.
_OF_SILICONFLOW = re.compile(r'siliconflow:|\s*\{.*"conn_type"\s*:\s*"siliconflow"', re.DOTALL)


class ServerHook(SiliconFlowHook):
    """The hook in the API server: Airflow's own models read the connection, instead of a task's supervisor."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        """Return a connection.

        :raises UnknownConnectionError: if it does not exist
        :raises InvalidConnectionError: if it is of another type: its password must not be sent to this service
        """
        try:
            if not _ID.fullmatch(conn_id):
                raise AirflowNotFoundException
            connection = Connection.get_connection_from_secrets(conn_id)
        except AirflowNotFoundException:
            raise UnknownConnectionError(
                f"connection {conn_id!r} does not exist, or its secrets backend failed: create it with type "
                "siliconflow and the API key as password"
            ) from None
        if connection.conn_type != cls.conn_type:
            raise InvalidConnectionError(
                f"connection {conn_id!r} is of type {connection.conn_type!r}: choose one of type siliconflow"
            )
        return connection


def readable_connections(viewer: Viewer) -> list[str]:
    """Return the ids of SiliconFlow connections that a user may read.

    Connections of secrets backends cannot be listed; the default one is included if no other is known.
    """
    return sorted(filter(viewer.may_read_connection, _known_ids() or {DEFAULT_CONN_ID}))


def is_known(conn_id: str) -> bool:
    """Return True if an id is the one that permissions for its connection are given to.

    Environment variables and secrets backends may answer to other spellings too, for which the auth manager has no
    rule.
    """
    return conn_id == DEFAULT_CONN_ID or conn_id in _known_ids()


def _known_ids() -> set[str]:
    """Return the ids in the database, and those of environment variables, which come first, in lower case."""
    statement = select(Connection.conn_id).where(Connection.conn_type == SiliconFlowHook.conn_type)
    with create_session() as session:
        stored = {conn_id for conn_id in session.scalars(statement) if _variable(conn_id) not in os.environ}
    return stored | {
        conn_id
        for name, value in os.environ.items()
        if _OF_SILICONFLOW.match(value) and name == _variable(conn_id := name.removeprefix(_VARIABLE).lower())
    }


def _variable(conn_id: str) -> str:
    """Return the environment variable that Airflow reads for an id."""
    return f"{_VARIABLE}{conn_id.upper()}"
