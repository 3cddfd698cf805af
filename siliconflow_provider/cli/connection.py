"""Build the client of a command from an Airflow connection, or from the environment."""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from siliconflow_provider.cli.arguments import usage_error

if TYPE_CHECKING:
    from siliconflow_provider.api.client import SiliconFlowClient

# The hook's DEFAULT_CONN_ID, whose import takes longer than a command.
DEFAULT_CONN_ID = "siliconflow_default"
KEY_VARIABLE, URL_VARIABLE = "SILICONFLOW_API_KEY", "SILICONFLOW_BASE_URL"
# Airflow 3 reads connections from its database only in processes that this variable names servers. Its own
# `airflow connections get` sets it too.
_CONTEXT_VARIABLE = "_AIRFLOW_PROCESS_CONTEXT"


def client_of(options: argparse.Namespace) -> SiliconFlowClient:
    """Return the client for the options `conn_id` and `base_url`.

    :raises ArgumentError: if there is no key, or the connection cannot be used
    :raises InvalidRequestError: if the key or the URL is invalid
    """
    if options.conn_id is not None:
        if options.base_url is not None:
            raise usage_error("give either --conn-id, whose connection has a base URL, or --base-url")
        return _client_of_connection(options.conn_id)
    if not os.environ.get(KEY_VARIABLE):
        raise usage_error(
            f"there is no API key: give a connection, such as --conn-id {DEFAULT_CONN_ID}, or set {KEY_VARIABLE} "
            f"(and {URL_VARIABLE}, unless the API is that of siliconflow.com)"
        )
    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.session import base_url_of

    base_url = base_url_of(options.base_url or os.environ.get(URL_VARIABLE))
    source = "--base-url" if options.base_url else URL_VARIABLE
    return SiliconFlowClient(os.environ[KEY_VARIABLE], base_url, label=KEY_VARIABLE, url_label=source)


def _client_of_connection(conn_id: str) -> SiliconFlowClient:
    with _quiet_airflow():
        try:
            from airflow.providers.common.compat.sdk import AirflowException

            from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
        except ImportError as error:
            raise usage_error(f"--conn-id needs Airflow, which cannot be imported: {error}") from None
        try:
            return SiliconFlowHook(conn_id).get_conn()
        except AirflowException as error:
            message = str(error)
    raise usage_error(message)


@contextmanager
def _quiet_airflow() -> Iterator[None]:
    """Let Airflow read connections from its database, without its logs and warnings."""
    given = os.environ.get(_CONTEXT_VARIABLE)
    os.environ[_CONTEXT_VARIABLE] = "server"
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        os.environ.pop(_CONTEXT_VARIABLE)
        if given is not None:
            os.environ[_CONTEXT_VARIABLE] = given
