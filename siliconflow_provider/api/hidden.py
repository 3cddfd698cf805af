"""Secret texts, hidden in logs and reprs, and in error reports, which send the local variables of a traceback."""

from __future__ import annotations

from typing import Any, Self

from siliconflow_provider.api.redaction import without_queries

MASK = "***"


class Secret:
    """A key that is printed, formatted and pickled as `***`. `reveal` returns the key."""

    __slots__ = ("_text",)

    def __init__(self, text: str | Secret | None) -> None:
        self._text: str = text.reveal() if isinstance(text, Secret) else text or ""

    def reveal(self) -> str:
        """Return the text. Do not keep it in a variable."""
        return self._text

    def stripped(self) -> Self:
        """Return the secret without surrounding white space."""
        return type(self)(self._text.strip())

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (MASK,)


class SignedUrl(str):
    """A URL whose query may be a signature. Its repr omits the query."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_queries(str(self)))
