"""Create, read, list and cancel batches, and write their result files."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from siliconflow_provider.emulator.answer_functions import with_answers
from siliconflow_provider.emulator.checks import Fails, check_input
from siliconflow_provider.emulator.creation import CreateRequest
from siliconflow_provider.emulator.database import Database
from siliconflow_provider.emulator.errors import ApiError, bad_request, not_found, too_many_batches
from siliconflow_provider.emulator.execution import Kind, result_lines
from siliconflow_provider.emulator.executions import (
    BatchExecutions,
    Identity,
    executed_body,
    executed_requests,
    executions_of,
    request_digest,
)
from siliconflow_provider.emulator.files import RETENTION_SECONDS, FileStore, new_id
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.models import model_of, unknown_model, with_unknown_model
from siliconflow_provider.emulator.paging import page_of
from siliconflow_provider.emulator.plans import Failing, Plan
from siliconflow_provider.emulator.state import (
    Batch,
    Check,
    Counts,
    State,
    Timings,
    counts,
    needs_check,
    state_at,
)
from siliconflow_provider.emulator.statuses import OVER


@dataclass(frozen=True)
class Snapshot:
    """A batch and its state at one moment."""

    batch: Batch
    state: State
    counts: Counts | None
    now: float

    @property
    def shown_counts(self) -> Counts | None:
        """The counts, or None if they are planned to be late."""
        return None if self.is_over_for_less_than(self.batch.plan.counts_late_seconds) else self.counts

    @property
    def output_id(self) -> str | None:
        """The output file's id, if the batch has ended and a request succeeded."""
        return self.batch.output_id if self._is_over_with(self.counts.completed if self.counts else 0) else None

    @property
    def error_id(self) -> str | None:
        """The error file's id, if the batch has ended and a request failed."""
        return self.batch.error_id if self._is_over_with(self.counts.failed if self.counts else 0) else None

    def is_over_for_less_than(self, seconds: float) -> bool:
        """Return True if the batch ended less than this number of seconds ago."""
        return self.state.over_at is not None and self.now < self.state.over_at + seconds

    def _is_over_with(self, lines: int) -> bool:
        is_late = self.is_over_for_less_than(self.batch.plan.files_late_seconds)
        return self.state.status in OVER and lines > 0 and not is_late


@dataclass(frozen=True)
class Behaviour:
    """The timings and plans of new batches, the response forms, and the limits of the account; None for no limit."""

    timings: Timings
    forms: Forms
    plan_for: Callable[[Mapping[str, str]], Plan] = lambda metadata: Plan()
    max_active_batches: int | None = None
    models: tuple[str, ...] | None = None


class BatchStore:
    """The stored batches. Nothing runs in the background: each read computes the state of a batch."""

    def __init__(
        self,
        database: Database,
        files: FileStore,
        directory: Path,
        behaviour: Behaviour,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._files = files
        self._directory = directory
        self._behaviour = behaviour
        self._clock = clock
        self._work = threading.RLock()
        directory.mkdir(parents=True, exist_ok=True)

    def create(self, request: CreateRequest) -> Snapshot:
        """Store a new batch, with the current timings and its plan."""
        try:
            file = self._files.get(request.input_file_id)
        except ApiError:
            raise bad_request("input_file_id", f"there is no file {request.input_file_id!r}") from None
        with self._work:
            self._check_limit()
            plan = self._plan(request, self._files.path(file.id))
            batch = Batch(
                id=new_id("batch_"),
                input_file_id=file.id,
                file_name=file.filename,
                endpoint=request.endpoint,
                completion_window=request.completion_window,
                metadata=request.metadata,
                model=request.model,
                created_at=self._clock(),
                window_seconds=request.window_seconds,
                timings=replace(self._behaviour.timings, **plan.timings()),
                output_id=new_id("file-"),
                error_id=new_id("file-"),
                plan=plan,
            )
            self._database.add_batch(batch)
        return self._snapshot(batch, batch.created_at)

    def _check_limit(self) -> None:
        most, now = self._behaviour.max_active_batches, self._clock()
        if most is not None:
            active = sum(snapshot.state.status not in OVER for snapshot, _ in self._all(now, None))
            if active >= most:
                raise too_many_batches(most)

    def _plan(self, request: CreateRequest, source: Path) -> Plan:
        """Return the plan of a new batch, or raise a 400 if the account does not have its model."""
        models = self._behaviour.models
        with source.open("rb") as lines:
            is_unknown = models is not None and (request.model or model_of(lines)) not in (None, *models)
        if is_unknown and not self._behaviour.forms.unknown_model_lines:
            raise unknown_model()
        plan = self._behaviour.plan_for(request.metadata or {})
        with source.open("rb") as lines:
            plan = with_answers(plan, lines, request.model)
        return with_unknown_model(plan) if is_unknown else plan

    def get(self, batch_id: str) -> Snapshot:
        """Return the batch with this id, or raise a 404."""
        return self._snapshot(self._batch(batch_id), self._clock())

    def list(self, after: str | None, limit: int | None) -> tuple[list[Snapshot], bool]:
        """Return batches, newest first, and True if there are more. Without a limit, return all (not documented)."""
        if after is not None and self._database.batch(after) is None:
            raise bad_request("after", f"there is no batch {after!r}")
        now, forms = self._clock(), self._behaviour.forms
        shown_by = now - forms.list_lag_seconds if forms.list_lag_seconds else math.inf
        batches, has_more = page_of(
            lambda start, count: self._database.batches(start, count, shown_by), after, limit, forms
        )
        return [self._snapshot(batch, now) for batch in batches], has_more

    def cancel(self, batch_id: str) -> Snapshot:
        """Start to cancel. A second cancel is not an error; for an ended batch it is a 400 (both not documented)."""
        now = self._clock()

        def cancelled(batch: Batch) -> Batch:
            status = state_at(batch, now).status
            if status in OVER:
                raise bad_request("batch_id", f"a batch that is {status} cannot be cancelled")
            return batch if status == "cancelling" else replace(batch, cancel_at=now)

        self._snapshot(self._batch(batch_id), now)  # does the check, if it is due
        return self._snapshot(self._database.change_batch(batch_id, cancelled), now)

    def result_path(self, file_id: str) -> Path:
        """Return the result file with this id, written at its first use. Raise a 404 after 30 days, or as planned."""
        batch = self._database.batch_of_result(file_id)
        if batch is None:
            raise not_found("file", file_id)
        now = self._clock()
        snapshot = self._snapshot(batch, now)
        over_at = snapshot.state.over_at
        if file_id not in (snapshot.output_id, snapshot.error_id) or over_at is None:
            raise not_found("file", file_id)
        if now >= over_at + RETENTION_SECONDS or snapshot.is_over_for_less_than(batch.plan.gone_seconds):
            raise not_found("file", file_id)
        if snapshot.is_over_for_less_than(batch.plan.lines_late_seconds):
            empty = self._directory / "empty.jsonl"
            empty.touch()
            return empty
        return self._written(snapshot, "output" if file_id == snapshot.output_id else "error", file_id)

    def count(self) -> int:
        """Return the number of all created batches."""
        return len(self._database.batch_ids(None))

    def executed(self, by: Identity, now: float | None = None, before: str | None = None) -> Iterator[str]:
        """Yield digests of the requests that batches have run by `now`.

        The oldest batch comes first, because the check of a batch needs the checks of earlier ones.

        :param before: only batches that were created before this one
        """
        for snapshot, source in self._all(self._clock() if now is None else now, before):
            yield from executed_requests(snapshot.batch, snapshot.state, source, by)

    def executed_by_batch(self, by: Identity) -> Iterator[BatchExecutions]:
        """Yield the executed requests of each batch, oldest batch first."""
        for snapshot, source in self._all(self._clock(), None):
            yield executions_of(snapshot.batch, snapshot.state, source, by)

    def _all(self, now: float, before: str | None) -> Iterator[tuple[Snapshot, Path]]:
        for batch_id in self._database.batch_ids(before):
            snapshot = self._snapshot(self._batch(batch_id), now)
            yield snapshot, self._files.path(snapshot.batch.input_file_id)

    def _written(self, snapshot: Snapshot, kind: Kind, file_id: str) -> Path:
        path = self._directory / f"{file_id}.jsonl"
        with self._work:
            if not path.exists():
                unfinished = path.with_suffix(".unfinished")
                source = self._files.path(snapshot.batch.input_file_id)
                with unfinished.open("wb") as file:
                    file.writelines(result_lines(snapshot.batch, snapshot.state, kind, source, self._behaviour.forms))
                unfinished.replace(path)
        return path

    def _batch(self, batch_id: str) -> Batch:
        batch = self._database.batch(batch_id)
        if batch is None:
            raise not_found("batch", batch_id)
        return batch

    def _snapshot(self, batch: Batch, now: float) -> Snapshot:
        if needs_check(batch, now):
            batch = self._checked(batch)
        state = state_at(batch, now)
        return Snapshot(batch, state, counts(batch, state), now)

    def _checked(self, batch: Batch) -> Batch:
        """Return the batch with its check, which is done and stored once."""
        with self._work:
            stored = self._batch(batch.id)
            if stored.check is not None:
                return stored
            check = self._check(stored)
            return self._database.change_batch(batch.id, lambda current: replace(current, check=check))

    def _check(self, batch: Batch) -> Check:
        if batch.plan.failure:
            return Check(0, errors=batch.plan.failure)
        fails, missing = self._failing(batch, batch.plan.failing), batch.plan.missing
        is_missing = missing.choose if missing is not None else lambda index, custom_id: False
        with self._files.path(batch.input_file_id).open("rb") as lines:
            return check_input(lines, batch.endpoint, batch.model, fails, is_missing)

    def _failing(self, batch: Batch, failing: Failing | None) -> Fails:
        """Return a function that chooses the failing requests of the batch."""
        if failing is None:
            return lambda index, request: False
        if not failing.once:
            return lambda index, request: failing.choose(index, request["custom_id"])
        seen = set(self.executed("body", batch.leaves_queue_at, before=batch.id))

        def fails(index: int, request: dict[str, Any]) -> bool:
            digest = request_digest(executed_body(batch, request))
            is_new = digest not in seen
            seen.add(digest)
            return is_new and failing.choose(index, request["custom_id"])

        return fails
