from __future__ import annotations

import json

import pytest

from siliconflow_provider.outputs.json_in_text import MOST_ATTEMPTS, find_json

GOOD = '{"label": "good"}'


def texts(answer: str) -> list[str]:
    return [found.text for found in find_json(answer)]


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        f"\n  {GOOD}  \n",
        f"```json\n{GOOD}\n```",
        f"```JSON\n{GOOD}```",
        f"```\n{GOOD}\n```",
        f"Here it is:\n```json\n{GOOD}\n```\nI hope that helps.",
        f"Some code: ```py\nf({{x}})\n```\nand the answer: {GOOD}",
        f"The label is {GOOD}, as asked.",
        f'<think>\nIs {{x}} good? {{"label": "bad"}}\n</think>\n\n{GOOD}',
        f"<think>\n\n</think>\n```json\n{GOOD}\n```",
        f"it is lovely\n</think>\n{GOOD}",
        f"The set {{x | x > 0}} and [note 1] say {GOOD}.",
        f"\ufeff{GOOD}",
    ],
)
def test_a_value_is_found_wherever_it_stands(answer: str) -> None:
    assert texts(answer) == [GOOD]


def test_a_fence_inside_a_string_stays() -> None:
    value = json.dumps({"text": "```py\nprint(1)\n```"})
    assert texts(value) == texts(f"```json\n{value}\n```") == [value]


def test_think_tags_inside_a_string_stay() -> None:
    value = json.dumps({"text": "close with </think>"})
    assert texts(value) == [value]


def test_numbers_keep_their_digits() -> None:
    assert texts('It costs {"price": 1.10000000000000000001}.') == ['{"price": 1.10000000000000000001}']


@pytest.mark.parametrize("answer", ["7", '"text"', "null", "true", "[1, 2]"])
def test_an_answer_may_be_any_json_value(answer: str) -> None:
    assert texts(answer) == texts(f"<think>hm</think>{answer}") == [answer]


def test_several_values_are_all_found() -> None:
    assert texts(f'For example {{"label": "bad"}}, but here {GOOD}') == ['{"label": "bad"}', GOOD]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "no JSON at all",
        '{"label": "goo',
        '{"outer": {"label": "good"}, "text": "Once upon',
        '{"outer": {"label": "good"}, ',
        'label: {inner: {"label": "good"}}',
        "{'label': 'good'}",
        '{"label": NaN}',
        '{"label": "good",}',
        "<think>it goes on and on",
        "[" * 100_000,
        "{" * 100_000,
    ],
)
def test_nothing_is_repaired(answer: str) -> None:
    assert texts(answer) == []


def test_a_search_takes_a_bounded_number_of_attempts() -> None:
    answer = "{x} " * MOST_ATTEMPTS
    assert texts(answer + GOOD) == []
    assert texts("{x} " * (MOST_ATTEMPTS - 1) + GOOD) == [GOOD]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (f"For x in [0, 1): {GOOD}", [GOOD]),
        ('```json\n{"text": "close with </think>"}\n```', ['{"text": "close with </think>"}']),
        ('<think>Perhaps {"label": "bad"}? No, because', []),
        ('Draft {"label": "bad"}. Corrected: {"label": "goo', []),
    ],
)
def test_drafts_do_not_count_and_prose_does_not_hide(answer: str, found: list[str]) -> None:
    assert texts(answer) == found
