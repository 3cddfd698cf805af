"""The report is published beside the results, and never keeps them back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.outputs.ownership import OutputDirectory
from siliconflow_provider.report.page import ReportContext
from siliconflow_provider.report.rows import ReportRows
from siliconflow_provider.report.writing import write_report

Write = Callable[[dict[str, Any]], bool]


@pytest.fixture
def write(workspace: Callable[[], Any], store: Callable[..., Any]) -> Write:
    """Write the report of a job without rows; each call is another attempt of the task."""
    return lambda manifest: write_report(
        OutputDirectory(workspace(), "task"), manifest, ReportRows(store()), ReportContext()
    )


def test_a_later_report_replaces_the_tasks_own(write: Write, manifest: Any, tmp_path: Path) -> None:
    assert write(manifest()) is True
    assert write(manifest(job_id="job-2")) is True
    assert "job-2" in (tmp_path / "out" / "report.html").read_text()


def test_a_report_that_somebody_changed_stays(
    write: Write, manifest: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(manifest())
    path = tmp_path / "out" / "report.html"
    path.write_text("edited")
    assert write(manifest()) is False
    assert path.read_text() == "edited"
    assert "no report was written" in caplog.text


def test_a_damaged_manifest_entry_costs_only_the_report(
    write: Write, manifest: Any, report: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert write(manifest(batches=[{**report(), "timing": {"created_at": "yesterday"}}])) is False
    assert "results and manifest are complete without it" in caplog.text
    assert not (tmp_path / "out" / "report.html").exists()
