"""The control interface for tests: the clock, planned outcomes, faults, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from starlette.types import ASGIApp

from siliconflow_provider.emulator.answer_functions import FunctionPlan
from siliconflow_provider.emulator.answer_rules import read_answers
from siliconflow_provider.emulator.batches import BatchStore
from siliconflow_provider.emulator.clock import Clock
from siliconflow_provider.emulator.counts import AnswerCounts, CountedApp
from siliconflow_provider.emulator.errors import ControlError
from siliconflow_provider.emulator.executions import BatchExecutions, Executions, Identity
from siliconflow_provider.emulator.faults import KINDS, Fault, FaultyApp
from siliconflow_provider.emulator.plans import Plan
from siliconflow_provider.emulator.rules import Rules, read


class Control:
    """Controls a running emulator. Threads may share it.

    Plans, faults, the held clock and the counts of responses are kept in memory: they survive `stop` and `start`, but
    not the end of the process. A batch stores its plan, and executions are counted from the stored batches.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._plans: Rules[Plan] = Rules()
        self._faults: Rules[Fault] = Rules()
        self._answers = AnswerCounts()
        self._batches: BatchStore | None = None

    def plan(self, /, **fields: Any) -> None:
        """Plan the outcome of future batches, with the fields of `plans.Plan`.

        `answers` may also be a text for all requests, a mapping from a custom_id, or from a part of a prompt, to a text
        or to the fields of an Answer, or a function of a request line.

        :raises ControlError: if a field is invalid; the message names it and the allowed values
        """
        answers = fields.pop("answers", ())
        plan = read("plan", fields, Plan)
        if callable(answers):
            self._plans.add(FunctionPlan(**msgspec.structs.asdict(plan), function=answers))
        else:
            self._plans.add(msgspec.structs.replace(plan, answers=read_answers(answers)))

    def fault(self, /, endpoint: str, kind: str = "status", **fields: Any) -> None:
        """Plan a fault at an endpoint such as `POST /batches`, with the fields of its class.

        :param kind: one of `faults.KINDS`
        :raises ControlError: if a field is invalid; the message names it and the allowed values
        """
        if kind not in list(KINDS):
            raise ControlError(f"fault: kind: must be one of {', '.join(KINDS)}, not {kind!r}")
        self._faults.add(read("fault", {"endpoint": endpoint} | fields, KINDS[kind]))

    def reset(self) -> None:
        """Delete all plans and faults. Existing batches keep their plans."""
        self._plans.clear()
        self._faults.clear()

    def plans(self) -> list[dict[str, Any]]:
        """Return the plans. `seen` counts the batches that a plan matched, `used` those that it was used for."""
        return self._plans.listing()

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults. `seen` counts the requests that a fault matched, `used` those that it was used for."""
        return self._faults.listing()

    def answers(self) -> dict[str, Counter[int | None]]:
        """Return the counts of responses by endpoint and status, None for a connection closed without a response."""
        return self._answers.by_endpoint()

    def batches_created(self) -> int:
        """Return the number of batches in the data directory."""
        return self._store().count()

    def executions(self, by: Identity = "body") -> Executions:
        """Return the count of executions of each request, successful or not.

        Each call counts again, from the stored batches and their input files, so that memory grows with distinct
        requests only. Requests that an expired or cancelled batch did not run are not counted.

        :param by: `body`, or `custom_id` for custom_id and body
        """
        return Executions(dict(Counter(self._store().executed(_identity(by)))))

    def executions_by_batch(self, by: Identity = "body") -> list[BatchExecutions]:
        """Return the executed requests of each batch, oldest first, with all metadata, whatever the forms show."""
        return list(self._store().executed_by_batch(_identity(by)))

    def plan_for(self, metadata: Mapping[str, str]) -> Plan:
        """Return the plan for a new batch."""
        return self._plans.take(lambda plan: plan.is_for(metadata)) or Plan()

    def attach(self, batches: BatchStore | None) -> None:
        """Use this store for the counts; None after the emulator has stopped."""
        self._batches = batches

    def controlled(self, app: ASGIApp) -> ASGIApp:
        """Return the application with faults and counts."""
        return CountedApp(FaultyApp(app, self._faults), self._answers)

    def _store(self) -> BatchStore:
        if self._batches is None:
            raise ControlError("the emulator is not running: start it first")
        return self._batches


def _identity(by: Identity) -> Identity:
    if by not in get_args(Identity):
        raise ControlError(f"by: must be one of {', '.join(get_args(Identity))}, not {by!r}")
    return by
