from __future__ import annotations

import json
from typing import Any

import pytest

from siliconflow_provider.emulator.requested_schema import requested_schema

SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}
OTHER = {"type": "array", "items": {"type": "string"}}
JSON_MODE = {"response_format": {"type": "json_object"}}


def found(*messages: tuple[str, Any], **body: Any) -> Any:
    texts = [{"role": role, "content": content} for role, content in messages]
    tree = requested_schema({"messages": [*texts, {"role": "user", "content": "Hello {name}"}]} | body)
    return tree and tree.root


@pytest.mark.parametrize(
    "given",
    [
        {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}},
        {"type": "json_schema", "json_schema": SCHEMA},
    ],
)
def test_schema_of_the_response_format_comes_first(given: dict[str, Any]) -> None:
    assert found(("system", json.dumps(OTHER)), response_format=given) == SCHEMA


@pytest.mark.parametrize(
    "text",
    [
        f"Answer with one JSON object. It must be valid against this JSON schema:\n{json.dumps(SCHEMA)}",
        f"```json\n{json.dumps(SCHEMA, indent=2)}\n```\nNothing else, {{please}}.",
        f"Not {{this}}, nor {json.dumps(OTHER)}, but {json.dumps(SCHEMA)}",
        f'Such as {{"score": 3}}. The schema: {json.dumps(SCHEMA)}',
        f"{SCHEMA}",
        [{"type": "text", "text": "The schema: "}, {"type": "text", "text": json.dumps(SCHEMA)}],
    ],
)
def test_last_schema_of_a_system_message_is_found(text: Any) -> None:
    assert found(("system", text)) == found(("system", text), **JSON_MODE) == SCHEMA


def test_prompts_with_schemas_are_read_in_json_mode_only() -> None:
    prompt = ("user", f"Explain {json.dumps(SCHEMA)}")
    assert found(prompt) is None
    assert found(prompt, **JSON_MODE) == SCHEMA
    assert found(("system", json.dumps(OTHER)), prompt, **JSON_MODE) == OTHER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Be brief.",
        '{"type": "house", "properties": {"rooms": {}}}',
        '{"type": "object", "properties": {"rooms": 3}}',
        '{"type": "number", "value": 5}',
        '{"items": [{"type": "book"}], "total": 3}',
        '{"type": "object", "properties": ["rooms"]}',
        '{"type": "object", "properties": {"rooms": {}}',
        '{"type": [7]}',
        '{"type": ' * 5_000,
        "{'type': " + "(" * 5_000,
    ],
)
def test_other_texts_have_no_schema(text: str) -> None:
    assert found(("system", text), **JSON_MODE) is None


def test_difficult_messages_are_no_error() -> None:
    assert requested_schema({"messages": ["x", {"role": "system"}, {"role": "user", "content": 7}]} | JSON_MODE) is None
    assert found(response_format={"type": "json_schema", "json_schema": {"schema": "x"}}) is None
