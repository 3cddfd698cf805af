from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.server import EmulatorOptions
from tests.examples import EXAMPLES, example_files

RunExample = Callable[..., Path]


@pytest.fixture
def run_example(
    load_dag_file: Callable[[str], ModuleType], connection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunExample:
    """Run an example to this state; return the directory of its results."""
    monkeypatch.setenv("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{tmp_path}")

    def run(name: str, state: str = "success") -> Path:
        dag = getattr(load_dag_file(f"example_dags/{name}.py"), name)()
        assert str(dag.test().state).endswith(state)
        return tmp_path / name

    return run


@pytest.mark.parametrize("name", [path.stem for path in example_files()])
def test_no_example_starts_by_itself(load_dag_file: Callable[[str], ModuleType], name: str) -> None:
    """Airflow 3.3 shows those of the wheel beside the user's own DAGs, unasked."""
    dag = getattr(load_dag_file(f"example_dags/{name}.py"), name)()
    assert dag.dag_id == f"example_siliconflow_{name}"
    assert dag.is_paused_upon_creation or type(dag.timetable).__name__ == "NullTimetable"


def test_the_nightly_eval_runs_as_it_stands(run_example: RunExample, capsys: pytest.CaptureFixture[str]) -> None:
    """From the questions to the table, with a real trigger; the emulator's sums are right, its echoes are not."""
    results = run_example("nightly_eval")
    output = capsys.readouterr().out
    assert "all                  240     180     75.0%" in output
    assert "requests  240 succeeded" in output
    (directory,) = results.iterdir()
    rows = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    assert len({row["custom_id"] for row in rows}) == len(rows) == 240
    assert json.loads((directory / "manifest.json").read_text())["counts"] == {"succeeded": 240}


def test_separate_steps_bring_each_files_answers(run_example: RunExample) -> None:
    (directory,) = run_example("separate_steps").iterdir()
    rows = [
        json.loads(line)
        for index in range(3)
        for line in (directory / str(index) / "results.jsonl").read_text().splitlines()
    ]
    assert len({row["custom_id"] for row in rows}) == len(rows) == 120
    assert {row["status"] for row in rows} == {"succeeded"}


def test_the_nightly_eval_in_one_task_scores_as_the_steps_do(
    run_example: RunExample, capsys: pytest.CaptureFixture[str]
) -> None:
    written = run_example("nightly_eval_one_task")
    accuracy = dict(re.findall(r"^(\w+) +([0-9.]+)%$", capsys.readouterr().out, re.MULTILINE))
    sums = ("addition", "subtraction", "multiplication", "division", "mixed")
    assert accuracy == dict.fromkeys(sums, "100.0") | dict.fromkeys(("capitals", "elements", "years"), "0.0")
    (results,) = written.glob("*/results.jsonl")
    rows, questions = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (results, EXAMPLES / "data" / "questions.jsonl")
    )
    assert [row["input"] for row in rows] == questions


def test_structured_extraction_gives_objects(run_example: RunExample, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("structured_extraction")
    assert dict(re.findall(r"^(A-\d+) +([0-9.]+)$", capsys.readouterr().out, re.MULTILINE)) == {
        "A-17": "279.50", "A-18": "51.00", "A-19": "64.80",
    }  # fmt: skip


def test_table_to_table_asks_each_row_once(
    run_example: RunExample, client: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run finds no row without an answer, and buys nothing."""
    monkeypatch.delenv("AIRFLOW_CONN_SILICONFLOW_EXAMPLE_DATABASE", raising=False)
    for _ in range(2):
        with closing(sqlite3.connect(run_example("table_to_table") / "questions.sqlite")) as database:
            joined = database.execute("SELECT question, answer FROM questions JOIN answers USING (id)").fetchall()
        assert len(joined) == 240
        assert ("What is 313 + 863?", "1176") in joined
        assert len(list(client.list_batches())) == 1


def test_daily_changes_sends_changed_rows_only(
    load_dag_file: Callable[[str], ModuleType],
    client: SiliconFlowClient,
    connection: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Five of 240 questions change from one run to the next."""
    monkeypatch.setenv("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{tmp_path}")
    dag = load_dag_file("example_dags/daily_changes.py").daily_changes()
    for sent in (240, 5):
        assert str(dag.test().state).endswith("success")
        assert f"{sent} of 240 rows were sent" in capsys.readouterr().out
    counts = [batch.request_counts.total for batch in client.list_batches() if batch.request_counts]
    assert sorted(counts) == [5, 240]


class TestExpiringBatches:
    @pytest.fixture
    def options(self, tmp_path: Path) -> EmulatorOptions:
        """A batch would run for two days, and its window is one."""
        return EmulatorOptions(data_dir=tmp_path / "data", run_seconds=172_800)

    def test_separate_steps_keep_what_an_expired_batch_answered(
        self, run_example: RunExample, client: SiliconFlowClient
    ) -> None:
        """The run is failed, and what was paid for is there."""
        results = run_example("separate_steps", "failed")
        assert {each.status for each in client.list_batches()} == {"expired"}
        (directory,) = results.iterdir()
        counts = [json.loads((directory / str(index) / "manifest.json").read_text())["counts"] for index in range(3)]
        assert all(set(each) == {"succeeded", "expired"} for each in counts)


class TestQuickBatches:
    @pytest.fixture
    def options(self, tmp_path: Path) -> EmulatorOptions:
        """A batch is over when it is first asked for; Airflow, which waits for a sensor, knows no held clock."""
        return EmulatorOptions(data_dir=tmp_path / "data", queue_seconds=0, run_seconds=0, finalize_seconds=0)

    def test_the_sensor_example_needs_no_triggerer(self, run_example: RunExample) -> None:
        (results,) = run_example("sensor").glob("*/results.jsonl")
        assert len(results.read_text().splitlines()) == 3

    def test_judge_scores_the_answers_of_each_model(
        self,
        load_dag_file: Callable[[str], ModuleType],
        connection: str,
        client: SiliconFlowClient,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{tmp_path}")
        module = load_dag_file("example_dags/judge.py")
        assert str(module.judge().test().state).endswith("success")
        shown = dict(
            re.findall(r"^(\S+/\S+) +([1-5]\.\d\d) of 5 in 20 answers$", capsys.readouterr().out, re.MULTILINE)
        )
        assert sorted(shown) == sorted(module.MODELS)
        assert len(list(client.list_batches())) == 3
        (results,) = (tmp_path / "judge").glob("*/verdicts/results.jsonl")
        rows = [json.loads(line) for line in results.read_text().splitlines()]
        assert len({row["output"]["score"] for row in rows}) == 5
        assert {row["input"]["model"]: row["model"] for row in rows} == dict.fromkeys(module.MODELS, module.JUDGE)


def test_the_questions_have_reference_answers() -> None:
    questions = [json.loads(line) for line in (EXAMPLES / "data" / "questions.jsonl").read_text().splitlines()]
    assert len({each["id"] for each in questions}) == len(questions) >= 200
    assert all(each["question"] and each["answer"] and each["category"] for each in questions)
