"""A job's source, read once: checked, filled in, and cut into parts."""

from __future__ import annotations

from array import array
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import msgspec

from siliconflow_provider.jobs.parts import Part, PartWriter, RepeatedIds, repeated_ids
from siliconflow_provider.jobs.recipe import Recipe, Request, UnfitItemError
from siliconflow_provider.jobs.request_lines import InvalidRequestFileError, read_request

SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Prepared:
    """What reading the source gave.

    :param has_rows: whether the items were rows, which are then in the second file, one a line
    """

    requests: int
    has_rows: bool
    parts: list[Part]


class _Problems:
    """The first bad items, and how many there are."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.count = 0

    def add(self, number: int, reason: str, custom_id: str | None = None) -> None:
        self.count += 1
        if len(self.shown) < SHOWN_PROBLEMS:
            named = f" ({custom_id})" if custom_id else ""
            self.shown.append(f"item {number:,}{named}: {reason}")

    def raise_for(self, name: str, items: int) -> None:
        if not self.count:
            return
        more = [f"and {self.count - len(self.shown):,} more"] if self.count > len(self.shown) else []
        raise InvalidRequestFileError(
            f"{name}: {self.count:,} of {items:,} items are bad and nothing was submitted; mend them and run the task "
            "again:\n  " + "\n  ".join([*self.shown, *more])
        )


def prepare(
    items: Iterable[Any], recipe: Recipe, requests: IO[bytes], rows: IO[bytes], *, name: str, **limits: int
) -> Prepared:
    """Write the request line of each item, and the row that it was made of.

    :param items: consumed once and streaming; blank lines of bytes are passed over
    :param requests: written from its beginning, and read again; so is `rows`
    :param name: the source in messages
    :param limits: of a part, as `PartWriter` takes them
    :raises InvalidRequestFileError: with the first ten bad items, when there are any
    """
    problems, ids, writer = _Problems(), RepeatedIds(), PartWriter(requests, **limits)
    models: dict[str | None, int] = {}
    passed_over = array("q")
    index = row_count = number = 0
    for number, item in enumerate(items, start=1):
        if isinstance(item, bytes):
            item = item.removeprefix(BOM_UTF8) if number == 1 else item
            if not item.strip():
                passed_over.append(number)
                continue
        try:
            request = recipe.request(item, index)
        except UnfitItemError as error:
            passed_over.append(number)
            problems.add(number, str(error), _id_of(item, recipe))
            continue
        if request.model not in models:
            models[request.model] = number
        ids.add_hash(hash(request.custom_id))
        writer.write(request.line)
        row_count += _write_row(rows, request)
        index += 1
    parts = writer.finish()
    for position, custom_id, first in repeated_ids(_ids_in(requests), ids.repeated_hashes()):
        this, other = (_number(each, passed_over) for each in (position, first))
        problems.add(this, f"its custom_id is that of item {other:,} too, it must be unique", custom_id)
    problems.raise_for(name, number)
    _check_models(models, name)
    return Prepared(index, row_count > 0, parts)


def _write_row(rows: IO[bytes], request: Request) -> int:
    if request.row is None:
        return 0
    rows.write(request.row + b"\n")
    return 1


def _ids_in(requests: IO[bytes]) -> Iterator[str]:
    requests.seek(0)
    for line in requests:
        yield read_request(line).custom_id


def _number(position: int, passed_over: Iterable[int]) -> int:
    """Return the number of the item that became the request at a position."""
    number = position + 1
    for each in passed_over:
        if each > number:
            break
        number += 1
    return number


def _id_of(item: Any, recipe: Recipe) -> str | None:
    """Return the id of a bad item where it shows one."""
    name = recipe.id_column or "custom_id"
    try:
        value = (msgspec.json.decode(item) if isinstance(item, bytes) else item)[name]
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
        return None
    return str(value)


def _check_models(models: dict[str | None, int], name: str) -> None:
    if models and set(models) == {None}:
        raise InvalidRequestFileError(f"{name}: no request names a model, and nothing was submitted: give model=")
    if len(models) > 1:
        named = ", ".join(f"{model or 'none'} (item {number:,})" for model, number in models.items())
        raise InvalidRequestFileError(
            f"{name}: the requests do not name one model, and nothing was submitted: {named}. The service runs one "
            "model a batch: give one task for each"
        )
