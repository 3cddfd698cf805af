"""Turn what a user gives into request lines: checked, completed and cut into parts.

Input: rows, prompts, messages or request lines. Output: a file of request lines, and its parts, each for one batch.
Start reading at `preparation.py`.
"""

from __future__ import annotations

from siliconflow_provider.inputs.gaps import line_of_position, position_of_line, positions_of_lines
from siliconflow_provider.inputs.limit import first_items
from siliconflow_provider.inputs.parts import FilePart, Part, PartWriter, ids_of_part, lines_at
from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import FileStart, InvalidRequestFileError
from siliconflow_provider.inputs.purpose import ESTIMATE, UPLOAD, PreparedSource
from siliconflow_provider.inputs.rejection import RejectedItem
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.source_files import InputFileError, has_known_format, items_of_file, partition_columns
from siliconflow_provider.inputs.tables import TableError, is_table, rows_of_table
from siliconflow_provider.inputs.values import InvalidItemError

__all__ = [
    "ESTIMATE",
    "UPLOAD",
    "FilePart",
    "FileStart",
    "InputFileError",
    "InvalidItemError",
    "InvalidRequestFileError",
    "Part",
    "PartWriter",
    "PreparedSource",
    "RejectedItem",
    "RequestBuilder",
    "TableError",
    "first_items",
    "has_known_format",
    "ids_of_part",
    "is_table",
    "items_of_file",
    "line_of_position",
    "lines_at",
    "partition_columns",
    "position_of_line",
    "positions_of_lines",
    "prepare",
    "rows_of_table",
]
