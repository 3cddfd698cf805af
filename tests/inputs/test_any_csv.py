"""Any CSV file is read right: each cell is its text, and each line is a row, or an error names the file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.source_files import DELIMITERS, InputFileError, items_of_file

SOME = settings(max_examples=settings().max_examples // 4)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters='\n\r",;\t|\0\ufeff'), max_size=6)
ANY = PLAIN | st.text(st.sampled_from('a",;\t|\n\r {é'), max_size=6)


def read(content: bytes, piece: int) -> list[dict[str, Any]]:
    def pieces() -> Iterator[bytes]:
        yield from (content[start : start + piece] for start in range(0, len(content), piece))

    return list(items_of_file("a.csv", pieces, lambda: io.BytesIO(content)))


def quoted(cell: str, always: bool) -> str:
    """Return a cell as programs write it: in quotes where it needs them."""
    needs_quotes = always or cell == "" or any(sign in cell for sign in '"\n\r' + DELIMITERS)
    return '"' + cell.replace('"', '""') + '"' if needs_quotes else cell


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[list[str]], bool]:
    """Return a file, its lines of cells with the header, and whether each line has a value for each column."""
    columns = draw(st.integers(1, 3))
    header = draw(st.lists(ANY.filter(bool), min_size=columns, max_size=columns, unique=True))
    is_ragged = draw(st.sampled_from([False, False, False, True]))
    widths = st.integers(1, 4) if is_ragged else st.just(columns)
    rows = draw(st.lists(widths.flatmap(lambda width: st.lists(ANY, min_size=width, max_size=width)), max_size=4))
    delimiter, end, always = draw(st.sampled_from(DELIMITERS)), draw(LINE_ENDS), draw(st.booleans())
    lines = [delimiter.join(quoted(cell, always) for cell in cells) + end for cells in [header, *rows]]
    # In a single column, a blank line is an empty cell.
    blank = st.sampled_from(["", "", end if columns > 1 else ""])
    text = "".join(draw(blank) + line for line in lines) + draw(st.sampled_from(["", end, 2 * end]))
    text = draw(st.sampled_from(["", end])) + text
    if draw(st.booleans()):
        text = text.rstrip(end)
    return draw(st.sampled_from(["", "\ufeff"])) + text, [header, *rows], all(len(row) == columns for row in rows)


@SOME
@given(files(), st.sampled_from([1, 7, 1 << 16]))
def test_any_csv_file_is_read_right(file: tuple[str, list[list[str]], bool], piece: int) -> None:
    text, (header, *rows), is_regular = file
    if not is_regular:
        with pytest.raises(InputFileError, match=r"^a\.csv has "):
            read(text.encode(), piece)
        return
    assert read(text.encode(), piece) == [
        dict(zip(header, [cell or None for cell in row], strict=True)) for row in rows
    ]


@SOME
@given(st.lists(ANY.filter(lambda cell: cell.strip("\r\n")), min_size=1, max_size=4), LINE_ENDS)
def test_each_line_becomes_one_request(cells: list[str], end: str) -> None:
    content = f"id,left cell{end}" + "".join(f"{at},{quoted(cell, False)}{end}" for at, cell in enumerate(cells))
    requests, rows = io.BytesIO(), io.BytesIO()
    builder = RequestBuilder(prompt="<{left cell}>", id_column="id", model="m")
    prepare(read(content.encode(), 1 << 16), builder, requests, rows, name="a.csv")
    lines = [json.loads(line) for line in requests.getvalue().splitlines()]
    assert [line["body"]["messages"][0]["content"] for line in lines] == [f"<{cell}>" for cell in cells]
    assert [json.loads(row)["left cell"] for row in rows.getvalue().splitlines()] == cells


@given(st.lists(st.sampled_from([*'ab",;\n\r\0 |\t', '"a"', "é"]), max_size=30).map("".join) | st.binary(max_size=30))
def test_any_content_is_rows_or_an_error(content: str | bytes) -> None:
    encoded = content if isinstance(content, bytes) else content.encode()
    with suppress(InvalidRequestFileError):
        # Each row has its line.
        assert len(read(encoded, 7)) <= encoded.count(b"\n") + encoded.count(b"\r")
