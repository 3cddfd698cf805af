"""Links from a task in Airflow's UI to the service's console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink

from siliconflow_provider.xcoms import push_xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context


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


def console_url(base_url: str) -> str:
    """Return the URL of the console's list of batches; an empty string for a host that is on neither of its sites."""
    host = urlsplit(base_url).hostname or ""
    site = next((site for site in ("siliconflow.com", "siliconflow.cn") if f".{host}".endswith(f".{site}")), None)
    return "" if site is None else f"https://cloud.{site}/me/batches"
