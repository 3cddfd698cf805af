"""Any table of Arrow is read right: each cell says in the prompt and the row what it held, or an error names it."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy
import pyarrow
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.source_files import items_of_file
from siliconflow_provider.inputs.tables import TableError, rows_of_table

# A table takes long to make up.
FEW = settings(max_examples=settings().max_examples // 8)
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
TICKS = st.integers(-(2**63) + 1, 2**63 - 1)


@dataclass(frozen=True, eq=False, repr=False)
class Kind:
    """A type of Arrow.

    :param cells: values for its arrays
    :param agrees: returns True if a value from JSON means the same as a cell
    :param is_sendable: returns False if no JSON means the same as a cell
    :param may_fail: returns True if Python has no value for a cell, so that the table may be refused
    :param is_text: True if its values become texts
    """

    type: Any
    cells: st.SearchStrategy[Any]
    agrees: Callable[[Any, Any], bool] = lambda cell, got: type(cell) is type(got) and cell == got
    is_sendable: Callable[[Any], bool] = lambda cell: True
    may_fail: Callable[[Any], bool] = lambda cell: False
    is_text: bool = False


def integers(bits: int, signed: bool) -> Kind:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return Kind(getattr(pyarrow, f"{'' if signed else 'u'}int{bits}")(), st.integers(low, high))


def floats(width: int) -> Kind:
    def agrees(cell: Any, got: Any) -> bool:
        if math.isnan(cell):
            return got is None
        if width == 32:
            # The digits are those of a float32, and no more.
            return numpy.float32(got) == numpy.float32(cell) and repr(got) == repr(float(str(numpy.float32(cell))))
        return float(cell) == got

    cells = st.floats(width=width)  # type: ignore[call-overload]
    return Kind(
        getattr(pyarrow, f"float{width}")(),
        cells.map(numpy.float16) if width == 16 else cells,
        agrees,
        is_sendable=lambda cell: not math.isinf(cell),
    )


def nanoseconds_of_time(text: str) -> int:
    """Return the nanoseconds since 1970 of an ISO 8601 text."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?([+-]\d\d:\d\d(?::\d\d)?)?", text)
    assert found, text
    moment = datetime.fromisoformat(found[1] + (found[3] or "+00:00"))
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + int((found[2] or "").ljust(9, "0"))


def nanoseconds_of_duration(text: str) -> int:
    """Return the nanoseconds of an ISO 8601 duration."""
    found = re.fullmatch(r"(-?)P(?:(-?\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d+))?S)?)?", text)
    assert found, text
    days, hours, minutes, seconds = (int(found[part] or 0) for part in (2, 3, 4, 5))
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return (whole * 10**9 + int((found[6] or "").ljust(9, "0"))) * (-1 if found[1] else 1)


def ticks(kind: Any, read: Callable[[str], int], limit_seconds: int) -> Kind:
    """Return a kind whose cells count units of time; Python holds those of up to so many seconds."""
    unit = NANOSECONDS[kind.unit]
    usual = st.integers(-(10**9), 10**9).map(lambda seconds: seconds * 10**9 // unit)
    return Kind(
        kind,
        usual | TICKS,
        agrees=lambda cell, got: read(got) == cell * unit,
        may_fail=lambda cell: abs(cell * unit) > limit_seconds * 10**9,
        is_text=True,
    )


UNITS = st.sampled_from(list(NANOSECONDS))
ZONES = st.sampled_from([None, "UTC", "Europe/Berlin", "+05:30"])
UNREADABLE = Kind(pyarrow.binary(), st.binary(max_size=4), is_sendable=lambda cell: False)
TEXTS = Kind(pyarrow.string(), st.text(max_size=6), is_text=True)


def decimals(precision: int, scale: int) -> Kind:
    whole = st.integers(-(10**precision) + 1, 10**precision - 1)
    return Kind(
        pyarrow.decimal128(precision, scale),
        whole.map(lambda number: Decimal(number).scaleb(-scale)),
        agrees=lambda cell, got: Decimal(got) == cell,
        is_text=True,
    )


def times(kind: Any) -> Kind:
    day = 86_400 * 10**9 // NANOSECONDS[kind.unit]
    return Kind(
        kind,
        st.integers(0, day - 1),
        agrees=lambda cell, got: nanoseconds_of_time(f"1970-01-01T{got}") == cell * NANOSECONDS[kind.unit],
        # Python's times have no nanoseconds.
        may_fail=lambda cell: kind.unit == "ns" and bool(cell % 1_000),
        is_text=True,
    )


def dates(kind: Any) -> Kind:
    return Kind(kind, st.dates(), agrees=lambda cell, got: date.fromisoformat(got) == cell, is_text=True)


SCALARS = st.one_of(
    st.builds(integers, st.sampled_from([8, 16, 32, 64]), st.booleans()),
    st.builds(floats, st.sampled_from([16, 32, 64])),
    st.integers(1, 38).flatmap(lambda precision: st.builds(decimals, st.just(precision), st.integers(0, precision))),
    UNITS.flatmap(lambda unit: ZONES.map(lambda zone: pyarrow.timestamp(unit, zone))).map(
        lambda kind: ticks(kind, nanoseconds_of_time, 60 * 10**9)
    ),
    UNITS.map(lambda unit: ticks(pyarrow.duration(unit), nanoseconds_of_duration, 86 * 10**12)),
    st.sampled_from(
        [
            TEXTS,
            Kind(pyarrow.large_string(), TEXTS.cells, is_text=True),
            Kind(pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), TEXTS.cells, is_text=True),
            Kind(pyarrow.bool_(), st.booleans()),
            Kind(pyarrow.null(), st.none()),
            UNREADABLE,
            Kind(pyarrow.large_binary(), UNREADABLE.cells, is_sendable=UNREADABLE.is_sendable),
            dates(pyarrow.date32()),
            dates(pyarrow.date64()),
            *[times(pyarrow.time32(unit)) for unit in ("s", "ms")],
            *[times(pyarrow.time64(unit)) for unit in ("us", "ns")],
        ]
    ),
)


def with_nulls(kind: Kind) -> Kind:
    """Return a kind that has nulls, too."""

    def unless_null(check: Callable[[Any], bool], result: bool) -> Callable[[Any], bool]:
        return lambda cell: result if cell is None else check(cell)

    return Kind(
        kind.type,
        st.none() | kind.cells,
        lambda cell, got: got is None if cell is None else kind.agrees(cell, got),
        unless_null(kind.is_sendable, True),
        unless_null(kind.may_fail, False),
        kind.is_text,
    )


def lists(inner: Kind, make: Callable[[Any], Any]) -> Kind:
    element = with_nulls(inner)
    return Kind(
        make(inner.type),
        st.lists(element.cells, max_size=3),
        lambda cell, got: len(cell) == len(got) and all(map(element.agrees, cell, got)),
        lambda cell: all(map(element.is_sendable, cell)),
        lambda cell: any(map(element.may_fail, cell)),
    )


def structs(one: Kind, two: Kind) -> Kind:
    fields = {"a": with_nulls(one), "b c": with_nulls(two)}
    return Kind(
        pyarrow.struct([(name, field.type) for name, field in fields.items()]),
        st.fixed_dictionaries({name: field.cells for name, field in fields.items()}),
        lambda cell, got: list(got) == list(fields) and all(fields[name].agrees(cell[name], got[name]) for name in got),
        lambda cell: all(fields[name].is_sendable(cell[name]) for name in cell),
        lambda cell: any(fields[name].may_fail(cell[name]) for name in cell),
    )


def maps(inner: Kind) -> Kind:
    value = with_nulls(inner)
    return Kind(
        pyarrow.map_(pyarrow.string(), inner.type),
        st.dictionaries(st.text(max_size=3), value.cells, max_size=2).map(lambda pairs: list(pairs.items())),
        lambda cell, got: (
            [key for key, _ in cell] == [key for key, _ in got]
            and all(value.agrees(pair[1], other[1]) for pair, other in zip(cell, got, strict=True))
        ),
        lambda cell: all(value.is_sendable(pair[1]) for pair in cell),
        lambda cell: any(value.may_fail(pair[1]) for pair in cell),
    )


KINDS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(lists, inner, st.sampled_from([pyarrow.list_, pyarrow.large_list])),
        st.builds(structs, inner, inner),
        st.builds(maps, inner),
    ),
    max_leaves=3,
).map(with_nulls)
NAMES = st.sampled_from(["q", "left number", "100 %", "größe", "a.b", "q:.2f", "", "}"]) | st.text(max_size=5)


@dataclass(frozen=True, eq=False)
class Case:
    """A table whose column `row` has the numbers of its rows, its cells by column, and the kinds of the columns."""

    table: Any
    cells: dict[str, list[Any]]
    kinds: dict[str, Kind]

    def any_cell(self, check: Callable[[Kind, Any], bool]) -> bool:
        return any(check(self.kinds[name], cell) for name, cells in self.cells.items() for cell in cells)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names = draw(st.lists(NAMES.filter(lambda name: name != "row"), min_size=1, max_size=3, unique=True))
    kinds = {name: draw(KINDS) for name in names}
    count = draw(st.integers(0, 4))
    cells = {name: draw(st.lists(kind.cells, min_size=count, max_size=count)) for name, kind in kinds.items()}
    columns = [pyarrow.array(cells[name], kinds[name].type) for name in names]
    table = pyarrow.table([pyarrow.array(range(count), pyarrow.int64()), *columns], names=["row", *names])
    # Chunks, and arrays with an offset.
    cut = draw(st.integers(0, count))
    return Case(pyarrow.concat_tables([table.slice(0, cut), table.slice(cut)]), cells, kinds)


def prepared(items: Iterator[Any], **builder: Any) -> tuple[list[Any], list[Any]]:
    """Return the contents of the requests, and the rows."""
    requests, rows = io.BytesIO(), io.BytesIO()
    done = prepare(items, RequestBuilder(model="m", **builder), requests, rows, name="it")
    lines = [json.loads(line) for line in requests.getvalue().splitlines()]
    inputs = [json.loads(line) for line in rows.getvalue().splitlines()]
    assert done.requests == len(lines) == len(inputs)
    return [line["body"]["messages"][0]["content"] for line in lines], inputs


def outcome(prepare_all: Callable[[], Any]) -> Any:
    """Return the result, or the error that is one of the input; any other error fails the test."""
    try:
        return prepare_all()
    except InvalidRequestFileError as error:
        return error


def check(case: Case, items: Callable[[], Iterator[Any]]) -> None:
    column = next((name for name in case.cells if name and not set(name) & set("{}\n")), "row")
    cells, kind = case.cells.get(column, []), case.kinds.get(column)
    count = case.table.num_rows
    bad = {
        number
        for number in range(count)
        if any(not case.kinds[name].is_sendable(values[number]) for name, values in case.cells.items())
        or (kind is not None and is_missing(cells[number]))
    }
    found = outcome(lambda: prepared(items(), prompt=f"{{row}}:{{{column}}}", id_column="row"))
    if isinstance(found, TableError):
        assert case.any_cell(lambda kind, cell: kind.may_fail(cell)), found
        return
    if isinstance(found, InvalidRequestFileError):
        assert {int(number) - 1 for number in re.findall(r"\n  item (\d+) \(", str(found))} == bad, found
        return
    contents, rows = found
    assert not bad
    assert [row["row"] for row in rows] == list(range(count))
    for number in range(count):
        for name, values in case.cells.items():
            assert case.kinds[name].agrees(values[number], rows[number][name]), (name, values[number])
        text = contents[number].removeprefix(f"{number}:")
        if kind is not None:
            assert kind.agrees(cells[number], text if kind.is_text else json.loads(text)), (cells[number], text)


def is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, (float, numpy.float16)) and math.isnan(cell))


@FEW
@given(cases())
def test_any_arrow_table_is_read_right(case: Case) -> None:
    check(case, lambda: rows_of_table(case.table))


@FEW
@given(cases())
def test_any_parquet_file_is_read_right(case: Case) -> None:
    file = io.BytesIO()
    try:
        parquet.write_table(case.table, file, row_group_size=2)
    except (pyarrow.ArrowException, OverflowError):
        # Parquet has fewer types.
        assume(False)
    content = file.getvalue()
    check(case, lambda: items_of_file("a.parquet", lambda: iter([content]), lambda: io.BytesIO(content)))


@FEW
@given(cases())
def test_any_column_is_messages_or_an_error(case: Case) -> None:
    column = next(iter(case.cells))
    found = outcome(lambda: prepared(rows_of_table(case.table), messages_column=column, id_column="row"))
    if not isinstance(found, InvalidRequestFileError):
        contents, rows = found
        assert len(contents) == len(rows) == case.table.num_rows
        assert all(column not in row for row in rows)
