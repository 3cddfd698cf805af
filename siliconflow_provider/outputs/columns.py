"""Flatten result rows into columns: the same ones in each row, each with one type for all rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args, get_type_hints

import msgspec

from siliconflow_provider.outputs.answers import ResultRow

# Rows of JSON may each have other columns, and a table of very many needs too much memory.
MOST_COLUMNS = 2_000
# Kinds of values, as bits.
_BOOLEAN, _INTEGER, _LARGE_INTEGER, _HUGE_INTEGER, _FRACTION, _TEXT, _NESTED = (1 << bit for bit in range(7))
_KINDS = {type(None): 0, bool: _BOOLEAN, float: _FRACTION, str: _TEXT}
# The kinds that a type holds without loss; a string holds all of them.
_HELD = {
    "boolean": _BOOLEAN,
    "integer": _INTEGER | _LARGE_INTEGER,
    "number": _INTEGER | _FRACTION,
    "string": (1 << 7) - 1,
}
_TYPE_OF_HINT = {bool: "boolean", int: "integer", float: "number"}

# The types of the fields of `output`, by name; or the type of `output` itself if it is no object.
OutputColumns = Mapping[str, str] | str


@dataclass(frozen=True)
class Column:
    """One column of the table.

    :param source: the field of the row that it has, such as `status`, `error.code` or `input.id`
    :param type: `boolean`, `integer` (64 bits), `number` (a double) or `string`
    """

    name: str
    source: str
    type: str
    value_in: Callable[[ResultRow], Any]
    is_renamed: bool = False


@dataclass
class _Values:
    """The values of a field whose objects become columns.

    :param fields: the kinds of the values, by the name of the object's field
    :param kinds: the kinds of values that are no objects
    """

    fields: dict[str, int] = field(default_factory=dict)
    kinds: int = 0
    most: int = MOST_COLUMNS

    def add(self, value: Any) -> None:
        if not isinstance(value, dict):
            self.kinds |= _kind_of(value)
        elif len(self.fields) <= self.most:
            for name, inner in value.items():
                self.fields[name] = self.fields.get(name, 0) | _kind_of(inner)

    @property
    def are_objects(self) -> bool:
        return not self.kinds and len(self.fields) <= self.most


class ColumnPlan:
    """Find the columns of a table from all of its rows. Input columns keep their names.

    A result field takes the prefix `result_` if an input column has its name, and a field of `output` the prefix
    `output_` if an input column or a result field has it. Names that differ in case only are the same.

    :param input_names: the names of the input columns, as far as they are known before
    :param output: the types of `output`; None if the job has no output type
    """

    def __init__(self, input_names: Iterable[str] = (), output: OutputColumns | None = None) -> None:
        names = dict.fromkeys(input_names, 0)
        declared = dict.fromkeys(output, 0) if isinstance(output, Mapping) else {}
        self._output_type = output if isinstance(output, str) else None
        self._output_types = output if isinstance(output, Mapping) else {}
        self._input = _Values(names, most=MOST_COLUMNS + len(names))
        self._output = _Values(declared, most=MOST_COLUMNS + len(declared))

    def add(self, row: ResultRow) -> None:
        """Take the columns and types of a row into account."""
        self._input.add(row.input)
        if row.output is not msgspec.UNSET:
            self._output.add(row.output)

    def columns(self) -> list[Column]:
        """Return the columns, in the order of the fields of a row."""
        found = {
            "input": [*self._flattened("input", self._input)],
            "output": [*self._flattened("output", self._output, self._output_type, self._output_types)],
        }
        results = {name: [*_of_field(name, hint)] for name, hint in _row_hints().items() if name not in found}
        # Names are given in this order, and columns stand in that of the row.
        names = _Names()
        named = {"input": [names.give(column, "") for column in found["input"]]}
        named |= {name: [names.give(column, "result_") for column in columns] for name, columns in results.items()}
        named["output"] = [names.give(column, "output_") for column in found["output"]]
        return [column for name in _row_hints() for column in named[name]]

    def _flattened(
        self, name: str, values: _Values, own_type: str | None = None, types: Mapping[str, str] = {}
    ) -> Iterator[Column]:
        if not values.are_objects or own_type is not None:
            kinds = values.kinds | (_NESTED if values.fields else 0)
            yield Column(name, name, _type_of(kinds, own_type), lambda row: _known(getattr(row, name)))
            return
        for key, kinds in values.fields.items():
            yield Column(key, f"{name}.{key}", _type_of(kinds, types.get(key)), _field_of_object(name, key))


class _Names:
    """Give each column its own name."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, column: Column, prefix: str) -> Column:
        """Return the column with the prefix as often as its name is taken; without a prefix, as it is."""
        name = column.name
        while prefix and name.lower() in self._taken:
            name = prefix + name
        self._taken.add(name.lower())
        return replace(column, name=name, is_renamed=name != column.name)


def columns_of_schema(schema: dict[str, Any]) -> OutputColumns:
    """Return the types of the fields of a JSON schema; the type of its values if they are no objects."""
    definitions = schema.get("$defs", {})
    plain = _resolved(schema, definitions)
    if plain.get("type") != "object":
        return _type_of_schema(plain, definitions)
    return {name: _type_of_schema(inner, definitions) for name, inner in plain.get("properties", {}).items()}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    resolved: dict[str, Any] = definitions.get(name, schema)
    return resolved


def _type_of_schema(schema: Any, definitions: dict[str, Any]) -> str:
    """Return the type of a column; `string` for everything that is not of one simple type, which may be missing."""
    if not isinstance(schema, dict):
        return "string"
    schema = _resolved(schema, definitions)
    if "anyOf" in schema:
        found = {_type_of_schema(inner, definitions) for inner in schema["anyOf"] if inner != {"type": "null"}}
        return found.pop() if len(found) == 1 else "string"
    kind = schema.get("type")
    return kind if isinstance(kind, str) and kind in _HELD else "string"


def text_of(value: Any) -> str | None:
    """Return a value as the text of a cell: a text as it is, null as None, anything else as JSON."""
    if value is None or type(value) is str:
        return value
    try:
        return msgspec.json.encode(value).decode()
    except OverflowError:
        # An integer of more than 64 bits.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _kind_of(value: Any) -> int:
    kind = type(value)
    if kind is int:
        if -(2**53) <= value <= 2**53:
            return _INTEGER
        return _LARGE_INTEGER if -(2**63) <= value < 2**63 else _HUGE_INTEGER
    return _KINDS.get(kind, _NESTED)


def _type_of(kinds: int, declared: str | None = None) -> str:
    """Return the declared type if it holds all values, else the first one that does; without values, `string`."""
    if declared in _HELD and not kinds & ~_HELD[declared]:
        return declared
    return next((name for name, held in _HELD.items() if kinds and not kinds & ~held), "string")


def _row_hints() -> dict[str, Any]:
    return get_type_hints(ResultRow)


def _of_field(name: str, hint: Any) -> Iterator[Column]:
    """Yield the column of a field of `ResultRow`, or the columns of the fields of its struct."""
    kinds = get_args(hint) or (hint,)
    struct = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), None)
    if struct is None:
        yield Column(name, name, _type_of_hint(kinds), lambda row: _known(getattr(row, name)))
        return
    for inner, inner_hint in get_type_hints(struct).items():
        inner_type = _type_of_hint(get_args(inner_hint) or (inner_hint,))
        yield Column(f"{name}_{inner}", f"{name}.{inner}", inner_type, _field_of_struct(name, inner))


def _type_of_hint(kinds: Iterable[Any]) -> str:
    found = [kind for kind in kinds if kind not in (type(None), msgspec.UnsetType)]
    return _TYPE_OF_HINT.get(found[0], "string") if len(found) == 1 else "string"


def _known(value: Any) -> Any:
    return None if value is msgspec.UNSET else value


def _field_of_struct(name: str, inner: str) -> Callable[[ResultRow], Any]:
    def value_in(row: ResultRow) -> Any:
        struct = _known(getattr(row, name))
        return None if struct is None else _known(getattr(struct, inner))

    return value_in


def _field_of_object(name: str, key: str) -> Callable[[ResultRow], Any]:
    def value_in(row: ResultRow) -> Any:
        value = getattr(row, name)
        return value.get(key) if type(value) is dict else None

    return value_in
