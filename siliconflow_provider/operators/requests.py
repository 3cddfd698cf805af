"""Wrap `requests=` so that Airflow neither renders it as a template nor prints all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from typing import Any

from siliconflow_provider.exceptions import InvalidArgumentError
from siliconflow_provider.operators.arguments import as_limit


class Requests:
    """Iterable that Airflow does not render: texts of requests may contain braces that are not templates."""

    def __init__(self, items: Any, iterate: Callable[[Any], Iterator[Any]] = iter) -> None:
        self._items = items
        self._iterate = iterate

    def __iter__(self) -> Iterator[Any]:
        return self._iterate(self._items)

    def __repr__(self) -> str:
        count = f" of {len(self._items):,}" if isinstance(self._items, Sized) else ""
        return f"<{type(self._items).__name__}{count}>"


def wrap_requests(value: Any) -> Any:
    """Return the value of `requests=`, wrapped. An XComArg is returned unchanged, since Airflow must resolve it.

    :raises InvalidArgumentError: if the value is not an iterable of requests
    """
    from airflow.providers.common.compat.sdk import XComArg

    if value is None or isinstance(value, (Requests, XComArg)):
        return value
    if not isinstance(value, (list, Iterator, str, bytes, dict)):
        # At DAG parse time, most requests are lists, which need no heavy import.
        from siliconflow_provider.inputs import is_table, rows_of_table

        if is_table(value):
            return Requests(value, rows_of_table)
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
        raise InvalidArgumentError(
            f"requests is {type(value).__name__}: give an iterable of texts, message lists or rows, such as [row]"
        )
    return Requests(value)


def check_items(given: Any) -> Iterable[Any]:
    """Return the given or returned requests after checking their type.

    :raises InvalidArgumentError: if the value is not an iterable of requests
    """
    if given is None:
        raise InvalidArgumentError("requests is None: give or return an iterable of requests; it may be empty")
    items: Iterable[Any] = wrap_requests(given)
    return items


def first_of(items: Iterable[Any], limit: Any) -> Iterable[Any]:
    """Return the first items, as many as the argument `limit` says; all if it is None.

    :raises InvalidArgumentError: if `limit` is no positive number
    """
    number = as_limit(limit)
    if number is None:
        return items
    from siliconflow_provider.inputs import first_items

    return first_items(items, number)


def items_at(input_path: str) -> Iterator[Any]:
    """Yield the items of the file at a path, or of all files in a directory or of a pattern.

    :raises StorageError: if a file cannot be read, or there is none
    :raises InputFileError: if a file is not in the format that its name says
    """
    from siliconflow_provider.api.redaction import without_credentials, without_queries
    from siliconflow_provider.api.service_texts import printable
    from siliconflow_provider.inputs import (
        FileStart,
        InputFileError,
        has_known_format,
        items_of_file,
        partition_columns,
    )
    from siliconflow_provider.storage import open_for_reading, read_chunks, source_files, storage_path

    path = storage_path(input_path, "input_path")
    files = source_files(path)
    directory = path.path if "*" not in path.path else path.path.partition("*")[0].rpartition("/")[0]
    for file in files:
        name = printable(without_credentials(str(file)))
        if files != [path] and "*" not in input_path and not has_known_format(name):
            raise InputFileError(
                name,
                "is in the input directory, and its ending is not an input format: move it, or give a pattern with *",
            )
        relative = file.path.removeprefix(directory).lstrip("/")
        if len(files) > 1:
            yield FileStart(printable(without_queries(relative)))
        read, open_file = partial(read_chunks, file), partial(open_for_reading, file, "input_path")
        yield from items_of_file(name, read, open_file, partition_columns(relative))
