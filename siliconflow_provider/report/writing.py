"""Publish the report of a job beside its results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from siliconflow_provider.job_directory import REPORT
from siliconflow_provider.outputs import OutputDirectory
from siliconflow_provider.report.page import ReportContext, report_page
from siliconflow_provider.report.rows import ReportRows

log = logging.getLogger(__name__)


def write_report(
    output: OutputDirectory, manifest: Mapping[str, Any], rows: ReportRows, context: ReportContext
) -> bool:
    """Publish the report, and return True. A job without one is a warning: tasks need only results and manifest.

    A file of this name that the task did not write stays as it is.
    """
    if not output.may_write(REPORT):
        log.warning("no report was written: %s exists, and this task did not write it", output.url(REPORT))
        return False
    try:
        page = report_page(manifest, rows, context)
    except Exception:
        # The manifest may have entries of an earlier attempt that somebody has edited.
        log.warning("no report was written; results and manifest are complete without it", exc_info=True)
        return False
    with output.writing(REPORT) as file:
        file.write(page.encode())
    return True
