"""A file of request lines is checked as a whole, and copied as it will be uploaded."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.purpose import UPLOAD, PreparedSource
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.jsonl import line_blocks, read_chunks

Line = Callable[..., dict[str, Any]]
Jsonl = Callable[[list[Any]], bytes]
Sums = Callable[[int], bytes]
BOM = b"\xef\xbb\xbf"


def uploaded(content: bytes, **limits: int) -> tuple[PreparedSource, bytes]:
    """Return the result of the check, and the bytes that would be uploaded."""
    copy = io.BytesIO()
    blocks = line_blocks(read_chunks(io.BytesIO(content)), 1_000_000)
    done = prepare(blocks, RequestBuilder(), copy, io.BytesIO(), name="a.jsonl", purpose=UPLOAD, **limits)
    return done, copy.getvalue()


def error_of(content: bytes, **limits: int) -> str:
    with pytest.raises(InvalidRequestFileError) as caught:
        uploaded(content, **limits)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"), [(b"\n", b"\n"), (b"\n", b"\r\n"), (b"\n", b" \t\n"), (b"{", b" {"), (b": ", b":  ")]
)
@pytest.mark.parametrize("ends", [True, False], ids=["with last end", "without last end"])
def test_a_file_is_copied_and_measured(sums: Sums, old: bytes, new: bytes, ends: bool) -> None:
    content = sums(3).replace(old, new)
    content = content if ends else content.rstrip(b"\r\n")
    done, copy = uploaded(content)
    (part,) = done.parts
    assert copy == content
    assert (done.requests, part.lines, part.bytes) == (3, 3, len(content))
    assert part.sha256 == hashlib.sha256(content).hexdigest()


def test_blank_lines_and_byte_order_mark_are_skipped(sums: Sums) -> None:
    first, second, third = sums(3).replace(b"\n", b"\r\n").splitlines(keepends=True)
    for content in (BOM + b"\n" + first + second + third, first + b"\n \t\r\n" + second + third + b"\n"):
        done, copy = uploaded(content)
        assert copy == first + second + third
        assert done.parts[0].sha256 == hashlib.sha256(copy).hexdigest()


def test_line_numbers_count_blank_lines(sums: Sums) -> None:
    lines = sums(3).splitlines(keepends=True)
    assert error_of(BOM + b"\n".join([*lines, b"{broken", lines[0]])).split("\n")[1:] == [
        "  line 7: not JSON in UTF-8: JSON is malformed: object keys must be strings (byte 1)",
        "  line 8 (r0): its custom_id is also that of line 1; make it unique",
    ]


def test_the_lines_may_come_one_by_one(sums: Sums) -> None:
    copy = io.BytesIO()
    lines = iter(sums(3).splitlines(keepends=True))
    done = prepare(lines, RequestBuilder(), copy, io.BytesIO(), name="a.jsonl", purpose=UPLOAD)
    assert (copy.getvalue(), done.requests) == (sums(3), 3)


def test_models_that_differ_are_reported(line: Line, jsonl: Jsonl) -> None:
    without = {"custom_id": "d", "body": {"messages": [{"role": "user", "content": "x"}]}}
    lines = [line("a", "x"), line("b", "x", model="m"), line("c", "x"), without]
    assert uploaded(jsonl(lines))[0].model_conflict == "deepseek-ai/DeepSeek-V3 (line 1), m (line 2), none (line 4)"
    assert uploaded(jsonl([line("a", "x", model="")]))[0].model_conflict == "none (line 1)"
    assert uploaded(jsonl([line("a", "x"), line("b", "x")]))[0].model_conflict is None


def test_a_duplicate_is_named_with_both_lines(line: Line, jsonl: Jsonl) -> None:
    lines = [line(f"r{number}", "x") for number in range(1, 5001)]
    lines[4710] = line("r17", "x")
    lines[4718] = line("r4710", "x")
    assert error_of(jsonl(lines)) == (
        "a.jsonl was not uploaded: 2 of 5,000 lines are invalid; fix them and rerun the task:\n"
        "  line 4,711 (r17): its custom_id is also that of line 17; make it unique\n"
        "  line 4,719 (r4710): its custom_id is also that of line 4,710; make it unique"
    )


def test_invalid_lines_and_duplicates_are_in_order(line: Line, jsonl: Jsonl) -> None:
    """The first ten are the first ten lines, whatever is wrong with them."""
    lines = [line("a", "x"), line("a", "x"), *["broken"] * 20]
    found = error_of(jsonl(lines)).split("\n")
    assert found[0] == "a.jsonl was not uploaded: 21 of 22 lines are invalid; fix them and rerun the task:"
    assert [problem.partition(":")[0].strip() for problem in found[1:11]] == [
        "line 2 (a)",
        *(f"line {number}" for number in range(3, 12)),
    ]
    assert found[11:] == ["  and 11 more"]


def test_the_first_ten_invalid_lines_are_named(line: Line, jsonl: Jsonl) -> None:
    lines = [line(f"r{number}", "x") if number % 2 else "{}" for number in range(2600)]
    first, *named, last = error_of(jsonl(lines)).split("\n")
    assert first == "a.jsonl was not uploaded: 1,300 of 2,600 lines are invalid; fix them and rerun the task:"
    assert named == [f"  line {number}: Object missing required field `custom_id`" for number in range(1, 20, 2)]
    assert last == "  and 1,290 more"


def test_a_line_that_is_too_long_is_named(line: Line, jsonl: Jsonl) -> None:
    found = error_of(jsonl([line("a", "x"), line("b", "x" * 1_000_000), line("c", "x")]))
    assert "1 of 3 lines is invalid" in found
    assert found.split("\n")[1].startswith("  line 2: it has more than 33,554,432 bytes")


def test_too_many_requests_are_refused(sums: Sums) -> None:
    assert uploaded(sums(5000))[0].requests == 5000
    content = sums(5001)
    assert error_of(content) == (
        f"a.jsonl was not uploaded: it has 5,001 requests and {len(content):,} bytes, but the service takes at most "
        "5,000 requests and 1,000,000,000 bytes per file; cut it, or use BatchInferenceOperator, which cuts larger "
        "files"
    )
    assert uploaded(sums(5000) + b"\n" * 10)[0].requests == 5000, "blank lines do not count"


def test_too_many_bytes_are_refused(sums: Sums) -> None:
    content = sums(3)
    assert uploaded(content, most_bytes=len(content))[1] == content
    assert (
        f"a.jsonl was not uploaded: it has 3 requests and {len(content):,} bytes, but the service takes at most "
        f"5,000 requests and {len(content) - 1:,} bytes per file; cut it"
    ) in error_of(content, most_bytes=len(content) - 1)


def test_all_faults_are_reported_at_once(sums: Sums) -> None:
    content = sums(5000)
    assert error_of(content + b"{}\n") == (
        "a.jsonl was not uploaded: 1 of 5,001 lines is invalid; fix it and rerun the task:\n"
        f"  it has 5,001 requests and {len(content):,} bytes, but the service takes at most 5,000 requests and "
        "1,000,000,000 bytes per file; cut it, or use BatchInferenceOperator, which cuts larger files\n"
        "  line 5,001: Object missing required field `custom_id`"
    )


@pytest.mark.parametrize("content", [b"", b"\n", BOM, b" \r\n\n"])
def test_a_file_without_requests_is_refused(content: bytes) -> None:
    assert error_of(content) == "a.jsonl was not uploaded: it has no requests; write one request per line to it"


def test_the_rest_of_large_files_needs_no_memory(
    sums: Sums, line: Line, jsonl: Jsonl, peak_of: Callable[[Callable[[], Any]], int], tmp_path: Path
) -> None:
    """Its lines are checked, but neither their ids nor their bytes are kept. So the duplicates are not noticed."""
    path, copy = tmp_path / "a.jsonl", tmp_path / "copy.jsonl"
    path.write_bytes(sums(10) + jsonl([line("a", "x"), ""]) * 50_000 + b"{}\n")

    def check() -> None:
        with path.open("rb") as source, copy.open("w+b") as requests:
            blocks = line_blocks(read_chunks(source), 1_000_000)
            with pytest.raises(InvalidRequestFileError, match=r"1 of 100,011 lines is invalid.*\n.*50,011 requests"):
                prepare(blocks, RequestBuilder(), requests, io.BytesIO(), name="a", purpose=UPLOAD, most_lines=5)

    assert peak_of(check) < 1_500_000
    assert len(copy.read_bytes().splitlines()) == 6
