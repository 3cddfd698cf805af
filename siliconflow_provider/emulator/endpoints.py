"""The endpoints of both origins, by the names that counts and faults use."""

from __future__ import annotations

import re
from functools import lru_cache

API_PREFIX = "/v1"

ENDPOINTS = (
    "POST /files",
    "GET /files",
    "GET /files/{id}/content",
    "POST /batches",
    "GET /batches",
    "GET /batches/{id}",
    "POST /batches/{id}/cancel",
    "GET /user/info",
    "GET /results/{id}",
)


def endpoint_of(request: str) -> str | None:
    """The endpoint that a request such as `GET /batches/batch_x` belongs to; the path is without /v1."""
    return next((endpoint for endpoint in ENDPOINTS if is_of(request, endpoint)), None)


def is_of(request: str, pattern: str) -> bool:
    """Whether the request matches; `{...}` in the pattern stands for any one part of a path."""
    return _expression(pattern).fullmatch(request) is not None


@lru_cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"\{[^/}]*\}", pattern)))
