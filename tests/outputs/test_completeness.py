from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.outputs.completeness import (
    ResultContents,
    contents_of,
    delivery_problem,
    incomplete_reason,
    mismatch_reason,
)

SENT = [f"r{i}" for i in range(6)]
ENDS = ("failed", "expired", "cancelled")
STARTED = {"in_progress_at": 1_700_000_000}


def line(custom_id: str) -> bytes:
    return json.dumps({"custom_id": custom_id, "response": {"body": {}}}).encode() + b"\n"


def files(output: Iterable[str | bytes] = (), errors: Iterable[str] = ()) -> ResultContents:
    def content(ids: Iterable[str | bytes]) -> list[bytes]:
        return [batch_id if isinstance(batch_id, bytes) else line(batch_id) for batch_id in ids]

    return ResultContents(contents_of(content(output)), contents_of(content(errors)))


def over(completed: int | None = None, failed: int = 0, status: str = "completed", **fields: Any) -> Batch:
    counts = None if completed is None else {"total": 6, "completed": completed, "failed": failed}
    return Batch.from_json({"id": "b1", "status": status, "request_counts": counts, "output_file_id": "f", **fields})


class TestContents:
    def test_lines_are_counted_by_their_custom_ids(self) -> None:
        found = contents_of([line("a") + line("b") + line("a"), b"\n", b"  \r\n", line("c")])
        assert (dict(found.ids), found.unreadable) == ({"a": 2, "b": 1, "c": 1}, 0)

    def test_unreadable_lines_count_unless_truncated(self) -> None:
        found = contents_of([line("a") + b"<html>\n" + line("b") + b'{"custom_id": 7}\n', b'{"custom_id": "c'])
        assert (dict(found.ids), found.unreadable) == ({"a": 1, "b": 1}, 2)

    def test_a_damaged_line_keeps_its_id(self) -> None:
        damaged = b'{"custom_id": "b", "response": {"bo'
        found = files(["a", damaged + b"\n", "c", b"garbage\n"], ["c"])
        assert (found.output.unreadable, found.output.damaged, found.ids, found.whole_ids) == (1, 2, {*"abc"}, {*"ac"})
        found = files(["a", damaged + b"\n", "b", damaged])
        assert (found.output.damaged, found.output.requests(None), found.whole_ids) == (2, 3, {*"ab"})

    def test_the_ids_are_merged_once(self) -> None:
        """They are read for each request of a part."""
        contents = files(["a"], ["b"])
        assert contents.ids == {"a", "b"}
        assert contents.ids is contents.ids

    def test_a_last_line_needs_no_end(self) -> None:
        assert contents_of([line("a").strip()]).ids == {"a": 1}

    def test_duplicate_lines_count_once(self) -> None:
        """If the sent requests are unknown, each line counts."""
        found = contents_of([line("a"), line("a"), line("x"), line("x"), b"{\n"])
        assert (found.requests(None), found.requests({"a", "b"})) == (5, 4)


@pytest.mark.parametrize(
    ("batch", "contents", "reason"),
    [
        (over(6), files(SENT), None),
        (over(5, 1), files(SENT[:5], SENT[5:]), None),
        (over(3), files(SENT), None),
        (over(6, output_file_id=None), files(), "6 completed and 0 failed, but the service shows no output file"),
        (over(6), files(), "6 completed and 0 failed, but its output file has 0"),
        (over(6), files(SENT[:4]), "6 completed and 0 failed, but its output file has 4"),
        (over(6), files([*SENT[:5], SENT[0]]), "6 completed and 0 failed, but its output file has 5"),
        (over(6), files([*SENT[:5], line("r5")[:9]]), "its output file has 5"),
        (over(6), files([*SENT[:5], b"garbage\n"]), None),
        (over(6), files(SENT[:3], SENT[3:]), "its output file has 3"),
        (over(4, 2), files(SENT[:4]), "4 completed and 2 failed, but its files have 4 of these"),
        (over(4, 2), files(SENT[:4], SENT[4:]), None),
        # A failure may be in either file.
        (over(4, 2), files(SENT), None),
        # A batch that did not complete may omit failures, but its answers are billed.
        (over(4, 2, "expired"), files(SENT[:4]), None),
        (over(4, 0, "cancelled"), files(SENT[:3]), "4 completed and 0 failed, but its output file has 3"),
        (over(None, status="failed", output_file_id=None), files(), None),
        # No counts.
        (over(None, output_file_id=None), files(), "completed, but has neither request counts nor results"),
        (over(None, request_counts={}), files(), "has neither request counts nor results"),
        (over(None, request_counts={"total": 0, "completed": 0, "failed": 0}), files(), "has neither"),
        (over(None), files(["r0"]), None),
        (over(None, output_file_id=None, error_file_id="e"), files([], ["r0"]), None),
        # Without counts, an empty file may still get its lines.
        (over(None), files([], ["r0"]), "completed, but has no request counts, and its output file is empty"),
        (over(None), files([], SENT), None),
        *((over(None, status=end), files(), f"{end}, but has neither request counts nor results") for end in ENDS),
        *((over(None, status=end), files(["r0"]), None) for end in ENDS),
        # Without counts and files, only a batch that was started may have answers.
        *((over(None, status=end, output_file_id=None, **STARTED), files(), "has neither") for end in ENDS),
        *((over(None, status=end, output_file_id=None), files(), None) for end in ENDS),
    ],
)
def test_results_must_match_the_counts(batch: Batch, contents: ResultContents, reason: str | None) -> None:
    said = incomplete_reason(batch, contents, SENT)
    assert said is None if reason is None else reason in (said or "")


def test_without_the_requests_each_line_counts() -> None:
    assert incomplete_reason(over(6), files(["x"] * 6)) is None
    assert incomplete_reason(over(6), files(["x"] * 5)) is not None


@pytest.mark.parametrize(
    ("sent", "batch", "contents", "reason"),
    [
        # Unknown ids.
        (
            ["A", "B", "C"],
            over(),
            files(["a", "b", "c"]),
            "results of batch b1 have unknown custom_ids in 3 of 3 lines",
        ),
        (["A", "B", "c", "d"], over(), files(["a", "b", "c", "d"]), None),
        (["A", "B", "C", "d", "e"], over(), files(["a", "b", "c", "d", "e"]), "in 3 of 5 lines"),
        (["A", "B", "C"], over(status="expired"), files(["a", "b"]), "in 2 of 2 lines"),
        (["a", "b"], over(), files(["a", "b", "x", "y", "z"]), None),
        (["long-1", "long-2", "long-3"], over(), files(["long"] * 3), "in 3 of 3 lines"),
        # Batches of one or two requests.
        (["A"], over(), files(["a"]), "in 1 of 1 line: sent 'A', received 'a'"),
        (["A", "b"], over(), files(["a", "b"]), "in 1 of 2 lines"),
        (["a", "b"], over(), files(["a"]), None),
        (["a", "b"], over(2), files([b"{\n"] * 2), "its files lack 2 of its 2 requests, such as 'a', 'b'"),
        (["a", "b"], over(0, request_counts={"total": 2, "completed": 0, "failed": 0}), files([]), None),
        (["a"], over(0, request_counts={"total": 1, "completed": 0, "failed": 0}), files([]), None),
        (["a"], over(1), files([b"{\n"]), "its files lack 1 of its 1 request, such as 'a'"),
        (["a"], over(None), files([]), "its files lack 1 of its 1 request"),
        # Missing requests.
        (SENT, over(2), files(SENT[:2]), "its files lack 4 of its 6 requests, such as 'r2', 'r3', 'r4'$"),
        (SENT, over(3), files(SENT[:3]), None),
        (SENT, over(0, 0, "expired"), files(), None),
    ],
)
def test_answers_must_belong_to_the_requests(
    sent: list[str], batch: Batch, contents: ResultContents, reason: str | None
) -> None:
    said = mismatch_reason(batch, contents, sent)
    if reason is None:
        assert said is None
    else:
        assert said is not None
        assert re.search(reason, said)


@pytest.mark.parametrize(
    ("sent", "received", "shown"),
    [
        ([" a ", " b "], ["b"], "sent ' b ', received 'b'"),
        (["one-long", "two-long"], ["two", "one"], "sent 'two-long', received 'two', sent 'one-long', received 'one'"),
        (["x", "y"], ["?"], "sent 'x', received '?'"),
        (["a" * 64], ["b" * 64], f"sent '{'a' * 36}..., received '{'b' * 36}..."),
    ],
)
def test_examples_show_what_was_sent_and_received(sent: list[str], received: list[str], shown: str) -> None:
    said = mismatch_reason(over(), files(received), sent)
    assert said is not None
    assert said.endswith((f" line: {shown}", f" lines: {shown}"))


@pytest.mark.parametrize(
    ("batch", "contents", "is_error"),
    [
        (over(6), files(SENT), None),
        (over(6), files(SENT[:5]), True),
        (over(1), files(SENT[:1]), True),
        (over(5), files(SENT[:5]), None),
        # Without counts, counts and lines may still arrive.
        (over(None), files(SENT[:5]), False),
        (over(None), files(SENT), None),
        (over(None, status="expired"), files(SENT[:5]), False),
        (over(None, status="expired"), files(SENT[:4], SENT[4:]), None),
        (over(0, request_counts=None, status="expired", output_file_id=None), files(), False),
        (over(0, request_counts=None, status="expired", output_file_id=None, expired_at=1_700_000_000), files(), None),
        # Counts are believed, but their failures may come late.
        (over(0, status="expired", output_file_id=None, **STARTED), files(), None),
        (over(0, status="expired", **STARTED), files(), False),
        (over(4, 0, "cancelled"), files(SENT[:4]), None),
        (over(4, 2, "expired"), files(SENT[:4]), False),
        # A damaged line may be whole in another download.
        (over(6), files([*SENT[:5], b"garbage\n"]), False),
        (over(6), files([*SENT[:5], b'{"custom_id": "r5", "resp\n']), False),
        (over(5), files([*SENT[:5], b'{"custom_id": "r5", "resp']), False),
    ],
)
def test_complete_results_are_accepted(batch: Batch, contents: ResultContents, is_error: bool | None) -> None:
    found = delivery_problem(batch, contents, SENT)
    assert (found and found.is_error) == is_error


@pytest.mark.parametrize(
    ("contents", "is_lost"),
    [(files(SENT[:5]), False), (files([*SENT[:5], b"garbage\n"]), True)],
    ids=["none", "damaged"],
)
def test_a_damaged_line_may_be_any_answer(contents: ResultContents, is_lost: bool) -> None:
    found = delivery_problem(over(None), contents, SENT)
    assert found is not None
    assert found.is_lost == is_lost
