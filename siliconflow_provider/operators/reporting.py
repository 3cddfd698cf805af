"""Tell Airflow about the results of a task: in the events of its outlets, and by OpenLineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage


class ReportingMixin:
    """Mixin for operators that read `input_path` or `file_path`, or write results: those call `report_results`."""

    _manifest: Mapping[str, Any] | None = None

    if TYPE_CHECKING:
        inlets: list[Any]
        outlets: list[Any]

    def report_results(self, context: Context, manifest: Mapping[str, Any]) -> None:
        """Write a summary of the results into the events of the task's outlets that are assets.

        Airflow sends them only if the task succeeds.
        """
        self._manifest = manifest
        if not self.outlets:
            return
        from airflow.providers.common.compat.sdk import Asset

        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update(_summary_of(manifest))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the inputs and outputs of the task. OpenLineage also calls this if the task has failed."""
        from siliconflow_provider.lineage import lineage_of

        path = getattr(self, "input_path", None) or getattr(self, "file_path", None)
        return lineage_of(path and str(path), self._manifest, self.inlets, self.outlets)


def _summary_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    rows, cost = manifest["rows"], manifest.get("cost")
    return {
        "results_path": manifest["paths"]["results"],
        "rows": rows,
        "success_rate": manifest["counts"].get("succeeded", 0) / rows if rows else 1.0,
        **({} if cost is None else {"cost": cost["total"], "currency": cost["currency"]}),
    }
