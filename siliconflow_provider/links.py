"""Links from a task in Airflow's UI to the service's console."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context


class BatchesLink(BaseOperatorLink):
    """The console's page of batches, on the site of the task's connection.

    A batch has no page of its own that is known.
    """

    name = "SiliconFlow batches"
    xcom_key = "siliconflow_batches_link"

    def get_link(self, operator: BaseOperator, *, ti_key: object) -> str:
        """Return the URL that the task has left, or nothing while it has not run."""
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    @classmethod
    def persist(cls, context: Context, base_url: str) -> None:
        """Leave the URL for the UI, which does not see the connection.

        :param base_url: of the API that the task speaks to
        """
        context["ti"].xcom_push(key=cls.xcom_key, value=console_url(base_url))


def console_url(base_url: str) -> str:
    """Return the console's page of batches for the site of an API: .cn or, for everything else, .com."""
    site = "cn" if (urlsplit(base_url).hostname or "").endswith(".cn") else "com"
    return f"https://cloud.siliconflow.{site}/me/batches"
