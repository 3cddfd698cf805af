"""Cut texts to the room that a page has for them."""

from __future__ import annotations

from siliconflow_provider.api.service_texts import LONGEST_SUFFIX
from siliconflow_provider.drawing.markup import lines

# Of HTML, for each character of the limit: a character of Chinese has three bytes, and an escaped one more.
_BYTES = 3


def shortened(text: str, characters: int, more: int = 0) -> str:
    """Return the first characters of a text, followed by the number of omitted ones.

    A text whose characters take many bytes is cut earlier, so that its HTML has at most three bytes for each.

    :param more: the number of characters that come after the text, and are omitted too
    """
    most = _BYTES * characters
    if not more and len(text) <= characters + LONGEST_SUFFIX and _size(text) <= most:
        return text
    kept = text[:characters]
    while (size := _size(kept)) > most:
        kept = kept[: min(len(kept) * most // size, len(kept) - 1)]
    return f"{kept}... ({len(text) - len(kept) + more:,} more characters)"


def _size(text: str) -> int:
    """Return the size of a text as HTML, in bytes."""
    return len(str(lines(text)).encode())
