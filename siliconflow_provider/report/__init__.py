"""Write `report.html`, which shows a job that is over to people.

In: a manifest, and the first rows of each kind. Out: one HTML file. Start reading at `page.py`.
"""

from __future__ import annotations

from siliconflow_provider.report.page import ReportContext
from siliconflow_provider.report.rows import ReportRows
from siliconflow_provider.report.writing import write_report

__all__ = ["ReportContext", "ReportRows", "write_report"]
