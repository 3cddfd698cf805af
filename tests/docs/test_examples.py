from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator

# The first positional argument of `dag.test()` is `run_after` on Airflow 3, which leaves `ds` to the day of the test.
LOGICAL_DATE = "logical_date" if AIRFLOW_V_3_0_PLUS else "execution_date"
README = (Path(__file__).parent.parent / "README.md").read_text()


def block(containing: str) -> str:
    """The fenced block of the README with these words in it."""
    return next(each for each in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) if containing in each)


def first_dag(folder: Path, load_dag_file, tmp_path: Path, name: str = "first_batch") -> ModuleType:
    """The DAG of the first five minutes in this folder and under this name, with its rows."""
    (tmp_path / "qa.jsonl").write_text(block('"id": "q1", "question": "12'))
    text = block("def first_batch").replace("/tmp/", f"{tmp_path}/").replace("first_batch", name)
    (folder / f"{name}.py").write_text(text)
    return load_dag_file(str(folder / f"{name}.py"))


def test_the_first_dag_runs_as_it_is_printed(
    dags_folder, load_dag_file, connection: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = first_dag(dags_folder, load_dag_file, tmp_path)
    assert str(module.first_batch().test().state).endswith("success")
    assert "12 + 30 = 42" in capsys.readouterr().out
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
        section = README.split("## Operators")[1].split("## Test your own DAGs")[0]
        examples = "".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
        lines = [
            block("def first_batch").partition("@dag")[0],
            "from typing import Literal",
            "from pydantic import BaseModel",
            "from siliconflow_provider.operators.batches import *",
            "from siliconflow_provider.operators.files import UploadFileOperator",
            "from siliconflow_provider.sensors.batches import BatchSensor",
            "@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1))",
            "def operators():",
            textwrap.indent(examples, "    ")
            .replace("s3://bucket", str(tmp_path))
            .replace("poke_interval=300", "poke_interval=1"),
            "operators()",
        ]
        (dags_folder / "operators.py").write_text("\n".join(lines))
        logical_date = pendulum.datetime(2025, 1, 1, tz="UTC")
        (tmp_path / "requests").mkdir()
        (tmp_path / "requests" / "2025-01-01.jsonl").write_bytes(sums(3))
        (tmp_path / "qa.jsonl").write_text(block('"id": "q1", "question": "12'))
        run = load_dag_file("operators.py").operators().test(**{LOGICAL_DATE: logical_date})
        assert str(run.state).endswith("success")
        assert {each.status for each in client.list_batches()} == {"completed"}
        for name, count in {"out": 3, "eval": 2, "rated": 2, "sums": 3}.items():
            (results,) = (tmp_path / name).glob("*/results.jsonl")
            assert len(results.read_text().splitlines()) == count


@pytest.mark.parametrize("number", [0, 1])
def test_the_tests_of_ones_own_dags_run_as_they_are_printed(
    load_dag_file, siliconflow_emulator: Emulator, tmp_path: Path, monkeypatch, number: int
) -> None:
    """Of a DAG that is in no dags folder, under a name that Airflow has not met in other tests."""
    name = f"own_batch_{number}"
    monkeypatch.setitem(sys.modules, name, first_dag(tmp_path, load_dag_file, tmp_path, name))
    names: dict[str, Any] = {}
    exec(block("def test_only_what_fails").replace("first_batch", name), names)
    tests = [each for name, each in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    tests[number](siliconflow_emulator)


@pytest.mark.parametrize(
    ("operator", "required", "count"),
    [
        (CreateBatchOperator, {"input_file_id": "file-x"}, 7),
        (BatchInferenceOperator, {"input_path": "a", "output_path": "b"}, 8),
    ],
)
def test_the_arguments_and_their_defaults_are_those_of_the_operator(
    operator: type[Any], required: dict[str, str], count: int
) -> None:
    section = README.split(f"### {operator.__name__}")[1].partition("\n### ")[0]
    made = operator(task_id="task", **required)
    documented = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", section, re.MULTILINE)
    assert len(documented) == count
    assert {name: str(getattr(made, name)) for name, _ in documented} == dict(documented)
