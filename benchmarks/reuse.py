"""A job of which two of a hundred rows changed since an earlier run: `reuse.py 1000000`, by default 100,000 rows.

The earlier run's files are written without the service. The job runs in a process of its own, and the emulator, whose
batches take no time, in another. The memory is the most that the job's process needed above the level after its
imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs import API_KEY, MODEL, TEXT, emulator, mebibytes, run_job

CHANGED = 50
PROMPT = "{text}"


def row(index: int, day: int) -> dict[str, str]:
    """Return a row of about 1 KB; each fiftieth differs from day to day."""
    changed = f"day {day} " if index % CHANGED == 0 else ""
    return {"id": f"r{index}", "text": f"{changed}{index} {TEXT}"}


def write_rows(path: Path, count: int, day: int) -> None:
    """Write the rows of a day."""
    with path.open("w") as file:
        file.writelines(json.dumps(row(index, day)) + "\n" for index in range(count))


def write_earlier_run(directory: Path, rows: Path, count: int, url: str) -> None:
    """Write the files of a run that has answered all rows at the service with this URL."""
    from siliconflow_provider.inputs import RequestBuilder, items_of_file, prepare
    from siliconflow_provider.job_directory import JOB, REQUESTS, ROWS
    from siliconflow_provider.jobs.job import CONNECTION, Job, Round, fingerprint
    from siliconflow_provider.jobs.publication import EarlierResults, publish_results
    from siliconflow_provider.jsonl import read_chunks
    from siliconflow_provider.outputs import OutputDirectory, ResultRow, ResultStore
    from siliconflow_provider.storage import Workspace, storage_path

    def answers() -> Iterator[ResultRow]:
        for index in range(count):
            yield ResultRow(
                index=index, custom_id=f"r{index}", status="succeeded", content=f"{index} {TEXT[:640]}",
                finish_reason="stop", prompt_tokens=20, completion_tokens=120, model=MODEL, batch_id="b", round=1,
            )  # fmt: skip

    with tempfile.TemporaryDirectory() as local, rows.open("rb") as file, tempfile.TemporaryFile() as collected:
        files = Workspace(storage_path(directory), Path(local))
        OutputDirectory(files, "earlier").claim(is_ours=False)
        with files.create(REQUESTS) as requests, files.create(ROWS) as inputs:
            items = items_of_file(rows.name, lambda: read_chunks(file), lambda: file)
            builder = RequestBuilder(prompt=PROMPT, id_column="id", model=MODEL)
            prepared = prepare(items, builder, requests, inputs, name=rows.name)
        job = Job("key", "earlier", {CONNECTION: fingerprint(url)}, count, True, Round(1, prepared.parts, 0, 0))
        for name in (REQUESTS, ROWS):
            files.publish(name)
        files.publish_json(JOB, job)
        results = ResultStore(count, collected)
        for answer in answers():
            results.add_earlier_row(answer)
        publish_results(files, job, results, [], EarlierResults(), complete=True)


def run(path: Path, directory: Path) -> None:
    """Run the job of the second day, and print its seconds, MiB and numbers."""
    from siliconflow_provider.jobs import runner  # noqa: F401
    from siliconflow_provider.operators.inference import BatchInferenceOperator

    def operator() -> Any:
        return BatchInferenceOperator(
            task_id="job", input_path=str(path), prompt=PROMPT, id_column="id", model=MODEL,
            output_path=str(directory / "2"), reuse_from=str(directory / "1"), deduplicate="dedupe" in sys.argv,
        )  # fmt: skip

    operator()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, started, used = mebibytes("VmRSS"), time.perf_counter(), time.process_time()
    summary = run_job(operator)
    found = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used}
    print(json.dumps({**found, "MiB": mebibytes("VmHWM") - before, "reused": summary["reused"]}))


def measure(count: int) -> dict[str, Any]:
    """Return what the job of the second day took."""
    with tempfile.TemporaryDirectory() as name, emulator(Path(name, "emulator")) as url:
        directory = Path(name)
        (directory / "1").mkdir()
        write_rows(directory / "1.jsonl", count, 1)
        write_earlier_run(directory / "1", directory / "1.jsonl", count, url)
        write_rows(directory / "2.jsonl", count, 2)
        connection = {"conn_type": "siliconflow", "host": url, "password": API_KEY}
        environment = os.environ | {
            "AIRFLOW_HOME": f"{name}/airflow",
            "AIRFLOW_CONN_SILICONFLOW_DEFAULT": json.dumps(connection),
        }
        command = [sys.executable, __file__, "run", str(directory / "2.jsonl"), name, *sys.argv[2:]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def main() -> None:
    """Print a table."""
    if sys.argv[1:2] == ["run"]:
        run(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    count = int(sys.argv[1]) if sys.argv[1:] else 100_000
    found = measure(count)
    print("| rows | reused | seconds | CPU seconds | MiB |\n| --: | --: | --: | --: | --: |")
    print(f"| {count:,} | {found['reused']:,} | {found['seconds']:.1f} | {found['cpu']:.1f} | {found['MiB']:.0f} |")


if __name__ == "__main__":
    main()
