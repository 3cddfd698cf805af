"""Give operators and sensors their hook."""

from __future__ import annotations

from functools import cached_property

from siliconflow_provider.hooks.siliconflow import SiliconFlowHook


class ConnectionMixin:
    """Mixin for operators and sensors that use an Airflow connection."""

    siliconflow_conn_id: str
    # The link that this process has stored; None if an earlier process of the same try may have stored one.
    batches_link: str | None = ""

    @cached_property
    def hook(self) -> SiliconFlowHook:
        """Return the hook of this task's connection."""
        return SiliconFlowHook(self.siliconflow_conn_id)
