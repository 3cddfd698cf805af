"""Turn the lines of a batch's result files into one result row for each request, and a manifest.

In: the output and error files of batches. Out: rows in `results.jsonl` or a table, and the content of `manifest.json`.
Start reading at `result_store.py`.
"""

from __future__ import annotations

from siliconflow_provider.outputs.answer_lines import custom_id_of
from siliconflow_provider.outputs.answers import LARGEST_COUNT, TRUNCATED, AnswerError, ResultRow
from siliconflow_provider.outputs.columns import text_of
from siliconflow_provider.outputs.completeness import ResultContents, delivery_problem
from siliconflow_provider.outputs.distinct_values import LASTING_CODES, RESULTS_LOST, is_refusal
from siliconflow_provider.outputs.manifest import bill_of_batches, build_manifest, report_batch
from siliconflow_provider.outputs.output_schema import (
    INVALID_OUTPUT,
    REFUSED,
    RESPONSE_FORMAT,
    OutputSchema,
    correctable_text,
)
from siliconflow_provider.outputs.ownership import OWNER, OutputConflictError, OutputDirectory, Owner, was_written
from siliconflow_provider.outputs.result_files import DELIVERY_TIME, FIRST_PAUSE, ResultFiles, download_result_files
from siliconflow_provider.outputs.result_store import REJECTED_STATUS, STATUSES, ResultStore, Validate
from siliconflow_provider.outputs.result_table import JSON_LINES, OutputFormat, ResultTable, batches_of_parquet
from siliconflow_provider.outputs.row_errors import (
    FullError,
    RowErrors,
    full_errors_of_batch,
    read_full_errors,
    write_full_errors,
)
from siliconflow_provider.outputs.usage import Price, Usage, lacks_usage

__all__ = [
    "DELIVERY_TIME",
    "FIRST_PAUSE",
    "INVALID_OUTPUT",
    "JSON_LINES",
    "LARGEST_COUNT",
    "LASTING_CODES",
    "OWNER",
    "REFUSED",
    "REJECTED_STATUS",
    "RESPONSE_FORMAT",
    "RESULTS_LOST",
    "STATUSES",
    "TRUNCATED",
    "AnswerError",
    "FullError",
    "OutputConflictError",
    "OutputDirectory",
    "OutputFormat",
    "OutputSchema",
    "Owner",
    "Price",
    "ResultContents",
    "ResultFiles",
    "ResultRow",
    "ResultStore",
    "ResultTable",
    "RowErrors",
    "Usage",
    "Validate",
    "batches_of_parquet",
    "bill_of_batches",
    "build_manifest",
    "correctable_text",
    "custom_id_of",
    "delivery_problem",
    "download_result_files",
    "full_errors_of_batch",
    "is_refusal",
    "lacks_usage",
    "read_full_errors",
    "report_batch",
    "text_of",
    "was_written",
    "write_full_errors",
]
