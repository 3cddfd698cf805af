"""Texts that no log, error report or repr shows: error reporters send the local variables of a traceback."""

from __future__ import annotations

from typing import Any, Self

from siliconflow_provider.api.redaction import without_queries

MASK = "***"


class Secret:
    """A key. It is shown, formatted and pickled as `***`; whoever sends it takes it out with `reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str | Secret | None) -> None:
        self._text: str = text.reveal() if isinstance(text, Secret) else text or ""

    def reveal(self) -> str:
        """Return the text, which must not be kept in a variable."""
        return self._text

    def stripped(self) -> Self:
        """Return it without surrounding white space."""
        return type(self)(self._text.strip())

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (MASK,)


class SignedUrl(str):
    """A URL whose query may be a signature: its repr leaves it out."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_queries(str(self)))
