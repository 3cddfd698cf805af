from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from siliconflow_provider.jobs.request_index import RequestIndex
from siliconflow_provider.jobs.reuse import EarlierAnswers, ReusedRows
from siliconflow_provider.outputs.answers import AnswerError, ResultRow

Lines = Callable[..., Path]
Answers = Callable[..., EarlierAnswers]


def write(path: Path, values: list[Any]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(value) + b"\n" for value in values))
    return path


@pytest.fixture
def earlier(tmp_path: Path) -> Answers:
    """Return the files of a job with these texts and answers."""

    def make(name: str, *pairs: tuple[str, str], **fields: Any) -> EarlierAnswers:
        requests = [{"custom_id": f"old-{i}", "body": {"text": text}} for i, (text, _) in enumerate(pairs)]
        rows = [
            ResultRow(
                **{"index": i, "custom_id": f"old-{i}", "status": "succeeded", "round": 2, "content": answer, **fields}
            )
            for i, (_, answer) in enumerate(pairs)
        ]
        return EarlierAnswers(write(tmp_path / f"{name}-requests", requests), write(tmp_path / f"{name}-rows", rows))

    return make


@pytest.fixture
def reused(tmp_path: Path) -> Callable[..., list[Any]]:
    """Reuse answers for requests with these texts, and return place, id and content of each row."""

    def reuse(texts: str, use: Callable[[ReusedRows], object], validate: Any = None) -> list[Any]:
        requests = [{"custom_id": f"r{i}", "body": {"text": text}} for i, text in enumerate(texts)]
        path = write(tmp_path / "requests", requests)
        with RequestIndex(path, len(texts)) as index, (tmp_path / "rows").open("w+b") as file:
            rows = ReusedRows(index, file, validate)
            use(rows)
            rows.finish()
            file.flush()
            assert rows.size == file.tell()
        found = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
        assert len(found) == rows.count
        return sorted((row["index"], row["custom_id"], row["content"], row["round"], row["reused"]) for row in found)

    return reuse


def test_each_answer_is_used_once(earlier: Answers, reused: Any) -> None:
    """Equal requests get different answers, as if they were sent."""
    found = earlier("one", ("a", "1"), ("b", "2"), ("a", "3"))
    assert reused("aaac", lambda rows: rows.add(found)) == [(0, "r0", "1", 2, True), (1, "r1", "3", 2, True)]
    assert reused("a", lambda rows: rows.add(found, kept_round=0)) == [(0, "r0", "1", 0, True)]


def test_the_first_run_is_preferred(earlier: Answers, reused: Any) -> None:
    runs = [earlier("one", ("a", "1")), earlier("two", ("a", "2"), ("b", "3"))]
    assert [row[2] for row in reused("ab", lambda rows: [*map(rows.add, runs)])] == ["1", "3"]


def test_shared_answers_begin_at_an_offset(earlier: Answers, reused: Any) -> None:
    """Answers of a replaced job are used once, those of `reuse_from` for all equal requests."""

    def use(rows: ReusedRows) -> None:
        rows.add(earlier("one", ("a", "1"), ("b", "2")))
        start = rows.size
        rows.add(earlier("two", ("b", "3")))
        rows.share(start)

    assert [row[1:3] for row in reused("aabbb", use)] == [("r0", "1"), ("r2", "2"), ("r3", "3"), ("r4", "3")]
    assert [row[2] for row in reused("aab", lambda rows: [use(rows), rows.share()])] == ["1", "1", "2"]


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "invalid"},
        {"status": "failed"},
        {"custom_id": "another"},
        {"prompt_tokens": 2**63},
        {"completion_tokens": 2**53},
        {"cached_tokens": -1},
        {"round": 10**25},
    ],
    ids=str,
)
def test_other_rows_are_not_reused(earlier: Answers, reused: Any, fields: dict[str, Any]) -> None:
    assert reused("a", lambda rows: rows.add(earlier("one", ("a", "1"), **fields))) == []


def test_an_answer_has_to_validate_again(earlier: Answers, reused: Any) -> None:
    def validate(row: ResultRow) -> None:
        assert row.output is msgspec.UNSET
        if row.content == "bad":
            row.status, row.error = "invalid", AnswerError("invalid_output", "bad")

    found = earlier("one", ("a", "bad"), ("b", "good"), output=1, input={"old": 1})
    assert [row[1:3] for row in reused("ab", lambda rows: rows.add(found), validate)] == [("r1", "good")]
