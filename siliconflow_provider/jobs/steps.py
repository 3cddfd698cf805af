"""Decide the next step of a job from its newest round, its batches and the time."""

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
    """The next step of a job.

    :param parts: the parts to submit; for "finish", those that were not submitted
    :param batches: the batches to wait for; for "finish", those that still run
    :param most_running: "wait" ends when at most this many of the batches run
    """

    action: Action
    parts: Sequence[Part] = ()
    batches: Sequence[Batch] = ()
    most_running: int = 0


def next_step(
    parts: Sequence[Part],
    batches: Mapping[str, Batch],
    *,
    retryable: int | None,
    rounds_left: int,
    deadline: pendulum.DateTime | None,
    now: pendulum.DateTime,
    may_submit: bool = True,
    max_active_batches: int | None = None,
    is_limited: bool = False,
) -> Step:
    """Return the next step of a job.

    :param parts: the parts of the newest round
    :param batches: the batches of that round, by the SHA-256 of their part
    :param retryable: the number of requests of a further round; None until the answers have been collected
    :param rounds_left: the number of rounds that may still be sent
    :param deadline: the end of the wait; None if there is no batch to wait for
    :param may_submit: True if parts without a batch may be submitted
    :param max_active_batches: the number of batches that may run at once; None for any number
    :param is_limited: True if the service has just refused a batch because too many are running
    """
    missing = [part for part in parts if part.sha256 not in batches]
    running = [batch for batch in batches.values() if not batch.is_terminal]
    is_late = deadline is not None and now >= deadline
    if missing and may_submit and not is_late:
        free = len(missing) if max_active_batches is None else max_active_batches - len(running)
        if free > 0 and not (is_limited and running):
            return Step("submit", parts=missing[:free])
        # Half of them at once, so that a task with many parts is not resumed for each.
        half = len(running) if max_active_batches is None else max_active_batches // 2
        return Step("wait", batches=running, most_running=min(half, len(running) - 1))
    if running and not is_late:
        return Step("wait", batches=running)
    if retryable is None:
        return Step("collect")
    if retryable and rounds_left > 0 and not is_late and not missing:
        return Step("new round")
    return Step("finish", parts=missing, batches=running)
