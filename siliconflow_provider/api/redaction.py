"""Keeping signatures out of sight: the query of a signed URL is as good as a key."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import unquote_plus, urlsplit

# Each is searched for in a text once, or in the pieces of one: what takes more than linear time holds up everybody.
_WORD = re.compile(r"[^\s\"'<>]+")
# JSON may escape the slashes.
_URL = re.compile(r"https?:\\?/\\?/.", re.IGNORECASE)
_PAIR = re.compile(r"[\w.~%+-]+=")
_PASSWORD = re.compile(r"(/\\?/)[^/?#@:\s]*:[^/?#\s]*@")
# What a URL's query has, wherever else it stands; behind a slash, it names a directory of `name=value`.
_SECRET_NAMES = ("signature", "token", "credential", "accesskeyid", "accessid", "sig")
SHORTEST_SECRET, MOST_SECRETS = 8, 100
_NAMED_SECRET = re.compile(
    rf"((?<!/)(?:{'|'.join(_SECRET_NAMES[:-1])}|(?<![a-z/])sig)(?:provided)?(?:=|%(?:25)*3D|\\u003D|>))"
    rf"[^\s&\"'<>]{{{SHORTEST_SECRET},}}",
    re.IGNORECASE,
)
_NAMED = [f"{name}{sign}" for name in _SECRET_NAMES for sign in ("=", "%", "\\u003d", ">", "provided>")]
_LOGGERS = ("urllib3.connectionpool", "urllib3.connection")
_downloading: ContextVar[bool] = ContextVar("siliconflow_downloading", default=False)


def without_queries(text: str) -> str:
    """Return the text with the query of every URL in it replaced by `?...`.

    Passwords before a host, and what is named as a signature, a token or a credential, are replaced by `***`.
    """
    if "?" in text:
        text = _WORD.sub(_without_query, text)
    if "@" in text:
        text = _PASSWORD.sub(r"\1***@", text)
    lower = text.lower()
    # Most texts have none of these, which takes a tenth of the time of the pattern's search to see.
    return _NAMED_SECRET.sub(r"\1***", text) if any(each in lower for each in _NAMED) else text


def _without_query(word: re.Match[str]) -> str:
    """Cut a word at the first question mark behind a URL; one behind a path has to be followed by `name=`."""
    before, *others = word[0].split("?")
    kept = [before]
    for after in others:
        if _URL.search(kept[-1]) or _PAIR.match(after):
            return f"{'?'.join(kept)}?..."
        kept.append(after)
    return word[0]


def query_secrets(url: str) -> list[str]:
    """Return the values in a URL's query, as they stand there and decoded, that are too long to be met by chance.

    Of so many as no signed URL has, the longest.
    """
    query = urlsplit(url).query
    values = [each.partition("=")[2] for each in query.split("&")]
    found = {each for each in (*values, *map(unquote_plus, values)) if len(each) >= SHORTEST_SECRET}
    return sorted(found, key=len, reverse=True)[:MOST_SECRETS]


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
