from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.emulator.creation import create_request
from siliconflow_provider.emulator.errors import ApiError

GOOD: dict[str, Any] = {
    "input_file_id": "file-a",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"completion_window": "336h"},
        {"metadata": None, "replace": None},
        {"metadata": {}},
        {"metadata": {f"{i:02}" + "k" * 62: "v" * 512 for i in range(16)}},
        {"replace": {"model": "a/model-nobody-has-heard-of"}},
        {"unknown": 1},
    ],
)
def test_values_within_the_limits_are_accepted(extra: dict[str, Any]) -> None:
    assert create_request(GOOD | extra).input_file_id == "file-a"


def test_window_is_in_hours() -> None:
    assert create_request(GOOD | {"completion_window": "25h"}).window_seconds == 90_000


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("input_file_id", None, "required"),
        ("input_file_id", 5, "id"),
        ("endpoint", None, "/v1/chat/completions"),
        ("endpoint", "/v1/embeddings", "/v1/chat/completions"),
        ("completion_window", None, "24h to 336h"),
        ("completion_window", "23h", "24h to 336h"),
        ("completion_window", "337h", "24h to 336h"),
        ("completion_window", "1d", "24h to 336h"),
        ("completion_window", "24H", "24h to 336h"),
        ("completion_window", "24h\n", "24h to 336h"),
        ("completion_window", 24, "24h to 336h"),
        ("metadata", [], "object"),
        ("metadata", {str(i): "" for i in range(17)}, "16"),
        ("metadata", {"k" * 65: ""}, "64"),
        ("metadata", {"k": "v" * 513}, "512"),
        ("metadata", {"k": 5}, "string"),
        ("replace", "model", "model"),
        ("replace", {}, "model"),
        ("replace", {"model": ""}, "model"),
    ],
)
def test_refusal_names_the_field_and_its_limit(field: str, value: Any, limit: str) -> None:
    with pytest.raises(ApiError) as caught:
        create_request(GOOD | {field: value})
    assert caught.value.status == 400
    assert caught.value.body["code"] == 20012
    assert caught.value.body["message"].startswith(f"{field}: ")
    assert limit in caught.value.body["message"]
    assert caught.value.body["data"] == field
