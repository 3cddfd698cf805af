from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.inputs.parts import Part
from siliconflow_provider.job_directory import UnreadableFileError
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.publication import EarlierResults, publish_results, read_rows
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.outputs.answers import ResultRow
from siliconflow_provider.outputs.ownership import OutputConflictError
from siliconflow_provider.outputs.result_store import ResultStore
from siliconflow_provider.storage.workspace import Workspace

Files = Callable[[], Workspace]
A, B = (Part(first=i, lines=1, offset=9 * i, bytes=9, sha256=name) for i, name in enumerate("ab"))
FIRST = Round(1, [A, B], 0, 1_800_000_000)
SECOND = Round(2, [A], 0, 1_800_000_000, [1])
JOB = Job(key="key-1", task="t", definition={}, requests=2, has_rows=False, first_round=FIRST)
WITH_ROWS = Job(key="key-1", task="t", definition={}, requests=2, has_rows=True, first_round=FIRST)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    (path / "_siliconflow").mkdir(parents=True)
    return path


@pytest.fixture
def published(workspace: Files, tmp_path: Path, batch: Callable[..., Batch]) -> Callable[..., dict[str, Any]]:
    """Publish two answers; each batch belongs to a round and a part."""

    def write(job: Job = JOB, *batches: tuple[Round, Part, str], before: Any = None, complete: bool = True) -> Any:
        shown = [(round_, part, batch("completed", id=name, completed_at=100)) for round_, part, name in batches]
        with (tmp_path / "collected").open("w+b") as file:
            answers = ResultStore(2, file)
            for number in (1, 0):
                answers.add_earlier_row(
                    ResultRow(index=number, custom_id=f"r{number}", status="succeeded", content=number)
                )
            before = EarlierResults() if before is None else before
            return publish_results(workspace(), job, answers, shown, before, complete=complete)

    return write


def test_no_manifest_means_no_published_results(workspace: Files) -> None:
    before = EarlierResults.read(workspace(), JOB)
    assert (before.reports, before.has(FIRST, A), list(before.rows(workspace()))) == ({}, False, [])


def test_the_next_attempt_reads_published_results(workspace: Files, published: Any) -> None:
    published(JOB, (FIRST, A, "batch_1"), (SECOND, A, "batch_2"))
    before = EarlierResults.read(workspace(), JOB)
    assert [(report, before.reports[report]["id"]) for report in before.reports] == [
        ((1, "a"), "batch_1"),
        ((2, "a"), "batch_2"),
    ]
    assert [before.has(FIRST, A), before.has(FIRST, B), before.has(SECOND, A)] == [True, False, True]
    assert [(row.index, row.content) for row in before.rows(workspace())] == [(0, 0), (1, 1)]


@pytest.mark.parametrize("job_id", ["of another job", None, 7])
def test_results_of_another_job_are_ignored(workspace: Files, published: Any, out: Path, job_id: Any) -> None:
    manifest = published(JOB, (FIRST, A, "batch_1"))
    (out / "manifest.json").write_text(json.dumps({**manifest, "job_id": job_id}))
    assert not EarlierResults.read(workspace(), JOB).reports


def test_the_manifest_of_a_downloaded_batch_is_ignored(workspace: Files, out: Path) -> None:
    """`DownloadResultsOperator` may have written a manifest into the same directory."""
    (out / "manifest.json").write_text('{"key": "key-1", "batches": [{"id": "batch_1"}]}')
    assert not EarlierResults.read(workspace(), JOB).reports


@pytest.mark.parametrize("content", ["", "[]", "<html>"])
def test_an_unreadable_manifest_is_named(workspace: Files, out: Path, content: str) -> None:
    (out / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"out/manifest\.json cannot be read as dict"):
        EarlierResults.read(workspace(), JOB)


def test_a_missing_results_file_has_no_rows(workspace: Files, published: Any, out: Path) -> None:
    published(JOB, (FIRST, A, "batch_1"))
    (out / "results.jsonl").unlink()
    assert list(EarlierResults.read(workspace(), JOB).rows(workspace())) == []


def test_the_manifest_keeps_deleted_and_updates_other_batches(workspace: Files, published: Any, out: Path) -> None:
    published(JOB, (FIRST, A, "batch_1"), (FIRST, B, "batch_2"))
    before = EarlierResults.read(workspace(), JOB)
    manifest = published(JOB, (FIRST, B, "batch_3"), (SECOND, A, "batch_4"), before=before)
    reports = [(batch["round"], batch["part"], batch["id"]) for batch in manifest["batches"]]
    assert reports == [(1, "a", "batch_1"), (1, "b", "batch_3"), (2, "a", "batch_4")]
    assert manifest["rounds"] == 2
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert manifest["paths"] == {
        "results": f"file://{out}/results.jsonl", "manifest": f"file://{out}/manifest.json",
        "report": f"file://{out}/report.html",
    }  # fmt: skip


@pytest.mark.parametrize("complete", [True, False])
def test_the_manifest_says_if_batches_still_run(published: Any, complete: bool) -> None:
    manifest = published(JOB, complete=complete)
    assert (manifest["complete"], manifest["rounds"], manifest["rows"], manifest["job_id"]) == (complete, 0, 2, JOB.id)


def test_results_include_their_input_rows(published: Any, out: Path) -> None:
    (out / "_siliconflow" / "rows.jsonl").write_text('{"q":1}\n{"q":2}\n')
    published(WITH_ROWS)
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(row["content"], row["input"]) for row in rows] == [(0, {"q": 1}), (1, {"q": 2})]
    published(JOB)
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["input"] for row in rows] == [None, None]


def test_missing_input_rows_leave_published_results(published: Any, out: Path) -> None:
    (out / "_siliconflow" / "rows.jsonl").write_text('{"q":1}\n{"q":2}\n')
    published(WITH_ROWS)
    before = (out / "results.jsonl").read_bytes()
    for damage in (lambda path: path.write_text('{"q":1}\n'), Path.unlink):
        damage(out / "_siliconflow" / "rows.jsonl")
        with pytest.raises(
            RequestsLostError, match=r"out/_siliconflow/rows\.jsonl is missing or truncated; restore it"
        ):
            published(WITH_ROWS)
        assert (out / "results.jsonl").read_bytes() == before


def test_the_manifest_is_published_last(published: Any, out: Path) -> None:
    """Once it exists, the results exist too."""
    (out / "results.jsonl").mkdir()
    with pytest.raises(OutputConflictError, match=r"results\.jsonl"):
        published()
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize("line", [b"mine", b"{}", b"[" * 100_000, b'{"custom_id": "\xff"}'], ids=range(4))
def test_a_file_without_rows_is_named(workspace: Files, out: Path, line: bytes) -> None:
    (out / "rows").write_bytes(line)
    with pytest.raises(UnreadableFileError, match=r"^file://.*/rows cannot be read as ResultRow: .*\nRestore"):
        list(read_rows(workspace(), "rows"))
