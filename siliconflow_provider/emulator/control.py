"""The control interface: the clock, planned outcomes, faults, and counts of what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

from starlette.types import ASGIApp

from siliconflow_provider.emulator.batches import BatchStore
from siliconflow_provider.emulator.clock import Clock
from siliconflow_provider.emulator.counts import AnswerCounts, CountedApp
from siliconflow_provider.emulator.errors import ControlError
from siliconflow_provider.emulator.executions import BatchExecutions, Executions, Identity
from siliconflow_provider.emulator.faults import KINDS, Fault, FaultyApp
from siliconflow_provider.emulator.plans import Plan
from siliconflow_provider.emulator.rules import Rules, read


class Control:
    """What a test may do to a running emulator; may be used by several threads.

    Plans, faults, the held clock and the count of answers are kept in memory: they outlive `stop` and `start`, but
    not the process. A batch keeps what was planned for it, and executions are counted from what is stored.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._plans: Rules[Plan] = Rules()
        self._faults: Rules[Fault] = Rules()
        self._answers = AnswerCounts()
        self._batches: BatchStore | None = None

    def plan(self, /, **fields: Any) -> None:
        """Plan the outcome of batches that are yet to be created: the fields of `plans.Plan`.

        :raises ControlError: names the field at fault and what is allowed
        """
        self._plans.add(read("plan", fields, Plan))

    def fault(self, /, endpoint: str, kind: str = "status", **fields: Any) -> None:
        """Plan a fault of one of `faults.KINDS` at an endpoint such as `POST /batches`: the fields of its class.

        :raises ControlError: names the field at fault and what is allowed
        """
        if kind not in list(KINDS):
            raise ControlError(f"fault: kind: must be one of {', '.join(KINDS)}, not {kind!r}")
        self._faults.add(read("fault", {"endpoint": endpoint} | fields, KINDS[kind]))

    def reset(self) -> None:
        """Forget all plans and faults; batches that exist keep theirs."""
        self._plans.clear()
        self._faults.clear()

    def plans(self) -> list[dict[str, Any]]:
        """The plans as they were given, each with how many batches it has `seen` and was `used` for."""
        return self._plans.listing()

    def faults(self) -> list[dict[str, Any]]:
        """The faults as they were given, each with how many requests it has `seen` and was `used` for."""
        return self._faults.listing()

    def answers(self) -> dict[str, Counter[int | None]]:
        """Answers by endpoint and status; the status is None where the connection was closed without one."""
        return self._answers.by_endpoint()

    def batches_created(self) -> int:
        """How many batches the data directory has."""
        return self._store().count()

    def executions(self, by: Identity = "body") -> Executions:
        """How often each request was executed, well or not, by its body or by custom_id and body.

        Counted anew at each call, from the stored batches and their input files: memory grows with distinct
        requests only. What an expired or cancelled batch did not run does not count.
        """
        return Executions(dict(Counter(self._store().executed(_identity(by)))))

    def executions_by_batch(self, by: Identity = "body") -> list[BatchExecutions]:
        """What each batch has executed, the oldest first, with all of its metadata whatever the forms show."""
        return list(self._store().executed_by_batch(_identity(by)))

    def plan_for(self, metadata: Mapping[str, str]) -> Plan:
        """The outcome of a batch that is being created."""
        return self._plans.take(lambda plan: plan.is_for(metadata)) or Plan()

    def attach(self, batches: BatchStore | None) -> None:
        """Count in this store from now on; None when the emulator has stopped."""
        self._batches = batches

    def controlled(self, app: ASGIApp) -> ASGIApp:
        """The application with faults, and counted."""
        return CountedApp(FaultyApp(app, self._faults), self._answers)

    def _store(self) -> BatchStore:
        if self._batches is None:
            raise ControlError("the emulator is not running: start it first")
        return self._batches


def _identity(by: Identity) -> Identity:
    if by not in get_args(Identity):
        raise ControlError(f"by: must be one of {', '.join(get_args(Identity))}, not {by!r}")
    return by
