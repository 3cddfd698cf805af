from __future__ import annotations

import datetime
import io
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from siliconflow_provider.inputs.values import plain_value
from siliconflow_provider.outputs.arrow_types import restored_array, restored_type

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime.datetime(2026, 11, 26, 12, 30, 15, 123456)
STRUCT = pyarrow.struct([("when", pyarrow.timestamp("us", "UTC")), ("price", pyarrow.decimal128(9, 2))])
COLUMNS = [
    (pyarrow.bool_(), [True, None, False]),
    (pyarrow.int8(), [-128, 127, None]),
    (pyarrow.uint64(), [0, 2**64 - 1]),
    (pyarrow.float16(), [0.5, -0.0999755859375]),
    (pyarrow.float32(), [0.10000000149011612, 3.0]),
    (pyarrow.float64(), [0.1, 1e300, 5.0]),
    (pyarrow.decimal128(38, 10), [Decimal("1234567890123456789012345678.0000000001"), None]),
    (pyarrow.decimal256(60, 2), [Decimal(f"{10**50}.25")]),
    (pyarrow.string(), ["a", "", "2026-11-26", "1"]),
    (pyarrow.large_string(), ["b"]),
    (pyarrow.date32(), [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
    (pyarrow.date64(), [datetime.date(2026, 2, 28)]),
    (pyarrow.time32("s"), [datetime.time(23, 59, 59)]),
    (pyarrow.time64("us"), [datetime.time(0, 0, 0, 1), datetime.time(12)]),
    (pyarrow.timestamp("s"), [NOON.replace(microsecond=0)]),
    (pyarrow.timestamp("us"), [NOON, datetime.datetime(1, 1, 1), None]),
    (pyarrow.timestamp("ms", "UTC"), [NOON.replace(microsecond=5_000, tzinfo=datetime.UTC)]),
    (pyarrow.timestamp("us", "Asia/Shanghai"), [NOON.replace(tzinfo=ZONE)]),
    (pyarrow.timestamp("ns"), [pandas.Timestamp("2026-11-26T12:30:15.123456789"), pandas.Timestamp(NOON)]),
    (pyarrow.timestamp("ns", "Asia/Shanghai"), [pandas.Timestamp("1969-12-31T23:59:59.000000001", tz=ZONE)]),
    (pyarrow.duration("us"), [datetime.timedelta(days=-3, microseconds=7), datetime.timedelta(0)]),
    (pyarrow.list_(pyarrow.int16()), [[1, None, 3], [], None]),
    (pyarrow.list_(pyarrow.float32(), 2), [[0.5, 1.5]]),
    (pyarrow.large_list(pyarrow.date32()), [[datetime.date(2026, 1, 1)]]),
    (STRUCT, [{"when": NOON.replace(tzinfo=datetime.UTC), "price": Decimal("1.10")}, {"when": None, "price": None}]),
    (pyarrow.list_(STRUCT), [[{"when": None, "price": Decimal("0.01")}]]),
    (pyarrow.map_(pyarrow.string(), pyarrow.int32()), [[("a", 1), ("b", None)], []]),
]


def as_rows_keep_it(array: pyarrow.Array) -> list[Any]:
    """Return the values of an array as a job keeps them: as JSON."""
    return [msgspec.json.decode(msgspec.json.encode(plain_value(value))) for value in array.to_pylist()]


@pytest.mark.parametrize(("wanted", "values"), COLUMNS, ids=[str(wanted) for wanted, _ in COLUMNS])
def test_column_comes_back_in_its_type(wanted: pyarrow.DataType, values: list[Any]) -> None:
    array = pyarrow.array(values, wanted)
    assert restored_type(wanted) == wanted
    restored = restored_array(as_rows_keep_it(array), wanted)
    assert restored.equals(array)
    written = io.BytesIO()
    parquet.write_table(pyarrow.table({"column": restored}), written)
    assert parquet.read_table(written)["column"].to_pylist() == array.to_pylist()


@pytest.mark.parametrize(
    ("wanted", "restored"),
    [
        (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), pyarrow.string()),
        (
            pyarrow.list_(pyarrow.dictionary(pyarrow.int8(), pyarrow.date32())),
            pyarrow.list_(pyarrow.date32()),
        ),
        (pyarrow.string_view(), pyarrow.string()),
        (pyarrow.null(), None),
        (pyarrow.binary(), None),
        (pyarrow.struct([]), None),
        (pyarrow.struct([("a", pyarrow.null())]), None),
        (pyarrow.month_day_nano_interval(), None),
        (pyarrow.list_view(pyarrow.int64()), None),
        (pyarrow.dense_union([pyarrow.field("a", pyarrow.int8())]), None),
    ],
    ids=str,
)
def test_other_types_come_back_by_their_values(wanted: pyarrow.DataType, restored: pyarrow.DataType | None) -> None:
    assert restored_type(wanted) == restored


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        (pyarrow.int64(), 1.5),
        (pyarrow.int64(), True),
        (pyarrow.int8(), 300),
        (pyarrow.float64(), 2**53 + 1),
        (pyarrow.float64(), False),
        (pyarrow.string(), 7),
        (pyarrow.decimal128(9, 2), 1.1),
        (pyarrow.decimal128(9, 2), "1.105"),
        (pyarrow.decimal128(9, 2), "many"),
        (pyarrow.date32(), "2026-11-26T12:00:00"),
        (pyarrow.date32(), 20_000),
        (pyarrow.timestamp("us"), "2026-11-26T12:00:00+08:00"),
        (pyarrow.timestamp("us", "UTC"), "2026-11-26T12:00:00"),
        (pyarrow.timestamp("s"), "2026-11-26T12:00:00.5"),
        (pyarrow.timestamp("ns"), "9999-01-01T00:00:00"),
        (pyarrow.duration("us"), "soon"),
        (pyarrow.list_(pyarrow.int64()), [1.5]),
        (pyarrow.list_(pyarrow.int64()), {"a": 1}),
        (pyarrow.struct([("a", pyarrow.int64())]), {"a": 1, "b": 2}),
        (pyarrow.map_(pyarrow.string(), pyarrow.int64()), [["a", 1, 2]]),
    ],
    ids=str,
)
def test_value_of_another_type_is_an_error(wanted: pyarrow.DataType, value: Any) -> None:
    """It would otherwise be cut, rounded or shifted."""
    with pytest.raises((pyarrow.ArrowException, TypeError, ValueError, ArithmeticError, LookupError)):
        restored_array([value], wanted)
