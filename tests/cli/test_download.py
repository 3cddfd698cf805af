"""`download`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_download_writes_rows_and_manifest(run: Any, create: Any, clock: Any, output: Path) -> None:
    batch = create()
    clock.advance(200)
    printed = run("download", batch.id, "--output", output)
    assert printed == (0, f"wrote 3 rows (3 succeeded) to file://{output}/results.jsonl\n", "")
    rows = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    assert [(row["index"], row["custom_id"], row["content"]) for row in rows] == [
        (0, "r0", "1"), (1, "r1", "2"), (2, "r2", "3"),
    ]  # fmt: skip
    assert json.loads((output / "manifest.json").read_text())["rows"] == 3
    again = run("download", batch.id, "--output", output, "--json").json
    assert (again["rows"], again["counts"], again["final_status"]) == (3, {"succeeded": 3}, "completed")


def test_a_running_batch_is_refused(run: Any, create: Any, output: Path) -> None:
    printed = run("download", create().id, "--output", output)
    assert printed.code == 1
    assert "is still in_queue (requests done: unknown): download it when it is over" in printed.err
    assert not output.exists()


def test_a_cancelled_batch_ends_with_one(run: Any, create: Any, clock: Any, output: Path) -> None:
    batch = create()
    run("cancel", "--yes", batch.id)
    clock.advance(200)
    printed = run("download", batch.id, "--output", output)
    assert printed.code == 1
    assert printed.out.endswith(f"; batch {batch.id} is cancelled\n")


def test_results_of_others_are_kept(run: Any, create: Any, clock: Any, output: Path) -> None:
    first, second = create(), create()
    clock.advance(200)
    run("download", first.id, "--output", output)
    before = (output / "results.jsonl").read_bytes()
    printed = run("download", second.id, "--output", output)
    assert printed.code == 1
    assert "give another directory as --output" in printed.err
    assert (output / "results.jsonl").read_bytes() == before


def test_incomplete_results_need_an_option(run: Any, create: Any, clock: Any, control: Any, output: Path) -> None:
    control.plan(files_late_seconds=1e9)
    batch = create()
    clock.advance(200)
    printed = run("download", batch.id, "--output", output)
    assert (printed.code, printed.out) == (2, "")
    assert "Run the command again; with --incomplete, it writes the results that the service still has" in printed.err
    assert not output.exists()
    written = run("download", batch.id, "--output", output, "--incomplete", "--json").json
    assert written["counts"] == {"missing": 3}


def test_incomplete_results_replace_no_complete_ones(
    run: Any, create: Any, clock: Any, control: Any, output: Path
) -> None:
    batch = create()
    clock.advance(200)
    run("download", batch.id, "--output", output)
    before = (output / "results.jsonl").read_bytes()
    control.fault("GET /results/{id}", status=404, every=1)
    control.fault("GET /files/{id}/content", status=404, every=1)
    printed = run("download", batch.id, "--output", output, "--incomplete", "--json")
    assert (printed.code, printed.json["counts"]) == (0, {"succeeded": 3})
    assert (output / "results.jsonl").read_bytes() == before


def test_ctrl_c_waits_for_no_download(create: Any, clock: Any, control: Any, tmp_path: Path) -> None:
    batch = create()
    clock.advance(200)
    control.fault("GET /results/{id}", kind="slow", chunk_bytes=1, pause_seconds=1, every=1)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "siliconflow_provider", "download", batch.id, "--output", str(tmp_path / "out")]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not control.faults()[0]["used"] and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        # Airflow 2.11 prints warnings when it is imported.
        assert "Traceback" not in process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130
    assert list(temporary.iterdir()) == []
