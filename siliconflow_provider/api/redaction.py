"""Keeping signatures out of sight: the query of a signed URL is as good as a key."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*")
_LOGGERS = ("urllib3.connectionpool", "urllib3.connection")
_downloading: ContextVar[bool] = ContextVar("siliconflow_downloading", default=False)


def without_queries(text: str) -> str:
    """Return the text with the query of every URL in it replaced by `?...`."""
    return _QUERY.sub(r"\1?...", text)


class _HideQuery(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if _downloading.get():
            record.msg, record.args = re.sub(r"\?\S*", "?...", record.getMessage()), None
        return True


@contextmanager
def quiet_urls() -> Iterator[None]:
    """Keep urllib3, which logs each request's whole path at DEBUG, from showing queries meanwhile."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(each, _HideQuery) for each in logger.filters):
            logger.addFilter(_HideQuery())
    token = _downloading.set(True)
    try:
        yield
    finally:
        _downloading.reset(token)
