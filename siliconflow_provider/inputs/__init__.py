"""What a user gives becomes request lines, checked and cut into parts.

In: rows, prompts, messages or request lines. Out: a file of request lines and its parts, each a batch's worth.
Start reading at `preparation.py`.
"""

from __future__ import annotations

from siliconflow_provider.inputs.parts import FilePart, Part, PartWriter, ids_of_part, lines_at
from siliconflow_provider.inputs.preparation import Prepared, prepare
from siliconflow_provider.inputs.prompt import UnfitItemError
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.request_lines import InvalidRequestFileError, RequestFileReport, check_request_file

__all__ = [
    "FilePart",
    "InvalidRequestFileError",
    "Part",
    "PartWriter",
    "Prepared",
    "RequestBuilder",
    "RequestFileReport",
    "UnfitItemError",
    "check_request_file",
    "ids_of_part",
    "lines_at",
    "prepare",
]
