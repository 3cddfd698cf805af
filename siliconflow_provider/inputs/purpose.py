"""Say what a source is prepared for, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from siliconflow_provider.inputs.parts import Part


@dataclass(frozen=True)
class PreparedSource:
    """Result of reading a source.

    :param requests: number of request lines
    :param has_rows: True if the items were rows; `prepare` has written them to its second file, one per line
    :param model: the model of all requests, if they name the same
    :param model_conflict: names the models of an upload whose lines do not all name the same model, else None
    :param schema: the Arrow schema of rows from tables, serialized; None if there is none
    :param rejected: the positions of the items that cannot be sent, in ascending order
    :param reasons: texts for the first of them
    """

    requests: int
    has_rows: bool
    parts: list[Part]
    model_conflict: str | None = None
    model: str | None = None
    schema: bytes | None = None
    rejected: Sequence[int] = ()
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Purpose:
    """Rules and words in which the source of a job, a file for an upload and an estimate differ.

    :param message: of an error, with the fields `name`, `fault` and `remedy`
    :param keeps_lines: True to write request lines with the line ends and spaces of the source
    :param is_one_batch: True if the requests have to fit one batch, of which there has to be at least one. Their
        models may differ, since the batch can replace them
    :param run_again: what to do after a correction
    :param set_model: how to give all requests a model
    """

    message: str
    keeps_lines: bool
    is_one_batch: bool
    run_again: str = "rerun the task"
    set_model: str = "set model="


JOB = Purpose("{name}: {fault} and nothing was submitted; {remedy}", keeps_lines=False, is_one_batch=False)
UPLOAD = Purpose("{name} was not uploaded: {fault}; {remedy}", keeps_lines=True, is_one_batch=True)
ESTIMATE = Purpose(
    "{name}: {fault}; {remedy}",
    keeps_lines=False,
    is_one_batch=False,
    run_again="run the command again",
    set_model="give --model",
)
