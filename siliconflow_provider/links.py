"""Links from a task in Airflow's UI to the service's console."""

from __future__ import annotations

from typing import TYPE_CHECKING
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
        """Return the URL that the task stored, or an empty string if it did not run yet."""
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    @classmethod
    def persist(cls, context: Context, base_url: str) -> None:
        """Store the URL for the UI, which cannot read the connection.

        :param base_url: base URL of the API that the task uses
        """
        push_xcom(context, cls.xcom_key, console_url(base_url))


def console_url(base_url: str) -> str:
    """Return the URL of the console's list of batches: on .cn for an API on .cn, otherwise on .com."""
    site = "cn" if (urlsplit(base_url).hostname or "").endswith(".cn") else "com"
    return f"https://cloud.siliconflow.{site}/me/batches"
