"""Give the model a schema for structured output, and validate its answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import cut
from siliconflow_provider.outputs.answers import TRUNCATED, AnswerError, ResultRow
from siliconflow_provider.outputs.columns import OutputColumns, columns_of_schema
from siliconflow_provider.outputs.json_in_text import FoundJson, find_json, without_thinking

RESPONSE_FORMAT = {"type": "json_object"}
INVALID_OUTPUT = "invalid_output"
REFUSED = "refusal"
# The service's JSON mode answers with an object, so any other type becomes this field of an object.
_WRAPPER = "output"
LONGEST_MESSAGE = 500
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class OutputSchema:
    """The schema that answers have to match.

    :param output_type: a Pydantic model, or any type that Pydantic's `TypeAdapter` accepts
    """

    def __init__(self, output_type: Any) -> None:
        from pydantic import TypeAdapter

        self._adapter = TypeAdapter(output_type)
        self._dump_options: dict[str, Any] | None = None
        self.json_schema = self._adapter.json_schema()
        self._has_decimals = _has_decimals(self.json_schema)
        self._is_wrapped = not _is_object(self.json_schema)
        if self._is_wrapped:
            inner = dict(self.json_schema)
            definitions = {"$defs": inner.pop("$defs")} if "$defs" in inner else {}
            self.json_schema = {
                "type": "object", "properties": {_WRAPPER: inner}, "required": [_WRAPPER], **definitions,
            }  # fmt: skip

    @property
    def columns(self) -> OutputColumns:
        """The types of the fields of `output`; of `output` itself if it is no object."""
        try:
            # Serialization has other types than validation, and other names.
            schema = self._adapter.json_schema(mode="serialization", **(self._dump_options or _DUMPS[0]))
            return columns_of_schema(schema)
        except Exception:
            # A serializer of the user's own may have no schema: then the values say their types.
            return {}

    @property
    def instruction(self) -> str:
        """The instruction for the model."""
        schema = msgspec.json.encode(self.json_schema).decode()
        return f"Answer with one JSON object and nothing else. It must be valid against this JSON schema:\n{schema}"

    def validate(self, row: ResultRow) -> None:
        """Set the row's `output`; if the answer does not match, make the row invalid and keep its text."""
        try:
            row.output = self._valid_output(_text_of(row.content))
        except Exception as error:  # validators are the user's own code
            row.status, row.error = "invalid", _error_of(row, error)

    def _valid_output(self, text: str) -> Any:
        """Return the only value in a text that matches the type, as JSON types."""
        values: list[Any] = []
        failure: Exception = ValueError("it has no JSON value" if text.strip() else "it is empty")
        for candidate in _different(find_json(text)):
            try:
                # As JSON, a strict model accepts a string for a date, and numbers keep their digits.
                values.append(self._output_of(self._inner(candidate.text)))
            except Exception as error:
                failure = error
        if len(values) > 1:
            raise ValueError(f"it has {len(values):,} different JSON values that match")
        if not values:
            raise failure
        return values[0]

    def _output_of(self, text: str) -> Any:
        output = self._dump(self._adapter.validate_json(text))
        if not self._has_decimals:
            return output
        try:
            exact = self._dump(self._adapter.validate_json(_with_quoted_fractions(text)))
        except Exception:
            # Another field than a decimal takes no quoted number.
            return output
        return _with_texts_of(output, exact)

    def _inner(self, text: str) -> str:
        if not self._is_wrapped:
            return text
        fields = _decode_fields(text.encode())
        if _WRAPPER not in fields:
            raise ValueError(f"the object has no field {_WRAPPER!r}")
        return bytes(fields[_WRAPPER]).decode()

    def _dump(self, value: Any) -> Any:
        """Return a value as JSON types, in the form that validates again: with aliases, if the type has any."""
        if self._dump_options is None:
            self._dump_options = next(filter(lambda options: self._validates_again(value, options), _DUMPS), _DUMPS[0])
        return self._adapter.dump_python(value, mode="json", **self._dump_options)

    def _validates_again(self, value: Any, options: dict[str, Any]) -> bool:
        try:
            self._adapter.validate_json(self._adapter.dump_json(value, **options))
        except Exception:
            return False
        return True


_DUMPS: tuple[dict[str, Any], ...] = ({"by_alias": True}, {"by_alias": False})


def _different(found: list[FoundJson]) -> list[FoundJson]:
    """Return the values without those that an earlier one equals: models repeat their answer."""
    return [each for number, each in enumerate(found) if all(each.value != other.value for other in found[:number])]


def _is_object(schema: dict[str, Any]) -> bool:
    """Return True if a schema is of an object; a recursive type refers to one of its definitions."""
    reference = str(schema.get("$ref", ""))
    if reference.startswith("#/$defs/"):
        schema = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
    return schema.get("type") == "object"


def _has_decimals(schema: Any) -> bool:
    """Return True if a schema has the form that Pydantic gives to decimals: a number or a text."""
    if isinstance(schema, dict):
        kinds = {kind.get("type") for kind in schema.get("anyOf", ()) if isinstance(kind, dict)}
        return {"number", "string"} <= kinds or any(map(_has_decimals, schema.values()))
    return isinstance(schema, list) and any(map(_has_decimals, schema))


def _with_quoted_fractions(text: str) -> str:
    """Return JSON in which numbers with a fraction are texts: Pydantic reads them as floats, which lose digits."""
    return json.dumps(json.loads(text, parse_float=str))


def _with_texts_of(output: Any, exact: Any) -> Any:
    """Return an output with the texts of an equal one: only those of decimals differ, which have all their digits."""
    if isinstance(output, dict) and isinstance(exact, dict):
        return {name: _with_texts_of(value, exact.get(name, value)) for name, value in output.items()}
    if isinstance(output, list) and isinstance(exact, list) and len(output) == len(exact):
        return [_with_texts_of(*pair) for pair in zip(output, exact, strict=True)]
    return exact if isinstance(output, str) and isinstance(exact, str) else output


def _text_of(content: Any) -> str:
    """Return the text of an answer, which may come in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def correctable_text(row: ResultRow) -> str | None:
    """Return the text of an answer that is not of the output type, without its thinking.

    Return None if the row has no such answer, or one that consists of more than text.
    """
    if row.status != "invalid" or row.error is None or row.error.code != INVALID_OUTPUT or row.tool_calls:
        return None
    return without_thinking(_text_of(row.content)) or None


def _error_of(row: ResultRow, error: Exception) -> AnswerError:
    if row.finish_reason == "length":
        return AnswerError(TRUNCATED, "the answer was cut at max_tokens: raise max_tokens in request_params")
    if row.refusal:
        return AnswerError(REFUSED, cut(f"the model refused to answer: {row.refusal}", LONGEST_MESSAGE))
    return AnswerError(INVALID_OUTPUT, _sentence(error))


def _sentence(error: Exception) -> str:
    """Return the message of an error without the answer's own text, so that equal errors are counted together."""
    details = getattr(error, "errors", None)
    if details is None:
        return cut(f"not valid JSON for output_type: {error}", LONGEST_MESSAGE)
    messages = (f"{'.'.join(map(str, detail['loc'])) or 'answer'}: {detail['msg']}" for detail in details())
    return cut("; ".join(messages), LONGEST_MESSAGE)
