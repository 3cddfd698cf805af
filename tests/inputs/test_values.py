from __future__ import annotations

import datetime
import enum
import json
import sqlite3
import uuid
from collections import OrderedDict, namedtuple
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import numpy
import pandas
import pytest
import sqlalchemy
from pydantic import BaseModel, ConfigDict, Field

from siliconflow_provider.inputs.values import InvalidItemError, is_missing, plain_item, plain_row, plain_value


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Named(NamedTuple):
    id: int
    q: str


@dataclass
class Data:
    id: int
    q: str


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int
    q: str = Field(alias="question")


class Struct(msgspec.Struct):
    id: int
    q: str


ROW = {"id": 1, "q": "a"}


def sql_rows() -> list[Any]:
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        found = connection.execute(sqlalchemy.text("select 1 as id, 'a' as q"))
        return [*found.mappings().all(), *connection.execute(sqlalchemy.text("select 1 as id, 'a' as q")).all()]


class ListWithKeys(list[Any]):
    """A row of a driver whose rows are lists, with access by name."""

    def keys(self) -> list[str]:
        return list(ROW)

    def __getitem__(self, name: Any) -> Any:
        return ROW[name]


def sqlite_row(query: str = "select 1 as id, 'a' as q") -> sqlite3.Row:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        row: sqlite3.Row = connection.execute(query).fetchone()
        return row


@pytest.mark.parametrize(
    "item",
    [
        ROW,
        OrderedDict(ROW),
        MappingProxyType(ROW),
        Named(1, "a"),
        namedtuple("Row", "id q")(1, "a"),
        Data(1, "a"),
        Model(id=1, question="a"),
        Struct(1, "a"),
        *sql_rows(),
        sqlite_row(),
        ListWithKeys([1, "a"]),
        pandas.DataFrame([ROW]).to_dict("records")[0],
        next(pandas.DataFrame([ROW]).itertuples(index=False)),
    ],
    ids=lambda item: type(item).__name__,
)
def test_rows_of_every_form_become_mappings(item: Any) -> None:
    assert plain_item(item) == ROW


def test_a_row_needs_a_name_for_each_column() -> None:
    with pytest.raises(InvalidItemError, match=r"^the row has more than one column 'id': give each its own name$"):
        plain_item(sqlite_row("select 1 as id, 2 as id"))


def test_extra_fields_of_a_model_are_columns() -> None:
    assert plain_item(Model(id=1, question="a", other=2)) == {**ROW, "other": 2}


@pytest.mark.parametrize(
    "item", ["text", b"line", [{"role": "user"}], (1, "a"), 7, None, Named, Model, pandas.Series(ROW)]
)
def test_other_items_stay_as_they_are(item: Any) -> None:
    assert plain_item(item) is item


VALUES: list[tuple[Any, Any]] = [
    ("text", "text"),
    (True, True),
    (7, 7),
    (2**63, 2**63),
    (2**64 + 1, 2**64 + 1),
    (-(2**70), -(2**70)),
    (0.1, 0.1),
    (None, None),
    (float("nan"), None),
    (pandas.NA, None),
    (pandas.NaT, None),
    (numpy.datetime64("NaT"), None),
    (numpy.float32("nan"), None),
    (numpy.int64(7), 7),
    (numpy.uint64(2**64 - 1), 2**64 - 1),
    (numpy.bool_(True), True),
    (numpy.str_("a"), "a"),
    (numpy.float64(0.1), 0.1),
    (numpy.float32(0.1), 0.1),
    (numpy.float16(0.1), 0.1),
    (numpy.array([1, 2]), [1, 2]),
    (numpy.array([[0.5], [float("nan")]]), [[0.5], [None]]),
    (numpy.datetime64("2026-01-02T03:04:05"), "2026-01-02T03:04:05"),
    (Decimal("1.10"), "1.10"),
    (Decimal("NaN"), None),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00+00:00"),
    (datetime.timedelta(days=1, seconds=2), "P1DT2S"),
    (pandas.Timestamp("2026-01-02 03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
    (pandas.Timedelta(1, "ns"), "P0DT0H0M0.000000001S"),
    (pandas.Series([1, None]), [1, None]),
    (Color.RED, "red"),
    (Level.HIGH, 3),
    (Path("/a/b"), "/a/b"),
    ((1, "a"), [1, "a"]),
    ({"a": [Decimal("1.0"), {"b": numpy.int8(1)}]}, {"a": ["1.0", {"b": 1}]}),
    (Named(1, "a"), [1, "a"]),
    (Data(1, "a"), ROW),
    (Model(id=1, question="a"), ROW),
]


@pytest.mark.parametrize(("value", "plain"), VALUES, ids=lambda value: f"{type(value).__name__}")
def test_values_keep_their_meaning(value: Any, plain: Any) -> None:
    assert json.loads(msgspec.json.encode(plain_value(value))) == plain


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"raw", "a value of type bytes: turn it into a text; give an image as a URL"),
        (bytearray(b"raw"), "a value of type bytearray"),
        ({1, 2}, "a value of type set: give a list, which has an order"),
        (float("inf"), "the value inf, which JSON does not have"),
        (numpy.float64("-inf"), "the value -inf, which JSON does not have"),
        (1 + 2j, "a value of type complex"),
        (object(), "a value of type object"),
        ([{"deep": b"raw"}], "column 'deep' has a value of type bytes"),
        ({1: "a"}, "column 1 has a name of type int: give it a text"),
    ],
    ids=str,
)
def test_values_that_cannot_be_kept_are_errors(value: Any, problem: str) -> None:
    with pytest.raises(InvalidItemError) as caught:
        plain_row({"column": value})
    assert str(caught.value).removeprefix("column 'column' has ").startswith(problem)


@pytest.mark.parametrize("value", [None, float("nan"), pandas.NA, pandas.NaT, numpy.datetime64("NaT"), Decimal("NaN")])
def test_missing_values_are_seen(value: Any) -> None:
    assert is_missing(value)


@pytest.mark.parametrize("value", ["", "nan", 0, False, [], {}, Decimal(0), numpy.array([float("nan")]), object()])
def test_other_values_are_not_missing(value: Any) -> None:
    assert not is_missing(value)
