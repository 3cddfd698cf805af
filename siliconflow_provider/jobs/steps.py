"""What a job does next: a function of its newest round, of the batches that there are, and of `now`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pendulum

from siliconflow_provider.api.models import Batch
from siliconflow_provider.inputs import Part

Action = Literal["submit", "wait", "collect", "new round", "finish"]


@dataclass(frozen=True)
class Step:
    """What to do next.

    :param parts: to submit, or those that were not when the job finishes without them
    :param batches: to wait for, or those that still run when the job finishes without them
    """

    action: Action
    parts: Sequence[Part] = ()
    batches: Sequence[Batch] = ()


def next_step(
    parts: Sequence[Part],
    batches: Mapping[str, Batch],
    *,
    retryable: int | None,
    rounds_left: int,
    deadline: pendulum.DateTime | None,
    now: pendulum.DateTime,
    may_submit: bool = True,
) -> Step:
    """Return the next step of a job.

    :param parts: of the newest round
    :param batches: of that round, by the SHA-256 of their part
    :param retryable: how many requests a further round would have; None until the answers have been collected
    :param rounds_left: how many rounds may still be sent
    :param deadline: at which waiting ends; None stands for no batch, so nothing to wait for
    :param may_submit: whether parts that have no batch may be submitted
    """
    missing = [each for each in parts if each.sha256 not in batches]
    running = [each for each in batches.values() if not each.is_terminal]
    is_late = deadline is not None and now >= deadline
    if missing and may_submit and not is_late:
        return Step("submit", parts=missing)
    if running and not is_late:
        return Step("wait", batches=running)
    if retryable is None:
        return Step("collect")
    if retryable and rounds_left > 0 and not is_late:
        return Step("new round")
    return Step("finish", parts=missing, batches=running)
