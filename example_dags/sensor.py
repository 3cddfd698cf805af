"""Submit, do something else, and wait with a sensor: the form for an Airflow without a triggerer.

It runs as it stands against the emulator (`make ui`) and, with a SiliconFlow API key in the connection
`siliconflow_default`, against the service. Results go to `SILICONFLOW_EXAMPLE_OUTPUT`, a directory or an object
storage URL.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import ObjectStoragePath, dag, task

from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.sensors.batches import BatchSensor

OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")
TEXTS = ("The parcel came late and was open.", "Quick answer, friendly voice, problem solved.", "It is a blue cup.")


@dag(
    dag_id="example_siliconflow_sensor",
    schedule=None,
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def sensor():
    """Have customers' messages rated while another task runs."""
    run_path = OUTPUT + "/sensor/{{ run_id }}"

    @task
    def build_requests(path: str) -> str:
        """Write one request a message."""
        target = ObjectStoragePath(path) / "requests.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            {
                "custom_id": f"message-{number}",
                "body": {
                    "model": "deepseek-ai/DeepSeek-V3",
                    "messages": [
                        {"role": "system", "content": "Rate the message: positive, negative or neutral."},
                        {"role": "user", "content": text},
                    ],
                },
            }
            for number, text in enumerate(TEXTS)
        ]
        target.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return str(target)

    upload = UploadFileOperator(task_id="upload", file_path=build_requests(run_path))
    create = CreateBatchOperator(task_id="create", input_file_id=upload.output, wait_for_completion=False)

    @task
    def meanwhile() -> None:
        """Do what needs no answers."""
        print("the batch runs, and no worker waits for it")

    # On the worker only for the moment of each look.
    wait = BatchSensor(task_id="wait", batch_id=create.output, deferrable=False, mode="reschedule", poke_interval=60)
    download = DownloadResultsOperator(task_id="download", batch_id=wait.output, output_path=run_path)
    create >> meanwhile() >> download


sensor()
