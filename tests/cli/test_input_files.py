"""Reading input files with a progress bar."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from siliconflow_provider.cli import input_files
from siliconflow_provider.cli.input_files import items_of


@pytest.fixture
def advances(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the bar, which needs a terminal, by its size and the bytes that it was given."""
    found: dict[str, Any] = {"bytes": 0}

    @contextmanager
    def bar(description: str, total: int | None = None) -> Iterator[Any]:
        found["total"] = total
        yield lambda count: found.__setitem__("bytes", found["bytes"] + count)

    monkeypatch.setattr(input_files, "progress_bar", bar)
    return found


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv"])
def test_all_bytes_of_a_file_are_counted(tmp_path: Path, advances: dict[str, Any], name: str) -> None:
    content = b"text\n" + b"x\n" * 100_000
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list(items_of(str(path), None))
    assert advances == {"bytes": path.stat().st_size, "total": path.stat().st_size}


def test_parquet_files_are_counted_too(tmp_path: Path, advances: dict[str, Any]) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["x"] * 100}), path)
    assert len([item for item in items_of(str(path), 2) if isinstance(item, dict)]) == 2
    assert advances["bytes"] > 0
