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
def landed(workspace: Files, tmp_path: Path, batch: Callable[..., Batch]) -> Callable[..., dict[str, Any]]:
    """Lands two answers; each batch is that of a round and a part."""

    def write(job: Job = JOB, *batches: tuple[Round, Part, str], before: Any = None, complete: bool = True) -> Any:
        shown = [(each, part, batch("completed", id=name, completed_at=100)) for each, part, name in batches]
        with (tmp_path / "collected").open("w+b") as file:
            answers = ResultStore(2, file)
            for number in (1, 0):
                answers.add_earlier_row(
                    ResultRow(index=number, custom_id=f"r{number}", status="succeeded", content=number)
                )
            before = EarlierResults() if before is None else before
            return publish_results(workspace(), job, answers, shown, before, complete=complete)

    return write


def test_nothing_has_landed_where_no_manifest_is(workspace: Files) -> None:
    before = EarlierResults.read(workspace(), JOB)
    assert (before.reports, before.has(FIRST, A), list(before.rows(workspace()))) == ({}, False, [])


def test_what_has_landed_is_read_by_the_next_attempt(workspace: Files, landed: Any) -> None:
    landed(JOB, (FIRST, A, "batch_1"), (SECOND, A, "batch_2"))
    before = EarlierResults.read(workspace(), JOB)
    assert [(each, before.reports[each]["id"]) for each in before.reports] == [
        ((1, "a"), "batch_1"),
        ((2, "a"), "batch_2"),
    ]
    assert [before.has(FIRST, A), before.has(FIRST, B), before.has(SECOND, A)] == [True, False, True]
    assert [(each.index, each.content) for each in before.rows(workspace())] == [(0, 0), (1, 1)]


@pytest.mark.parametrize("job_id", ["of another job", None, 7])
def test_what_another_job_has_landed_is_not_ours(workspace: Files, landed: Any, out: Path, job_id: Any) -> None:
    manifest = landed(JOB, (FIRST, A, "batch_1"))
    (out / "manifest.json").write_text(json.dumps({**manifest, "job_id": job_id}))
    assert not EarlierResults.read(workspace(), JOB).reports


def test_the_manifest_of_one_batch_is_no_job_s(workspace: Files, out: Path) -> None:
    """As `DownloadResultsOperator` writes it, into the same directory."""
    (out / "manifest.json").write_text('{"key": "key-1", "batches": [{"id": "batch_1"}]}')
    assert not EarlierResults.read(workspace(), JOB).reports


@pytest.mark.parametrize("content", ["", "[]", "<html>"])
def test_a_manifest_that_cannot_be_read_is_named(workspace: Files, out: Path, content: str) -> None:
    (out / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"out/manifest\.json cannot be read as dict"):
        EarlierResults.read(workspace(), JOB)


def test_rows_that_are_gone_are_none(workspace: Files, landed: Any, out: Path) -> None:
    landed(JOB, (FIRST, A, "batch_1"))
    (out / "results.jsonl").unlink()
    assert list(EarlierResults.read(workspace(), JOB).rows(workspace())) == []


def test_the_manifest_keeps_what_the_service_has_forgotten_and_renews_what_it_shows(
    workspace: Files, landed: Any, out: Path
) -> None:
    landed(JOB, (FIRST, A, "batch_1"), (FIRST, B, "batch_2"))
    before = EarlierResults.read(workspace(), JOB)
    manifest = landed(JOB, (FIRST, B, "batch_3"), (SECOND, A, "batch_4"), before=before)
    reports = [(each["round"], each["part"], each["id"]) for each in manifest["batches"]]
    assert reports == [(1, "a", "batch_1"), (1, "b", "batch_3"), (2, "a", "batch_4")]
    assert manifest["rounds"] == 2
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert manifest["paths"] == {
        "results": f"file://{out}/results.jsonl", "manifest": f"file://{out}/manifest.json",
    }  # fmt: skip


@pytest.mark.parametrize("complete", [True, False])
def test_the_manifest_says_whether_anything_still_runs(landed: Any, complete: bool) -> None:
    manifest = landed(JOB, complete=complete)
    assert (manifest["complete"], manifest["rounds"], manifest["rows"], manifest["job_id"]) == (complete, 0, 2, JOB.id)


def test_results_carry_what_each_was_made_of(landed: Any, out: Path) -> None:
    (out / "_siliconflow" / "rows.jsonl").write_text('{"q":1}\n{"q":2}\n')
    landed(WITH_ROWS)
    rows = [json.loads(each) for each in (out / "results.jsonl").read_text().splitlines()]
    assert [(each["content"], each["input"]) for each in rows] == [(0, {"q": 1}), (1, {"q": 2})]
    landed(JOB)
    rows = [json.loads(each) for each in (out / "results.jsonl").read_text().splitlines()]
    assert [each["input"] for each in rows] == [None, None]


def test_results_that_carry_what_was_asked_are_not_replaced_by_some_that_lack_it(landed: Any, out: Path) -> None:
    (out / "_siliconflow" / "rows.jsonl").write_text('{"q":1}\n{"q":2}\n')
    landed(WITH_ROWS)
    before = (out / "results.jsonl").read_bytes()
    for damage in (lambda path: path.write_text('{"q":1}\n'), Path.unlink):
        damage(out / "_siliconflow" / "rows.jsonl")
        with pytest.raises(
            RequestsLostError, match=r"out/_siliconflow/rows\.jsonl is missing or truncated; restore it"
        ):
            landed(WITH_ROWS)
        assert (out / "results.jsonl").read_bytes() == before


def test_the_manifest_comes_last(landed: Any, out: Path) -> None:
    """Where it is, the results are."""
    (out / "results.jsonl").mkdir()
    with pytest.raises(OutputConflictError, match=r"results\.jsonl"):
        landed()
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize("line", [b"mine", b"{}", b"[" * 100_000, b'{"custom_id": "\xff"}'], ids=range(4))
def test_a_file_with_other_lines_than_rows_is_named(workspace: Files, out: Path, line: bytes) -> None:
    (out / "rows").write_bytes(line)
    with pytest.raises(UnreadableFileError, match=r"^file://.*/rows cannot be read as ResultRow: .* Restore"):
        list(read_rows(workspace(), "rows"))
