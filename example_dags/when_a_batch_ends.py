"""Run whenever a batch ends, whoever submitted it: another DAG, another Airflow or a notebook. Needs Airflow 3.

An asset watcher lists the account's batches, and each one that ends with this metadata starts a run, which writes its
results. Unpause the DAG to start the watcher. A run by hand takes ids of batches as `batch_ids`. Results go to
`SILICONFLOW_EXAMPLE_OUTPUT`, a directory or an object storage URL.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.sdk import Asset, AssetWatcher, dag, task

from siliconflow_provider.operators.batches import DownloadResultsOperator
from siliconflow_provider.triggers.events import BatchEventTrigger

OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")
ENDED = Asset(
    "siliconflow_batch_ended",
    watchers=[AssetWatcher(name="batches", trigger=BatchEventTrigger(metadata={"team": "search"}))],
)


@dag(
    dag_id="example_siliconflow_when_a_batch_ends",
    schedule=[ENDED],
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    is_paused_upon_creation=True,
    params={"batch_ids": []},
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def when_a_batch_ends():
    """Write the results of the batches that have ended."""

    @task
    def ended_batches(params=None, triggering_asset_events=None) -> list[str]:
        """Return the ids of the batches that started this run. One run may have several events."""
        events = [event for events in (triggering_asset_events or {}).values() for event in events]
        found = [event.extra["payload"]["batch_id"] for event in events]
        # An event can come twice after a crash of the triggerer.
        return list(dict.fromkeys(params["batch_ids"] or found))

    DownloadResultsOperator.partial(
        task_id="download", output_path=OUTPUT + "/when_a_batch_ends/{{ run_id }}/{{ ti.map_index }}"
    ).expand(batch_id=ended_batches())


when_a_batch_ends()
