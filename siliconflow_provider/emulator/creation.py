"""Check the body of a request that creates a batch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from siliconflow_provider.emulator.errors import bad_request

ENDPOINT = "/v1/chat/completions"
WINDOW_HOURS = (24, 336)
MOST_PAIRS = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512


@dataclass(frozen=True)
class CreateRequest:
    """A checked request. The check does not look for the input file."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    model: str | None

    @property
    def window_seconds(self) -> int:
        """The length of the completion window."""
        return int(self.completion_window.removesuffix("h")) * 3600


def create_request(body: dict[str, Any]) -> CreateRequest:
    """Return the checked request, or raise a 400 with the field and its limit. Unknown fields are ignored."""
    input_file_id = body.get("input_file_id")
    if not isinstance(input_file_id, str) or not input_file_id:
        raise bad_request("input_file_id", "is required and must be the id of an uploaded file")
    if body.get("endpoint") != ENDPOINT:
        raise bad_request("endpoint", f"is required and must be {ENDPOINT}")
    window = _completion_window(body.get("completion_window"))
    return CreateRequest(input_file_id, ENDPOINT, window, _metadata(body), _model(body))


def _completion_window(value: object) -> str:
    low, high = WINDOW_HOURS
    match = re.fullmatch(r"([1-9][0-9]{1,2})h", value) if isinstance(value, str) else None
    if match is None or not low <= int(match[1]) <= high:
        raise bad_request("completion_window", f"is required and must be {low}h to {high}h")
    return match[0]


def _metadata(body: dict[str, Any]) -> dict[str, str] | None:
    metadata = body.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise bad_request("metadata", "must be an object")
    if len(metadata) > MOST_PAIRS:
        raise bad_request("metadata", f"must have at most {MOST_PAIRS} pairs, not {len(metadata)}")
    for key, value in metadata.items():
        if len(key) > LONGEST_KEY:
            raise bad_request("metadata", f"the key {key!r} is longer than {LONGEST_KEY} characters")
        if not isinstance(value, str):
            raise bad_request("metadata", f"the value of {key!r} must be a string")
        if len(value) > LONGEST_VALUE:
            raise bad_request("metadata", f"the value of {key!r} is longer than {LONGEST_VALUE} characters")
    return metadata


def _model(body: dict[str, Any]) -> str | None:
    replace = body.get("replace")
    if replace is None:
        return None
    model = replace.get("model") if isinstance(replace, dict) else None
    if not isinstance(model, str) or not model:
        raise bad_request("replace", 'must be an object with a model: {"model": "..."}')
    return model
