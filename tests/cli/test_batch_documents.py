"""The JSON document of a batch, and texts of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.cli.batch_documents import document_of, json_text, table, task_of, task_text

KEY = "sk-abcdefghijklmnop"
SIGNED = "https://bucket.example.com/out.jsonl?Signature=abcdefghijkl"


def texts_of(value: Any) -> Iterator[str]:
    """Yield all texts of a JSON value."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize(
    ("label", "task"),
    [
        ("d/t/manual__1/-1", ("d", "t", "manual__1", -1)),
        ("d/t/run/with/slashes/12", ("d", "t", "run/with/slashes", 12)),
        ("d/t/a run that was cu", ("d", "t", "a run that was cu", None)),
        ("d/t", None),
        ("", None),
        (None, None),
    ],
)
def test_labels_name_task_instances(label: str | None, task: tuple[Any, ...] | None) -> None:
    found = task_of(label)
    assert (found and tuple(found.values())) == task


def test_a_mapped_task_has_its_index() -> None:
    assert task_text({"task": task_of("d/t/r/3")}) == "d/t/r/3"
    assert task_text({"task": task_of("d/t/r/-1")}) == "d/t/r"


def test_documents_hold_no_secret_and_no_command(batch: Callable[..., Batch]) -> None:
    hostile = f"\x1b[2J{KEY} {SIGNED} \u202e"
    found = batch(
        output_file_id=SIGNED,
        error_file_id={"url": SIGNED},
        input_file_id="file-1",
        errors=[hostile],
        metadata={hostile: hostile, "airflow_task": f"{hostile}/{hostile}/{hostile}/0"},
    )
    document = document_of(found, SiliconFlowClient(KEY))
    assert [part for part in (KEY, "abcdefghijkl", "\x1b", "\u202e") if part in "".join(texts_of(document))] == []
    assert json.loads(json_text(document)) == document
    assert document["output_file"] == "signed URL at bucket.example.com"
    assert document["error_file"] == "unreadable"
    assert document["input_file"] == "file-1"
    assert document["errors"] == [r"\x1b[2J*** https://bucket.example.com/out.jsonl?... \u202e"]


def test_tables_are_aligned() -> None:
    assert table([("a", "bcd", ""), ("long", "x", "end")]) == "a     bcd\nlong  x    end"
