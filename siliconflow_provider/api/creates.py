"""Decide whether a create may have succeeded although it failed at the client."""

from __future__ import annotations

import re

from siliconflow_provider.api.errors import BadRequestError, CreateUncertainError, SiliconFlowError

# Codes of failures inside the service, and statuses that a gateway returns for them.
FAILURE_CODE = re.compile(r"5\d\d|[5-9]\d{4}|408|409|425|429|499")


def may_have_succeeded(error: BadRequestError) -> bool:
    """Return True if a create may have succeeded although its response is this error.

    A redirect may lead to the created batch. A conflict (409) may be with the created batch. A gateway returns 499 if
    the client disconnected. In a 200, the code stands for the status: 50505 for a 503, 60000 for a timeout.
    """
    if error.status is None or error.status < 300:
        return FAILURE_CODE.fullmatch(str(error.code)) is not None
    return error.status < 400 or error.status in (409, 499)


def uncertain_create(error: SiliconFlowError, input_file_id: str, reason: str) -> CreateUncertainError:
    """Return the error of a create that may have succeeded."""
    return CreateUncertainError(
        f"a batch of file {input_file_id} may have been created ({reason}): "
        f"look for it in list_batches() before you create another ({error.message})",
        status=error.status,
        code=error.code,
        request_id=error.request_id,
    )
