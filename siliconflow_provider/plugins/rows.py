"""Make rows of a user's view from the batches of an account; filter, sort and cut them into pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pendulum

from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import RESERVED_PREFIX, is_running
from siliconflow_provider.plugins.access import DagAccess
from siliconflow_provider.plugins.batch_lists import BatchList
from siliconflow_provider.plugins.tasks import TaskInstance, dag_in_label, task_of

PAGE_SIZE = 50
LONGEST_QUERY = 200
STATES: Mapping[str, str] = {
    "": "all",
    "running": "running",
    "completed": "completed",
    "failed": "failed or expired",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class Row:
    """A batch as a user may see it.

    :param task: the task instance of this Airflow that submitted it; a batch without a deployment counts as one of
        this Airflow
    :param is_ours: True if the task instance is certainly one of this Airflow
    :param is_hidden: True if it is of a DAG that the user may not read: only service facts are shown
    """

    batch: Batch
    task: TaskInstance | None = None
    is_ours: bool = False
    dag_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_hidden: bool = False

    @property
    def done(self) -> int | None:
        """The number of answered requests."""
        counts = self.batch.request_counts
        return None if counts is None else counts.completed

    def contains(self, text: str) -> bool:
        """Return True if an id, a status, a name or a value that the row shows has a text in it, in any case."""
        task = [] if self.task is None else [self.task.label]
        pairs = [word for pair in self.metadata.items() for word in pair]
        errors = [] if self.is_hidden else self.batch.errors
        texts = (self.batch.id, self.batch.status, self.dag_id, *errors, *task, *pairs)
        return any(text in shown.lower() for shown in texts)


def rows_of(found: BatchList, dags: DagAccess) -> list[Row]:
    """Return the rows of a list, for a user who may read and edit these DAGs."""
    return [_row(batch, found.deployments, dags) for batch in found.batches]


def _row(batch: Batch, deployments: tuple[str, ...], dags: DagAccess) -> Row:
    dag_id = dag_in_label(batch)
    if dag_id in dags.existing and dag_id not in dags.readable:
        return Row(batch, is_hidden=True)
    task = task_of(batch, deployments)
    own = {name: value for name, value in batch.metadata.items() if not name.startswith(RESERVED_PREFIX)}
    is_ours = task is not None and task.owns(batch, deployments[:1])
    return Row(batch, task if dag_id in dags.readable else None, is_ours, dag_id, own)


def _progress(row: Row) -> float:
    counts = row.batch.request_counts
    return (counts.completed + counts.failed) / counts.total if counts and counts.total else -1.0


def _created(row: Row) -> float:
    created_at = row.batch.timing.created_at
    return created_at.timestamp() if created_at else 0.0


# Each with its name on the page, and whether the highest comes first.
SORTS: Mapping[str, tuple[str, Callable[[Row], Any], bool]] = {
    "newest": ("newest first", _created, True),
    "oldest": ("oldest first", _created, False),
    "progress": ("least progress first", _progress, False),
    "failed": (
        "most failed requests first",
        lambda row: row.batch.request_counts.failed if row.batch.request_counts else 0,
        True,
    ),
    "requests": (
        "most requests first",
        lambda row: row.batch.request_counts.total if row.batch.request_counts else 0,
        True,
    ),
    "status": ("status", lambda row: row.batch.status, False),
    "dag": ("DAG", lambda row: (not row.dag_id, row.dag_id), False),
}


@dataclass(frozen=True)
class Query:
    """The filters and the order that a user has chosen. Invalid values count as none."""

    state: str = ""
    dag_id: str = ""
    text: str = ""
    sort: str = "newest"
    page: int = 1

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Query:
        """Return the query of an address."""
        state, sort, page = values.get("state", ""), values.get("sort", ""), values.get("page", "")
        return cls(
            state if state in STATES else "",
            values.get("dag_id", "")[:LONGEST_QUERY].strip(),
            values.get("text", "")[:LONGEST_QUERY].strip(),
            sort if sort in SORTS else "newest",
            max(1, int(page)) if page.isdecimal() and len(page) < 6 else 1,
        )

    def within(self, rows: int) -> Query:
        """Return the query with the last page, if its own is after that."""
        return replace(self, page=min(self.page, max(1, -(-rows // PAGE_SIZE))))

    def apply(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows that match, sorted."""
        text = self.text.lower()
        matching = [
            row
            for row in rows
            if (not self.state or _state(row.batch) == self.state)
            and (not self.dag_id or row.dag_id == self.dag_id)
            and (not text or row.contains(text))
        ]
        _, key, is_descending = SORTS[self.sort]
        # The newest come first among equals.
        matching.sort(key=_created, reverse=True)
        return sorted(matching, key=key, reverse=is_descending)


def _state(batch: Batch) -> str:
    status = batch.final_status
    return "running" if status is None else "failed" if status in ("failed", "expired") else status


def may_cancel(row: Row, dags: DagAccess, may_edit_connection: bool) -> bool:
    """Return True if a user may cancel the batch of a row, and it can still be cancelled."""
    return is_running(row.batch) and may_edit(row, dags, may_edit_connection)


def may_edit(row: Row, dags: DagAccess, may_edit_connection: bool) -> bool:
    """Return True if a user may edit the DAG of a row, or, if it may be of another Airflow, its connection."""
    if row.is_hidden:
        return False
    return row.task.dag_id in dags.editable if row.task and row.is_ours else may_edit_connection


def age(batch: Batch, moment: pendulum.DateTime | None) -> float | None:
    """Return the seconds from the creation of a batch to its end, or to a moment."""
    end = batch.timing.ended_at if batch.is_terminal else moment
    created_at = batch.timing.created_at
    return None if end is None or created_at is None else max(0.0, (end - created_at).total_seconds())
