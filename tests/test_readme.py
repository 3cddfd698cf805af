from __future__ import annotations

import json
import re
from pathlib import Path

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


def test_the_arguments_and_their_defaults_are_those_of_the_operator() -> None:
    from siliconflow_provider.operators.batches import CreateBatchOperator

    operator = CreateBatchOperator(task_id="create", input_file_id="file-x")
    documented = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", README, re.MULTILINE)
    assert len(documented) == 5
    assert {name: str(getattr(operator, name)) for name, _ in documented} == dict(documented)
