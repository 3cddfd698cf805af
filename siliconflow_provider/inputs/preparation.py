"""A job's source, read once: checked, filled in, and cut into parts."""

from __future__ import annotations

from array import array
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import msgspec

from siliconflow_provider.api.limits import shortened
from siliconflow_provider.api.service_texts import cut, first_names, printable
from siliconflow_provider.inputs.parts import Part, PartWriter, RepeatedIds, repeated_ids
from siliconflow_provider.inputs.prompt import UnfitItemError
from siliconflow_provider.inputs.request_builder import RequestBuilder, Requests
from siliconflow_provider.inputs.request_lines import TOO_LONG, InvalidRequestFileError, read_request
from siliconflow_provider.jsonl import BlockWriter, LongLine

SHOWN_PROBLEMS = 10
LONGEST_PROBLEM = 1_000


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
            self.shown.append(cut(printable(f"item {number:,}{named}: {reason}"), LONGEST_PROBLEM))

    def raise_for(self, name: str, items: int) -> None:
        if not self.count:
            return
        more = [f"and {self.count - len(self.shown):,} more"] if self.count > len(self.shown) else []
        raise InvalidRequestFileError(
            f"{name}: {self.count:,} of {items:,} items are bad and nothing was submitted; mend them and run the task "
            "again:\n  " + "\n  ".join([*self.shown, *more])
        )


def prepare(
    items: Iterable[Any], builder: RequestBuilder, requests: IO[bytes], rows: IO[bytes], *, name: str, **limits: int
) -> Prepared:
    """Write the request line of each item, and the row that it was made of.

    :param items: consumed once and streaming; bytes are lines of JSON, the blank ones of which are passed over
    :param requests: written from its beginning, and read again; so is `rows`
    :param name: the source in messages
    :param limits: of a part, as `PartWriter` takes them
    :raises InvalidRequestFileError: with the first ten bad items, when there are any
    """
    preparation = _Preparation(builder, PartWriter(requests, **limits), BlockWriter(rows))
    for item in items:
        preparation.take(item)
    return preparation.finish(requests, name)


class _Preparation:
    """What has been read of a source so far."""

    def __init__(self, builder: RequestBuilder, writer: PartWriter, rows: BlockWriter) -> None:
        self._recipe = builder
        self._writer = writer
        self._rows = rows
        self._problems = _Problems()
        self._ids = RepeatedIds()
        self._models: dict[str | None, int] = {}
        self._passed_over = array("q")
        self._items = self._requests = 0
        self._has_rows = False

    def take(self, item: Any) -> None:
        """Take in the next item, or the next lines."""
        if not isinstance(item, bytes):
            self._items += 1
            self._take_item(item)
            return
        if isinstance(item, LongLine):
            self._items += 1
            self._passed_over.append(self._items)
            self._problems.add(self._items, TOO_LONG)
            return
        found = self._recipe.requests(item, self._requests)
        if found is not None:
            self._items += len(found.custom_ids)
            self._add(found)
            return
        for line in item.removesuffix(b"\n").split(b"\n"):
            self._items += 1
            self._take_line(line)

    def finish(self, requests: IO[bytes], name: str) -> Prepared:
        """Check what holds for all requests together, and return what there is.

        :param requests: where they have been written
        """
        parts = self._writer.finish()
        self._rows.flush()
        repeated = self._ids.repeated_hashes()
        if repeated:
            for position, custom_id, first in repeated_ids(_ids_in(requests), repeated):
                this, other = (_number(each, self._passed_over) for each in (position, first))
                self._problems.add(this, f"its custom_id is that of item {other:,} too, it must be unique", custom_id)
        self._problems.raise_for(name, self._items)
        _check_models(self._models, name)
        return Prepared(self._requests, self._has_rows, parts)

    def _take_line(self, line: bytes) -> None:
        line = line.removeprefix(BOM_UTF8) if self._items == 1 else line
        if line.strip():
            self._take_item(line)
        else:
            self._passed_over.append(self._items)

    def _take_item(self, item: Any) -> None:
        try:
            request = self._recipe.request(item, self._requests)
        except UnfitItemError as error:
            self._passed_over.append(self._items)
            self._problems.add(self._items, str(error), _id_of(item, self._recipe))
            return
        rows = None if request.row is None else request.row + b"\n"
        self._add(Requests([request.custom_id], request.line, [request.model], rows))

    def _add(self, found: Requests) -> None:
        """Add what the last items have become."""
        count = len(found.custom_ids)
        if not self._models.keys() >= set(found.models):
            for number, model in enumerate(found.models, start=self._items - count + 1):
                self._models.setdefault(model, number)
        self._ids.add(found.custom_ids)
        self._writer.write(found.lines, count)
        if found.rows is not None:
            self._rows.write(found.rows)
            self._has_rows = True
        self._requests += count


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


def _id_of(item: Any, builder: RequestBuilder) -> str | None:
    """Return the id of a bad item where it shows one."""
    name = builder.id_column or "custom_id"
    try:
        value = (msgspec.json.decode(item) if isinstance(item, bytes) else item)[name]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return None
    return shortened(str(value))


def _check_models(models: dict[str | None, int], name: str) -> None:
    if models and set(models) == {None}:
        raise InvalidRequestFileError(f"{name}: no request names a model, and nothing was submitted: give model=")
    if len(models) > 1:
        named = first_names(f"{model or 'none'} (item {number:,})" for model, number in models.items())
        raise InvalidRequestFileError(
            f"{name}: the requests do not name one model, and nothing was submitted: {named}. The service runs one "
            "model a batch: give one task for each"
        )
