from __future__ import annotations

import hashlib
import io

import pytest

from siliconflow_provider.api.limits import MAXIMUM_FILE_BYTES, MAXIMUM_FILE_LINES
from siliconflow_provider.inputs.parts import Part, PartWriter


def cut(lines: list[bytes], **limits: int) -> list[Part]:
    file = io.BytesIO()
    writer = PartWriter(file, **limits)
    for line in lines:
        writer.write(line)
    parts = writer.finish()
    assert file.getvalue() == b"".join(lines)
    for part in parts:
        content = file.getvalue()[part.offset : part.offset + part.bytes]
        assert content == b"".join(lines[part.first : part.first + part.lines])
        assert part.sha256 == hashlib.sha256(content).hexdigest()
    return parts


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (5000, [5000]), (5001, [5000, 1]), (12000, [5000, 5000, 2000])]
)
def test_a_part_has_no_more_lines_than_allowed(count: int, sizes: list[int]) -> None:
    assert [part.lines for part in cut([b"x\n"] * count)] == sizes


def test_a_part_has_no_more_bytes_than_allowed() -> None:
    lines = [b"x" * (size - 1) + b"\n" for size in (4, 4, 2, 10, 1, 9, 1)]
    assert [part.bytes for part in cut(lines, most_bytes=10)] == [10, 10, 10, 1]


def test_default_limits_are_those_of_the_service() -> None:
    defaults = PartWriter.__init__.__kwdefaults__
    assert defaults == {"most_lines": MAXIMUM_FILE_LINES, "most_bytes": MAXIMUM_FILE_BYTES}
    assert (MAXIMUM_FILE_LINES, MAXIMUM_FILE_BYTES) == (5000, 10**9)


def test_long_lines_are_written_before_the_part_ends() -> None:
    assert [part.lines for part in cut([b"x" * 700_000 + b"\n"] * 5, most_lines=3)] == [3, 2]
