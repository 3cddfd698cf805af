"""Remove known secrets from texts, in their plain form and in common encodings."""

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

# Shorter keys, as local servers use them, may be words, so they are searched for with their exact case.
SHORTEST_IN_ANY_CASE = 16
# Characters that URL encoders leave unchanged: none, the slashes of a path, those of JavaScript.
_UNCHANGED_IN_URLS = ("", "/", "!'()*")
# Number of leading base64 characters that depend on the 0, 1 or 2 bytes before a secret.
_DEPENDENT_CHARACTERS = (0, 2, 3)


class KnownSecrets:
    """Secrets to remove from texts. They are in no plain variable, because error reporters send variables.

    :param secrets: too short ones are ignored, because they may be words of any text
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [Secret(secret) for secret in secrets if len(secret) >= SHORTEST_SECRET]
        forms = {form for secret in self._secrets for form in _forms(secret.reveal())}
        self._in_text = _longest_first(forms)
        self._in_json = _longest_first({_escaped(form) for form in forms})

    def with_more(self, secrets: Iterable[str]) -> KnownSecrets:
        """Return a new object with these secrets and others."""
        return KnownSecrets([*(secret.reveal() for secret in self._secrets), *secrets])

    def hidden(self, text: str) -> str:
        """Return a text with each secret replaced by `***`."""
        return _without(self._in_text, text)

    def hidden_in_value(self, value: Any, text: bytes) -> Any:
        """Return the value of a JSON text with each secret replaced by `***`, however the text escapes it.

        :param text: the JSON text of the value
        """
        if not self._secrets:
            return value
        if b"\\" not in text:
            # Without escapes, the text itself shows if there is a secret.
            plain_text = text.decode("utf-8", "replace")
            if _without(self._in_json, plain_text) is plain_text:
                return value
        try:
            encoded = encode(value).decode()
        except (OverflowError, RecursionError):
            # No message shows numbers this large or values this deep.
            return value
        hidden = _without(self._in_json, encoded)
        return value if hidden is encoded else decode(hidden)


def _longest_first(forms: Iterable[str]) -> list[Secret]:
    # One form may be the beginning of another.
    return [Secret(form) for form in sorted(forms, key=len, reverse=True)]


def _without(forms: list[Secret], text: str) -> str:
    """Return a text with these forms masked, long ones in any case. Return the same object if it has none."""
    # Nearly no text has a secret, and `in` takes a tenth of the time of a regular expression.
    lower = text.lower()
    for form in forms:
        if form.reveal().lower() in lower:
            flags = re.ASCII | re.IGNORECASE if len(form.reveal()) >= SHORTEST_IN_ANY_CASE else re.ASCII
            text = re.sub(re.escape(form.reveal()), MASK, text, flags=flags)
    return text


def _forms(secret: str) -> Iterator[str]:
    yield secret
    # JSON within a JSON string, once or twice, and the repr of a string.
    for escaped in (_escaped(secret), _escaped(secret).replace("/", "\\/"), repr(secret)[1:-1]):
        yield escaped
        yield _escaped(escaped)
    yield html.escape(secret)
    for unchanged in _UNCHANGED_IN_URLS:
        encoded = quote(secret, safe=unchanged, errors="replace")
        yield encoded
        yield quote(encoded, safe=unchanged)
    yield quote_plus(secret, errors="replace")
    content = secret.encode("utf-8", "replace")
    yield content.hex()
    for encode_64 in (b64encode, urlsafe_b64encode):
        yield encode_64(b"Bearer " + content).decode().rstrip("=")
        for before, start in enumerate(_DEPENDENT_CHARACTERS):
            # The last character also depends on the following byte, unless it ends on a byte boundary.
            end = (before + len(content)) * 8 // 6
            yield encode_64(bytes(before) + content).decode()[start:end]


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
