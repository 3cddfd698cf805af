"""Make texts of the service safe to show: on one line, without terminal commands, and not too long."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from itertools import islice

# Characters of one error. Its batch, its file or the manifest's directory has the whole text.
LONGEST_ERROR = 2_000
# Characters of a status, a code or a name.
LONGEST_WORD = 200
# "... (12,345 more characters)"
LONGEST_SUFFIX = 40
SHOWN_ERRORS = 10
SHOWN_NAMES = 10
# Control characters (C0, C1), line ends, marks that reorder text, and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_LEFT_OUT = re.compile(r"\.\.\. \([\d,]{1,20} more characters\)\Z|\Aand [\d,]{1,20} more\Z")
_OF_WORDS = string.ascii_letters + string.digits + "_-"
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Return a text on one line. Escape line ends and control characters, as Python does."""
    return _UNPRINTABLE.sub(_escape, text)


def is_printable(text: str) -> bool:
    """Return True if `printable` would not change the text."""
    return _UNPRINTABLE.search(text) is None


def cut(text: str, characters: int) -> str:
    """Return the first characters of a text, followed by the number of omitted ones.

    A text that was already cut to this length is returned unchanged.
    """
    if len(text) <= characters + LONGEST_SUFFIX:
        return text
    return f"{text[:characters]}... ({len(text) - characters:,} more characters)"


def cut_between_words(text: str, characters: int) -> str:
    """Return the first characters of a text, cut between words: a key in it must stay whole to be recognized."""
    if len(text) <= characters + LONGEST_SUFFIX:
        return text
    kept = text[:characters].rstrip(_OF_WORDS)
    return f"{kept}... ({len(text) - len(kept):,} more characters)"


def word(text: str) -> str:
    """Return a status, a code or a name, printable and cut."""
    return cut(printable(text), LONGEST_WORD)


def first_names(found: Iterable[object], shown: int = SHOWN_NAMES) -> str:
    """Return the first names, separated by commas, followed by the number of omitted ones."""
    texts = list(map(str, found))
    more = [f"and {len(texts) - shown:,} more"] if len(texts) > shown else []
    return ", ".join([*map(word, islice(texts, shown)), *more])


def first_errors(errors: Sequence[str], characters: int = SHOWN_ERRORS * LONGEST_ERROR) -> list[str]:
    """Return the first errors of a batch, followed by the number of omitted ones.

    :param errors: short lists, such as those that this function returned, are returned unchanged
    :param characters: limit of all errors together; at least one is returned
    """
    number = max(1, min(SHOWN_ERRORS, characters // LONGEST_WORD))
    # One place is for the line with the number of omitted errors.
    shown = len(errors) if len(errors) <= number else max(1, number - 1)
    longest = min(characters // max(shown, 1), LONGEST_ERROR)
    left = len(errors) - shown
    return [*(cut(error, longest) for error in errors[:shown]), *([f"and {left:,} more"] if left else [])]


def are_whole(errors: Sequence[str]) -> bool:
    """Return True if no error is cut or omitted. The errors may come from `first_errors`."""
    return first_errors(errors) == list(errors) and not any(map(_LEFT_OUT.search, errors))


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    return _ESCAPES.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
