"""Secrets that are known, taken out of what repeats them: as they are, and as texts are commonly encoded."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from msgspec.json import decode, encode

from siliconflow_provider.api.hidden import MASK, Secret
from siliconflow_provider.api.redaction import SHORTEST_SECRET

# A shorter key, as local servers take it, may be a name in lower case that others write in upper case.
SHORTEST_IN_ANY_CASE = 16
# What libraries leave as it is when they encode a URL: nothing, a path's slashes, what JavaScript does.
_LEFT_IN_URLS = ("", "/", "!'()*")
# Of base64, the characters at the start that the 0, 1 or 2 bytes before a secret have a part in.
_OF_BYTES_BEFORE = (0, 2, 3)


class KnownSecrets:
    """Secrets that texts are shown without. What they are is in no variable, since errors are reported with theirs.

    :param secrets: those that are too short are words, which may be part of any text, and are left out
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [Secret(each) for each in secrets if len(each) >= SHORTEST_SECRET]
        forms = {form for each in self._secrets for form in _forms(each.reveal())}
        self._in_text = _longest_first(forms)
        self._in_json = _longest_first({_escaped(each) for each in forms})

    def with_more(self, secrets: Iterable[str]) -> KnownSecrets:
        """Return these and others."""
        return KnownSecrets([*(each.reveal() for each in self._secrets), *secrets])

    def hidden(self, text: str) -> str:
        """Return a text with `***` for each secret."""
        return _without(self._in_text, text)

    def hidden_in_value(self, value: Any, text: bytes) -> Any:
        """Return the value of a JSON text with `***` for each secret, however that was escaped.

        :param text: what the value was decoded from
        """
        if not self._secrets:
            return value
        if b"\\" not in text:
            # Without an escape in it, the text itself tells.
            said = text.decode("utf-8", "replace")
            if _without(self._in_json, said) is said:
                return value
        try:
            encoded = encode(value).decode()
        except (OverflowError, RecursionError):
            # Numbers and depths that nobody shows.
            return value
        hidden = _without(self._in_json, encoded)
        return value if hidden is encoded else decode(hidden)


def _longest_first(forms: Iterable[str]) -> list[Secret]:
    # One may be the beginning of another.
    return [Secret(each) for each in sorted(forms, key=len, reverse=True)]


def _without(forms: list[Secret], text: str) -> str:
    """Return a text without these, long ones in upper and lower case too; the very same, where it has none."""
    # To look for what stands there takes a tenth of the time of a pattern's search, and nearly none has any.
    lower = text.lower()
    for form in forms:
        if form.reveal().lower() in lower:
            flags = re.ASCII | re.IGNORECASE if len(form.reveal()) >= SHORTEST_IN_ANY_CASE else re.ASCII
            text = re.sub(re.escape(form.reveal()), MASK, text, flags=flags)
    return text


def _forms(secret: str) -> Iterator[str]:
    yield secret
    # Within JSON that is a text in JSON, once or twice, and in the repr of a text.
    for escaped in (_escaped(secret), _escaped(secret).replace("/", "\\/"), repr(secret)[1:-1]):
        yield escaped
        yield _escaped(escaped)
    yield html.escape(secret)
    for left in _LEFT_IN_URLS:
        encoded = quote(secret, safe=left, errors="replace")
        yield encoded
        yield quote(encoded, safe=left)
    yield quote_plus(secret, errors="replace")
    content = secret.encode("utf-8", "replace")
    yield content.hex()
    for encode_64 in (b64encode, urlsafe_b64encode):
        yield encode_64(b"Bearer " + content).decode().rstrip("=")
        for before, start in enumerate(_OF_BYTES_BEFORE):
            # What follows has a part in the last character, unless it ends with a byte.
            end = (before + len(content)) * 8 // 6
            yield encode_64(bytes(before) + content).decode()[start:end]


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
