"""Read from Airflow's database what tasks have returned, and how they are configured."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance as StoredTaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import and_, or_, select

from siliconflow_provider.api.service_texts import cut
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.links import BatchesLink
from siliconflow_provider.plugins.tasks import TaskInstance
from siliconflow_provider.pricing import format_amount

_RESULT = "return_value"
# Other XComs of operators that submit.
_KEYS = (BatchesLink.xcom_key, "batch_id", "batch_ids")
_LONGEST_CURRENCY = 10
_LONGEST_AMOUNT = 100
_HIGHEST = Decimal(10) ** 18


@dataclass(frozen=True)
class Summary:
    """A task's return value, as far as it is the summary of a job. Users can push any value."""

    value: Mapping[str, Any] = field(default_factory=dict)

    @property
    def manifest_path(self) -> str | None:
        """The path of the job's manifest."""
        return self._path("manifest_path")

    @property
    def results_path(self) -> str | None:
        """The path of the job's results."""
        return self._path("results_path")

    @property
    def report_path(self) -> str | None:
        """The path of the job's report."""
        return self._path("report_path")

    @property
    def tokens(self) -> int | None:
        """The number of tokens of all answers."""
        return tokens_in(self.value)

    @property
    def cost(self) -> str | None:
        """The cost of all answers, with its currency."""
        return cost_in(self.value)

    def _path(self, name: str) -> str | None:
        return _text_in(self.value, name) or None


@dataclass(frozen=True)
class TaskFacts:
    """What Airflow knows of a task instance.

    :param is_known: True if it exists
    :param state: its state; None before it is scheduled
    :param conn_id: the connection of its batches; None if it has no batches
    :param batch_ids: its batches, as far as it has named them
    :param output_path: its argument, as rendered; None if Airflow has not kept it
    """

    is_known: bool = False
    state: str | None = None
    conn_id: str | None = None
    batch_ids: frozenset[str] = frozenset()
    summary: Summary = field(default_factory=Summary)
    output_path: str | None = None


def tokens_in(report: Mapping[str, Any]) -> int | None:
    """Return the number of tokens in a summary, a manifest or one of its batches."""
    tokens = report.get("tokens")
    if not isinstance(tokens, Mapping):
        return None
    return sum(integer(tokens.get(name)) or 0 for name in ("prompt", "completion"))


def cost_in(report: Mapping[str, Any]) -> str | None:
    """Return the total cost in a summary or a manifest, with its currency."""
    cost = report.get("cost")
    return amount(cost.get("total"), cost.get("currency")) if isinstance(cost, Mapping) else None


def integer(value: Any) -> int | None:
    """Return a number of a manifest or a summary; None if it is none, or is too large to be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def amount(value: Any, currency: Any) -> str | None:
    """Return an amount of a manifest for people; None if it is none."""
    text = str(value) if isinstance(value, float) or integer(value) is not None else value
    if not isinstance(text, str) or len(text) > _LONGEST_AMOUNT or not isinstance(currency, str):
        return None
    try:
        found = Decimal(text)
        # The page would show all its decimal places.
        is_amount = 0 <= found < _HIGHEST and int(found.as_tuple().exponent) > -_LONGEST_AMOUNT
    except ArithmeticError:
        return None
    return format_amount(found, cut(currency, _LONGEST_CURRENCY)) if is_amount else None


def summaries_of(tasks: Collection[TaskInstance]) -> dict[TaskInstance, Summary]:
    """Return the summaries of task instances, read at once. Those that have returned none are left out."""
    if not tasks:
        return {}
    conditions = [_is_of(XComModel, task) for task in tasks]
    columns = (XComModel.dag_id, XComModel.task_id, XComModel.run_id, XComModel.map_index, XComModel.value)
    statement = select(*columns).where(XComModel.key == _RESULT, or_(*conditions))
    found = _rows(statement)
    if found is None:
        # The others are read one by one.
        return {} if len(tasks) == 1 else {key: value for task in tasks for key, value in summaries_of([task]).items()}
    return {
        TaskInstance(dag_id, task_id, run_id, index): Summary(value)
        for dag_id, task_id, run_id, index, stored in found
        if isinstance(value := _decoded(stored), dict)
    }


def facts_of(task: TaskInstance) -> TaskFacts:
    """Return what Airflow knows of a task instance."""
    with create_session() as session:
        state = session.execute(select(StoredTaskInstance.state).where(_is_of(StoredTaskInstance, task))).first()
        rendered = session.scalar(
            select(RenderedTaskInstanceFields.rendered_fields).where(_is_of(RenderedTaskInstanceFields, task))
        )
    xcoms = select(XComModel.key, XComModel.value).where(_is_of(XComModel, task), XComModel.key.in_(_KEYS))
    values = {key: _decoded(value) for key, value in _rows(xcoms) or ()}
    # Airflow keeps the rendered fields of the newest runs only.
    conn_id, output_path = (_text_in(rendered, name) for name in ("siliconflow_conn_id", "output_path"))
    if conn_id is None:
        conn_id = DEFAULT_CONN_ID if BatchesLink.xcom_key in values else None
    if state is None:
        return TaskFacts()
    named = [values.get("batch_id"), *(found if isinstance(found := values.get("batch_ids"), list) else [])]
    batch_ids = frozenset(name for name in named if isinstance(name, str))
    summary = summaries_of([task]).get(task, Summary())
    return TaskFacts(True, state[0] and str(state[0]), conn_id, batch_ids, summary, output_path)


def _rows(statement: Any) -> Sequence[Any] | None:
    """Return the rows of XComs; None if one cannot be read: databases accept longer numbers and deeper JSON."""
    try:
        with create_session() as session:
            return session.execute(statement).all()
    except (ValueError, RecursionError):
        return None


def _text_in(values: Any, name: str) -> str | None:
    value = values.get(name) if isinstance(values, Mapping) else None
    return value if isinstance(value, str) else None


def _is_of(model: Any, task: TaskInstance) -> Any:
    return and_(
        model.dag_id == task.dag_id,
        model.task_id == task.task_id,
        model.run_id == task.run_id,
        model.map_index == task.map_index,
    )


def _decoded(stored: Any) -> Any:
    try:
        return json.loads(stored) if isinstance(stored, str) else stored
    except (ValueError, RecursionError):
        return None
