"""Keeping signatures out of sight: the query of a signed URL is as good as a key."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import unquote_plus, urlsplit

# Of a URL, whose slashes JSON may escape, or of a path: then it has to look like one.
_QUERY = re.compile(r"(https?:\\?/\\?/[^\s?\"'<>]+)\?[^\s\"'<>]*|\?[\w.~%+-]+=[^\s\"'<>]*", re.IGNORECASE)
SHORTEST_SECRET = 8
_LOGGERS = ("urllib3.connectionpool", "urllib3.connection")
_downloading: ContextVar[bool] = ContextVar("siliconflow_downloading", default=False)


def without_queries(text: str) -> str:
    """Return the text with the query of every URL in it replaced by `?...`."""
    return _QUERY.sub(r"\1?...", text)


def query_secrets(url: str) -> list[str]:
    """Return the values in a URL's query, as they stand there and decoded, that are too long to be met by chance."""
    query = urlsplit(url).query
    values = [each.partition("=")[2] for each in query.split("&")]
    return [each for each in {*values, *map(unquote_plus, values)} if len(each) >= SHORTEST_SECRET]


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
