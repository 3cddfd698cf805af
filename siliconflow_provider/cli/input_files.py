"""Read input files for the commands `check` and `estimate`."""

from __future__ import annotations

import argparse
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from siliconflow_provider.api.redaction import without_credentials
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.cli.arguments import usage_error
from siliconflow_provider.cli.progress import progress_bar
from siliconflow_provider.inputs import RequestBuilder, first_items, items_of_file
from siliconflow_provider.jsonl import read_chunks


def builder_of(options: argparse.Namespace) -> RequestBuilder:
    """Return the builder of requests for the options.

    :raises ArgumentError: if the options do not fit together
    """
    if options.prompt is not None and options.messages_column is not None:
        raise usage_error("give either --prompt or --messages-column")
    return RequestBuilder(
        prompt=options.prompt,
        messages_column=options.messages_column,
        id_column=options.id_column,
        system_prompt=options.system_prompt,
        request_params=options.request_params,
        model=options.model,
        is_command=True,
    )


def shown_name(name: str) -> str:
    """Return the name of an input for messages: on one line, without query, user and password."""
    return printable(without_credentials(name))


def items_of(name: str, limit: int | None) -> Iterator[Any]:
    """Yield the items of a file, a directory or a pattern, with a progress bar for a local file.

    :param limit: number of items to read at most
    """
    path, shown = Path(name), shown_name(name)
    size = path.stat().st_size if path.is_file() else None
    if size is None and "://" not in name and "*" not in name and not path.is_dir():
        if path.exists():
            raise OSError(f"{shown} is not a regular file: give the path of a file")
        raise FileNotFoundError(f"there is no file {shown}: check the path")
    with progress_bar(shown, size) as advance:
        items: Iterable[Any]
        if size is not None:
            open_file = partial(_open, path, advance)
            items = items_of_file(shown, partial(_pieces_of, path, open_file), open_file)
        else:
            # Listing directories and object storage is Airflow's part.
            from siliconflow_provider.operators.requests import items_at

            items = items_at(name)
        yield from items if limit is None else first_items(items, limit)


class _CountedFile(io.FileIO):
    """A local file that counts the bytes that are read from it."""

    advance: Callable[[int], None]

    def readinto(self, buffer: Any) -> int | None:
        """Read into a buffer, and return the number of bytes."""
        count = super().readinto(buffer)
        self.advance(count or 0)
        return count


def _open(path: Path, advance: Callable[[int], None]) -> IO[bytes]:
    file = _CountedFile(path)
    file.advance = advance
    return io.BufferedReader(file)


def _pieces_of(path: Path, open_file: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with open_file() as file:
        if path.suffix.lower() != ".gz":
            yield from read_chunks(file)
            return
        try:
            yield from read_chunks(cast(IO[bytes], gzip.GzipFile(fileobj=file)))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{shown_name(str(path))} cannot be decompressed: {error}. Fix the file") from None
