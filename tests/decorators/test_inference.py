"""`@task.siliconflow_batch` and XComArgs in running DAGs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.decorators.inference import BatchInferenceDecoratedOperator

HEAD = """
import pendulum
from airflow.providers.common.compat.sdk import dag, task

from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.results import read_results

OUT = {directory!r}
MODEL = "deepseek-ai/DeepSeek-V3"
calls = []

@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1), params={{"n": 3}})
def {name}():
"""


@pytest.fixture
def run_dag(
    dags_folder: Path, load_dag_file: Callable[[str], ModuleType], connection: str, tmp_path: Path
) -> Callable[[str, str], ModuleType]:
    def run(name: str, lines: str) -> ModuleType:
        (dags_folder / f"{name}.py").write_text(
            f"{HEAD.format(name=name, directory=str(tmp_path))}{lines}\n\n{name}()\n"
        )
        module = load_dag_file(f"{name}.py")
        assert str(getattr(module, name)().test().state).endswith("success")
        return module

    return run


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "results.jsonl").read_text().splitlines()]


def test_a_function_yields_requests_with_airflow_s_context(
    run_dag: Callable[[str, str], ModuleType], tmp_path: Path, client: SiliconFlowClient
) -> None:
    """Its texts are not rendered, its job resumes, and its summary reaches the next task."""
    module = run_dag(
        "decorated",
        """
    @task.siliconflow_batch(output_path=OUT + "/{{ dag.dag_id }}", model=MODEL)
    def ask(word, params):
        calls.append(word)
        for number in range(params["n"]):
            yield f"{word} {{{{ no.template }}}} {{% if %}} {number}"

    @task
    def read(summary):
        calls.append([row.content for row in read_results(summary)])

    read(ask("say"))
""",
    )
    texts = [f"say {{{{ no.template }}}} {{% if %}} {number}" for number in range(3)]
    assert module.calls == ["say", texts]
    assert [row["content"] for row in rows(tmp_path / "decorated")] == texts
    assert len(list(client.list_batches())) == 1


def test_requests_from_xcom_are_not_rendered(
    run_dag: Callable[[str, str], ModuleType], tmp_path: Path, client: SiliconFlowClient
) -> None:
    run_dag(
        "xcoms",
        """
    @task
    def build():
        return [{"q": "{{ no.template }} {% if %}"}, {"q": "{{ 1 }}"}]

    BatchInferenceOperator(
        task_id="ask", requests=build(), prompt="{q} {{ dag.dag_id }}", model=MODEL, output_path=OUT + "/out"
    )
""",
    )
    assert [row["content"] for row in rows(tmp_path / "out")] == [
        "{{ no.template }} {% if %} xcoms",
        "{{ 1 }} xcoms",
    ]


def test_mapped_tasks_have_a_directory_each(run_dag: Callable[[str, str], ModuleType], tmp_path: Path) -> None:
    run_dag(
        "mapped_inference",
        """
    BatchInferenceOperator.partial(
        task_id="ask", model=MODEL, output_path=OUT + "/{{ ti.map_index }}", deferrable=False
    ).expand(requests=[["1 + 1"], ["2 + 1", "3 + 1"]])
""",
    )
    assert [[row["content"] for row in rows(tmp_path / name)] for name in "01"] == [["2"], ["3", "4"]]


def test_rendered_fields_stay_small(run_dag: Callable[[str, str], ModuleType], tmp_path: Path) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    run_dag(
        "big_requests",
        """
    BatchInferenceOperator(task_id="ask", requests=["word " * 200] * 4, model=MODEL, output_path=OUT + "/out")
""",
    )
    with create_session() as session:
        found = [
            item.rendered_fields
            for item in session.query(RenderedTaskInstanceFields).filter_by(dag_id="big_requests").all()
        ]
    assert all("word word" not in json.dumps(item) for item in found)


def test_a_function_is_the_only_source(connection: str, run: Callable[..., Any], tmp_path: Path) -> None:
    def no_requests() -> None: ...

    def make() -> BatchInferenceDecoratedOperator:
        return BatchInferenceDecoratedOperator(
            task_id="ask", python_callable=no_requests, model="m", output_path=str(tmp_path)
        )

    with pytest.raises(ValueError, match="requests is None: give or return an iterable"):
        run(make)
