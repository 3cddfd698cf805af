"""Structured output: a schema for the model, and validation of what it said."""

from __future__ import annotations

from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import cut
from siliconflow_provider.outputs.answers import AnswerError, ResultRow

RESPONSE_FORMAT = {"type": "json_object"}
INVALID = "invalid_output"
_FENCE = "```"
# The service's JSON mode answers with an object; any other type is asked for as this field of one.
_WRAPPER = "output"
LONGEST_MESSAGE = 500


class OutputSchema:
    """What answers shall look like.

    :param output_type: a Pydantic model, or any type that Pydantic's `TypeAdapter` takes
    """

    def __init__(self, output_type: Any) -> None:
        from pydantic import TypeAdapter

        self._adapter = TypeAdapter(output_type)
        self.json_schema = self._adapter.json_schema()
        self._is_wrapped = self.json_schema.get("type") != "object"
        if self._is_wrapped:
            inner = dict(self.json_schema)
            definitions = {"$defs": inner.pop("$defs")} if "$defs" in inner else {}
            self.json_schema = {
                "type": "object", "properties": {_WRAPPER: inner}, "required": [_WRAPPER], **definitions,
            }  # fmt: skip

    @property
    def instruction(self) -> str:
        """What the model is told."""
        schema = msgspec.json.encode(self.json_schema).decode()
        return f"Answer with one JSON object and nothing else. It must be valid against this JSON schema:\n{schema}"

    def validate(self, row: ResultRow) -> None:
        """Set the row's `output`, or turn it into an invalid one that keeps its text."""
        text = row.content if isinstance(row.content, str) else ""
        try:
            said = msgspec.json.decode(_without_fence(text))
            value = said[_WRAPPER] if self._is_wrapped else said
            # As JSON, where a strict model takes a date that is a string.
            valid = self._adapter.validate_json(msgspec.json.encode(value))
            row.output = self._adapter.dump_python(valid, mode="json")
        except Exception as error:  # validators are the user's own code
            row.status, row.error = "invalid", AnswerError(INVALID, _sentence(error))


def _without_fence(text: str) -> str:
    """Return what stands in a fenced block, or the text where it is none."""
    block = text.strip()
    if len(block) < 2 * len(_FENCE) or not (block.startswith(_FENCE) and block.endswith(_FENCE)):
        return text
    block = block[len(_FENCE) : -len(_FENCE)]
    return (block[4:] if block[:4].lower() == "json" else block).strip()


def _sentence(error: Exception) -> str:
    """Say what is wrong without the answer's own text, so that equal faults count as one."""
    details = getattr(error, "errors", None)
    if details is None:
        return cut(f"not the JSON that was asked for: {error}", LONGEST_MESSAGE)
    faults = (f"{'.'.join(map(str, each['loc'])) or 'answer'}: {each['msg']}" for each in details())
    return cut("; ".join(faults), LONGEST_MESSAGE)
