from __future__ import annotations

import json
from typing import Any

import pytest

from siliconflow_provider.jobs import corrections
from siliconflow_provider.jobs.corrections import LONGEST_ANSWER, with_correction
from siliconflow_provider.outputs.answers import AnswerError, ResultRow

LINE = (
    b'{"custom_id":"a","method":"POST","body":{"seed":12345678901234567890123,"top_p":0.10,'
    b'"messages":[{"role":"system","content":"S"},{"role":"user","content":"Q"}],"model":"m"}}\n'
)
INVALID = AnswerError("invalid_output", "age: Field required.")


def row(**fields: Any) -> ResultRow:
    return ResultRow(**{"custom_id": "a", "status": "invalid", "content": '{"name": "x"}', "error": INVALID, **fields})


def messages(line: bytes) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(line)["body"]["messages"]
    return found


def test_the_answer_and_its_reason_are_appended() -> None:
    line = with_correction(LINE, row())
    assert messages(line) == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": '{"name": "x"}'},
        {
            "role": "user",
            "content": "Your answer is not valid: age: Field required. Answer again with the complete, corrected JSON "
            "object and nothing else.",
        },
    ]


def test_everything_else_stays_byte_for_byte() -> None:
    start, end = LINE.split(b'{"role":"user","content":"Q"}]')
    line = with_correction(LINE, row())
    assert line.startswith(start)
    assert line.endswith(b"]" + end)


@pytest.mark.parametrize(
    "other",
    [
        {"status": "failed", "error": AnswerError("503", "busy")},
        {"error": AnswerError("refusal", "the model refused to answer: no")},
        {"error": None},
        {"status": "succeeded", "error": None},
        {"status": "expired", "error": AnswerError("batch_expired", "too late"), "content": None},
        {"content": None},
        {"content": "  "},
        {"content": 12},
        {"content": "<think>I was cut"},
        {"content": "<think>I think</think>\n"},
        {"tool_calls": [{"id": "call_1"}]},
    ],
)
def test_other_requests_are_sent_as_they_were(other: dict[str, Any]) -> None:
    assert with_correction(LINE, row(**other)) is LINE


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("<think>Let me see {}</think>\n\nthree", "three"),
        ("Let me see</think>three", "three"),
        ([{"type": "text", "text": "thr"}, {"type": "text", "text": "ee"}], "three"),
        ('{"tag": "</think>"} three', '{"tag": "</think>"} three'),
        ("drei ü 三\n", "drei ü 三"),
    ],
)
def test_the_answers_text_is_shown_without_thinking(content: Any, shown: str) -> None:
    assert messages(with_correction(LINE, row(content=content)))[-2]["content"] == shown


def test_of_a_long_answer_only_the_beginning_is_sent() -> None:
    whole = messages(with_correction(LINE, row(content="x" * LONGEST_ANSWER)))
    cut = messages(with_correction(LINE, row(content="x" * (LONGEST_ANSWER + 1))))
    assert whole[-2] == cut[-2]
    assert "only its first 20,000 characters are shown" in cut[-1]["content"]
    assert "characters" not in whole[-1]["content"]


def test_a_line_never_becomes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    length = len(with_correction(LINE, row()))
    monkeypatch.setattr(corrections, "LONGEST_LINE", length)
    assert with_correction(LINE, row()) is not LINE
    monkeypatch.setattr(corrections, "LONGEST_LINE", length - 1)
    assert with_correction(LINE, row()) is LINE
