"""Send metrics by Airflow's `Stats`. Only this module knows their names and tags.

A thread sends them. A metric that cannot be sent is dropped: it fails no task or trigger, and holds up no event loop.
A task waits until its metrics are sent, but not for a service that hangs.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial, wraps
from queue import Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.models import Batch

log = logging.getLogger(__name__)

MILLIONTHS = 1_000_000
FINAL_STATUSES = ("completed", "failed", "expired", "cancelled")
MOST_QUEUED = 1_000
LONGEST_WAIT = 1.0
P = ParamSpec("P")


def _never_raises(report: Callable[P, object]) -> Callable[P, None]:
    @wraps(report)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            report(*args, **kwargs)
        except Exception:
            log.debug("a metric was not sent", exc_info=True)

    return guarded


class _Sender:
    """Send in a daemon thread, which keeps no process from ending. Drop what the queue has no room for."""

    def __init__(self) -> None:
        self.reset()
        # A child process has no threads, and the queue may have been locked by one.
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        self._queue: Queue[Callable[[], object]] = Queue(MOST_QUEUED)
        self._thread: Thread | None = None
        self._hangs = False

    @_never_raises
    def submit(self, send: Callable[[], object]) -> None:
        if self._thread is None:
            thread = Thread(target=self._run, args=(self._queue,), name="metrics-of-siliconflow", daemon=True)
            thread.start()
            self._thread = thread
        self._queue.put_nowait(send)

    def wait(self) -> None:
        """Wait until all is sent, at most for LONGEST_WAIT. If that was too short once, do not wait again."""
        if not self._hangs:
            is_sent = Event()
            self.submit(is_sent.set)
            self._hangs = not is_sent.wait(LONGEST_WAIT)

    @staticmethod
    def _run(queue: Queue[Callable[[], object]]) -> None:
        while True:
            _never_raises(queue.get())()


_sender = _Sender()


@_never_raises
def count_created(context: Context, number: int = 1) -> None:
    """Count batches that this attempt of a task has created."""
    _count("batches.created", number, _tags_of(context))
    _sender.wait()


@_never_raises
def count_resumed(context: Context, number: int = 1) -> None:
    """Count batches of earlier attempts that this attempt of a task has found."""
    _count("batches.resumed", number, _tags_of(context))
    _sender.wait()


@_never_raises
def count_ended(context: Context, batch: Batch) -> None:
    """Count the end of a batch, and send its durations."""
    _report_end(_tags_of(context), batch.final_status, batch.timing.queued, batch.timing.running)
    _sender.wait()


@_never_raises
def count_results(context: Context, before: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Count the batches, rows, tokens and costs that a manifest has, and the one that it replaced had not.

    :param before: the replaced manifest of the same job; empty if there was none
    """
    tags = _tags_of(context)
    ended_before = {report["id"] for report in _ended_batches(before)}
    for report in _ended_batches(manifest):
        if report["id"] not in ended_before:
            timing = report["timing"]
            _report_end(
                tags, report["status"], *(_seconds(timing[f"{name}_seconds"]) for name in ("queued", "running"))
            )
    for status, number in _growth(before, manifest, "counts").items():
        # Rows of batches that still run get another status later.
        if status != "unfinished":
            _count("requests", number, {**tags, "status": status})
    for kind, number in _growth(before, manifest, "tokens").items():
        if kind != "unknown":
            _count("tokens", number, {**tags, "kind": kind})
    if "cost" in manifest:
        growth = manifest["cost"]["total"] - before.get("cost", {}).get("total", 0)
        _count("cost", round(growth * MILLIONTHS), {**tags, "currency": manifest["cost"]["currency"]})
    _sender.wait()


@_never_raises
def count_poll(conn_id: str, kind: str, error: Exception | None) -> None:
    """Count a request of the triggerer for batches.

    :param kind: `list` or `single`
    :param error: the error of a failed request, else None
    """
    tags = {"conn_id": conn_id, "kind": kind}
    _count("polls", 1, tags)
    if error is not None:
        _count("polls.failed", 1, {**tags, "error": type(error).__name__})


@_never_raises
def count_waits_started(conn_id: str, number: int) -> None:
    """Count batches for which the triggerer begins to wait."""
    _count("waits.started", number, {"conn_id": conn_id})


@_never_raises
def count_waits_ended(conn_id: str, states: Iterable[str]) -> None:
    """Count batches for which the triggerer waits no longer.

    :param states: the state of each wait; see `BatchWait.state`
    """
    for state, number in Counter(states).items():
        tags = {"conn_id": conn_id, "state": "stopped" if state == "running" else state}
        _count("waits.ended", number, tags)


def _report_end(tags: dict[str, str], status: str | None, queued: timedelta | None, running: timedelta | None) -> None:
    _count("batches.ended", 1, {**tags, "status": status or "unknown"})
    for name, duration in (("queued", queued), ("running", running)):
        if duration is not None:
            _send("timing", f"batches.{name}_duration", duration, tags)


def _ended_batches(manifest: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    return [report for report in manifest.get("batches", ()) if report["status"] in FINAL_STATUSES]


def _growth(before: Mapping[str, Any], manifest: Mapping[str, Any], name: str) -> dict[str, int]:
    return {key: number - before.get(name, {}).get(key, 0) for key, number in manifest[name].items()}


def _seconds(number: float | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


def _tags_of(context: Context) -> dict[str, str]:
    """Return the tags that Airflow's own metrics of the task have."""
    ti: Any = context["ti"]
    return dict(getattr(ti, "stats_tags", None) or {"dag_id": ti.dag_id, "task_id": ti.task_id})


def _count(name: str, number: int, tags: dict[str, str]) -> None:
    if number > 0:
        _send("incr", name, number, tags)


def _send(method: str, name: str, value: int | timedelta, tags: dict[str, str]) -> None:
    _sender.submit(partial(_send_now, method, f"siliconflow.{name}", value, tags))


def _send_now(method: str, name: str, value: int | timedelta, tags: dict[str, str]) -> None:
    from airflow.providers.common.compat.sdk import Stats

    getattr(Stats, method)(name, value, tags=tags)
