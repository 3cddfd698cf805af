"""The nightly eval again, as one task: rows in, one result row each, in order, with the row beside its answer.

It runs as it stands against the emulator (`make ui`) and, with a SiliconFlow API key in the connection
`siliconflow_default`, against the service. Results go to `SILICONFLOW_EXAMPLE_OUTPUT`, a directory or an object
storage URL. `nightly_eval.py` is the same step by step.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import dag, task

from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.results import read_results

QUESTIONS = Path(__file__).parent / "data" / "questions.jsonl"
OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")


@dag(
    dag_id="example_siliconflow_nightly_eval_one_task",
    schedule="@daily",
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    catchup=False,
    is_paused_upon_creation=True,  # Airflow 3.3 shows examples unasked, and this one costs money
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def nightly_eval_one_task():
    """Ask 240 questions as a batch while no worker is held, and score the answers."""
    answers = BatchInferenceOperator(
        task_id="answers",
        input_path=str(QUESTIONS),
        prompt="{question}",
        id_column="id",
        system_prompt="Answer with the bare answer: a number, a name or a symbol, nothing else.",
        request_params={"max_tokens": 64, "temperature": 0},
        model="deepseek-ai/DeepSeek-V3",
        output_path=OUTPUT + "/nightly_eval_one_task/{{ run_id }}",
    )

    @task
    def score(summary: dict[str, Any]) -> dict[str, float]:
        """Compare each answer with the reference answer in the row that it belongs to."""
        total, right = Counter(), Counter()
        for row in read_results(summary):
            category = row.input["category"]
            total[category] += 1
            right[category] += str(row.content).strip().rstrip(".") == row.input["answer"]
        accuracy = {category: right[category] / count for category, count in total.items()}
        print("\n".join(f"{category:<16}{share:>8.1%}" for category, share in accuracy.items()))
        return accuracy

    score(answers.output)


nightly_eval_one_task()
