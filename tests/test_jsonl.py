from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest

from siliconflow_provider import jsonl
from siliconflow_provider.jsonl import BlockWriter, LongLine, decode_lines, line_blocks, read_chunks, split_lines

CONTENT = b"a\n\nbc\r\n" + b"d" * 9 + b"\nlast"
objects = msgspec.json.Decoder(dict[str, Any])


@pytest.mark.parametrize("size", range(1, 24))
@pytest.mark.parametrize("content", [b"", b"\n", CONTENT, CONTENT + b"\n"])
def test_blocks_have_whole_lines_for_any_chunks(size: int, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "READ_BYTES", size)
    found = list(line_blocks(read_chunks(io.BytesIO(content))))
    assert b"".join(found) == content
    assert all(block.endswith(b"\n") for block in found[:-1])
    assert all(found)


@pytest.mark.parametrize("size", range(1, 24))
@pytest.mark.parametrize("longest", [3, 4, 8, 9])
@pytest.mark.parametrize(
    "content", [b"", b"\n", CONTENT, CONTENT + b"\n", b"x" * 50 + b"\n" + CONTENT, CONTENT + b"y" * 50]
)
def test_only_a_long_lines_beginning_is_kept(
    size: int, longest: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other lines stay unchanged. A line within one chunk may be longer."""
    monkeypatch.setattr(jsonl, "READ_BYTES", size)
    monkeypatch.setattr(jsonl, "LONG_LINE_BYTES", 3)
    found = [line for block in line_blocks(read_chunks(io.BytesIO(content)), longest) for line in split_lines(block)]
    lines = io.BytesIO(content).readlines()
    assert len(found) == len(lines)
    for one, line in zip(found, lines, strict=True):
        if isinstance(one, LongLine):
            assert (len(line) > longest, one) == (True, line.rstrip(b"\r\n")[:3])
        else:
            assert one == line
            assert len(line) <= max(longest, size)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_of_many_brackets_counts_as_long(size: int, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bracket needs up to 200 bytes once it is decoded."""
    monkeypatch.setattr(jsonl, "READ_BYTES", size)
    monkeypatch.setattr(jsonl, "LONG_LINE_BYTES", 3)
    monkeypatch.setattr(jsonl, "MOST_BRACKETS", 9)
    lines = [b"[" * 9 + b"]" * 9 + b"\n", b"[" * 5 + b"{" * 5 + b"\r\n", b"," * 50 + b"\n", b"a\n", b"{" * 10 + end]
    pieces = read_chunks(io.BytesIO(b"".join(lines)))
    found = [line for block in line_blocks(pieces, 1_000_000) for line in split_lines(block)]
    assert found == [lines[0], b"[[[", *lines[2:4], b"{{{"]
    assert [type(block) for block in found] == [bytes, LongLine, bytes, bytes, LongLine]
    assert b"".join(line_blocks(iter(lines))) == b"".join(lines), "nor where lines may have any length"


def test_an_endless_line_needs_no_memory(peak_of: Any) -> None:
    pieces = (b"x" * 100_000 for _ in range(500))
    assert peak_of(lambda: list(line_blocks(pieces, 1_000_000))) < 4_000_000


def test_lines_are_decoded_together() -> None:
    assert decode_lines(objects, b'{"a": 1}\n{}\n') == [{"a": 1}, {}]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\n",
        b"{}",
        b"{}\n\n",
        b"{}\n{}",
        b"{}\r\n",
        b" {}\n",
        b"{}{}\n",
        b'{"a":\n1}\n',
        b'{}{}\n{"a":\n{}}\n',
        b'{}{}\n{"a":{}\n}\n',
        b'{"a":[{}\n,{}]}\n{}{}\n',
        b"[1]\n",
        b"{]}\n",
        b'{"a": "\xff"}\n',
        b"\xef\xbb\xbf{}\n",
    ],
)
def test_lines_without_objects_are_not_decoded_together(block: bytes) -> None:
    assert decode_lines(objects, block) is None


def test_on_block_sees_each_written_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "WRITTEN_BYTES", 4)
    file, seen = io.BytesIO(), []
    writer = BlockWriter(file, seen.append)
    for line in (b"a\n", b"b\n", b"cdefg\n", b"h\n"):
        writer.write(line)
    assert file.getvalue() == b"a\nb\ncdefg\n"
    writer.flush()
    assert (seen, file.getvalue()) == ([b"a\nb\n", b"cdefg\n", b"h\n"], b"a\nb\ncdefg\nh\n")
