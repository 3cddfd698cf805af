"""Read an Airflow connection in the triggerer, and tell temporary errors from permanent ones."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import InvalidRequestError, SiliconFlowError
from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.exceptions import InvalidConnectionError
from siliconflow_provider.hooks.secrets_backends import secrets_backends
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook

LONGEST_REASON = 300


def read_client(siliconflow_conn_id: str) -> SiliconFlowClient:
    """Read the connection and return its client. Asks Airflow, so it blocks.

    :raises InvalidRequestError: if the connection does not exist or is invalid
    :raises SiliconFlowError: if the connection could not be read; a later attempt may succeed
    """
    try:
        return SiliconFlowHook(siliconflow_conn_id).get_conn()
    except AirflowNotFoundException as error:
        failure = _hidden_failure(siliconflow_conn_id) or InvalidRequestError(str(error))
    except (InvalidConnectionError, InvalidRequestError) as error:
        failure = InvalidRequestError(str(error))
    except Exception as error:
        failure = _unread(siliconflow_conn_id, _reason(error))
    # Raised outside of the handlers: the original exception of a backend could show a secret.
    raise failure


def _hidden_failure(conn_id: str) -> SiliconFlowError | None:
    """Return the error of a failing secrets backend, or None.

    Airflow skips a failing backend and reports that the connection does not exist.
    """
    for backend in secrets_backends():
        try:
            found = backend.get_connection(conn_id=conn_id)
        except Exception as error:
            return _unread(conn_id, f"{type(backend).__name__}: {_reason(error)}")
        if found:
            return _unread(conn_id, f"{type(backend).__name__} failed at first")
    return None


def _unread(conn_id: str, reason: str) -> SiliconFlowError:
    return SiliconFlowError(f"connection {conn_id!r} could not be read: {reason}")


def _reason(error: Exception) -> str:
    # The text of a ValueError may quote an invalid value, and the value may contain the key.
    if isinstance(error, ValueError):
        return type(error).__name__
    first_line, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {without_queries(first_line)}"[:LONGEST_REASON]
