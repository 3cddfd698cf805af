"""Remove the queries of URLs from texts and logs: the query of a signed URL grants access like a key."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import unquote, unquote_plus, urlsplit

from siliconflow_provider.api.service_texts import LONGEST_ERROR, cut, printable

# The patterns must take linear time, because a search blocks all threads.
_WORD = re.compile(r"[^\s\"'<>]+")
# JSON may escape slashes.
_URL = re.compile(r"https?:\\?/\\?/.", re.IGNORECASE)
_PAIR = re.compile(r"[\w.~%+-]+=")
_PASSWORD = re.compile(r"(/\\?/)[^/?#@:\s]*:[^/?#\s]*@")
# Names of secret query parameters, also outside of a URL. After a slash, `name=value` is a directory.
_SECRET_NAMES = ("signature", "token", "credential", "accesskeyid", "accessid", "sig")
SHORTEST_SECRET, MOST_SECRETS = 8, 100
_NAMED_SECRET = re.compile(
    rf"((?<!/)(?:{'|'.join(_SECRET_NAMES[:-1])}|(?<![a-z/])sig)(?:provided)?(?:=|%(?:25)*3D|\\u003D|>))"
    rf"[^\s&\"'<>]{{{SHORTEST_SECRET},}}",
    re.IGNORECASE,
)
_NAMED = [f"{name}{sign}" for name in _SECRET_NAMES for sign in ("=", "%", "\\u003d", ">", "provided>")]
# In a word, up to its last `@`: a user and a password, which may have slashes. A port is no password.
_PASSWORD_WITH_SLASHES = re.compile(r"/\\?/[^/?#@:]*:(?!\d{1,5}(?:[\\/]|\Z))")
# A path with user and password, which may have all characters.
_CREDENTIALS = re.compile(r"([^:/?#]+://)([^/:]*:.*)@", re.DOTALL)
_USER = re.compile(r"://[^/]*@")
# Shorter parts of a password may be parts of any word.
SHORTEST_PART = 4
_PATH_LIKE = re.compile(r"[/.~]|[^:]+://|.*\.\w{1,8}\Z")
LONGEST_PATH, LONGEST_BEGINNING = 200, 8
_LOGGERS = ("urllib3.connectionpool", "urllib3.connection")
_downloading: ContextVar[bool] = ContextVar("siliconflow_downloading", default=False)


def without_queries(text: str) -> str:
    """Return the text with the query of each URL replaced by `?...`.

    Passwords before a host, and the values of signatures, tokens and credentials, are replaced by `***`.
    """
    if "?" in text:
        text = _WORD.sub(_without_query, text)
    if "@" in text:
        text = _PASSWORD.sub(r"\1***@", _WORD.sub(_without_password, text))
    lower = text.lower()
    # Most texts have none of these names, and `in` takes a tenth of the time of the pattern.
    return _NAMED_SECRET.sub(r"\1***", text) if any(name in lower for name in _NAMED) else text


def shown_error(error: BaseException) -> str:
    """Return the text of another package's error for a log: on one line, without queries, and not too long."""
    text = str(error) or type(error).__name__
    return cut(printable(" ".join(without_queries(text).splitlines())), LONGEST_ERROR)


def _without_query(word: re.Match[str]) -> str:
    """Cut a word at the question mark after a URL, or after a path if `name=` follows."""
    before, *others = word[0].split("?")
    kept = [before]
    for after in others:
        if _URL.search(kept[-1]) or _PAIR.match(after):
            return f"{'?'.join(kept)}?..."
        kept.append(after)
    return word[0]


def _without_password(word: re.Match[str]) -> str:
    """Cut a word from the user and password of its first URL to the host of its last one."""
    before, at, host = word[0].rpartition("@")
    found = _PASSWORD_WITH_SLASHES.search(before) if at else None
    if found is None:
        return word[0]
    kept = before[: found.start()] + found[0][: found[0].rindex("/") + 1]
    return f"{kept}***@{host}"


def without_credentials(path: str) -> str:
    """Return a path without query, and with `***` for user and password. The id of a connection stays.

    Only the scheme stays if a `?` may belong to the password.
    """
    found = _CREDENTIALS.match(path)
    if found is None:
        return without_queries(path)
    return f"{found[1]}***" if "?" in found[2] else without_queries(f"{found[1]}***@{path[found.end() :]}")


def without_credentials_of(path: str, text: str) -> str:
    """Return a text about a path with `***` for the path's user and password, and for the parts of these."""
    found = _CREDENTIALS.match(path)
    if found is None:
        return text
    # A password with a slash may be taken for a bucket and a key, which errors name.
    whole = found[2]
    parts = {whole, whole.partition("/")[0], whole.partition(":")[2], *re.split(r"[:/@?#]", whole)}
    for part in sorted(parts | set(map(unquote, parts)), key=len, reverse=True):
        if len(part) >= SHORTEST_PART:
            text = text.replace(part, "***")
    return text


def shown_path(path: str) -> str:
    """Return a given path for an error: without query, user and password, and at most 200 characters.

    Return only the beginning of a text that does not look like a path: it may be a key, given for a path by mistake.
    """
    text = without_credentials(path)
    if "://" in text:
        text = _USER.sub("://***@", text.partition("?")[0])
    longest = LONGEST_PATH if _PATH_LIKE.match(text) and "\n" not in text else LONGEST_BEGINNING
    return printable(text if len(text) <= longest else f"{text[:longest]}...")


def query_secrets(url: str) -> list[str]:
    """Return the values of a URL's query, encoded and decoded, that are long enough to be secrets.

    Return the longest ones if there are more than MOST_SECRETS.
    """
    query = urlsplit(url).query
    values = [pair.partition("=")[2] for pair in query.split("&")]
    found = {value for value in (*values, *map(unquote_plus, values)) if len(value) >= SHORTEST_SECRET}
    return sorted(found, key=len, reverse=True)[:MOST_SECRETS]


class _HideQuery(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if _downloading.get():
            record.msg, record.args = re.sub(r"\?\S*", "?...", record.getMessage()), None
        return True


@contextmanager
def quiet_urls() -> Iterator[None]:
    """Hide queries in the DEBUG logs of urllib3, which show the whole path of each request."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(filter_, _HideQuery) for filter_ in logger.filters):
            logger.addFilter(_HideQuery())
    token = _downloading.set(True)
    try:
        yield
    finally:
        _downloading.reset(token)
