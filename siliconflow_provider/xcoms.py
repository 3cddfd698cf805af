"""Push XComs of a task whose batches may be billed already: a failed push must not fail the task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from siliconflow_provider.api.redaction import shown_error

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)


def push_xcom(context: Context, key: str, value: Any) -> bool:
    """Push an XCom. A failure, such as an API server that cannot be reached, is only a warning.

    :return: True if it was pushed
    """
    try:
        context["ti"].xcom_push(key=key, value=value)
    except Exception as error:
        log.warning("could not push XCom %s, going on without it: %s", key, shown_error(error))
        return False
    return True
