"""Arguments as users give them: paths of every type, and numbers that a template has rendered as texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from siliconflow_provider.exceptions import InvalidArgumentError
from siliconflow_provider.job_directory import RESULTS_OF_FORMAT

_INTEGERS = ("max_tokens", "max_completion_tokens", "n", "seed", "thinking_budget", "top_k", "top_logprobs")
_NUMBERS = ("frequency_penalty", "min_p", "presence_penalty", "temperature", "top_p")
_BOOLEANS = ("enable_thinking", "logprobs", "stream")
_TRUTH = {"true": True, "false": False}


def as_path_text(path: Any) -> Any:
    """Return a path as text; anything else, such as an XComArg or None, is returned unchanged.

    As text, a path is the same in every serialized DAG, and a template.
    """
    is_path = isinstance(path, os.PathLike) or type(path).__name__ == "ObjectStoragePath"
    return str(path) if is_path else path


def as_path_texts(paths: Any) -> Any:
    """Return a path or a list of paths as texts; see `as_path_text`."""
    return [as_path_text(path) for path in paths] if isinstance(paths, (list, tuple)) else as_path_text(paths)


def as_request_params(params: Any) -> dict[str, Any]:
    """Return `request_params` with the numbers that a template has rendered as texts.

    :raises InvalidArgumentError: if it is no mapping, or a text is not what its parameter needs
    """
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise InvalidArgumentError(
            f"request_params is {type(params).__name__}: give a dict, such as {{'max_tokens': 100}}"
        )
    return {name: _as_value(name, value) for name, value in params.items()}


def _as_value(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        if name in _INTEGERS:
            return int(text)
        if name in _NUMBERS:
            return float(text)
        if name in _BOOLEANS:
            return _TRUTH[text.lower()]
    except (ValueError, KeyError):
        raise InvalidArgumentError(
            f"request_params has {name}={value!r}: give a value such as {_EXAMPLES[name]}"
        ) from None
    return value


_EXAMPLES: dict[str, str] = {
    **dict.fromkeys(_INTEGERS, "100"), **dict.fromkeys(_NUMBERS, "0.5"), **dict.fromkeys(_BOOLEANS, "true"),
}  # fmt: skip


def as_amount(name: str, value: Any) -> Decimal | None:
    """Return an amount of money. A template renders to a text.

    :raises InvalidArgumentError: if it is not a number above 0
    """
    if value is None or value == "":
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal(0)
    if not (amount.is_finite() and amount > 0) or isinstance(value, bool):
        raise InvalidArgumentError(
            f"{name} is {value!r}: give an amount above 0 in the currency of the prices, or None"
        )
    return amount


def check_prices(prices: Any) -> None:
    """Check prices that are a mapping without templates and XComArgs. Others are checked when the task runs.

    :raises InvalidArgumentError: if they are invalid
    """
    if not isinstance(prices, Mapping) or not _is_literal(prices):
        return
    from siliconflow_provider.pricing import InvalidPricesError, read_prices

    try:
        read_prices(prices)
    except InvalidPricesError as error:
        raise InvalidArgumentError(str(error)) from None


def _is_literal(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_literal, value.values()))
    return isinstance(value, (int, float, Decimal)) or (isinstance(value, str) and "{" not in value)


def as_limit(limit: Any) -> int | None:
    """Return `limit` as a number; a template has rendered it as a text.

    :raises InvalidArgumentError: if it is no positive number
    """
    if limit is None or limit in ("", "None"):
        return None
    try:
        number = int(limit)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(limit, (bool, float)):
        raise InvalidArgumentError(f"limit is {limit!r}: give the number of items to take, at least 1, or None for all")
    return number


def check_source(input_path: Any, requests: Any) -> None:
    """Raise InvalidArgumentError unless one of `input_path` and `requests` is given."""
    if (input_path is None) == (requests is None):
        raise InvalidArgumentError("give either input_path (a file of rows) or requests (an iterable of them)")


def check_rounds(max_rounds: Any, max_active_batches: Any, min_success_rate: Any) -> None:
    """Raise InvalidArgumentError if a number that bounds a job's rounds or rates its results is invalid."""
    if not isinstance(max_rounds, int) or max_rounds < 1:
        raise InvalidArgumentError(f"max_rounds is {max_rounds!r}: give a number, at least 1")
    if max_active_batches is not None and not (isinstance(max_active_batches, int) and max_active_batches >= 1):
        raise InvalidArgumentError(
            f"max_active_batches is {max_active_batches!r}: give at least 1, or None for all at once"
        )
    is_rate = isinstance(min_success_rate, (int, float)) and 0 <= min_success_rate <= 1
    if min_success_rate is not None and not is_rate:
        raise InvalidArgumentError(f"min_success_rate is {min_success_rate!r}: give a share from 0 to 1, or None")


def check_items_arguments(prompt: Any, messages_column: Any, bad_items: Any) -> None:
    """Raise InvalidArgumentError if the arguments that say how to send items are invalid, or exclude each other."""
    if prompt is not None and messages_column is not None:
        raise InvalidArgumentError(
            "give either prompt (made of a row's columns) or messages_column (a column of messages)"
        )
    if bad_items not in ("fail", "skip"):
        raise InvalidArgumentError(f"bad_items is {bad_items!r}: give 'fail' or 'skip'")


def check_prompt(prompt: Any) -> None:
    """Raise InvalidArgumentError if `prompt` is neither a text nor a list of content parts, nor None."""
    if prompt is None or isinstance(prompt, str):
        return
    if not isinstance(prompt, (list, tuple)) or not prompt:
        found = "an empty list" if isinstance(prompt, (list, tuple)) else type(prompt).__name__
        raise InvalidArgumentError(f"prompt is {found}: give a text, or a list of content parts such as [{_PART}]")
    for number, part in enumerate(prompt, start=1):
        if isinstance(part, Mapping) and "role" in part:
            raise InvalidArgumentError(
                f"prompt has a message as part {number}: give the content parts of the user message here, and a system "
                "message as system_prompt=; rows with messages of their own need messages_column="
            )
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            found = "a mapping without a type" if isinstance(part, Mapping) else type(part).__name__
            raise InvalidArgumentError(f"prompt has {found} as part {number}: give a content part such as {_PART}")


_PART = '{"type": "text", "text": "..."}'


def check_output_format(output_format: Any) -> str:
    """Return `output_format`.

    :raises InvalidArgumentError: if it is no format in which results are written
    """
    if output_format not in RESULTS_OF_FORMAT:
        known = ", ".join(map(repr, RESULTS_OF_FORMAT))
        raise InvalidArgumentError(f"output_format is {output_format!r}: give one of {known}")
    return str(output_format)


def check_text(name: str, value: Any) -> None:
    """Raise InvalidArgumentError if an argument is neither a text nor None, as an XCom can make it."""
    if value is not None and not isinstance(value, str):
        raise InvalidArgumentError(f"{name} is {type(value).__name__}: give a text")
