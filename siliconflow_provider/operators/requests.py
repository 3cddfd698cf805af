"""Requests that are given in a DAG file, kept from being rendered as templates and from being shown whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any


class Requests:
    """An iterable that Airflow passes on as it is: its texts may hold braces that are no templates."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __repr__(self) -> str:
        count = f" of {len(self._items):,}" if isinstance(self._items, Sized) else ""
        return f"<{type(self._items).__name__}{count}>"


def wrap_requests(value: Any) -> Any:
    """Wrap a value that is no XComArg, which Airflow has to see; what it is resolved to is wrapped in its turn.

    :raises ValueError: when it cannot be the requests of a job
    """
    from airflow.providers.common.compat.sdk import XComArg

    if value is None or isinstance(value, (Requests, XComArg)):
        return value
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
        raise ValueError(
            f"requests is {type(value).__name__}: give an iterable of texts, message lists or rows; one row is [row]"
        )
    # It is an iterable of the names of its columns.
    if hasattr(value, "__dataframe__"):
        raise ValueError(f"requests is {type(value).__name__}: give its rows, in pandas df.to_dict('records')")
    return Requests(value)


def check_items(given: Any) -> Iterable[Any]:
    """Return what was given or returned, once it is known to be items.

    :raises ValueError: when it is not
    """
    if given is None:
        raise ValueError("there are no requests: give or return an iterable of them, which may be empty, not None")
    items: Iterable[Any] = wrap_requests(given)
    return items
