from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "example_dags"


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's own database, which running a DAG needs."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


def load(name: str) -> object:
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_nightly_eval_runs_as_it_stands(
    airflow_database: None,
    connection: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the questions to the table, with a real trigger; the emulator's sums are right, its echoes are not."""
    monkeypatch.setenv("NIGHTLY_EVAL_OUTPUT", f"file://{tmp_path}/eval")
    run = load("nightly_eval").nightly_eval().test()
    assert str(run.state).endswith("success")
    output = capsys.readouterr().out
    assert "all                  240     180     75.0%" in output
    assert "requests  240 succeeded" in output
    (directory,) = (tmp_path / "eval").iterdir()
    rows = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    assert len({row["custom_id"] for row in rows}) == len(rows) == 240
    assert json.loads((directory / "manifest.json").read_text())["counts"] == {"succeeded": 240}


def test_the_questions_have_reference_answers() -> None:
    questions = [json.loads(line) for line in (EXAMPLES / "data" / "questions.jsonl").read_text().splitlines()]
    assert len({each["id"] for each in questions}) == len(questions) >= 200
    assert all(each["question"] and each["answer"] and each["category"] for each in questions)
