"""The lines of a batch's result files become one result row for each request, and a manifest.

In: the output and error files of batches. Out: rows in `results.jsonl`, and the content of `manifest.json`.
Start reading at `result_store.py`.
"""

from __future__ import annotations

from siliconflow_provider.outputs.answers import AnswerError, ResultRow, custom_id_of
from siliconflow_provider.outputs.completeness import Contents, problem_of
from siliconflow_provider.outputs.manifest import build_manifest, report_batch
from siliconflow_provider.outputs.output_schema import RESPONSE_FORMAT, OutputSchema
from siliconflow_provider.outputs.ownership import Output, OutputTakenError
from siliconflow_provider.outputs.result_files import DELIVERY_TIME, FIRST_PAUSE, ResultFiles, fetched
from siliconflow_provider.outputs.result_store import RESULTS_LOST, STATUSES, ResultStore, Validate
from siliconflow_provider.outputs.row_errors import RowErrors, WholeError, read_whole, whole_of_batch, write_whole

__all__ = [
    "DELIVERY_TIME",
    "FIRST_PAUSE",
    "RESPONSE_FORMAT",
    "RESULTS_LOST",
    "STATUSES",
    "AnswerError",
    "Contents",
    "Output",
    "OutputSchema",
    "OutputTakenError",
    "ResultFiles",
    "ResultRow",
    "ResultStore",
    "RowErrors",
    "Validate",
    "WholeError",
    "build_manifest",
    "custom_id_of",
    "fetched",
    "problem_of",
    "read_whole",
    "report_batch",
    "whole_of_batch",
    "write_whole",
]
