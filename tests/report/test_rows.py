"""The rows that a report shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.report.rows import ReportRows

Store = Callable[..., Any]


def row(status: str = "succeeded", **fields: Any) -> ResultRow:
    return ResultRow(**{"custom_id": "r", "status": status, **fields})


def test_the_first_rows_of_each_kind_are_shown(store: Store) -> None:
    rows = ReportRows(store(*(row("succeeded" if index % 2 else "failed") for index in range(60))))
    assert [shown.index for shown in rows.succeeded()] == list(range(1, 20, 2))
    assert [shown.index for shown in rows.others()] == list(range(0, 40, 2))


def test_inputs_pass_through_and_the_shown_are_noted(store: Store) -> None:
    rows = ReportRows(store(row("failed"), *(row() for _ in range(30)), row("missing")))
    lines = [b'{"n": %d}\n' % number for number in range(32)]
    assert list(rows.note_inputs(iter(lines))) == lines
    assert [shown.input for shown in rows.others()] == ['{"n": 0}', '{"n": 31}']
    assert [shown.input for shown in rows.succeeded()] == [f'{{"n": {number}}}' for number in range(1, 11)]


def test_an_error_of_the_inputs_reaches_the_writer(store: Store) -> None:
    def inputs() -> Any:
        yield b"{}"
        raise ValueError("lost")

    noted = ReportRows(store(row(), row())).note_inputs(inputs())
    assert next(noted) == b"{}"
    with pytest.raises(ValueError, match="lost"):
        next(noted)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"content": "4", "reasoning_content": "2 + 2"}, "4"),
        ({"content": ""}, ""),
        ({"content": {"a": 1}}, '{"a":1}'),
        ({"content": None, "refusal": "No."}, "No."),
        ({"tool_calls": [{"id": "c"}]}, '[{"id":"c"}]'),
        ({"content": 0}, "0"),
    ],
)
def test_an_answer_is_shown_in_any_form(store: Store, fields: Any, answer: str) -> None:
    (shown,) = ReportRows(store(row(**fields))).succeeded()
    assert shown.answer == answer


def test_errors_have_code_and_message(store: Store) -> None:
    others = ReportRows(
        store(row("failed", error=AnswerError("500", "down")), row("failed", error=AnswerError(None, "gone")))
    ).others()
    assert [shown.error for shown in others] == ["500: down", "gone"]


def test_long_texts_are_cut_and_say_so(store: Store) -> None:
    rows = ReportRows(store(row(content="x" * 10**6, custom_id="i" * 500)))
    line = json.dumps({"document": "d" * 10**5, "question": "short"}).encode()
    list(rows.note_inputs(iter([line])))
    (shown,) = rows.succeeded()
    assert shown.answer.startswith("x" * 500 + "... (")
    assert shown.custom_id == "i" * 80 + "... (420 more characters)"
    assert shown.input.endswith('more characters)","question":"short"}')


@pytest.mark.parametrize(
    "line", [b'{"a": "\xff' + b"x" * 600, b"[" * 5_000, b'"' + b"x" * 600 + b'"', b'{"a":1e999,"b":"\\n"}']
)
def test_inputs_of_any_form_are_shown(store: Store, line: bytes) -> None:
    rows = ReportRows(store(row()))
    assert list(rows.note_inputs(iter([line]))) == [line]
    (shown,) = rows.succeeded()
    assert 0 < len(shown.input) < 600


def test_secrets_are_removed_before_texts_are_cut(store: Store) -> None:
    rows = ReportRows(store(row(content="x" * 495 + " sk-secret")), lambda text: text.replace("sk-secret", "***"))
    assert rows.succeeded()[0].answer == "x" * 495 + " ***"


def test_half_a_secret_never_moves_into_sight(store: Store) -> None:
    content = "https://bucket.example/a?" + "q" * 19_960 + " sk-secret-secret"
    (shown,) = ReportRows(store(row(content=content))).succeeded()
    assert "sk-" not in shown.answer
