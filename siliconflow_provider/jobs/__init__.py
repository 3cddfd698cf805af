"""Run one job from its first request to its published results, with `inputs`, `batches` and `outputs`.

In: a task's items and settings. Out: `results.jsonl` and `manifest.json` in the job's directory.
Start reading at `runner.py`.
"""

from __future__ import annotations

from siliconflow_provider.jobs.costs import CostLimitError, CostSettings, NoBalanceError
from siliconflow_provider.jobs.earlier_runs import EarlierRun, ReuseError
from siliconflow_provider.jobs.job import BAD_ITEMS, CONNECTION, fingerprint
from siliconflow_provider.jobs.opening import Source, load_or_create_job
from siliconflow_provider.jobs.reduction import ReuseSettings
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.run_states import Finished, Settings
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.jobs.single_batch import download_results

__all__ = [
    "BAD_ITEMS",
    "CONNECTION",
    "CostLimitError",
    "CostSettings",
    "EarlierRun",
    "Finished",
    "JobRunner",
    "NoBalanceError",
    "RequestsLostError",
    "ReuseError",
    "ReuseSettings",
    "Settings",
    "Source",
    "download_results",
    "fingerprint",
    "load_or_create_job",
]
