"""Find the JSON schema that a request wants its answer to have."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from siliconflow_provider.emulator.messages import text_of
from siliconflow_provider.emulator.schema_tree import TYPES, SchemaTree

# Limits the time for a text of many braces that is no JSON.
MOST_ATTEMPTS = 200
SCHEMA_WORD = re.compile(r"""["'](?:type|properties|\$defs|\$ref|anyOf)["']\s*:""")
KEYWORDS = ("properties", "$defs", "$ref", "anyOf")


def wants_json(body: dict[str, Any]) -> bool:
    """Return True if the request has JSON mode."""
    return _response_format(body).get("type") in ("json_object", "json_schema")


def requested_schema(body: dict[str, Any]) -> SchemaTree | None:
    """Return the schema of the response format, or the last one in a message, or None.

    System messages come first. Those of others are read in JSON mode only: a prompt may have a schema as its subject.
    """
    given = _response_format(body).get("json_schema")
    if isinstance(given, dict):
        schema = given.get("schema", given)
        return _tree_of(json.dumps(schema)) if isinstance(schema, dict) else None
    messages = [message for message in body["messages"] if isinstance(message, dict)]
    system = [message for message in messages if message.get("role") == "system"]
    others = [message for message in messages if message.get("role") == "user"] if wants_json(body) else []
    for message in system + others:
        text = text_of(message.get("content"))
        if SCHEMA_WORD.search(text) and (found := _schema_in(text)) is not None:
            return found
    return None


def _response_format(body: dict[str, Any]) -> dict[str, Any]:
    given = body.get("response_format")
    return given if isinstance(given, dict) else {}


# All requests of a batch usually have the same schema.
@lru_cache(maxsize=8)
def _tree_of(schema: str) -> SchemaTree:
    return SchemaTree(json.loads(schema))


@lru_cache(maxsize=8)
def _schema_in(text: str) -> SchemaTree | None:
    """Return the last JSON schema in a text."""
    schemas = [value for value in _objects_in(text) if _is_schema(value)]
    return SchemaTree(schemas[-1]) if schemas else None


def _objects_in(text: str) -> Iterator[Any]:
    """Yield the outermost JSON objects in a text; for a text without any, an object as Python prints it."""
    decoder, start, found = json.JSONDecoder(), text.find("{"), False
    for _ in range(MOST_ATTEMPTS):
        if start < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
            found = True
            yield value
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)
    if not found:
        try:
            yield ast.literal_eval(text[text.find("{") : text.rfind("}") + 1])
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return


def _is_schema(value: Any) -> bool:
    """Return True for a schema of objects or arrays, not for data that has a field `type` or `properties`."""
    if not isinstance(value, dict):
        return False
    kind, properties = value.get("type", "object"), value.get("properties", {})
    if not any(key in value for key in KEYWORDS) and value.get("type") not in ("object", "array"):
        return False
    if not isinstance(properties, dict) or not all(isinstance(part, (dict, bool)) for part in properties.values()):
        return False
    kinds = kind if isinstance(kind, list) else [kind]
    return all(isinstance(each, str) and each in TYPES for each in kinds)
