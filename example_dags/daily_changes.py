"""A table is asked about every day, and only its new and changed rows are paid for.

It runs as it stands against the emulator (`make ui`) and, with a SiliconFlow API key in the connection
`siliconflow_default`, against the service. Results go to `SILICONFLOW_EXAMPLE_OUTPUT`, a directory or an object
storage URL.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import ObjectStoragePath, dag, task

from siliconflow_provider.operators.inference import BatchInferenceOperator

QUESTIONS = Path(__file__).parent / "data" / "questions.jsonl"
OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")


@dag(
    dag_id="example_siliconflow_daily_changes",
    schedule="@daily",
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    catchup=False,
    is_paused_upon_creation=True,  # Airflow 3.3 shows examples unasked, and this one costs money
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def daily_changes():
    """Answer 240 questions, of which five change every day."""

    @task
    def export() -> str:
        """Write the day's table. This task stands for your own export: it changes five rows at each run."""
        directory = ObjectStoragePath(OUTPUT) / "daily_changes" / "exports"
        directory.mkdir(parents=True, exist_ok=True)
        day = len([*directory.iterdir()]) + 1
        rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
        for row in rows[:5]:
            row["question"] += f" This is question {day} about it."
        table = directory / f"{day:06}.jsonl"
        table.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode())
        return str(table)

    answers = BatchInferenceOperator(
        task_id="answers",
        input_path=export(),
        prompt="{question}",
        id_column="id",
        model="deepseek-ai/DeepSeek-V3",
        output_path=OUTPUT + "/daily_changes/runs/{{ run_id }}",
        # The pattern matches nothing at the first run. The task's own directory is left out.
        reuse_from=OUTPUT + "/daily_changes/runs/*",
        deduplicate=True,
    )

    @task
    def report(summary: dict[str, Any]) -> int:
        """Show how many rows were paid for."""
        paid = summary["rows"] - summary["reused"] - summary["deduplicated"]
        print(f"{paid} of {summary['rows']} rows were sent")
        return paid

    report(answers.output)


daily_changes()
