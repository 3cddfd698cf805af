"""The models that the account has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from siliconflow_provider.emulator.errors import BAD_REQUEST, ApiError
from siliconflow_provider.emulator.plans import Failing, Plan
from siliconflow_provider.emulator.request_lines import decode, numbered_lines

UNKNOWN = {"code": BAD_REQUEST, "message": "Model does not exist. Please check it carefully.", "data": None}


def unknown_model() -> ApiError:
    """Return the 400 for a batch of a model that the account does not have."""
    return ApiError(400, UNKNOWN)


def with_unknown_model(plan: Plan) -> Plan:
    """Return the plan, with each request failing because of its model."""
    return msgspec.structs.replace(plan, failing=Failing(share=1, error={**UNKNOWN}))


def model_of(lines: Iterable[bytes]) -> Any:
    """Return the model of the first request of a file, None if it has none: all requests have the same."""
    for _, line in numbered_lines(lines):
        try:
            return decode(line)["body"]["model"]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
            break  # the check of the file says why
    return None
