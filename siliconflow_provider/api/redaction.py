"""Keeping signatures out of sight: the query of a signed URL is as good as a key."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from msgspec.json import decode, encode

# Each is searched for in a text once, or in the pieces of one: what takes more than linear time holds up everybody.
_WORD = re.compile(r"[^\s\"'<>]+")
# JSON may escape the slashes.
_URL = re.compile(r"https?:\\?/\\?/.", re.IGNORECASE)
_PAIR = re.compile(r"[\w.~%+-]+=")
SHORTEST_SECRET = 8
_LOGGERS = ("urllib3.connectionpool", "urllib3.connection")
_downloading: ContextVar[bool] = ContextVar("siliconflow_downloading", default=False)


def without_queries(text: str) -> str:
    """Return the text with the query of every URL in it replaced by `?...`."""
    return _WORD.sub(_without_query, text) if "?" in text else text


def _without_query(word: re.Match[str]) -> str:
    """Cut a word at the first question mark behind a URL; one behind a path has to be followed by `name=`."""
    before, *others = word[0].split("?")
    kept = [before]
    for after in others:
        if _URL.search(kept[-1]) or _PAIR.match(after):
            return f"{'?'.join(kept)}?..."
        kept.append(after)
    return word[0]


def without_text(value: Any, secret: str) -> Any:
    """Return the value of a JSON text with `***` for a secret, however that was escaped."""
    try:
        text, sought = encode(value), encode(secret)[1:-1]
    except (OverflowError, RecursionError):
        # Numbers and depths that nobody shows.
        return value
    return decode(text.replace(sought, b"***")) if sought in text else value


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
