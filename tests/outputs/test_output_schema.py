from __future__ import annotations

import datetime
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from siliconflow_provider.outputs.answers import ResultRow
from siliconflow_provider.outputs.output_schema import OutputSchema


class City(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    founded: datetime.date | None = None

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        return {"Rome": "Roma"}.get(name, name) if name != "Atlantis" else name.no_such_thing  # type: ignore[attr-defined]


class Tree(BaseModel):
    branches: list[Tree] = []


def validated(output_type: Any, content: Any) -> ResultRow:
    row = ResultRow(custom_id="a", status="succeeded", content=content)
    OutputSchema(output_type).validate(row)
    assert row.content == content
    return row


@pytest.mark.parametrize(
    ("output_type", "content", "output"),
    [
        (City, '{"name": "Rome"}', {"name": "Roma", "founded": None}),
        (City, '{"name": "x", "founded": "2026-01-02"}', {"name": "x", "founded": "2026-01-02"}),
        (City, '```json\n{"name": "x"}\n```', {"name": "x", "founded": None}),
        (City, ' ```\n{"name": "x"}```\n', {"name": "x", "founded": None}),
        (list[City], '{"output": [{"name": "x"}]}', [{"name": "x", "founded": None}]),
        (Literal["a", "b"], '{"output": "b"}', "b"),
        (int | None, '{"output": null}', None),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Tree, '{"output": {"branches": [{"branches": []}]}}', {"branches": [{"branches": []}]}),
    ],
)
def test_a_valid_answer_becomes_the_output(output_type: Any, content: str, output: Any) -> None:
    row = validated(output_type, content)
    assert (row.status, row.output) == ("succeeded", output)


@pytest.mark.parametrize(
    ("output_type", "content", "message"),
    [
        (City, "Rome.", "not valid JSON for output_type: JSON is malformed"),
        (City, None, "not valid JSON for output_type: Input data was truncated"),
        (City, [{"type": "text"}], "not valid JSON for output_type: Input data was truncated"),
        (City, '{"name": 7}', "name: Input should be a valid string"),
        (City, "{}", "name: Field required"),
        (City, '{"name": "Atlantis"}', "not valid JSON for output_type: 'str' object has no attribute"),
        (list[City], "[]", "not valid JSON for output_type: "),
        (list[int], '{"output": [1, "x"]}', "1: Input should be a valid integer"),
    ],
)
def test_an_invalid_answer_keeps_its_text(output_type: Any, content: Any, message: str) -> None:
    row = validated(output_type, content)
    assert (row.status, row.error and row.error.code) == ("invalid", "invalid_output")
    assert row.error is not None
    assert row.error.message.startswith(message)


def test_the_instruction_contains_the_schema() -> None:
    schema = OutputSchema(list[City])
    assert schema.json_schema["type"] == "object"
    assert schema.json_schema["required"] == ["output"]
    assert "City" in schema.json_schema["$defs"]
    assert schema.instruction.startswith("Answer with one JSON object and nothing else.")
    assert '"founded"' in schema.instruction
