"""The schemas of Arrow tables, data frames and Parquet files, kept so that results can restore the types of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


class SourceSchema:
    """The Arrow schema of a table. A source yields it before the table's rows; it is no item itself.

    :param index_names: names that the index of a data frame has; its values are not in the rows
    """

    def __init__(self, schema: pyarrow.Schema, index_names: Sequence[str] = ()) -> None:
        self.schema = schema
        self.index_names = index_names


def schema_of_frame(frame: Any) -> SourceSchema | None:
    """Return the schema of a data frame of pandas or polars; None without pyarrow, or if a type has no Arrow type."""
    try:
        import pyarrow

        if hasattr(frame, "iloc"):
            # Without rows, a column of objects has the type null, which stands for an unknown one.
            schema = pyarrow.Schema.from_pandas(frame.iloc[:0], preserve_index=False)
            return SourceSchema(schema, [name for name in frame.index.names if isinstance(name, str)])
        return SourceSchema(frame.head(0).to_arrow().schema)
    except Exception:
        # Only types of columns depend on it: without a schema, they are inferred from the values.
        return None


class MergedSchema:
    """The schema of all tables of a source, such as the files of a directory."""

    def __init__(self) -> None:
        self._schema: pyarrow.Schema | None = None

    def add(self, added: SourceSchema) -> None:
        """Add a table's schema. A column whose types differ gets one that holds both, or null if there is none."""
        new = added.schema.remove_metadata()
        if self._schema is None or self._schema.equals(new):
            self._schema = new
            return
        import pyarrow

        fields = {field.name: field for field in self._schema}
        for field in new:
            fields[field.name] = _merged(fields[field.name], field) if field.name in fields else field
        self._schema = pyarrow.schema(fields.values())

    def serialized(self, *, without: str | None = None) -> bytes | None:
        """Return the schema as bytes in Arrow's IPC format; None if no table was added.

        :param without: a column that is left out
        """
        if self._schema is None:
            return None
        import pyarrow

        kept = pyarrow.schema([field for field in self._schema if field.name != without])
        content: bytes = kept.serialize().to_pybytes()
        return content


def _merged(one: pyarrow.Field, other: pyarrow.Field) -> pyarrow.Field:
    import pyarrow

    try:
        schemas = [pyarrow.schema([one]), pyarrow.schema([other])]
        return pyarrow.unify_schemas(schemas, promote_options="permissive").field(0)
    except pyarrow.ArrowException:
        return pyarrow.field(one.name, pyarrow.null())
