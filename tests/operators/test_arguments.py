from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.exceptions import InvalidArgumentError
from siliconflow_provider.operators.arguments import (
    as_limit,
    as_path_text,
    as_request_params,
    check_prices,
    check_prompt,
    check_text,
)


@pytest.mark.parametrize(
    ("path", "text"),
    [("/a/b", "/a/b"), (Path("/a/b"), "/a/b"), (ObjectStoragePath("file:///a/b"), "file:///a/b"), (None, None)],
    ids=str,
)
def test_paths_of_every_type_become_texts(path: Any, text: str | None) -> None:
    assert as_path_text(path) == text


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (None, {}),
        ({"max_tokens": "64"}, {"max_tokens": 64}),
        ({"temperature": " 0.5 ", "n": 2}, {"temperature": 0.5, "n": 2}),
        ({"enable_thinking": "False", "logprobs": "true"}, {"enable_thinking": False, "logprobs": True}),
        ({"stop": "7", "response_format": None}, {"stop": "7", "response_format": None}),
    ],
)
def test_rendered_numbers_become_numbers(params: Any, expected: dict[str, Any]) -> None:
    assert as_request_params(params) == expected


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"max_tokens": "many"}, "request_params has max_tokens='many': give a value such as 100"),
        ({"temperature": ""}, "request_params has temperature='': give a value such as 0.5"),
        ({"stream": "maybe"}, "request_params has stream='maybe': give a value such as true"),
        ("max_tokens", "request_params is str: give a dict"),
    ],
)
def test_invalid_parameters_are_named(params: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        as_request_params(params)


@pytest.mark.parametrize(("limit", "number"), [(None, None), ("None", None), ("", None), (3, 3), ("3", 3)])
def test_a_limit_may_be_a_text(limit: Any, number: int | None) -> None:
    assert as_limit(limit) == number


@pytest.mark.parametrize("limit", [0, -1, "few", 1.5, True])
def test_an_invalid_limit_is_named(limit: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^limit is .*: give the number of items to take, at least 1, or None for all"
    ):
        as_limit(limit)


@pytest.mark.parametrize(
    ("prices", "problem"),
    [
        ({"currency": "CNY", "modles": {}}, "prices have the unknown key 'modles': use currency, models"),
        ({"currency": "CNY", "models": {"m": {"input": 1}}}, "prices of model 'm' have no output: add it"),
        (
            {"currency": "CNY", "models": {"m": {"input": True, "output": "many"}}},
            "prices of model 'm' have the input price True",
        ),
    ],
)
def test_invalid_prices_are_named_early(prices: Any, problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{problem}"):
        check_prices(prices)


@pytest.mark.parametrize(
    "prices", [None, "prices.json", {"currency": "{{ var.value.currency }}"}, {"currency": "CNY", "models": object()}]
)
def test_prices_that_are_rendered_are_checked_later(prices: Any) -> None:
    check_prices(prices)


def test_an_argument_that_is_no_text_is_named() -> None:
    check_text("prompt", None)
    check_text("prompt", "text")
    with pytest.raises(ValueError, match="prompt is list: give a text"):
        check_text("prompt", ["a"])


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (7, "prompt is int: give a text, or a list of content parts such as "),
        ({"type": "text", "text": "{q}"}, "prompt is dict: give a text, or a list of content parts such as "),
        ([], "prompt is an empty list: give a text, or a list of content parts"),
        (["{q}"], "prompt has str as part 1: give a content part such as "),
        ([{"text": "{q}"}], "prompt has a mapping without a type as part 1: give a content part"),
        ([{"role": "user", "content": "{q}"}], "prompt has a message as part 1: give the content parts of the user "),
    ],
    ids=str,
)
def test_other_prompts_are_named(prompt: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        check_prompt(prompt)
