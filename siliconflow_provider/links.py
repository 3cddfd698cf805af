"""Links from a task in Airflow's UI: to the service's console, and to the report of the task's job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from siliconflow_provider.xcoms import push_xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

# The key of the report's path in a task's return value.
REPORT_KEY = "report_path"


class BatchesLink(BaseOperatorLink):
    """Link to the console's list of batches, on the site of the task's connection.

    The console has no documented page of a single batch.
    """

    name = "SiliconFlow batches"
    xcom_key = "siliconflow_batches_link"

    def get_link(self, operator: BaseOperator, *, ti_key: object) -> str:
        """Return the URL that the task stored, or an empty string if it has stored none.

        Airflow 3 calls this in the task's own process, after the task has ended. Asking there for an XCom that does not
        exist would write an error to the task's log.
        """
        from airflow.providers.common.compat.sdk import XCom

        known: str | None = getattr(operator, "batches_link", None)
        return known if known is not None else XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    @classmethod
    def persist(cls, context: Context, operator: Any) -> None:
        """Store the URL for the UI, which cannot read the connection. It is empty if there is no such site."""
        operator.batches_link = console_url(operator.hook.get_conn().base_url)
        push_xcom(context, cls.xcom_key, operator.batches_link)


class ReportLink(BaseOperatorLink):
    """Link to the page in Airflow's UI that shows the `report.html` of the task's job.

    No browser opens the file itself: it is in object storage, or on the disk of a worker. The page finds its path in
    the task's return value.
    """

    name = "Report"
    xcom_key = "siliconflow_report_link"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page's address, or an empty string if the task has no report.

        Airflow 3 calls this in the task's own process, which does not know the UI's address: the link is relative.
        """
        if not getattr(operator, REPORT_KEY, None):
            return ""
        names = (ti_key.dag_id, ti_key.task_id, str(ti_key.map_index), ti_key.run_id)
        return "/".join(["siliconflow", "task-report", *(quote(name, safe="") for name in names)])

    @staticmethod
    def show(operator: Any, summary: Mapping[str, Any]) -> None:
        """Show the link if the task's return value names a report."""
        setattr(operator, REPORT_KEY, summary.get(REPORT_KEY))


# Airflow 2 has no page to show a report.
LINKS_TO_RESULTS: tuple[BaseOperatorLink, ...] = (
    (BatchesLink(), ReportLink()) if AIRFLOW_V_3_0_PLUS else (BatchesLink(),)
)


def console_url(base_url: str) -> str:
    """Return the URL of the console's list of batches; an empty string for a host that is on neither of its sites."""
    host = urlsplit(base_url).hostname or ""
    site = next((site for site in ("siliconflow.com", "siliconflow.cn") if f".{host}".endswith(f".{site}")), None)
    return "" if site is None else f"https://cloud.{site}/me/batches"
