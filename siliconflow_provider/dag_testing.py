"""Run `dag.test()` for DAGs outside of the dags folder, for the fixture `siliconflow_emulator`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    import pytest


def let_any_dag_be_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store each DAG in the database before `dag.test()`: Airflow 3 refuses DAGs that are not in its dags folder."""
    if not AIRFLOW_V_3_0_PLUS:
        return
    test = DAG.test

    def test_stored(self: DAG, *arguments: Any, **options: Any) -> Any:
        _store(self)
        return test(self, *arguments, **options)

    monkeypatch.setattr(DAG, "test", test_stored)


def _store(dag: Any) -> None:
    """Write a DAG to Airflow's database, into its own bundle, or into the first one if it has none."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models.dag import DagModel

    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

        sync_bag_to_db = getattr(sys.modules[DagBag.__module__], "sync_bag_to_db", None) or vars(DagBag)["sync_to_db"]

    manager = DagBundlesManager()
    manager.sync_bundles_to_db()
    known = DagModel.get_current(dag.dag_id)
    bundle = known.bundle_name if known else next(iter(manager.get_all_dag_bundles())).name
    # Airflow 3.0 stores no DAG without it.
    dag.relative_fileloc = dag.relative_fileloc or Path(dag.fileloc).name
    bag = DagBag(os.devnull, collect_dags=False)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, bundle, None)
