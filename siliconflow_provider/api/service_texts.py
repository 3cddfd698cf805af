"""Texts of the service as they may be shown: on one line, without what moves a terminal's cursor, and not too long."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from itertools import islice

# Of one error, wherever it is kept; its batch, its file or the manifest's directory has the whole.
LONGEST_ERROR = 2_000
# Of a status, a code, a name, which are words.
LONGEST_WORD = 200
# "... (12,345 more characters)"
LONGEST_SUFFIX = 40
SHOWN_ERRORS = 10
SHOWN_NAMES = 10
# Control characters (C0, C1), ends of lines, marks that reorder what is read, and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_LEFT_OUT = re.compile(r"\.\.\. \([\d,]{1,20} more characters\)\Z|\Aand [\d,]{1,20} more\Z")
_OF_WORDS = string.ascii_letters + string.digits + "_-"
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Return a text on one line: what forges lines or commands a terminal is escaped, as Python does it."""
    return _UNPRINTABLE.sub(_escape, text)


def is_printable(text: str) -> bool:
    """Whether a text is shown as it is."""
    return _UNPRINTABLE.search(text) is None


def cut(text: str, characters: int) -> str:
    """Return at most so many characters of a text, and how many more there are.

    What has been cut to as many before stays as it is.
    """
    if len(text) <= characters + LONGEST_SUFFIX:
        return text
    return f"{text[:characters]}... ({len(text) - characters:,} more characters)"


def cut_between_words(text: str, characters: int) -> str:
    """Cut a text in which a key may still have to be hidden: half of it would not be recognized."""
    if len(text) <= characters + LONGEST_SUFFIX:
        return text
    kept = text[:characters].rstrip(_OF_WORDS)
    return f"{kept}... ({len(text) - len(kept):,} more characters)"


def word(text: str) -> str:
    """Return a status, a code or a name as it may be shown."""
    return cut(printable(text), LONGEST_WORD)


def first_names(found: Iterable[object], shown: int = SHOWN_NAMES) -> str:
    """Return the first names of any number, for a sentence, and how many more there are."""
    texts = list(map(str, found))
    more = [f"and {len(texts) - shown:,} more"] if len(texts) > shown else []
    return ", ".join([*map(word, islice(texts, shown)), *more])


def first_errors(errors: Sequence[str], characters: int = SHOWN_ERRORS * LONGEST_ERROR) -> list[str]:
    """Return the first errors of a batch, and a line that says how many more there are.

    :param errors: what is short enough stays as it is, so also what this has returned
    :param characters: of all together; at least one is shown
    """
    number = max(1, min(SHOWN_ERRORS, characters // LONGEST_WORD))
    # One place is for the line that says how many more there are.
    shown = len(errors) if len(errors) <= number else max(1, number - 1)
    longest = min(characters // max(shown, 1), LONGEST_ERROR)
    left = len(errors) - shown
    return [*(cut(each, longest) for each in errors[:shown]), *([f"and {left:,} more"] if left else [])]


def are_whole(errors: Sequence[str]) -> bool:
    """Whether none of the errors, as `first_errors` shows them, is cut or left out."""
    return first_errors(errors) == list(errors) and not any(map(_LEFT_OUT.search, errors))


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    return _ESCAPES.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
