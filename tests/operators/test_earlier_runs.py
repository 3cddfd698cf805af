from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.exceptions import ReuseError, StorageError
from siliconflow_provider.operators.earlier_runs import find_earlier_runs
from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.storage.object_storage import storage_path


@pytest.fixture
def found(tmp_path: Path) -> Any:
    """Return a function that finds runs: names below `runs`, each with whether it is required. The own one is 3."""
    for name in ("1", "2", "3", "_hidden", "10[a]"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "4").write_text("a file")
    (tmp_path / "local").mkdir()

    def find(reuse_from: Any) -> list[tuple[str, bool]]:
        runs = find_earlier_runs(reuse_from, storage_path(tmp_path / "runs" / "3"), tmp_path / "local")
        return [(run.name.removeprefix(f"file://{tmp_path}/runs/"), run.is_required) for run in runs]

    return find


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{runs}/1", [("1", True)]),
        ("{runs}/1/results.jsonl", [("1", True)]),
        ({"results_path": "file://{runs}/2/results.jsonl"}, [("2", True)]),
        (["{runs}/2", "{runs}/1", "{runs}/absent"], [("2", True), ("1", True), ("absent", True)]),
        ("{runs}/*", [("2", False), ("10[a]", False), ("1", False)]),
        ("{runs}/1*/", [("10[a]", False), ("1", False)]),
        ("{runs}/10[a]*", [("10[a]", False)]),
        ("{runs}/3", []),
        ("{runs}/absent*", []),
        ([None, "", "None"], []),
        (None, []),
    ],
)
def test_runs_are_found_in_order(found: Any, tmp_path: Path, given: Any, expected: Any) -> None:
    """The newest name of a pattern comes first, and the own directory is left out."""

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(each) for each in value]
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        return value and value.format(runs=tmp_path / "runs")

    assert found(filled(given)) == expected


@pytest.mark.parametrize(("given", "error"), [(7, ReuseError), ([{}], ReuseError), ("nowhere://a/*", StorageError)])
def test_other_values_are_errors(found: Any, given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="reuse_from"):
        found(given)


def test_reuse_from_takes_paths_of_every_type() -> None:
    path = ObjectStoragePath("file:///runs/1")
    for given, expected in (
        (path, "file:///runs/1"),
        (Path("/runs/*"), "/runs/*"),
        ((path, "/runs/{{ ds }}"), ["file:///runs/1", "/runs/{{ ds }}"]),
        (None, None),
    ):
        operator = BatchInferenceOperator(task_id="a", requests=["a"], output_path="/out", reuse_from=given)
        assert operator.reuse_from == expected
    assert "reuse_from" in operator.template_fields
