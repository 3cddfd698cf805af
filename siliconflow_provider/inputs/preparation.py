"""Read a source once: check its requests, complete them and cut them into parts."""

from __future__ import annotations

from array import array
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

import msgspec

from siliconflow_provider.api.limits import shortened
from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.inputs.gaps import position_of_line
from siliconflow_provider.inputs.parts import DuplicateIds, PartWriter, find_duplicates, remove_lines
from siliconflow_provider.inputs.problems import (
    FileStart,
    InvalidRequestFileError,
    ItemNumbers,
    Problems,
    UnreadableItem,
)
from siliconflow_provider.inputs.purpose import JOB, PreparedSource, Purpose
from siliconflow_provider.inputs.rejection import Rejections
from siliconflow_provider.inputs.request_builder import RequestBlock, RequestBuilder
from siliconflow_provider.inputs.request_lines import TOO_LONG, read_request
from siliconflow_provider.inputs.schemas import MergedSchema, SourceSchema
from siliconflow_provider.inputs.values import InvalidItemError
from siliconflow_provider.jsonl import BlockWriter, LongLine, split_lines
from siliconflow_provider.wording import counted


def prepare(
    items: Iterable[Any],
    builder: RequestBuilder,
    requests: IO[bytes],
    rows: IO[bytes],
    *,
    name: str,
    purpose: Purpose = JOB,
    rejected: IO[bytes] | None = None,
    **limits: int,
) -> PreparedSource:
    """Write the request line of each item, and its row if it is one.

    :param items: read once, as a stream; bytes are one or more lines of JSON, of which blank ones are skipped. A
        `FileStart` comes before the items of each file if there are several, and a `SourceSchema`
        says the types of the rows that follow
    :param requests: written from its beginning, and read again to name duplicates
    :param rows: written from its beginning
    :param name: of the source, for messages
    :param rejected: a `RejectedItem` is written to it for each item that cannot be sent, on a line; None if such an
        item is an error
    :param limits: of a part, as `PartWriter` takes them
    :raises InvalidRequestFileError: if items are invalid; the message names the first ten
    """
    rejections = None if rejected is None else Rejections(rejected)
    preparation = _Preparation(builder, PartWriter(requests, **limits), BlockWriter(rows), purpose, rejections)
    for item in items:
        preparation.add(item)
    return preparation.finish(requests, name)


class _Preparation:
    """State of reading a source."""

    def __init__(
        self,
        builder: RequestBuilder,
        writer: PartWriter,
        rows: BlockWriter,
        purpose: Purpose,
        rejections: Rejections | None,
    ) -> None:
        self._builder = builder
        self._writer = writer
        self._rows = rows
        self._purpose = purpose
        self._rejections = rejections
        self._problems = Problems()
        self._skipped = Problems()
        self._ids = DuplicateIds()
        self._numbers = ItemNumbers()
        self._models: dict[str | None, str] = {}
        self._items = self._requests = self._bytes = self._row_lines = 0
        self._has_rows = False
        self._schema = MergedSchema()
        self._index_names: Sequence[str] = ()

    def add(self, item: Any) -> None:
        """Add the next item, or the next lines."""
        if isinstance(item, FileStart):
            for problems in (self._problems, self._skipped):
                problems.start_file(item.name, self._items)
            return
        if isinstance(item, SourceSchema):
            self._schema.add(item)
            self._index_names = item.index_names
            return
        if not isinstance(item, bytes):
            self._items += 1
            self._add_item(item)
            return
        self._problems.noun = self._skipped.noun = "line"
        if isinstance(item, LongLine):
            self._items += 1
            self._add_invalid(item, InvalidItemError(TOO_LONG))
            return
        block = self._builder.build_block(item, self._position)
        if block is not None:
            self._items += len(block.custom_ids)
            self._write(block)
            return
        for line in split_lines(item) or [b""]:
            self._items += 1
            self._add_line(line)

    def finish(self, requests: IO[bytes], name: str) -> PreparedSource:
        """Check all requests together, and return the result.

        :param requests: the file to which the requests were written
        """
        parts = self._writer.finish()
        self._rows.flush()
        if self._has_rows and self._row_lines != self._position and not self._problems.count:
            fault = "some items are rows and others are not"
            raise InvalidRequestFileError(self._error_text(name, fault, "give items of one kind"))
        size_problem = self._size_problem()
        duplicates = self._add_duplicates(requests)
        self._raise_for_problems(name, size_problem)
        conflict = self._check_models(name)
        model = next(iter(self._models), None) if conflict is None else None
        # The rows are kept without their messages.
        schema = self._schema.serialized(without=self._builder.messages_column)
        prepared = PreparedSource(self._requests, self._has_rows, parts, conflict, model, schema)
        if self._rejections is None:
            return prepared
        if duplicates:
            limits = {"most_lines": self._writer.most_lines, "most_bytes": self._writer.most_bytes}
            parts = remove_lines(requests, duplicates, **limits)
        self._rejections.sort()
        return replace(
            prepared,
            requests=self._requests - len(duplicates),
            parts=parts,
            rejected=self._rejections.positions,
            reasons=self._skipped.texts(),
        )

    @property
    def _position(self) -> int:
        """The position of the next item. Blank lines are no items."""
        return self._requests + (0 if self._rejections is None else len(self._rejections.positions))

    def _add_line(self, line: bytes) -> None:
        line = line.removeprefix(BOM_UTF8) if self._items == 1 else line
        stripped = line.strip()
        if stripped:
            self._add_item(line if self._purpose.keeps_lines else stripped + b"\n")

    def _add_item(self, item: Any) -> None:
        if isinstance(item, UnreadableItem):
            if self._rejections is None:
                raise item.error
            self._add_invalid(None, InvalidItemError(item.reason))
            return
        try:
            request = self._builder.build(item, self._position)
        except InvalidItemError as error:
            if error.missing_column in self._index_names:
                text = f"{error}. {error.missing_column!r} is the index of the data frame: give df.reset_index()"
                error = InvalidItemError(text, missing_column=error.missing_column)
            self._add_invalid(item, error)
            return
        rows = None if request.row is None else request.row + b"\n"
        self._write(RequestBlock([request.custom_id], request.line, [request.model], rows))

    def _add_invalid(self, item: Any, error: InvalidItemError) -> None:
        """Reject the last item, or note it as a problem."""
        is_problem = self._rejections is None or error.concerns_source
        problems = self._problems if is_problem else self._skipped
        problems.add(self._items, str(error), _id_of(item, self._builder))
        if self._rejections is not None and not is_problem:
            row = self._rejections.add_item(self._position, item, error, self._builder)
            self._rows.write(row + b"\n")
            self._row_lines += 1

    def _write(self, block: RequestBlock) -> None:
        """Write the requests of the last items."""
        count = len(block.custom_ids)
        first_item = self._items - count + 1
        # The rest of a file that is too large is checked, but needs no memory and no disk.
        if not self._is_too_large(self._requests):
            self._note_models(block.models, first_item)
            self._ids.add(block.custom_ids)
            self._numbers.add(self._requests, first_item)
            self._writer.write(block.lines, count)
        if block.rows is not None:
            self._rows.write(block.rows)
            self._row_lines += count
            self._has_rows = True
        self._requests += count
        self._bytes += len(block.lines)

    def _note_models(self, models: list[str | None], first_item: int) -> None:
        if not self._models.keys() >= {model or None for model in set(models)}:
            for number, model in enumerate(models, start=first_item):
                self._models.setdefault(model or None, self._problems.name_of(number))

    def _is_too_large(self, requests: int) -> bool:
        most_lines, most_bytes = self._writer.most_lines, self._writer.most_bytes
        return self._purpose.is_one_batch and (requests > most_lines or self._bytes > most_bytes)

    def _size_problem(self) -> tuple[str, str] | None:
        """Return what is wrong with the number of requests, and the remedy."""
        # Duplicates are not among the problems yet: each problem is a line that did not become a request.
        count = self._requests + self._problems.count
        if self._purpose.is_one_batch and count == 0:
            return "it has no requests", "write one request per line to it"
        if not self._is_too_large(count):
            return None
        return (
            f"it has {counted(count, 'request')} and {counted(self._bytes, 'byte')}, but the service takes at most "
            f"{self._writer.most_lines:,} requests and {self._writer.most_bytes:,} bytes per file",
            "cut it, or use BatchInferenceOperator, which cuts larger files",
        )

    def _add_duplicates(self, requests: IO[bytes]) -> Sequence[int]:
        """Note requests whose custom_id an earlier request has; return the lines of the rejected ones."""
        hashes, lines = self._ids.duplicate_hashes(), array("q")
        if not hashes:
            return lines
        gaps = () if self._rejections is None else array("q", self._rejections.positions)
        for line, custom_id, first in find_duplicates(_ids_in(requests), hashes):
            other = self._problems.name_of(self._numbers.number_of(first))
            reason = f"its custom_id is also that of {other}; make it unique"
            number = self._numbers.number_of(line)
            if self._rejections is None:
                self._problems.add(number, reason, custom_id)
            else:
                self._skipped.add(number, reason, custom_id)
                self._rejections.add(position_of_line(line, gaps), custom_id, reason)
                lines.append(line)
        return lines

    def _raise_for_problems(self, name: str, size_problem: tuple[str, str] | None) -> None:
        problems = self._problems
        if self._rejections is not None and not self._requests and self._rejections.is_any_column_missing_everywhere:
            problems = self._skipped
        if problems.count:
            lines = [f"{self._error_text(name, *problems.summary(self._items, self._purpose.run_again))}:"]
            lines += ["; ".join(size_problem)] if size_problem else []
            raise InvalidRequestFileError("\n  ".join([*lines, *problems.texts()]))
        if size_problem:
            raise InvalidRequestFileError(self._error_text(name, *size_problem))

    def _check_models(self, name: str) -> str | None:
        """Return the models and the first item of each, unless all requests name the same model."""
        if not self._models or (len(self._models) == 1 and None not in self._models):
            return None
        named = first_names(f"{model or 'none'} ({item})" for model, item in self._models.items())
        if self._purpose.is_one_batch:
            return named
        set_model = self._purpose.set_model
        if len(self._models) == 1:
            fault, remedy = "no request names a model", f"{set_model} and {self._purpose.run_again}"
        elif None in self._models:
            fault, remedy = "some requests name no model", f"{set_model}, or use one task for each model: {named}"
        else:
            fault, remedy = "the requests name different models", f"use one task for each model: {named}"
        raise InvalidRequestFileError(self._error_text(name, fault, remedy))

    def _error_text(self, name: str, fault: str, remedy: str) -> str:
        return self._purpose.message.format(name=name, fault=fault, remedy=remedy)


def _ids_in(requests: IO[bytes]) -> Iterator[str]:
    requests.seek(0)
    for line in requests:
        yield read_request(line).custom_id


def _id_of(item: Any, builder: RequestBuilder) -> str | None:
    """Return the custom_id of an invalid item if it has a readable one."""
    name = builder.id_column or "custom_id"
    try:
        value = (msgspec.json.decode(item) if isinstance(item, bytes) else item)[name]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return None
    return shortened(str(value))
