from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pendulum
import pytest

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(containing: str) -> str:
    """The fenced block of the README with these words in it."""
    return next(each for each in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) if containing in each)


def test_the_first_dag_runs_as_it_is_printed(dags_folder, load_dag_file, connection: str, tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text(block('"custom_id": "q1", "body"'))
    (dags_folder / "first_batch.py").write_text(block("def first_batch").replace("/tmp/", f"{tmp_path}/"))
    module = load_dag_file("first_batch.py")
    assert str(module.first_batch().test().state).endswith("success")
    (results,) = (tmp_path / "results").glob("*/results.jsonl")
    rows = {row["custom_id"]: row for row in map(json.loads, results.read_text().splitlines())}
    assert {custom_id: row["content"] for custom_id, row in rows.items()} == {"q1": "42", "q2": "42"}
    documented = json.loads(block('"custom_id": "q1", "status"'))
    assert list(rows["q1"]) == list(documented)
    assert {**rows["q1"], "batch_id": None} == {**documented, "batch_id": None}


class TestQuickBatches:
    @pytest.fixture
    def options(self, tmp_path: Path) -> EmulatorOptions:
        """A batch is over when it is first asked for; Airflow, which waits for a sensor, knows no held clock."""
        return EmulatorOptions(data_dir=tmp_path / "data", queue_seconds=0, run_seconds=0, finalize_seconds=0)

    def test_each_operators_example_runs_as_it_is_printed(
        self, dags_folder, load_dag_file, connection: str, client, sums, tmp_path: Path
    ) -> None:
        """All of the section's examples together are a DAG."""
        section = README.split("## Operators")[1].split("## The client")[0]
        examples = "".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
        head = (
            block("def first_batch")
            .partition("@dag")[0]
            .replace("import CreateBatch", "import CancelBatchOperator, CreateBatch")
        )
        lines = [
            head,
            "from siliconflow_provider.sensors.batches import BatchSensor",
            "@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1))",
            "def operators():",
            textwrap.indent(examples, "    ")
            .replace("s3://bucket", str(tmp_path))
            .replace("poke_interval=300", "poke_interval=1"),
            "operators()",
        ]
        (dags_folder / "operators.py").write_text("\n".join(lines))
        logical_date = pendulum.datetime(2026, 11, 23, tz="UTC")
        (tmp_path / "requests").mkdir()
        (tmp_path / "requests" / "2026-11-23.jsonl").write_bytes(sums(3))
        run = load_dag_file("operators.py").operators().test(logical_date)
        assert str(run.state).endswith("success")
        assert [each.status for each in client.list_batches()] == ["completed", "completed"]
        (results,) = (tmp_path / "out").glob("*/results.jsonl")
        assert len(results.read_text().splitlines()) == 3


@pytest.mark.parametrize("number", [0, 1])
def test_the_tests_of_ones_own_dags_run_as_they_are_printed(
    dags_folder, load_dag_file, siliconflow_emulator: Emulator, tmp_path: Path, monkeypatch, number: int
) -> None:
    (tmp_path / "requests.jsonl").write_text(block('"custom_id": "q1", "body"'))
    (dags_folder / "first_batch.py").write_text(block("def first_batch").replace("/tmp/", f"{tmp_path}/"))
    monkeypatch.setitem(sys.modules, "first_batch", load_dag_file("first_batch.py"))
    names: dict[str, Any] = {}
    exec(block("def test_a_failed_batch"), names)
    tests = [each for name, each in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    tests[number](siliconflow_emulator)


def test_the_arguments_and_their_defaults_are_those_of_the_operator() -> None:
    from siliconflow_provider.operators.batches import CreateBatchOperator

    operator = CreateBatchOperator(task_id="create", input_file_id="file-x")
    documented = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", README, re.MULTILINE)
    assert len(documented) == 7
    assert {name: str(getattr(operator, name)) for name, _ in documented} == dict(documented)
