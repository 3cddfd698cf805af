"""Settings of a job's run, and the states in which it stops: waiting, or finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pendulum

from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import Submission
from siliconflow_provider.jobs.costs import CostLimitError, CostSettings
from siliconflow_provider.jobs.round_reasons import RepeatedFailure
from siliconflow_provider.outputs import JSON_LINES, OutputFormat, Validate


@dataclass(frozen=True)
class Settings:
    """Say how to submit the parts of a job and how to check their results.

    :param submission: the submission of a part; the file, content and round are set for each part
    :param max_rounds: the number of rounds that a task may submit until a person clears it
    :param validate: may change a row from succeeded to invalid
    :param definition: hashes of the task's arguments, by name
    :param max_active_batches: the number of batches that may run at once; None for any number
    :param costs: prices, and the most that the job may cost
    :param output_format: the form in which the results are published
    :param min_success_rate: below it the task fails, which the report says
    :param announce: called with the ids of the job's batches so far, after each search and create. It must not raise
    """

    submission: Submission
    max_rounds: int
    validate: Validate | None = None
    definition: Mapping[str, str] = field(default_factory=dict)
    max_active_batches: int | None = None
    costs: CostSettings = field(default_factory=CostSettings)
    output_format: OutputFormat = JSON_LINES
    min_success_rate: float = 0.0
    announce: Callable[[list[str]], None] = lambda batch_ids: None


@dataclass(frozen=True)
class Waiting:
    """The job waits for batches.

    :param deadline: the job finishes without these batches at this time
    :param most_running: the wait ends when at most this many of the batches run
    """

    batch_ids: list[str]
    deadline: pendulum.DateTime
    most_running: int = 0


@dataclass(frozen=True)
class Finished:
    """The job is over: results and manifest are published.

    :param running: batches that were still running at the deadline
    :param deadline: None if the job had no batch
    :param repeated: the reason why no further round was sent, if a round was left
    :param refusal: the error for what was not submitted because of its cost
    """

    manifest: dict[str, Any]
    running: Sequence[Batch]
    deadline: pendulum.DateTime | None
    repeated: RepeatedFailure | None = None
    refusal: CostLimitError | None = None
