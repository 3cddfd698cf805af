"""Each step by itself: three request files are uploaded, submitted, awaited and fetched side by side.

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
from airflow.providers.common.compat.sdk import ObjectStoragePath, TriggerRule, dag, task, task_group

from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.sensors.batches import BatchSensor

QUESTIONS = Path(__file__).parent / "data" / "questions.jsonl"
OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")
CATEGORIES = ("addition", "subtraction", "multiplication")


@dag(
    dag_id="example_siliconflow_separate_steps",
    schedule=None,
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def separate_steps():
    """Run three request files as three batches, whose answers land even where a batch expires."""
    run_path = OUTPUT + "/separate_steps/{{ run_id }}"

    @task
    def build_requests(path: str) -> list[str]:
        """Write a request file for each category of questions."""
        questions = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
        targets = []
        for category in CATEGORIES:
            target = ObjectStoragePath(path) / f"{category}.jsonl"
            target.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                {"custom_id": each["id"], "body": {"messages": [{"role": "user", "content": each["question"]}]}}
                for each in questions
                if each["category"] == category
            ]
            target.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            targets.append(str(target))
        return targets

    @task_group
    def one_file(path: str):
        """Take one request file from upload to results."""
        upload = UploadFileOperator(task_id="upload", file_path=path)
        create = CreateBatchOperator(
            task_id="create",
            input_file_id=upload.output,
            model="deepseek-ai/DeepSeek-V3",
            wait_for_completion=False,
        )
        wait = BatchSensor(task_id="wait", batch_id=create.output)
        download = DownloadResultsOperator(
            task_id="download",
            batch_id=create.output,
            output_path=run_path + "/{{ ti.map_index }}",
            # Also after an expired batch: what it answered is paid for.
            trigger_rule=TriggerRule.ALL_DONE,
        )
        wait >> download
        [wait, download] >> report(download.output)

    @task
    def report(summary: dict[str, Any]) -> None:
        """Say what came back."""
        print(f"{summary['rows']} rows of {summary['batch_id']} in {summary['results_path']}: {summary['counts']}")

    # Cancel the batches of a run that has failed. Without this task, a cleared run resumes them. The connection needs a
    # `deployment`, which tells this Airflow from others on the account.
    cancel = CancelBatchOperator(task_id="cancel").as_teardown()

    one_file.expand(path=build_requests(run_path)) >> cancel


separate_steps()
