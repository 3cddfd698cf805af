"""Tell whether the service refuses a batch because too many are active."""

from __future__ import annotations

import re

from siliconflow_provider.api.errors import BadRequestError, RateLimitError

# The service documents neither such a limit nor its message.
_LIMIT = re.compile(r"\b(too many|limit|maximum|at most|exceed|quota)", re.IGNORECASE)
_ACTIVE = re.compile(r"\b(batches|concurren|active|running|in.progress|enqueued|queued)", re.IGNORECASE)


def is_active_limit(error: Exception) -> bool:
    """Return True if a create was refused until another batch has ended: a 429, or a 400 whose message says so."""
    if isinstance(error, BadRequestError):
        return bool(_LIMIT.search(str(error)) and _ACTIVE.search(str(error)))
    return isinstance(error, RateLimitError)
