"""Describe what a task has read and written to OpenLineage. Only this module knows its datasets and facets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siliconflow_provider.api.redaction import without_credentials

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

# The columns of a row of `results.jsonl` that all jobs have; those with other types than these have none here.
_ROW = {
    **{"index": "integer", "custom_id": "string", "status": "string", "content": "string"},
    **{"reasoning_content": "string", "tool_calls": None, "finish_reason": "string", "prompt_tokens": "integer"},
    **{"completion_tokens": "integer", "cached_tokens": "integer", "model": "string", "error": None},
    **{"batch_id": "string", "round": "integer", "input": None},
}
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}


def lineage_of(
    path: str | None, manifest: Mapping[str, Any] | None, inlets: Iterable[Any] = (), outlets: Iterable[Any] = ()
) -> OperatorLineage[Any, Any]:
    """Return the lineage of a task.

    :param path: a file, a directory or a pattern that the task reads; None if it reads none
    :param manifest: of the results that the task has written; None if it has written none
    :param inlets: of the task. Those that OpenLineage can convert are inputs too, such as a table
    :param outlets: of the task, likewise outputs
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    read = [] if path is None else [Dataset(*name_of(path))]
    written = [] if manifest is None else [_results(manifest)]
    return OperatorLineage(inputs=_with_declared(read, inlets), outputs=_with_declared(written, outlets))


def _with_declared(datasets: list[Any], declared: Iterable[Any]) -> list[Any]:
    from airflow.providers.openlineage.extractors.manager import ExtractorManager

    converted = (ExtractorManager.convert_to_ol_dataset(item) for item in declared)
    all_ = [*datasets, *(dataset for dataset in converted if dataset is not None)]
    # The first of a name has the facets.
    return list({(dataset.namespace, dataset.name): dataset for dataset in reversed(all_)}.values())[::-1]


def name_of(path: str) -> tuple[str, str]:
    """Return namespace and name of the dataset at a path, as OpenLineage names datasets.

    A pattern stands for the directory above its first `*`. Query, user, password and the id of a connection are left
    out.
    """
    if "://" not in path:
        path = f"file://{Path(path).expanduser().absolute()}"
    scheme, _, rest = without_credentials(path).partition("://")
    host, _, name = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
    if "*" in name:
        name = name.partition("*")[0].rpartition("/")[0]
    scheme = scheme.lower()
    if scheme == "file":
        return "file", f"/{name}".rstrip("/") or "/"
    return f"{_ALIASES.get(scheme, scheme)}://{host.rpartition('@')[2]}", name.strip("/") or "/"


def _results(manifest: Mapping[str, Any]) -> Any:
    from airflow.providers.common.compat.openlineage import facet

    columns = manifest["columns"].get("table") or _columns_of_rows(manifest)
    fields = [facet.SchemaDatasetFacetFields(name=name, type=type_) for name, type_ in columns.items()]
    namespace, name = name_of(manifest["paths"]["results"])
    return facet.OutputDataset(
        namespace=namespace,
        name=name,
        facets={"schema": facet.SchemaDatasetFacet(fields=fields)},
        outputFacets={"outputStatistics": facet.OutputStatisticsOutputDatasetFacet(rowCount=manifest["rows"])},
    )


def _columns_of_rows(manifest: Mapping[str, Any]) -> dict[str, str | None]:
    added: dict[str, str | None] = {
        **({"output": None} if manifest["columns"]["output"] is not None else {}),
        **({"cost": "number"} if "cost" in manifest else {}),
        **({"reused": "boolean"} if manifest["reused"] or manifest["deduplicated"] else {}),
    }
    return {**_ROW, **added}
