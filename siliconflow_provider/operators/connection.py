"""What all operators and sensors of this provider share: a connection."""

from __future__ import annotations

from functools import cached_property

from siliconflow_provider.hooks.siliconflow import SiliconFlowHook


class ConnectionMixin:
    """For tasks that speak to the service over an Airflow connection."""

    siliconflow_conn_id: str

    @cached_property
    def hook(self) -> SiliconFlowHook:
        """The hook of this task's connection."""
        return SiliconFlowHook(self.siliconflow_conn_id)
