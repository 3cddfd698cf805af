from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.records import (
    CREATES,
    CreateRecord,
    FileRecords,
    MemoryRecords,
    Records,
    new_record,
    with_metadata,
    write_outcome,
)
from siliconflow_provider.job_directory import UnreadableFileError
from siliconflow_provider.operators.state_store import StateStoreRecords, create_records_of
from siliconflow_provider.storage.workspace import Workspace


class Store:
    """Airflow's task state store, as operators use it."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.retention: Any = None

    def get(self, key: str, default: Any = None) -> Any:
        return msgspec.json.decode(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.values[key], self.retention = msgspec.json.encode(value), retention


@pytest.fixture(params=["files", "store", "memory"])
def another(request: pytest.FixtureRequest, workspace: Callable[[], Workspace]) -> Callable[[], Records]:
    """Return the records as another attempt reads them; records in memory belong to the same attempt."""
    store, memory = Store(), MemoryRecords()
    kinds: dict[str, Callable[[], Records]] = {
        "files": lambda: FileRecords(workspace()),
        "store": lambda: StateStoreRecords(store),
        "memory": lambda: memory,
    }
    return kinds[request.param]


def by_name(records: Records) -> dict[str, CreateRecord]:
    return {item.name: item for item in records.read()}


def test_attempts_read_each_others_records(another: Callable[[], Records]) -> None:
    first, second = new_record({"airflow_key": "k"}), new_record({"airflow_key": "k"})
    records = another()
    assert another().read() == []
    records.write(first)
    records.write(second)
    assert by_name(another()) == {first.name: first, second.name: second}
    write_outcome(records, first, "created", "batch_1")
    write_outcome(another(), second, "refused")
    assert {(item.state, item.batch_id) for item in another().read()} == {("created", "batch_1"), ("refused", None)}
    assert by_name(records) == by_name(another())


def test_failing_to_write_an_outcome_only_warns(
    workspace: Callable[[], Workspace], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch is known and billed, so its task must continue."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_siliconflow").write_text("a file in the way")
    write_outcome(FileRecords(workspace()), new_record({}), "created", "batch_1")
    assert "could not record the outcome of a create (batch batch_1)" in caplog.text


def test_each_create_has_its_own_record_file(workspace: Callable[[], Workspace], tmp_path: Path) -> None:
    records = FileRecords(workspace())
    for _ in range(3):
        records.write(new_record({}))
    assert len(list((tmp_path / "out" / "_siliconflow" / "creates").glob("*.json"))) == 3


def test_a_name_that_leads_elsewhere_is_refused(workspace: Callable[[], Workspace], tmp_path: Path) -> None:
    workspace().publish_json(f"{CREATES}/a.json", CreateRecord("../../results", {}, 0))
    with pytest.raises(UnreadableFileError, match=r"creates/a\.json cannot be read as CreateRecord: .*name"):
        FileRecords(workspace()).read()


def test_without_a_state_store_nothing_lasts() -> None:
    assert not create_records_of({}).is_persistent  # type: ignore[typeddict-item]
    assert create_records_of({"task_state_store": Store()}).is_persistent  # type: ignore[typeddict-item]


@pytest.mark.parametrize("shown", [{}, {"team": "nlp"}, {"airflow_key": "k" * 16}, {"airflow_key": "k" * 64}])
def test_hidden_metadata_is_taken_from_the_record(shown: dict[str, str]) -> None:
    record = new_record({"airflow_key": "k" * 64})
    assert with_metadata(Batch("batch_1", "in_queue", metadata=shown), record).metadata == {
        **shown,
        "airflow_key": "k" * 64,
    }
