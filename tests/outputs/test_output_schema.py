from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

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


class Aliased(BaseModel):
    full_name: str = Field(alias="fullName")


class ReadByAlias(BaseModel):
    full_name: str = Field(validation_alias="fullName", serialization_alias="fullName")


class Price(BaseModel):
    amount: Decimal


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
        (Tree, '{"branches": [{"branches": []}]}', {"branches": [{"branches": []}]}),
        (City, '<think>Is {"name": "no"} right?</think>\n{"name": "x"}', {"name": "x", "founded": None}),
        (City, 'The city is {"name": "x"}, I think.', {"name": "x", "founded": None}),
        (City, 'Not {"town": "y"} but {"name": "x"}, so again: {"name":"x"}', {"name": "x", "founded": None}),
        (
            City,
            [{"type": "text", "text": '{"name": '}, {"type": "text", "text": '"x"}'}],
            {"name": "x", "founded": None},
        ),
        (Price, '{"amount": 1.10}', {"amount": "1.10"}),
        (Aliased, '{"fullName": "Ada"}', {"fullName": "Ada"}),
        (ReadByAlias, '{"fullName": "Ada"}', {"fullName": "Ada"}),
        (Price, '{"amount": 1.10000000000000000001}', {"amount": "1.10000000000000000001"}),
    ],
)
def test_a_valid_answer_becomes_the_output(output_type: Any, content: str, output: Any) -> None:
    row = validated(output_type, content)
    assert (row.status, row.output) == ("succeeded", output)


@pytest.mark.parametrize(
    ("output_type", "content", "message"),
    [
        (City, "Rome.", "not valid JSON for output_type: it has no JSON value"),
        (City, None, "not valid JSON for output_type: it is empty"),
        (City, [{"type": "text"}], "not valid JSON for output_type: it is empty"),
        (City, '{"name": 7}', "name: Input should be a valid string"),
        (City, "{}", "name: Field required"),
        (City, '{"name": "x"} or {"name": "y"}', "not valid JSON for output_type: it has 2 different JSON values that"),
        (City, '{"name": "x', "not valid JSON for output_type: it has no JSON value"),
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


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        (
            {"content": '{"name": "Once upon', "finish_reason": "length"},
            "truncated",
            "cut at max_tokens: raise max_tokens",
        ),
        ({"content": None, "refusal": "I can't."}, "refusal", "the model refused to answer: I can't."),
    ],
)
def test_the_reason_of_an_invalid_answer_is_named(fields: dict[str, Any], code: str, message: str) -> None:
    row = ResultRow(custom_id="a", status="succeeded", **fields)
    OutputSchema(City).validate(row)
    assert row.error is not None
    assert (row.status, row.error.code) == ("invalid", code)
    assert message in row.error.message


@pytest.mark.parametrize("output_type", [Aliased, ReadByAlias, Price, Tree, City, list[Price], dict[str, Aliased]])
def test_every_output_validates_again(output_type: Any) -> None:
    schema = OutputSchema(output_type)
    values = {"fullName": "Ada", "amount": 1.5, "branches": [{}], "name": "x"}
    content = {"output": [values]} if output_type == list[Price] else values
    content = {"a": values} if output_type == dict[str, Aliased] else content
    row = ResultRow(custom_id="a", status="succeeded", content=json.dumps(content))
    schema.validate(row)
    assert row.error is None
    TypeAdapter(output_type).validate_python(row.output)


class Mixed(BaseModel):
    amount: Decimal
    share: float | str
    extra: dict[str, Any]


def test_only_decimals_become_texts() -> None:
    row = validated(Mixed, '{"amount": 1.10, "share": 2.50, "extra": {"w": 2.5, "d": [1.5]}}')
    assert row.output == {"amount": "1.10", "share": 2.5, "extra": {"w": 2.5, "d": [1.5]}}
