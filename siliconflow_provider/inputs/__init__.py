"""Turn what a user gives into request lines: checked, completed and cut into parts.

Input: rows, prompts, messages or request lines. Output: a file of request lines, and its parts, each for one batch.
Start reading at `preparation.py`.
"""

from __future__ import annotations

from siliconflow_provider.inputs.parts import FilePart, Part, PartWriter, ids_of_part, lines_at
from siliconflow_provider.inputs.preparation import UPLOAD, PreparedSource, prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.prompt import InvalidItemError
from siliconflow_provider.inputs.request_builder import RequestBuilder

__all__ = [
    "UPLOAD",
    "FilePart",
    "InvalidItemError",
    "InvalidRequestFileError",
    "Part",
    "PartWriter",
    "PreparedSource",
    "RequestBuilder",
    "ids_of_part",
    "lines_at",
    "prepare",
]
