"""Object storage: files are read from it, and appear in it whole or not at all."""

from __future__ import annotations

import gzip
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.jobs import blocks

# s3fs reads ten chunks at a time, of 50 MiB each unless it is told otherwise.
S3_CHUNK_BYTES = 1 << 23


def storage_path(path: str | os.PathLike[str]) -> ObjectStoragePath:
    """Return the path as Airflow's object storage takes it; a relative local one is made absolute.

    :param path: `s3://...`, `gs://...`, `file://...`, or a local path
    """
    text = os.fspath(path)
    if "://" not in text:
        # Airflow 2.11 takes `rel` for `/rel`.
        text = f"file://{Path(text).expanduser().absolute()}"
    return ObjectStoragePath(text)


def open_for_reading(path: ObjectStoragePath) -> IO[bytes]:
    """Open a file for reading bytes; it can be iterated over by lines.

    Not by `path.open()`, whose wrapper cannot be iterated over in Airflow 2.11.
    """
    fileobj: IO[bytes] = path.fs.open(path.path, "rb")
    return fileobj


def pieces_of(path: ObjectStoragePath) -> Iterator[bytes]:
    """Yield the bytes of a file, some at a time, unpacked where its name ends in `.gz`.

    :raises ValueError: when it cannot be unpacked
    """
    with open_for_reading(path) as stored:
        if not path.name.endswith(".gz"):
            yield from blocks.pieces_of(stored)
            return
        try:
            yield from blocks.pieces_of(cast(IO[bytes], gzip.GzipFile(fileobj=stored)))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be unpacked: {error}; nothing was submitted") from None


def publish(source: Path, target: ObjectStoragePath) -> None:
    """Copy a finished local file to its place, where it has its name only once it is whole.

    Not written through `open()`: a file object that is closed by an error is published all the same, half.
    """
    if target.protocol not in ("file", "local"):
        options = {"chunksize": S3_CHUNK_BYTES} if target.protocol.startswith("s3") else {}
        target.fs.put_file(str(source), target.path, **options)
        return
    final = Path(target.path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{uuid.uuid4().hex}.part")
    try:
        shutil.copyfile(source, part)
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def fetch(source: ObjectStoragePath, target: Path) -> bool:
    """Copy a stored file to a local place; return False when there is none."""
    try:
        source.fs.get_file(source.path, str(target))
    except FileNotFoundError:
        return False
    return True
