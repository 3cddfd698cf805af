"""The plugin that Airflow loads by the entry point `airflow.plugins`. It adds nothing to Airflow 2."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from siliconflow_provider.plugins import PREFIX

# Relative to Airflow's own address, which may have a path.
_LIST = "siliconflow/batches"
# The run comes last: an id may have slashes. Airflow leaves `{MAP_INDEX}` as it is in tasks that are not mapped.
_TASK = "siliconflow/task/{DAG_ID}/{TASK_ID}/{MAP_INDEX}/{RUN_ID}"


class LazyApp:
    """The app with the pages. It is built at the first request, since every component of Airflow loads plugins."""

    @cached_property
    def _app(self) -> Any:
        from siliconflow_provider.plugins.app import create_app

        return create_app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)


class SiliconFlowPlugin(AirflowPlugin):
    """Adds the pages on Airflow 3.0 and later, and their places in the UI on 3.1 and later."""

    name = "siliconflow"
    fastapi_apps: list[Any] = (
        [{"name": "SiliconFlow", "app": LazyApp(), "url_prefix": PREFIX}] if AIRFLOW_V_3_0_PLUS else []
    )
    external_views: list[Any] = (
        [
            {
                "name": "SiliconFlow batches",
                "href": _LIST,
                "destination": "nav",
                "category": "browse",
                "url_route": "siliconflow-batches",
            },
            {
                "name": "Batches",
                "href": _TASK,
                "destination": "task_instance",
                "url_route": "siliconflow-task-batches",
            },
        ]
        if AIRFLOW_V_3_1_PLUS
        else []
    )
