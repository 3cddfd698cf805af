"""Wrap `requests=` so that Airflow neither renders it as a template nor prints all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any


class Requests:
    """Iterable that Airflow does not render: texts of requests may contain braces that are not templates."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __repr__(self) -> str:
        count = f" of {len(self._items):,}" if isinstance(self._items, Sized) else ""
        return f"<{type(self._items).__name__}{count}>"


def wrap_requests(value: Any) -> Any:
    """Return the value of `requests=`, wrapped. An XComArg is returned unchanged, since Airflow must resolve it.

    :raises ValueError: if the value is not an iterable of requests
    """
    from airflow.providers.common.compat.sdk import XComArg

    if value is None or isinstance(value, (Requests, XComArg)):
        return value
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
        raise ValueError(
            f"requests is {type(value).__name__}: give an iterable of texts, message lists or rows, such as [row]"
        )
    # Iterating a data frame would yield its column names.
    if hasattr(value, "__dataframe__"):
        raise ValueError(f"requests is {type(value).__name__}: give its rows; in pandas, df.to_dict('records')")
    return Requests(value)


def check_items(given: Any) -> Iterable[Any]:
    """Return the given or returned requests after checking their type.

    :raises ValueError: if the value is not an iterable of requests
    """
    if given is None:
        raise ValueError("requests is None: give or return an iterable of requests; it may be empty")
    items: Iterable[Any] = wrap_requests(given)
    return items
