"""A nightly eval: 240 questions with reference answers go through one batch, and their accuracy is printed.

It runs as it stands against the emulator (`make demo`) and, with a SiliconFlow API key in the connection
`siliconflow_default`, against the service. Results go to `SILICONFLOW_EXAMPLE_OUTPUT`, a directory or an object storage
URL, below one directory a run.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import ObjectStoragePath, dag, task

from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator

MODEL = "deepseek-ai/DeepSeek-V3"
QUESTIONS = Path(__file__).parent / "data" / "questions.jsonl"
OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")
INSTRUCTION = "Answer with the bare answer: a number, a name or a symbol, nothing else."


@dag(
    dag_id="example_siliconflow_nightly_eval",
    schedule="@daily",
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    catchup=False,
    is_paused_upon_creation=True,  # Airflow 3.3 shows examples unasked, and this one costs money
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def nightly_eval():
    """Build the requests, run them as a batch while no worker is held, and score the answers."""
    run_path = OUTPUT + "/nightly_eval/{{ run_id }}"

    @task
    def build_requests(path: str) -> str:
        """Write one request a question."""
        target = ObjectStoragePath(path) / "requests.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for question in map(json.loads, QUESTIONS.read_text(encoding="utf-8").splitlines()):
            messages = [
                {"role": "system", "content": INSTRUCTION},
                {"role": "user", "content": question["question"]},
            ]
            body = {"model": MODEL, "messages": messages, "max_tokens": 64, "temperature": 0}
            line = {"custom_id": question["id"], "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        target.write_text("".join(lines), encoding="utf-8")
        return str(target)

    upload = UploadFileOperator(task_id="upload", file_path=build_requests(run_path))

    create = CreateBatchOperator(
        task_id="create",
        input_file_id=upload.output,
        metadata={"description": "nightly eval"},
    )

    download = DownloadResultsOperator(task_id="download", batch_id=create.output, output_path=run_path)

    @task
    def score(summary: dict[str, Any], timing: dict[str, Any]) -> dict[str, Any]:
        """Compare the answers with the reference answers and print a table."""
        expected = {each["id"]: each for each in map(json.loads, QUESTIONS.read_text(encoding="utf-8").splitlines())}
        total, right = Counter(each["category"] for each in expected.values()), Counter()
        for row in map(json.loads, ObjectStoragePath(summary["results_path"]).read_text().splitlines()):
            question = expected[row["custom_id"]]
            right[question["category"]] += str(row["content"]).strip().rstrip(".") == question["answer"]
        print(render_table(total, right, summary, timing))
        return {"accuracy": right.total() / total.total()}

    score(download.output, create.output["timing"])


def render_table(total: Counter, right: Counter, summary: dict[str, Any], timing: dict[str, Any]) -> str:
    """Return accuracy by category, tokens, timing and where the results are, as text."""
    rule = "-" * 42
    rows = [f"{name:<16}{count:>8}{right[name]:>8}{right[name] / count:>10.1%}" for name, count in total.items()]
    tokens, counts = summary["tokens"], summary["counts"]
    return "\n".join(
        [
            rule,
            f"{'category':<16}{'asked':>8}{'right':>8}{'accuracy':>10}",
            rule,
            *rows,
            rule,
            f"{'all':<16}{total.total():>8}{right.total():>8}{right.total() / total.total():>10.1%}",
            rule,
            f"requests  {', '.join(f'{count} {status}' for status, count in counts.items())}",
            f"tokens    {tokens['prompt']:,} prompt, {tokens['completion']:,} completion",
            f"timing    {timing['queued_seconds']:.0f} s queued, {timing['running_seconds']:.0f} s running, "
            f"{timing['total_seconds']:.0f} s in all",
            f"results   {summary['results_path']}",
            f"manifest  {summary['manifest_path']}",
        ]
    )


nightly_eval()
