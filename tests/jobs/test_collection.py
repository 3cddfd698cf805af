from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from siliconflow_provider.jobs import collection
from siliconflow_provider.jobs.answers import AnswerError, ResultRow
from siliconflow_provider.jobs.collection import Answers

INDEXES = {name: index for index, name in enumerate("abcd")}


@pytest.fixture
def collected() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        yield file


def answer(custom_id: str, content: str = "4", **response: Any) -> bytes:
    body = {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    return json.dumps({"custom_id": custom_id, "response": {"body": body, **response}}).encode() + b"\n"


def rows(answers: Answers, path: Path, inputs: list[bytes] | None = None) -> list[dict[str, Any]]:
    with path.open("w+b") as results:
        answers.write(results, None if inputs is None else iter(inputs))
        results.seek(0)
        return [json.loads(each) for each in results]


def take(answers: Answers, *lines: bytes) -> None:
    answers.begin_batch()
    answers.take_file([b"".join(lines)], INDEXES, "batch_1", 1, "output")


@pytest.mark.parametrize("together", [0, 100, 3_000, 1 << 23])
def test_rows_come_in_the_order_of_the_requests_however_they_are_read(
    together: int, collected: IO[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "WINDOW_BYTES", together)
    monkeypatch.setattr(collection, "MAXIMUM_FILE_LINES", 7)
    names = [f"r{i}" for i in range(50)]
    answers = Answers(50, collected)
    lines = [answer(each, "x" * (i * 7 % 40)) for i, each in enumerate(names)]
    random.Random(1).shuffle(lines)
    answers.take_file([b"".join(lines)], {each: i for i, each in enumerate(names)}, "batch_1", 1, "output")
    found = rows(answers, tmp_path / "rows", [b'{"i": %d}\n' % i for i in range(50)])
    assert [(each["index"], each["custom_id"], len(each["content"]), each["input"]) for each in found] == [
        (i, f"r{i}", i * 7 % 40, {"i": i}) for i in range(50)
    ]


def test_the_first_good_answer_of_a_request_stays(collected: IO[bytes], tmp_path: Path) -> None:
    answers = Answers(4, collected)
    refused = answer("b", status_code=429)
    take(answers, answer("a", "1"), refused, refused, answer("a", "2"), answer("x"), b"{broken\n", answer("c"))
    take(answers, answer("b", "3"), answer("a", "4"), answer("c", status_code=500))
    answers.assume(3, ResultRow(custom_id="d", status="missing", error=AnswerError("missing", "gone")))
    assert (answers.duplicates, answers.strangers, answers.unreadable_lines) == (2, 1, 1)
    assert (answers.prompt_tokens, answers.completion_tokens) == (8, 12)
    assert answers.counts() == {"succeeded": 3, "missing": 1}
    assert [each["content"] for each in rows(answers, tmp_path / "rows")] == ["1", "3", "4", None]
    assert answers.commonest_errors(lambda positions: dict.fromkeys(positions, "d")) == [
        {"code": "missing", "message": "gone", "count": 1, "first_custom_id": "d"}
    ]


def test_each_good_answer_is_validated_and_an_invalid_one_may_be_repeated(collected: IO[bytes], tmp_path: Path) -> None:
    seen: list[str] = []

    def validate(row: ResultRow) -> None:
        seen.append(row.custom_id)
        if row.content != "4":
            row.status, row.error = "invalid", AnswerError("invalid_output", "not 4")

    answers = Answers(4, collected, validate)
    take(answers, answer("a"), answer("b", "5"), answer("c", status_code=500), answer("d", "6"))
    take(answers, answer("b"), answer("d", status_code=500))
    assert seen == ["a", "b", "d", "b"]
    assert [each["status"] for each in rows(answers, tmp_path / "rows")] == [
        "succeeded", "succeeded", "failed", "invalid"
    ]  # fmt: skip
    assert answers.to_repeat(is_cleared=False) == [2, 3]
