from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from siliconflow_provider.outputs import result_store
from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.outputs.distinct_values import DISTINCT_ERRORS
from siliconflow_provider.outputs.result_store import STATUSES, ResultStore

Make = Callable[..., ResultStore]
Rows = Callable[..., list[dict[str, Any]]]


def good(number: int, content: Any = "yes", *, tokens: int = 1, reason: str | None = "stop") -> bytes:
    usage = {"prompt_tokens": 10 * tokens, "completion_tokens": tokens}
    choice = {"message": {"content": content}, "finish_reason": reason}
    return json.dumps(
        {"custom_id": f"r{number}", "response": {"status_code": 200, "body": {"choices": [choice], "usage": usage}}}
    ).encode()


def bad(number: int, code: Any = "server_error", message: str = "sorry") -> bytes:
    return json.dumps({"custom_id": f"r{number}", "error": {"code": code, "message": message}}).encode()


def row(number: int, status: str, **fields: Any) -> ResultRow:
    return ResultRow(index=number, custom_id=f"r{number}", status=status, **fields)


def take_batch(
    answers: ResultStore, *lines: bytes, batch_id: str = "b1", round_number: int = 1, among: int = 100
) -> None:
    """Add the files of another batch."""
    answers.begin_batch()
    indexes = {f"r{i}": i for i in range(among)}
    answers.add_file(lines, indexes, batch_id, round_number, "output")


@pytest.fixture
def collecting(tmp_path: Path) -> Iterator[Make]:
    with (tmp_path / "rows").open("w+b") as file:
        yield lambda requests, validate=None: ResultStore(requests, file, validate)


@pytest.fixture
def written(tmp_path: Path) -> Rows:
    """Write the results and read them."""

    def write(answers: ResultStore, inputs: list[bytes] | None = None) -> list[dict[str, Any]]:
        with (tmp_path / "results").open("w+b") as results:
            answers.write(results, None if inputs is None else iter(inputs))
        return [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]

    return write


def invalid_unless_yes(answer: ResultRow) -> None:
    if answer.content != "yes":
        answer.status, answer.error = "invalid", AnswerError("invalid_output", "not yes")


class TestLines:
    def test_rows_come_in_the_order_of_the_requests(self, collecting: Make, written: Rows) -> None:
        answers = collecting(3)
        take_batch(answers, good(2, "c"), b"", b"  \r\n", good(0, "a"), bad(1))
        rows = written(answers)
        assert [(row["index"], row["custom_id"], row["content"]) for row in rows] == [
            (0, "r0", "a"), (1, "r1", None), (2, "r2", "c"),
        ]  # fmt: skip
        assert [row["status"] for row in rows] == ["succeeded", "failed", "succeeded"]
        assert {(row["batch_id"], row["round"]) for row in rows} == {("b1", 1)}
        assert (answers.counts(), answers.total.prompt) == ({"succeeded": 2, "failed": 1}, 20)

    def test_rows_include_their_input(self, collecting: Make, written: Rows) -> None:
        answers = collecting(2)
        take_batch(answers, good(1, 'a "null}" text'), good(0))
        inputs = [b'{"q":"null}"}\n', b"[1, null]\r\n"]
        assert [row["input"] for row in written(answers, inputs)] == [{"q": "null}"}, [1, None]]
        assert [row["input"] for row in written(answers)] == [None, None]

    def test_unreadable_and_unknown_lines_are_counted(self, collecting: Make, caplog: pytest.LogCaptureFixture) -> None:
        answers = collecting(1)
        take_batch(answers, good(0), *[b"<html>"] * 12, good(7), good(99), among=1)
        assert (answers.unreadable_lines, answers.unknown_requests, answers.duplicates) == (12, 2, 0)
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 10
        assert said[0].startswith("ignored unreadable line 2 of the output file of b1: ")

    @pytest.mark.parametrize(
        ("lines", "status", "content", "tokens", "duplicates"),
        [
            ((good(0, "a"), good(0, "b", tokens=5)), "succeeded", "a", 1, 1),
            ((bad(0), good(0, "a")), "succeeded", "a", 1, 1),
            ((good(0, "a"), bad(0)), "succeeded", "a", 1, 1),
            ((bad(0, "one"), bad(0, "two")), "failed", None, 0, 1),
        ],
    )
    def test_the_best_duplicate_line_is_kept(
        self,
        collecting: Make,
        written: Rows,
        lines: tuple[bytes, ...],
        status: str,
        content: str | None,
        tokens: int,
        duplicates: int,
    ) -> None:
        answers = collecting(1)
        take_batch(answers, *lines)
        (one,) = written(answers)
        assert (one["status"], one["content"]) == (status, content)
        assert (answers.total.completion, answers.duplicates) == (tokens, duplicates)
        if status == "failed":
            assert one["error"]["code"] == "one"

    @pytest.mark.parametrize(
        ("first", "second", "status", "round_number"),
        [
            (good(0), bad(0), "succeeded", 1),
            (bad(0, "old"), bad(0, "new"), "failed", 2),
            (bad(0), good(0), "succeeded", 2),
            (good(0, "no"), bad(0), "invalid", 1),
            (good(0, "no"), good(0, "nor"), "invalid", 2),
            (good(0, "no"), good(0), "succeeded", 2),
            (good(0), good(0, "no"), "succeeded", 1),
        ],
    )
    def test_the_better_or_newer_round_is_kept(
        self, collecting: Make, written: Rows, first: bytes, second: bytes, status: str, round_number: int
    ) -> None:
        answers = collecting(1, invalid_unless_yes)
        take_batch(answers, first)
        take_batch(answers, second, batch_id="b2", round_number=2)
        (one,) = written(answers)
        assert (one["status"], one["round"], one["batch_id"]) == (status, round_number, f"b{round_number}")
        assert answers.duplicates == 0

    def test_the_error_file_never_replaces_good_answers(self, collecting: Make, written: Rows) -> None:
        answers = collecting(3)
        answers.begin_batch()
        indexes = {f"r{i}": i for i in range(3)}
        answers.add_file([good(1), good(0), good(1, "other")], indexes, "b7", 1, "output")
        answers.add_file([bad(2), bad(0), bad(2)], indexes, "b7", 1, "error")
        assert [(row["custom_id"], row["status"], row["content"]) for row in written(answers)] == [
            ("r0", "succeeded", "yes"), ("r1", "succeeded", "yes"), ("r2", "failed", None),
        ]  # fmt: skip
        assert {row["batch_id"] for row in written(answers)} == {"b7"}
        assert (answers.duplicates, answers.unreadable_lines) == (3, 0)
        assert (answers.total.prompt, answers.total.completion) == (20, 2)

    def test_tokens_of_every_round_are_counted(self, collecting: Make) -> None:
        answers = collecting(1, invalid_unless_yes)
        take_batch(answers, good(0, "no", tokens=3))
        take_batch(answers, good(0, "yes", tokens=4), round_number=2)
        assert (answers.total.prompt, answers.total.completion) == (70, 7)

    def test_an_error_file_belongs_to_the_same_batch(self, collecting: Make) -> None:
        answers = collecting(2)
        answers.begin_batch()
        for name, line in (("output", good(0)), ("error", bad(0))):
            answers.add_file([line], {"r0": 0}, "b1", 1, name)
        assert (answers.duplicates, answers.is_mentioned(0), answers.is_mentioned(1)) == (1, True, False)
        answers.begin_batch()
        assert (answers.is_mentioned(0), answers.has_row(0)) == (False, True)


class TestAssumptions:
    @pytest.mark.parametrize(
        ("known", "assumed", "status"),
        [
            (None, "missing", "missing"),
            ("failed", "expired", "expired"),
            ("failed", "unfinished", "unfinished"),
            ("succeeded", "unfinished", "succeeded"),
            ("succeeded", "missing", "succeeded"),
            ("invalid", "missing", "invalid"),
            ("invalid", "expired", "invalid"),
            ("invalid", "unfinished", "unfinished"),
        ],
    )
    def test_set_outcome_never_replaces_good_answers(
        self, collecting: Make, known: str | None, assumed: str, status: str
    ) -> None:
        answers = collecting(1)
        if known is not None:
            answers.add_earlier_row(row(0, known))
        answers.set_outcome(0, row(0, assumed))
        assert answers.counts() == {status: 1}

    @pytest.mark.parametrize(
        ("known", "earlier", "status", "tokens"),
        [
            (None, "succeeded", "succeeded", 3),
            (None, "failed", "failed", 3),
            (None, "unfinished", None, 0),
            ("failed", "succeeded", "succeeded", 5),
            ("failed", "invalid", "failed", 2),
            ("succeeded", "succeeded", "succeeded", 2),
            ("succeeded", "failed", "succeeded", 2),
        ],
    )
    def test_an_earlier_row_is_used_if_better(
        self, collecting: Make, known: str | None, earlier: str, status: str | None, tokens: int
    ) -> None:
        answers = collecting(1)
        if known is not None:
            answers.add_earlier_row(row(0, known, completion_tokens=2))
        answers.add_earlier_row(row(0, earlier, completion_tokens=3))
        assert (answers.counts(), answers.has_row(0)) == ({status or "": 1}, status is not None)
        assert (answers.total.completion, answers.is_good(0)) == (tokens, status == "succeeded")

    @pytest.mark.parametrize("index", [None, 1, 10**9])
    def test_an_earlier_row_of_unknown_position_is_ignored(self, collecting: Make, index: int | None) -> None:
        answers = collecting(1)
        answers.add_earlier_row(ResultRow(index=index, custom_id="r", status="succeeded"))
        assert not answers.has_row(0)

    def test_an_earlier_row_is_written_unchanged(self, collecting: Make, written: Rows) -> None:
        fields: dict[str, Any] = {"output": {"a": 1}, "choices": [1, 2], "model": "m", "batch_id": "b", "round": 3}
        answers = collecting(1)
        answers.add_earlier_row(row(0, "succeeded", input={"old": 1}, **fields))
        (one,) = written(answers, [b'{"q":1}\n'])
        assert {name: one[name] for name in fields} == fields
        assert one["input"] == {"q": 1}


class TestRepeats:
    @pytest.mark.parametrize(
        ("status", "code", "is_repeated", "when_cleared"),
        [
            ("succeeded", None, False, False),
            ("unfinished", "unfinished", False, False),
            ("failed", "server_error", True, True),
            ("failed", None, True, True),
            ("failed", "503", True, True),
            ("failed", "400", False, False),
            ("failed", "20012", False, False),
            ("failed", "invalid_request_error", False, False),
            ("failed", "context_length_exceeded", False, False),
            ("failed", "20024", False, False),
            ("invalid", "truncated", False, False),
            ("expired", "batch_expired", True, True),
            ("missing", "missing", True, True),
            ("invalid", "invalid_output", True, True),
            ("cancelled", "batch_cancelled", False, True),
        ],
    )
    def test_retryable_requests_are_resent(
        self, collecting: Make, status: str, code: str | None, is_repeated: bool, when_cleared: bool
    ) -> None:
        answers = collecting(3)
        answers.add_earlier_row(row(1, status, error=None if status == "succeeded" else AnswerError(code, "why")))
        assert answers.retryable(is_cleared=False) == [1] * is_repeated
        assert answers.retryable(is_cleared=True) == [1] * when_cleared

    @pytest.mark.parametrize(
        ("status", "is_resent"),
        [(400, False), (401, False), (404, False), (413, False), (422, False), (408, True), (409, True), (425, True),
         (429, True), (500, True), (503, True), (302, True), (None, True)],
    )  # fmt: skip
    def test_only_a_refused_request_is_not_resent(self, collecting: Make, status: int | None, is_resent: bool) -> None:
        answers = collecting(1)
        answers.add_earlier_row(row(0, "failed", error=AnswerError("a code", "a message", status)))
        assert answers.retryable(is_cleared=False) == ([0] if is_resent else [])

    def test_lasting_errors_are_recognized_among_many_messages(self, collecting: Make) -> None:
        count = DISTINCT_ERRORS + 20
        answers = collecting(2 * count)
        lines = [bad(i, ("invalid_request", "server_error")[i % 2], f"request {i}") for i in range(2 * count)]
        take_batch(answers, *lines, among=2 * count)
        assert answers.retryable(is_cleared=True) == list(range(1, 2 * count, 2))


class TestReport:
    def test_statuses_are_counted_in_one_order(self, collecting: Make) -> None:
        answers = collecting(len(STATUSES))
        for number, status in reversed(list(enumerate(STATUSES))):
            if status:
                answers.set_outcome(number, row(number, status))
        assert list(answers.counts().items()) == [(status, 1) for status in STATUSES]

    @pytest.mark.parametrize("most", [1, 253])
    def test_finish_reasons_are_ordered_by_count(self, collecting: Make, most: int) -> None:
        answers = collecting(most + 2)
        take_batch(answers, *[good(i, reason=f"reason {i}") for i in range(most)], among=most + 2)
        take_batch(answers, good(most, reason="reason 0"), good(most + 1, reason=None), among=most + 2)
        found = answers.finish_reasons()
        assert (next(iter(found.items())), len(found)) == (("reason 0", 2), most)

    def test_a_replaced_answer_leaves_only_its_tokens(self, collecting: Make) -> None:
        answers = collecting(1, invalid_unless_yes)
        take_batch(answers, good(0, "no", reason="length"))
        assert answers.commonest_errors()[0]["code"] == "invalid_output"
        take_batch(answers, good(0, "yes"), round_number=2)
        assert (answers.finish_reasons(), answers.commonest_errors()) == ({"stop": 1}, [])

    def test_the_ten_most_frequent_errors_are_reported(self, collecting: Make) -> None:
        answers = collecting(78)
        # `error n` occurs n times: 1 + 2 + ... + 12, the rarest first.
        kinds = [kind for kind in range(1, 13) for _ in range(kind)]
        take_batch(answers, *[bad(i, None if kind == 12 else "x", f"error {kind}") for i, kind in enumerate(kinds)])
        found = answers.commonest_errors()
        assert [(error["code"], error["message"], error["count"]) for error in found] == [
            (None if kind == 12 else "x", f"error {kind}", kind) for kind in range(12, 2, -1)
        ]
        assert [error["first_custom_id"] for error in found] == [f"r{kinds.index(kind)}" for kind in range(12, 2, -1)]

    def test_equally_frequent_errors_are_ordered_by_request(self, collecting: Make) -> None:
        answers = collecting(60)
        # The lines are ordered from the last request to the first.
        take_batch(answers, *[bad(i, "x", f"error {i % 12}" if i < 36 else "common") for i in reversed(range(60))])
        found = answers.commonest_errors()
        assert found[0] == {"code": "x", "message": "common", "count": 24, "first_custom_id": "r36"}
        assert found[1:] == [
            {"code": "x", "message": f"error {i}", "count": 3, "first_custom_id": f"r{i}"} for i in range(9)
        ]

    def test_too_many_messages_are_counted_together(self, collecting: Make) -> None:
        count = DISTINCT_ERRORS + 500
        answers = collecting(count + 2)
        lines = [bad(i, "x", f"request {i} is bad") for i in range(count)]
        take_batch(answers, *lines, bad(count, "x", "request 0 is bad"), bad(count + 1, "y", "new"), among=count + 2)
        found = answers.commonest_errors()
        assert found[:2] == [
            {"code": "x", "message": "other messages", "count": 500, "first_custom_id": f"r{DISTINCT_ERRORS}"},
            {"code": "x", "message": "request 0 is bad", "count": 2, "first_custom_id": "r0"},
        ]
        assert answers.counts() == {"failed": count + 2}

    @pytest.mark.parametrize("most", [254, 255, 300])
    def test_too_many_finish_reasons_count_as_other(self, collecting: Make, most: int) -> None:
        answers = collecting(most)
        take_batch(answers, *[good(i, reason=f"reason {i}") for i in range(most)], among=most)
        found = answers.finish_reasons()
        assert (sum(found.values()), len(found) <= 255) == (most, True)
        assert most <= 254 or found["other"] == most - len(found) + 1

    def test_too_many_codes_need_limited_memory(self, collecting: Make) -> None:
        """A gateway may put its request id into the code."""
        count = 2**16 + 10
        answers = collecting(count)
        take_batch(answers, *[bad(i, f"code {i}", "sorry") for i in range(count)], among=count)
        assert answers.counts() == {"failed": count}
        found = answers.commonest_errors()
        assert sum(error["count"] for error in found) > count - 2 * DISTINCT_ERRORS
        # None, the distinct errors, one for the others of each code, and one for all others.
        assert len(answers._distinct_errors.errors) <= 2 * DISTINCT_ERRORS + 2

    def test_long_finish_reasons_are_shown_in_part(self, collecting: Make) -> None:
        answers = collecting(300)
        take_batch(answers, *[good(i, reason=f"{i} " * 1_000) for i in range(300)], among=300)
        found = answers.finish_reasons()
        assert (sum(found.values()), len(found)) == (300, 254)
        assert max(map(len, found)) < 250

    def test_no_requests_are_no_rows(self, collecting: Make, written: Rows) -> None:
        answers = collecting(0)
        assert (written(answers), written(answers, [])) == ([], [])
        assert (answers.counts(), answers.finish_reasons(), answers.retryable(is_cleared=True)) == ({}, {}, [])
        assert answers.commonest_errors() == []


def test_rows_larger_than_a_block_are_complete(collecting: Make, written: Rows) -> None:
    answers = collecting(3)
    take_batch(answers, *[good(i, str(i) * 200_000) for i in (2, 0, 1)])
    assert [row["content"] for row in written(answers)] == [str(i) * 200_000 for i in range(3)]


def test_a_result_can_be_read_as_a_row(collecting: Make, tmp_path: Path) -> None:
    answers = collecting(1)
    take_batch(answers, good(0))
    with (tmp_path / "results").open("w+b") as results:
        answers.write(results, iter([b'{"q":1}']))
    read = msgspec.json.decode((tmp_path / "results").read_bytes(), type=ResultRow)
    assert (read.index, read.content, read.input) == (0, "yes", {"q": 1})


INDEXES = {name: index for index, name in enumerate("abcd")}


@pytest.fixture
def collected() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        yield file


def answer(custom_id: str, content: str = "4", **response: Any) -> bytes:
    body = {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    return json.dumps({"custom_id": custom_id, "response": {"body": body, **response}}).encode() + b"\n"


def rows(answers: ResultStore, path: Path, inputs: list[bytes] | None = None) -> list[dict[str, Any]]:
    with path.open("w+b") as results:
        answers.write(results, None if inputs is None else iter(inputs))
        results.seek(0)
        return [json.loads(row) for row in results]


def take(answers: ResultStore, *lines: bytes) -> None:
    answers.begin_batch()
    answers.add_file([b"".join(lines)], INDEXES, "batch_1", 1, "output")


@pytest.mark.parametrize("together", [0, 100, 3_000, 1 << 23])
def test_rows_are_ordered_for_any_window_size(
    together: int, collected: IO[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_store, "WINDOW_BYTES", together)
    monkeypatch.setattr(result_store, "MAXIMUM_FILE_LINES", 7)
    names = [f"r{i}" for i in range(50)]
    answers = ResultStore(50, collected)
    lines = [answer(name, "x" * (i * 7 % 40)) for i, name in enumerate(names)]
    random.Random(1).shuffle(lines)
    answers.add_file([b"".join(lines)], {each: i for i, each in enumerate(names)}, "batch_1", 1, "output")
    found = rows(answers, tmp_path / "rows", [b'{"i": %d}\n' % i for i in range(50)])
    assert [(error["index"], error["custom_id"], len(error["content"]), error["input"]) for error in found] == [
        (i, f"r{i}", i * 7 % 40, {"i": i}) for i in range(50)
    ]


def test_the_first_good_answer_of_a_request_stays(collected: IO[bytes], tmp_path: Path) -> None:
    answers = ResultStore(4, collected)
    refused = answer("b", status_code=429)
    take(answers, answer("a", "1"), refused, refused, answer("a", "2"), answer("x"), b"{broken\n", answer("c"))
    take(answers, answer("b", "3"), answer("a", "4"), answer("c", status_code=500))
    answers.set_outcome(3, ResultRow(custom_id="d", status="missing", error=AnswerError("missing", "gone")))
    assert (answers.duplicates, answers.unknown_requests, answers.unreadable_lines) == (2, 1, 1)
    # Three answers, and a failed one that was billed too.
    assert (answers.total.prompt, answers.total.completion) == (12, 18)
    assert answers.counts() == {"succeeded": 3, "missing": 1}
    assert [row["content"] for row in rows(answers, tmp_path / "rows")] == ["1", "3", "4", None]
    assert answers.commonest_errors() == [{"code": "missing", "message": "gone", "count": 1, "first_custom_id": "d"}]


def test_invalid_answers_may_be_replaced(collected: IO[bytes], tmp_path: Path) -> None:
    seen: list[str] = []

    def validate(row: ResultRow) -> None:
        seen.append(row.custom_id)
        if row.content != "4":
            row.status, row.error = "invalid", AnswerError("invalid_output", "not 4")

    answers = ResultStore(4, collected, validate)
    take(answers, answer("a"), answer("b", "5"), answer("c", status_code=500), answer("d", "6"))
    take(answers, answer("b"), answer("d", status_code=500))
    assert seen == ["a", "b", "d", "b"]
    assert [row["status"] for row in rows(answers, tmp_path / "rows")] == [
        "succeeded", "succeeded", "failed", "invalid"
    ]  # fmt: skip
    assert answers.retryable(is_cleared=False) == [2, 3]
