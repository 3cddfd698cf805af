"""Planned answers, from the rule to the line of the result file."""

from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.emulator.answer_rules import Answer, AnswerRules, read_answers
from siliconflow_provider.emulator.errors import ControlError


def request(custom_id: str, prompt: str, system: str = "Be terse.") -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    return {"custom_id": custom_id, "body": {"messages": messages}}


def answered(given: Any, custom_id: str = "q1", prompt: str = "What is the capital of France?") -> Any:
    answer = AnswerRules(read_answers(given)).answer_to(request(custom_id, prompt))
    return answer and answer.text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("always", "always"),
        ({"q1": "by id"}, "by id"),
        ({"France": "by text"}, "by text"),
        ({"France": "by text", "q1": "by id"}, "by id"),
        ({"capital": "first", "France": "second"}, "first"),
        ({"terse": "by text of the system message"}, None),
        ({"Italy": "no", "": "others"}, "others"),
        ({"q1": {"content": {"score": 5}}}, '{"score":5}'),
        ({"q1": {"content": None}}, None),
        ([{"contains": "France", "content": "1"}, {"custom_id": "q1", "content": "2"}], "2"),
        ([{"contains": "q1", "content": "1"}, "others"], "others"),
        ([Answer(custom_id="q1", content="an Answer")], "an Answer"),
        ([], None),
    ],
)
def test_answer_is_found_by_id_then_text(given: Any, text: str | None) -> None:
    assert answered(given) == text


def test_id_is_not_taken_for_part_of_prompt() -> None:
    assert answered([{"custom_id": "1", "content": "one"}], custom_id="2", prompt="1 + 1") is None


def test_request_without_messages_has_no_text() -> None:
    rules = AnswerRules(read_answers({"a": "b"}))
    assert rules.answer_to({"custom_id": "q", "body": None}) is rules.answer_to({"custom_id": "q"}) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"q1": 7}, "plan: answers: 'q1': must be a text or an object such as {'content': ...}, not 7"),
        (
            {"q1": {"score": 5}},
            "plan: answers: 'q1': Object contains unknown field `score`; there are custom_id, conta",
        ),
        ([{"custom_id": "a", "contains": "b"}], "plan: answers: 1: choose requests by custom_id or contains, not by b"),
        ({"q1": {"content": object()}}, "plan: answers: 'q1': "),
        (7, "plan: answers: must be a text, an object, a list or, in Python, a function, not 7"),
        (None, "plan: answers: must be"),
    ],
)
def test_invalid_answers_are_named(given: Any, message: str) -> None:
    with pytest.raises(ControlError) as caught:
        read_answers(given)
    assert str(caught.value).startswith(message)


def test_planned_answer_replaces_what_it_has(api: Any, emulator: Any, clock: Any, jsonl: Any, line: Any) -> None:
    planned = {
        "r0": {"content": "1", "finish_reason": "length", "usage": {"completion_tokens": 90}},
        "r1": {"content": None, "refusal": "I will not.", "usage": None},
        "r2": {"tool_calls": [{"id": "t"}], "reasoning_content": "Hm."},
    }
    emulator.control.plan(answers=planned)
    batch_id = api.create(jsonl([line(f"r{index}", "12345678", max_tokens=1) for index in range(4)]))
    clock.advance(200)
    bodies = {row["custom_id"]: row["response"]["body"] for row in api.rows(api.batch(batch_id)["output_file_id"])}
    choices = {key: body["choices"][0] for key, body in bodies.items()}
    assert choices["r0"] == {
        "index": 0,
        "message": {"role": "assistant", "content": "1"},
        "finish_reason": "length",
    }
    assert bodies["r0"]["usage"] == {"prompt_tokens": 2, "completion_tokens": 90, "total_tokens": 92}
    assert choices["r1"]["message"] == {"role": "assistant", "content": None, "refusal": "I will not."}
    assert (choices["r1"]["finish_reason"], bodies["r1"]["usage"]) == ("stop", None)
    assert choices["r2"]["message"] == {
        "role": "assistant", "content": "1234", "reasoning_content": "Hm.", "tool_calls": [{"id": "t"}],
    }  # fmt: skip
    assert choices["r3"] == {
        "index": 0,
        "message": {"role": "assistant", "content": "1234"},
        "finish_reason": "length",
    }


def test_planned_content_is_not_cut(api: Any, emulator: Any, clock: Any, jsonl: Any, line: Any) -> None:
    emulator.control.plan(answers="a long answer")
    batch_id = api.create(jsonl([line("r0", "x", max_tokens=1)]))
    clock.advance(200)
    (row,) = api.rows(api.batch(batch_id)["output_file_id"])
    choice = row["response"]["body"]["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("a long answer", "stop")
