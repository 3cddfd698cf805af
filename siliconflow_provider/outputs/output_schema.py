"""Give the model a schema for structured output, and validate its answers."""

from __future__ import annotations

from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import cut
from siliconflow_provider.outputs.answers import AnswerError, ResultRow

RESPONSE_FORMAT = {"type": "json_object"}
INVALID = "invalid_output"
_FENCE = "```"
# The service's JSON mode answers with an object, so any other type becomes this field of an object.
_WRAPPER = "output"
LONGEST_MESSAGE = 500


class OutputSchema:
    """The schema that answers have to match.

    :param output_type: a Pydantic model, or any type that Pydantic's `TypeAdapter` accepts
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
        """The instruction for the model."""
        schema = msgspec.json.encode(self.json_schema).decode()
        return f"Answer with one JSON object and nothing else. It must be valid against this JSON schema:\n{schema}"

    def validate(self, row: ResultRow) -> None:
        """Set the row's `output`; if the answer does not match, make the row invalid and keep its text."""
        text = row.content if isinstance(row.content, str) else ""
        try:
            decoded = msgspec.json.decode(_without_fence(text))
            value = decoded[_WRAPPER] if self._is_wrapped else decoded
            # In JSON mode, a strict model accepts a string for a date.
            valid = self._adapter.validate_json(msgspec.json.encode(value))
            row.output = self._adapter.dump_python(valid, mode="json")
        except Exception as error:  # validators are the user's own code
            row.status, row.error = "invalid", AnswerError(INVALID, _sentence(error))


def _without_fence(text: str) -> str:
    """Return the content of a fenced code block; the text itself if it is not fenced."""
    block = text.strip()
    if len(block) < 2 * len(_FENCE) or not (block.startswith(_FENCE) and block.endswith(_FENCE)):
        return text
    block = block[len(_FENCE) : -len(_FENCE)]
    return (block[4:] if block[:4].lower() == "json" else block).strip()


def _sentence(error: Exception) -> str:
    """Return the message of an error without the answer's own text, so that equal errors are counted together."""
    details = getattr(error, "errors", None)
    if details is None:
        return cut(f"not valid JSON for output_type: {error}", LONGEST_MESSAGE)
    messages = (f"{'.'.join(map(str, detail['loc'])) or 'answer'}: {detail['msg']}" for detail in details())
    return cut("; ".join(messages), LONGEST_MESSAGE)
