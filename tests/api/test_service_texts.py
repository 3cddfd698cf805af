from __future__ import annotations

import unicodedata

import pytest

from siliconflow_provider.api.service_texts import (
    are_whole,
    cut,
    cut_between_words,
    first_errors,
    first_names,
    is_printable,
    printable,
    word,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 字, é, \U0001f600 and \\n", "plain, 字, é, \U0001f600 and \\n"),
        ("one\ntwo\r\n\tthree", "one\\ntwo\\r\\n\\tthree"),
        ("\x1b[31mred\x9b2J", "\\x1b[31mred\\x9b2J"),
        ("a\x00b\x08c\x7f", "a\\x00b\\x08c\\x7f"),
        ("a\u202eb\u2066c\u2069d", "a\\u202eb\\u2066c\\u2069d"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("half \ud83d", "half \\ud83d"),
        ("", ""),
    ],
)
def test_control_characters_and_line_ends_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    assert is_printable(text) == (text == shown)


def test_every_unprintable_character_is_escaped() -> None:
    characters = map(chr, range(0x10000))
    escaped = {"Cc", "Zl", "Zp", "Cs"}
    left = [
        character for character in characters if unicodedata.category(character) in escaped and is_printable(character)
    ]
    assert left == []
    assert len(printable("a".join(map(chr, range(0x3000)))).splitlines()) == 1


def test_cut_text_has_the_omitted_count() -> None:
    shown = cut("x" * 1_000_000, 2_000)
    assert shown == "x" * 2_000 + "... (998,000 more characters)"
    assert cut(shown, 2_000) == shown
    assert cut("x" * 2_000, 2_000) == "x" * 2_000
    assert word("\n" * 500) == "\\n" * 100 + "... (800 more characters)"


def test_key_is_not_cut_in_half() -> None:
    shown = cut_between_words("key: " + "sk-Abc_9" * 100, 100)
    assert shown == "key: ... (800 more characters)"
    assert cut_between_words("short", 100) == "short"


def test_first_names_has_the_omitted_count() -> None:
    assert first_names(f"batch_{number}" for number in range(5_000)) == (
        "batch_0, batch_1, batch_2, batch_3, batch_4, batch_5, batch_6, batch_7, batch_8, batch_9, and 4,990 more"
    )
    assert first_names(["a", "b\n"], 2) == "a, b\\n"
    assert first_names([]) == ""


@pytest.mark.parametrize("characters", [100, 200, 1_000, 20_000])
@pytest.mark.parametrize(
    ("number", "length"), [(1, 10**6), (2, 3_000), (10, 2_500), (11, 5), (5_000, 5), (5_000, 2_500)]
)
def test_cut_errors_are_not_cut_again(number: int, length: int, characters: int) -> None:
    errors = ["e" * length] * number
    shown = first_errors(errors, characters)
    assert sum(map(len, shown)) <= max(characters, 200) + 10 * 40
    assert first_errors(shown) == shown
    assert not are_whole(shown)
    assert not are_whole(errors)


def test_few_short_errors_are_unchanged() -> None:
    errors = ["one", "two (3 more characters)", "and more"]
    assert first_errors(errors) == errors
    assert are_whole(errors)
    assert are_whole([])
