"""DownloadResultsOperator: results and manifest of a single batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.errors import (
    NotFoundError,
    SiliconFlowError,
    UnreadableAnswerError,
)
from siliconflow_provider.exceptions import (
    BatchWaitError,
    OutputPathError,
)
from siliconflow_provider.operators.batches import DownloadResultsOperator
from siliconflow_provider.outputs.ownership import OutputDirectory
from siliconflow_provider.results import read_results


class TestDownloadResults:
    @pytest.fixture
    def download(self, connection: str, tmp_path: Path) -> Callable[..., DownloadResultsOperator]:
        """Return the operator."""

        def make(batch_id: str, output_path: str = f"{tmp_path}/out") -> DownloadResultsOperator:
            return DownloadResultsOperator(task_id="download", batch_id=batch_id, output_path=output_path)

        return make

    def test_each_request_has_a_row(self, download, client, upload, jsonl, line, context, clock, tmp_path) -> None:
        lines = [*(line(f"r{number}", f"{number} + 1") for number in range(5)), line("bad", "1", thinking_budget=1)]
        batch = client.create_batch(upload(jsonl(lines)))
        clock.advance(200)
        summary = download(batch.id).execute(context)
        rows = read(summary["results_path"])
        assert [(row["index"], row["custom_id"], row["content"], row["round"]) for row in rows] == [
            *((number, f"r{number}", str(number + 1), 1) for number in range(5)),
            (5, "bad", None, 1),
        ]
        assert summary["counts"] == {"succeeded": 5, "failed": 1}
        (bad,) = [row for row in rows if row["status"] == "failed"]
        assert "thinking_budget" in bad["error"]["message"]
        assert {row["batch_id"] for row in rows} == {batch.id}

    def test_the_manifest_reports_the_batch(self, download, client, file_id, context, clock) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        summary = download(batch.id).execute(context)
        manifest = json.loads(local(summary["manifest_path"]).read_text())
        assert manifest["rows"] == 12
        assert manifest["counts"] == {"succeeded": 12}
        assert manifest["tokens"] == summary["tokens"]
        assert manifest["tokens"]["completion"] > 0
        assert manifest["batches"][0]["timing"]["total_seconds"] == 115
        assert manifest["paths"]["results"] == summary["results_path"]

    def test_shortened_errors_are_complete_in_a_file(self, download, client, file_id, context, clock, control) -> None:
        control.plan(failing={"positions": [1, 2], "message": "m" * 100_000}, times=1)
        batch = client.create_batch(file_id)
        clock.advance(200)
        manifest = json.loads(local(download(batch.id).execute(context)["manifest_path"]).read_text())
        assert manifest["errors"][0]["message"] == "m" * 2_000 + "... (98,000 more characters)"
        whole = [json.loads(line) for line in local(manifest["paths"]["errors"]).read_text().splitlines()]
        assert [(item["batch_id"], item["message"]) for item in whole] == [(batch.id, "m" * 100_000)] * 2
        assert manifest["paths"]["errors"].endswith("/out/_siliconflow/errors.jsonl")

    def test_a_running_batch_is_refused(self, download, client, file_id, context, tmp_path) -> None:
        batch = client.create_batch(file_id)
        with pytest.raises(BatchWaitError, match=f"{batch.id} is still in_queue.*after a task that waits"):
            download(batch.id).execute(context)
        assert not (tmp_path / "out").exists()

    def test_an_unknown_batch_is_named(self, download, context) -> None:
        with pytest.raises(NotFoundError, match=r"GET /batches/batch_unknown at \S+ was refused.*check the id"):
            download("batch_unknown").execute(context)

    def test_a_second_run_replaces_the_first(self, download, client, file_id, context, clock, tmp_path) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        assert download(batch.id).execute(context) == download(batch.id).execute(context)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            "_siliconflow",
            "manifest.json",
            "report.html",
            "results.jsonl",
        }

    def test_a_failing_download_keeps_existing_files(
        self, download, client, file_id, context, clock, emulator, tmp_path
    ) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        download(batch.id).execute(context)
        out = tmp_path / "out"
        earlier = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        emulator.control.fault("GET /results/{id}", every=1, status=503)
        with pytest.raises(SiliconFlowError):
            download(batch.id).execute(context)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == earlier

    def test_mapped_tasks_do_not_share_a_path(self, download, client, file_id, context, clock, tmp_path) -> None:
        batches = [client.create_batch(file_id) for _ in range(2)]
        clock.advance(200)
        context["ti"].map_index = 0
        summary = download(batches[0].id).execute(context)
        written = local(summary["results_path"]).read_bytes()
        context["ti"].map_index = 1
        # The same batch is rejected too, although its rows would be equal.
        for batch in batches:
            with pytest.raises(OutputPathError, match=r"another task instance \(nightly/.*/0\).*{{ ti\.map_index }}"):
                download(batch.id).execute(context)
        assert local(summary["results_path"]).read_bytes() == written
        assert download(batches[1].id, f"{tmp_path}/other").execute(context)["rows"] == 12

    def test_of_two_mapped_tasks_at_once_one_fails(
        self, download, client, file_id, context, clock, emulator, tmp_path, object_store, monkeypatch
    ) -> None:
        """The other task starts and ends after the first has downloaded its results and before it writes them."""
        batches = [client.create_batch(file_id).id for _ in range(2)]
        clock.advance(200)
        paths = [f"{tmp_path}/out", f"{object_store}/{tmp_path.name}"]
        original, done = OutputDirectory.claim, []

        def claim_late(self: OutputDirectory, **options: Any) -> None:
            if not done:
                context["ti"].map_index = 1
                done.append(None)
                done.append(download(batches[1], path).execute(context))
                context["ti"].map_index = 0
            original(self, **options)

        monkeypatch.setattr(OutputDirectory, "claim", claim_late)
        for path in paths:
            done.clear()
            context["ti"].map_index = 0
            with pytest.raises(OutputPathError, match=r"another task instance \(nightly/.*/1\)"):
                download(batches[0], path).execute(context)
            assert {row.batch_id for row in read_results(done[1])} == {batches[1]}

    def test_of_two_unnoticed_writers_the_first_fails(
        self, download, client, file_id, context, clock, tmp_path, monkeypatch
    ) -> None:
        """Both have found the directory empty; the owner file names the later one."""
        batch = client.create_batch(file_id)
        clock.advance(200)
        owner = tmp_path / "out" / "_siliconflow" / "owner.json"

        def take_over(self: OutputDirectory, **options: Any) -> None:
            original(self, **options)
            owner.write_text('{"task": "nightly/create/run/1"}')

        original = OutputDirectory.claim
        monkeypatch.setattr(OutputDirectory, "claim", take_over)
        with pytest.raises(OutputPathError, match=r"\(nightly/create/run/1\)"):
            download(batch.id).execute(context)
        assert not (tmp_path / "out" / "results.jsonl").exists()

    @pytest.mark.parametrize("name", ["results.jsonl", "manifest.json"])
    def test_a_file_of_the_user_is_not_overwritten(
        self, download, client, file_id, context, clock, tmp_path, name: str
    ) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(OutputPathError, match=rf"out/{name} exists, but .*\nMove it away, or set another"):
            download(batch.id).execute(context)
        assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
        assert (tmp_path / "out" / name).read_text() == "mine"

    def test_results_changed_by_others_are_not_overwritten(
        self, download, client, file_id, context, clock, tmp_path
    ) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        path = local(download(batch.id).execute(context)["results_path"])
        path.write_text("scored")
        with pytest.raises(OutputPathError, match=r"results\.jsonl exists, but this task"):
            download(batch.id).execute(context)
        assert path.read_text() == "scored"

    def test_files_of_an_earlier_version_are_replaced(
        self, download, client, file_id, context, clock, tmp_path
    ) -> None:
        batches = [client.create_batch(file_id).id for _ in range(2)]
        clock.advance(200)
        summary = download(batches[0]).execute(context)
        shutil.rmtree(tmp_path / "out" / "_siliconflow")
        (tmp_path / "out" / "report.html").unlink()
        with pytest.raises(OutputPathError, match=r"results\.jsonl exists"):
            download(batches[1]).execute(context)
        assert download(batches[0]).execute(context) == summary

    def test_the_results_of_the_batch_before_are_kept(
        self, download, client, file_id, context, clock, tmp_path
    ) -> None:
        """As if the submitting task was cleared and has submitted another batch."""
        batches = [client.create_batch(file_id).id for _ in range(2)]
        clock.advance(200)
        job_ids = []
        for batch_id in (*batches, batches[1]):
            summary = download(batch_id).execute(context)
            job_ids.append(json.loads(local(summary["manifest_path"]).read_text())["job_id"])
        assert {row.batch_id for row in read_results(summary)} == {batches[1]}
        assert job_ids[1] == job_ids[2] != job_ids[0]
        replaced = tmp_path / "out" / "_siliconflow" / "replaced"
        assert [path.name for path in replaced.iterdir()] == [job_ids[0]]
        assert {row.batch_id for row in read_results(replaced / job_ids[0])} == {batches[0]}
        assert json.loads((replaced / job_ids[0] / "manifest.json").read_text())["job_id"] == job_ids[0]

    @pytest.mark.parametrize(
        "fault", [{"kind": "garbage"}, {"status": 404}, {"status": 503}, {"kind": "cut", "after_bytes": 20}], ids=str
    )
    def test_an_unavailable_file_is_downloaded_again(
        self, download, client, file_id, context, clock, emulator, tmp_path, fault: dict[str, Any]
    ) -> None:
        """An HTML page instead of the file does not count as an empty result."""
        batch = client.create_batch(file_id)
        clock.advance(200)
        emulator.control.fault("GET /results/{id}", every=1, **fault)
        started = clock.now
        with pytest.raises(SiliconFlowError):
            download(batch.id).execute(context)
        assert 600 <= clock.now - started < 1200
        assert not (tmp_path / "out").exists()
        clock.after(500, emulator.control.reset)
        assert download(batch.id).execute(context)["rows"] == 12

    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            ({"files_late_seconds": 1e9}, "12 completed and 0 failed, but the service shows no output file"),
            ({"lines_late_seconds": 1e9}, "but its output file has 0"),
            ({"unwritten": {"share": 0.5}}, "but its output file has 6"),
            ({"failing": {"share": 0.5}, "unwritten": {"positions": [0]}}, "but its files have 11 of these"),
            ({"counts_late_seconds": 1e9, "files_late_seconds": 1e9}, "has neither request counts nor results"),
        ],
        ids=str,
    )
    def test_undelivered_results_are_an_error(
        self, download, client, file_id, context, clock, emulator, tmp_path, plan: dict[str, Any], message: str
    ) -> None:
        emulator.control.plan(**plan)
        batch = client.create_batch(file_id)
        clock.advance(200)
        with pytest.raises(
            UnreadableAnswerError, match=rf"{message}: nothing was written, and a retry downloads again"
        ):
            download(batch.id).execute(context)
        assert not (tmp_path / "out").exists()

    def test_a_cleared_task_writes_delivered_results(
        self, download, client, file_id, context, clock, emulator, tmp_path
    ) -> None:
        emulator.control.plan(unwritten={"share": 0.5})
        batch = client.create_batch(file_id)
        clock.advance(200)
        context["ti"].try_number = 2
        with pytest.raises(UnreadableAnswerError):
            download(batch.id).execute(context)
        context["ti"].clear()
        assert download(batch.id).execute(context)["counts"] == {"succeeded": 6, "missing": 6}

    @pytest.mark.parametrize("endpoint", ["GET /results/{id}", "GET /batches/{id}"])
    def test_clearing_keeps_results_that_are_gone(
        self, download, client, file_id, context, clock, emulator, tmp_path, endpoint: str
    ) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        summary = download(batch.id).execute(context)
        results = local(summary["results_path"]).read_bytes()
        emulator.control.fault(endpoint, every=1, status=404)
        context["ti"].clear()
        if "batches" in endpoint:
            with pytest.raises(NotFoundError):
                download(batch.id).execute(context)
        else:
            assert download(batch.id).execute(context) == summary
        assert local(summary["results_path"]).read_bytes() == results

    @pytest.mark.parametrize(
        "plan",
        [
            {"counts_late_seconds": 87, "files_late_seconds": 87},
            {"lines_late_seconds": 400},
            {"counts_late_seconds": 1e9},
            {"gone_seconds": 400},
        ],
        ids=str,
    )
    def test_late_results_are_awaited(
        self, download, client, file_id, context, clock, emulator, plan: dict[str, Any]
    ) -> None:
        emulator.control.plan(**plan)
        batch = client.create_batch(file_id)
        clock.advance(200)
        assert download(batch.id).execute(context)["rows"] == 12


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in local(path).read_text().splitlines()]


def local(path: str) -> Path:
    return Path(path.removeprefix("file://"))
