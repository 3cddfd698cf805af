from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent / "example_dags"


def test_the_nightly_eval_runs_as_it_stands(
    load_dag_file: Callable[[str], ModuleType],
    connection: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the questions to the table, with a real trigger; the emulator's sums are right, its echoes are not."""
    monkeypatch.setenv("NIGHTLY_EVAL_OUTPUT", f"file://{tmp_path}/eval")
    run = load_dag_file("example_dags/nightly_eval.py").nightly_eval().test()
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
