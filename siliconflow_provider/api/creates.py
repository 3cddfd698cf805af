"""Build the request that creates a batch, and decide whether a failed create may have succeeded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from siliconflow_provider.api.durations import completion_window_text
from siliconflow_provider.api.errors import BadRequestError, CreateUncertainError, SiliconFlowError
from siliconflow_provider.api.limits import check_endpoint, check_id, check_metadata

# Codes of failures inside the service, and statuses that a gateway returns for them.
FAILURE_CODE = re.compile(r"5\d\d|[5-9]\d{4}|408|409|425|429|499")
# The code of a bad request, an unknown model included.
MODEL_OR_REQUEST_CODE = "20012"


def create_body(
    input_file_id: str,
    endpoint: str,
    completion_window: str | timedelta,
    metadata: Mapping[str, str],
    model: str | None,
) -> dict[str, Any]:
    """Return the body of the request that creates a batch.

    :raises InvalidRequestError: if the service would refuse it
    """
    check_id("input_file_id", input_file_id)
    check_endpoint(endpoint)
    check_metadata(metadata)
    body: dict[str, Any] = {
        "input_file_id": input_file_id,
        "endpoint": endpoint,
        "completion_window": completion_window_text(completion_window),
    }
    if metadata:
        body["metadata"] = dict(metadata)
    if model is not None:
        check_id("model", model)
        body["replace"] = {"model": model}
    return body


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


def refused_create(error: BadRequestError, model: str | None) -> BadRequestError:
    """Return the error of a create that has not succeeded. Its message names the model if that may be the cause."""
    if str(error.code) != MODEL_OR_REQUEST_CODE:
        return error
    named = f"model {model!r}" if model is not None else "the model on the lines"
    # The service returns the same code for a missing file.
    file_remedy = "check input_file_id; if that is right, " if "input_file" in error.message else ""
    return error.reworded(f"{error.message}: {file_remedy}the service may not know {named}")
