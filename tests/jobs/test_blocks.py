from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest

from siliconflow_provider.jobs import blocks
from siliconflow_provider.jobs.blocks import BlockWriter, blocks_of, decode_lines, pieces_of

CONTENT = b"a\n\nbc\r\n" + b"d" * 9 + b"\nlast"
objects = msgspec.json.Decoder(dict[str, Any])


@pytest.mark.parametrize("size", range(1, 24))
@pytest.mark.parametrize("content", [b"", b"\n", CONTENT, CONTENT + b"\n"])
def test_blocks_are_whole_lines_wherever_the_pieces_end(
    size: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "READ_BYTES", size)
    found = list(blocks_of(pieces_of(io.BytesIO(content))))
    assert b"".join(found) == content
    assert all(each.endswith(b"\n") for each in found[:-1])
    assert all(found)


def test_values_of_lines_come_together() -> None:
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
def test_lines_that_are_no_object_each_are_not_decoded_together(block: bytes) -> None:
    assert decode_lines(objects, block) is None


def test_what_is_written_is_seen_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WRITTEN_BYTES", 4)
    file, seen = io.BytesIO(), []
    writer = BlockWriter(file, seen.append)
    for each in (b"a\n", b"b\n", b"cdefg\n", b"h\n"):
        writer.write(each)
    assert file.getvalue() == b"a\nb\ncdefg\n"
    writer.flush()
    assert (seen, file.getvalue()) == ([b"a\nb\n", b"cdefg\n", b"h\n"], b"a\nb\ncdefg\nh\n")
