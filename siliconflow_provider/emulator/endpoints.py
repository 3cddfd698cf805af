"""Names of the endpoints of both origins, for counts and faults."""

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
    """Return the endpoint of a request such as `GET /batches/batch_x`. The path is without /v1."""
    return next((endpoint for endpoint in ENDPOINTS if is_of(request, endpoint)), None)


def is_of(request: str, pattern: str) -> bool:
    """Return True if the request matches the pattern. `{...}` matches one part of a path."""
    return _expression(pattern).fullmatch(request) is not None


@lru_cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"\{[^/}]*\}", pattern)))
