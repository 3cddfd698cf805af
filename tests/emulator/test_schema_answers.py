"""The instances that the emulator answers with are valid for the types that users ask for."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from pydantic import (
    AnyUrl,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    HttpUrl,
    Json,
    SecretStr,
    TypeAdapter,
    conset,
)
from typing_extensions import TypedDict  # typing's does not suit Pydantic on Python 3.11

from siliconflow_provider.emulator.schema_answers import SchemaAnswer
from siliconflow_provider.emulator.schema_tree import SchemaTree


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class City(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=3, max_length=8)
    founded: dt.date
    twin: City | None = None


class Node(BaseModel):
    value: int
    children: list[Node]
    parent: Node | None


class Leaf(BaseModel):
    kind: Literal["leaf"]
    size: float


class Fork(BaseModel):
    kind: Literal["fork"]
    left: Tree
    right: Tree


Tree = Annotated[Leaf | Fork, Field(discriminator="kind")]
Fork.model_rebuild()


class Aliased(BaseModel):
    model_config = ConfigDict(strict=True)

    first_name: str = Field(alias="firstName")
    share: float = Field(alias="theShare", gt=0, lt=1)


class Point(NamedTuple):
    x: int
    y: float


class Options(TypedDict, total=False):
    verbose: bool
    names: list[str]


class Invoice(BaseModel):
    lines: list[Aliased] = Field(min_length=1, max_length=3)
    total: Annotated[Decimal, Field(ge=0, max_digits=4, decimal_places=1)]
    tags: set[Literal["a", "b", "c"]] = Field(min_length=3)
    paid: dt.datetime | None
    rest: dict[str, list[Point]]


TYPES: list[Any] = [
    bool,
    None,
    str,
    Annotated[str, Field(min_length=40, max_length=41)],
    Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{4}(?:-(?:old|new))?$")],
    Annotated[str, Field(pattern=r"^[^a-z\s]+[äöü]?$", min_length=6)],
    Annotated[int, Field(ge=1, le=5)],
    Annotated[int, Field(gt=10, multiple_of=7)],
    Annotated[int, Field(lt=-1000)],
    Annotated[float, Field(gt=0, lt=0.001)],
    Annotated[float, Field(ge=0.1, le=0.9, multiple_of=0.1)],
    Decimal,
    Annotated[Decimal, Field(ge=0, max_digits=3, decimal_places=1)],
    Annotated[Decimal, Field(gt=0, lt=1, max_digits=3)],
    int | str | None,
    Colour | Level,
    Literal["a", 1, None],
    dt.date | dt.timedelta,
    dt.datetime | dt.time,
    uuid.UUID,
    EmailStr,
    HttpUrl | AnyUrl,
    SecretStr | bytes,
    Base64Bytes,
    ipaddress.IPv4Address | ipaddress.IPv6Network,
    Json[list[int]],
    tuple[int, str, bool] | tuple[float, ...],
    Point,
    Annotated[list[int], Field(min_length=5)],
    conset(Annotated[int, Field(ge=1, le=4)], min_length=4),
    frozenset[Colour],
    dict[str, Any],
    dict[int, Annotated[float, Field(ge=0)]],
    Annotated[dict[Colour, int], Field(min_length=2)],
    dict[Annotated[str, Field(pattern=r"^x\d+$")], bool],
    Options,
    City,
    Node,
    Tree,
    Aliased,
    Invoice,
]


def instance_of(schema: dict[str, Any], seed: str = "s", answer: str = "hello") -> Any:
    value = Fraction(answer) if answer.replace(".", "").isdigit() else None
    return SchemaAnswer(SchemaTree(schema), seed, answer, value).instance()


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: str(kind)[:40])
def test_instances_are_valid_for_pydantic(kind: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = adapter.json_schema()
    texts = [json.dumps(instance_of(schema, str(seed))) for seed in range(30)]
    for text in texts:
        adapter.validate_json(text)
    assert texts == [json.dumps(instance_of(schema, str(seed))) for seed in range(30)]


def test_answer_fields_get_the_sum_or_prompt() -> None:
    class Named(BaseModel):
        answer: int
        other: int = Field(ge=500)

    assert instance_of(Named.model_json_schema(), answer="42")["answer"] == 42
    assert instance_of({"properties": {"output": {"type": "string"}}}) == {"output": "hello"}
    assert instance_of({"properties": {"answer": {"type": "number"}}}, answer="0.5") == {"answer": 0.5}
    assert instance_of(
        {"properties": {"answer": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}, answer="7"
    ) == {"answer": 7}
    assert instance_of({"properties": {"answer": {"enum": ["bye", "hello"]}}}) == {"answer": "hello"}
    # Neither fits.
    assert instance_of({"properties": {"answer": {"type": "string", "maxLength": 3}}}) != {"answer": "hello"}
    assert 1 <= instance_of({"properties": {"answer": {"type": "integer", "maximum": 9}}}, answer="42")["answer"] < 10


def test_texts_name_their_field_and_requests_differ() -> None:
    schema = {"properties": {"customer_name": {"type": "string"}}}
    instances = [instance_of(schema, str(seed))["customer_name"] for seed in range(5)]
    assert all(text.startswith("customer name ") for text in instances)
    assert len(set(instances)) > 1


def test_recursion_ends_with_what_is_required() -> None:
    node = instance_of(TypeAdapter(Node).json_schema())
    assert [child["children"] for child in node["children"]] == [[], []]
    assert node["children"][0]["parent"] is None


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        ({"allOf": [{"required": ["a"], "properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
         {"a": 1, "b": 2}),
        ({"properties": {"a": {"const": 1}}, "anyOf": [{"required": ["a", "b"], "properties": {"b": {"enum": [2]}}}]},
         {"a": 1, "b": 2}),
        ({"definitions": {"x/y": {"const": 3}}, "$ref": "#/definitions/x~1y"}, 3),
        ({"type": ["null"]}, None),
        ({"required": ["a"], "additionalProperties": {"const": 1}}, {"a": 1}),
        ({"type": "object"}, {"answer": "hello"}),
        ({"type": "object", "additionalProperties": False}, {}),
        ({"prefixItems": [{"const": 1}], "items": False, "minItems": 1}, [1]),
        ({"items": {"const": 1}, "uniqueItems": True}, [1]),
        ({"anyOf": [False, {"const": 1}]}, 1),
        ({}, "hello"),
    ],
)  # fmt: skip
def test_keywords_beyond_pydantics_are_understood(schema: dict[str, Any], instance: Any) -> None:
    assert instance_of(schema) == instance


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": []},
        {"$ref": "#"},
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "https://example.com/schema"},
        {"properties": {"again": {"$ref": "#"}}, "required": ["again"]},
        {"type": "array", "items": False, "minItems": 1},
    ],
)
def test_a_schema_without_instances_is_an_error(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no instance"):
        instance_of(schema)


@pytest.mark.parametrize("wrong", [7, "x", None, [], {}, [7], {"a": 7}, True, -1, 1.5, "(", "#"])
def test_wrong_values_of_keywords_are_ignored(wrong: Any) -> None:
    keywords = (
        *("type", "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "items"),
        *("prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum"),
        *("multipleOf", "anyOf", "allOf", "minProperties", "maxProperties", "contentSchema"),
    )
    for keyword in keywords:
        for kind in ("object", "array", "string", "integer", "number"):
            json.dumps(instance_of({"type": kind, keyword: wrong}))


def test_a_wide_recursive_grammar_stays_small() -> None:
    definitions = {
        f"T{index}": {
            "properties": {
                f"p{other}": {"anyOf": [{"$ref": f"#/$defs/T{other}"}, {"type": "null"}]} for other in range(8)
            }
        }
        for index in range(8)
    }
    text = json.dumps(instance_of({"$defs": definitions, "$ref": "#/$defs/T0"}))
    assert len(text) < 1_000_000
