"""Attempts of one task instance, sequential and concurrent, each under its own conditions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from importlib import import_module
from typing import Any

import msgspec
import pytest
import requests
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.session import Session
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.executions import request_digest
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.job_directory import JOB, REQUESTS, job_file_name
from siliconflow_provider.jobs import concurrency
from siliconflow_provider.jobs.job import Job
from siliconflow_provider.storage.workspace import Workspace
from tests.conftest import HeldClock, TaskInstance
from tests.kills import Killed

RETRIES = 40
# A life of a few requests never needs so many steps; a life that does is an endless loop.
MOST_STEPS = 1_500


@dataclass(frozen=True, repr=False)
class Limits:
    """Arguments of a job that say what it need not, or must not, submit.

    :param source: the number of its source
    :param reuses: it has `reuse_from`
    """

    source: int = 0
    deduplicate: bool = False
    reuses: bool = False
    max_cost: float | None = None
    max_active_batches: int | None = None

    def __repr__(self) -> str:
        return f"Limits({_changed(self)})"


@dataclass(frozen=True, repr=False)
class Life:
    """One attempt, and the events that it meets.

    A step is a request to the service, or a file that is published.

    :param variant: of the task's definition: a deploy changes it
    :param limits: of a job: a deploy changes them too
    :param cleared: a person has started it, by clearing the task
    :param pause: seconds that have passed since the one before
    :param plan: of the batches that it creates
    :param faults: of the service
    :param crash_at: the step at which the worker dies, before it or after it
    :param rival_at: the step before which another attempt runs, until that one has submitted
    """

    variant: int = 0
    limits: Limits = field(default_factory=Limits)
    cleared: bool = False
    pause: float = 0.0
    forms: Forms = field(default_factory=Forms)
    plan: dict[str, Any] = field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] = ()
    crash_at: tuple[int, bool] | None = None
    rival_at: int | None = None
    deferrable: bool = True

    def __repr__(self) -> str:
        return f"Life({_changed(self)})"


def _changed(value: Any) -> str:
    """Return the fields of a dataclass that differ from their defaults, as source text."""
    usual = type(value)()
    shown = {field.name: getattr(value, field.name) for field in fields(value)}
    changed = {name: item for name, item in shown.items() if item != getattr(usual, name)}
    texts = {
        name: f"Forms({_changed(entry)})" if isinstance(entry, Forms) else repr(entry)
        for name, entry in changed.items()
    }
    return ", ".join(f"{name}={text}" for name, text in texts.items())


@dataclass(frozen=True)
class Create:
    """A create request that the service has executed.

    :param number: of the attempt
    :param rivals: numbers of the attempts that have run at the same time as that one
    :param is_late: whether the list does not show new batches
    :param is_anonymous: whether no response shows the task of a batch
    :param known: ids of batches whose attempt had been answered, and had gone on, when it was sent
    :param limits: of the attempt
    :param job: the job of the batch; None for a batch without one
    :param is_lossy: whether an attempt so far may have failed to fetch results for long
    """

    batch_id: str
    number: int
    is_late: bool
    is_anonymous: bool
    known: frozenset[str]
    epoch: int
    limits: Limits = field(default_factory=Limits)
    job: JobSeen | None = None
    is_lossy: bool = False


@dataclass(frozen=True)
class JobSeen:
    """A job when it was written.

    :param limits: of the attempt that wrote it
    :param copies: how often it needs each request, by `request_digest`
    """

    id: str
    limits: Limits
    copies: Mapping[str, int]


class StateStore:
    """The task state store of Airflow 3.3 and later: later attempts can read the values of earlier ones."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.values[key] = json.dumps(value)


class Lives:
    """The lives of one task instance.

    :param make: makes its operator for a life
    :param jobs: those that were written, by their ids
    :param job: the one that was written last
    :param known: ids of batches whose attempt was answered, and has lived on long enough to write that down
    """

    def __init__(
        self, options: EmulatorOptions, clock: HeldClock, monkeypatch: pytest.MonkeyPatch, *, has_store: bool
    ) -> None:
        self.clock = clock
        self.make: Callable[..., BaseOperator] = BaseOperator
        self.known: set[str] = set()
        self.ti = TaskInstance()
        self.ti.max_tries = RETRIES
        self.store = StateStore() if has_store else None
        self.creates: list[Create] = []
        self.jobs: dict[str, JobSeen] = {}
        self.job: JobSeen | None = None
        self.is_lossy = False
        self.rivals: set[tuple[int, int]] = set()
        self.epoch = 0
        self.is_endless = False
        self._options = options
        self._monkeypatch = monkeypatch
        self._attempts: list[_Attempt] = []
        self._started = 0
        self._emulator: Emulator | None = None
        self._patch()

    @property
    def control(self) -> Control:
        assert self._emulator is not None
        return self._emulator.control

    @property
    def base_url(self) -> str:
        assert self._emulator is not None
        return self._emulator.base_url

    @contextmanager
    def service(self, forms: Forms) -> Iterator[Emulator]:
        """Run the service with some response forms, at the same address as before."""
        with Emulator(replace(self._options, forms=forms), clock=self.clock) as emulator:
            port = int(emulator.base_url.rpartition(":")[2].removesuffix("/v1"))
            self._options = replace(self._options, port=port, storage_port=0)
            self._emulator = emulator
            value = json.dumps(emulator.airflow_connection)
            self._monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", value)
            yield emulator
        self._emulator = None

    def live(self, life: Life) -> Any:
        """Run a life; return the task's result, or the error that ended it."""
        self.clock.advance(life.pause)
        if self._started:
            self.epoch += life.cleared
            self.ti.clear(RETRIES) if life.cleared else self._retry()
        with self.service(life.forms):
            if life.plan:
                self.control.plan(every=1, **life.plan)
            for fault in life.faults:
                self.control.fault(**fault)
                self.is_lossy |= fault["endpoint"] in ("GET /results/{id}", "GET /batches/{id}")
            attempt = self._attempt(life)
            try:
                return attempt.run()
            except (Exception, Killed) as error:
                return error
            finally:
                for rival in attempt.rivals:
                    rival.end()

    def _retry(self) -> None:
        self.ti.try_number += 1

    def _attempt(self, life: Life) -> _Attempt:
        self._started += 1
        ti = TaskInstance()
        ti.try_number, ti.max_tries = self.ti.try_number, self.ti.max_tries
        context = {"ti": ti, **({} if self.store is None else {"task_state_store": self.store})}
        make = partial(self.make, life)
        return _Attempt(self, life, self._started, make, context)

    def begin_rival(self, attempt: _Attempt) -> None:
        """Start another attempt, as Airflow does when it has lost contact with a running one."""
        self._retry()
        rival = self._attempt(replace(attempt.life, crash_at=None, rival_at=None, deferrable=True))
        self.rivals.add((attempt.number, rival.number))
        attempt.rivals.append(rival)
        rival.begin()

    @contextmanager
    def running(self, attempt: _Attempt) -> Iterator[None]:
        """Assign the following steps to an attempt."""
        self._attempts.append(attempt)
        try:
            yield
        finally:
            self._attempts.pop()

    def _patch(self) -> None:
        """Route every step through the current attempt. Parts are submitted one by one, so that every run is equal."""
        send, publish, create = Session.send, Workspace.publish, SiliconFlowClient.create_batch

        def create_batch(client: SiliconFlowClient, *arguments: Any, **options: Any) -> Batch:
            batch = create(client, *arguments, **options)
            if self._attempts:
                self._attempts[-1].told.add(batch.id)
            return batch

        def send_step(session: Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            if not self._attempts:
                return send(session, request, **options)
            attempt = self._attempts[-1]
            return attempt.step(lambda: self._sent(attempt, request, lambda: send(session, request, **options)))

        def publish_step(files: Workspace, name: str) -> None:
            if not self._attempts:
                publish(files, name)
                return
            attempt = self._attempts[-1]
            attempt.step(lambda: self._published(attempt, files, name, publish))

        self._monkeypatch.setattr(Session, "send", send_step)
        self._monkeypatch.setattr(Workspace, "publish", publish_step)
        self._monkeypatch.setattr(SiliconFlowClient, "create_batch", create_batch)
        self._monkeypatch.setattr(concurrency, "SUBMITTED_AT_ONCE", 1)

    def _published(self, attempt: _Attempt, files: Workspace, name: str, publish: Callable[..., None]) -> None:
        """Publish a file, and record the job if it is one."""
        publish(files, name)
        if name != JOB:
            return
        job = msgspec.json.decode((files.directory / JOB).read_bytes(), type=Job)
        lines = (files.directory / job_file_name(REQUESTS, job.directory)).read_text().splitlines()
        copies = Counter(request_digest(json.loads(line)["body"]) for line in lines)
        self.job = self.jobs.setdefault(job.id, JobSeen(job.id, attempt.life.limits, copies))

    def _sent(
        self, attempt: _Attempt, request: requests.PreparedRequest, send: Callable[[], requests.Response]
    ) -> requests.Response:
        """Send a request, and record the batch that it created."""
        if (request.method, request.path_url) != ("POST", "/v1/batches"):
            return send()
        before, known = {item.batch_id for item in self.control.executions_by_batch()}, frozenset(self.known)
        try:
            return send()
        finally:
            forms = attempt.life.forms
            is_late, is_anonymous = forms.list_lag_seconds > 0, forms.metadata_dropped or forms.metadata_users_only
            new = [item for item in self.control.executions_by_batch() if item.batch_id not in before]
            self.creates += [
                Create(
                    item.batch_id, attempt.number, is_late, is_anonymous, known, self.epoch,
                    attempt.life.limits, self.job, self.is_lossy,
                )
                for item in new
            ]  # fmt: skip


class _Attempt:
    def __init__(
        self, lives: Lives, life: Life, number: int, make: Callable[[], BaseOperator], context: dict[str, Any]
    ) -> None:
        self.life = life
        self.number = number
        self.rivals: list[_Attempt] = []
        self._lives = lives
        self._make = make
        self._context = context
        self.told: set[str] = set()
        self._steps = 0
        self._is_dead = False
        self._deferral: TaskDeferred | None = None

    def run(self) -> Any:
        """Run the task to its end, with its triggers."""
        step: Callable[[], Any] = partial(self._make().execute, self._context)
        while True:
            try:
                with self._lives.running(self):
                    return step()
            except TaskDeferred as deferral:
                step = self._resumption(deferral)

    def begin(self) -> None:
        """Run the task until it waits, or fails."""
        try:
            with self._lives.running(self):
                self._make().execute(self._context)
        except TaskDeferred as deferral:
            self._deferral = deferral
        except Exception:
            self._deferral = None

    def end(self) -> None:
        """Resume a waiting task."""
        deferral, self._deferral = self._deferral, None
        if deferral is None:
            return
        try:
            step = self._resumption(deferral)
            with self._lives.running(self):
                step()
        except (TaskDeferred, Exception):
            self._deferral = None

    def _resumption(self, deferral: TaskDeferred) -> Callable[[], Any]:
        event = {"event": asyncio.run(_only_event(*deferral.trigger.serialize()))}
        return partial(self._make().resume_execution, deferral.method_name, event, self._context)

    def step(self, do: Callable[[], Any]) -> Any:
        """Execute a step, unless the worker is killed."""
        if self._is_dead:
            raise Killed
        self._steps += 1
        if self._steps > MOST_STEPS:
            self._lives.is_endless = True
            self._die()
        number, crash_at = self._steps, self.life.crash_at
        if number == self.life.rival_at:
            self._lives.begin_rival(self)
        if crash_at == (number, False):
            self._die()
        told = set(self.told)
        done = do()
        self._lives.known |= told
        if crash_at == (number, True):
            self._die()
        return done

    def _die(self) -> None:
        self._is_dead = True
        raise Killed


async def _only_event(path: str, arguments: dict[str, Any]) -> Any:
    module, _, name = path.rpartition(".")
    trigger = getattr(import_module(module), name)(**arguments)
    (event,) = [end async for end in trigger.run()]
    return json.loads(json.dumps(event.payload))
