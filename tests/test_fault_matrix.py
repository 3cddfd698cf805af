"""Every fault at every call of the operators; `make fault-matrix` runs all and writes the table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.errors import CreateUncertainError
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import EmulatorOptions
from siliconflow_provider.inputs.parts import PartWriter
from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator
from tests.commit import tried_commit

REQUESTS = 12
BURST = 8
TIMEOUT = 0.3
PARTS = 3
TABLE = os.environ.get("FAULT_MATRIX")
# The arguments of each job. One of them submits its parts one after the other, if their costs allow it.
JOBS: dict[str, dict[str, Any]] = {
    "job": {},
    "capped": {
        "max_active_batches": 1,
        "prices": {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1, "output": 4}}},
        "request_params": {"max_tokens": 100},
        "max_cost": 1,
    },
}


@dataclass(frozen=True)
class Call:
    """A request of the flow: the n-th to this endpoint from the beginning of that task on.

    `is_paid`: it follows a create of the same task, so that nothing which heals within an hour may fail the task.
    """

    name: str
    endpoint: str
    task: str
    nth: int = 1
    has_rival: bool = False
    result_ids: bool = False
    is_paid: bool = False

    @property
    def batches(self) -> tuple[int, int]:
        """How many batches are created, and how many of them kept."""
        kept = PARTS if self.task in JOBS else 1
        return kept + self.has_rival, kept


CALLS = [
    Call("GET /files", "GET /files", "upload"),
    Call("POST /files", "POST /files", "upload"),
    Call("GET /batches, before the create", "GET /batches", "create"),
    Call("POST /batches", "POST /batches", "create"),
    Call("GET /batches, after the create", "GET /batches", "create", nth=2, is_paid=True),
    Call(
        "POST /batches/{id}/cancel, of a younger batch",
        "POST /batches/{id}/cancel",
        "create",
        has_rival=True,
        is_paid=True,
    ),
    Call("GET /batches/{id}, while waiting", "GET /batches/{id}", "create", is_paid=True),
    Call("GET /batches, at the end of the wait", "GET /batches", "create", nth=3, is_paid=True),
    Call("GET /batches/{id}, before the download", "GET /batches/{id}", "download"),
    Call("GET /results/{id}", "GET /results/{id}", "download"),
    Call("GET /files/{id}/content", "GET /files/{id}/content", "download", result_ids=True),
    Call("GET /batches, before a job is written", "GET /batches", "job"),
    Call("GET /batches, before a job's creates", "GET /batches", "job", nth=2),
    Call("GET /files, of a job", "GET /files", "job"),
    Call("GET /user/info, of a job", "GET /user/info", "job"),
    Call("POST /files, of a job's second part", "POST /files", "job", nth=2, is_paid=True),
    Call("POST /batches, of a job's second part", "POST /batches", "job", nth=2, is_paid=True),
    Call("GET /batches, after a job's creates", "GET /batches", "job", nth=3, is_paid=True),
    Call("GET /batches, of a job that waits", "GET /batches", "job", nth=4, is_paid=True),
    Call("GET /results/{id}, of a job's second part", "GET /results/{id}", "job", nth=2, is_paid=True),
    Call("GET /results/{id}, for the cost of a job's first part", "GET /results/{id}", "capped", is_paid=True),
    Call("GET /batches, before a job's second create", "GET /batches", "capped", nth=5, is_paid=True),
    Call("POST /batches, after a job's first batch", "POST /batches", "capped", nth=2, is_paid=True),
]

TOO_MANY = {"code": 20012, "message": "Too many active batches: at most 2 at once", "data": None}
REFUSED = {400: "BadRequestError", 401: "KeyRefusedError", 403: "AccessRefusedError", 404: "NotFoundError"}
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    **{str(status): ({"status": status}, error) for status, error in REFUSED.items()},
    "429, Retry-After 7": ({"status": 429, "retry_after": 7}, "RateLimitError"),
    "400, too many batches": ({"status": 400, "body": TOO_MANY}, "BadRequestError"),
    "429, Retry-After a date": ({"status": 429, "retry_after": "in 30 s"}, "RateLimitError"),
    **{str(status): ({"status": status}, "ServerError") for status in (500, 502, 503, 504)},
    **{
        f"{status} after the work": ({"status": status, "after_work": True}, "ServerError")
        for status in (500, 502, 503, 504)
    },
    "lost answer after the work": ({"kind": "lost_answer"}, "AnswerLostError"),
    "reset before the work": ({"kind": "reset"}, "AnswerLostError"),
    "delay, no timeout": ({"kind": "delay", "seconds": 0.03}, ""),
    "timeout before the work": ({"kind": "delay", "seconds": 2 * TIMEOUT}, "AnswerLostError"),
    "timeout after the work": ({"kind": "delay", "seconds": 2 * TIMEOUT, "after_work": True}, "AnswerLostError"),
    "cut body": ({"kind": "cut", "after_bytes": 20}, "IncompleteBodyError"),
    "garbage 200": ({"kind": "garbage"}, "UnreadableAnswerError"),
    "garbage 200 after the work": ({"kind": "garbage", "after_work": True}, "UnreadableAnswerError"),
    "slow": ({"kind": "slow", "chunk_bytes": 256, "pause_seconds": 0.005}, ""),
}


@dataclass(frozen=True)
class Cell:
    """One fault at one call, so many times in a row."""

    call: Call
    fault: str
    times: int = 1

    def __str__(self) -> str:
        return f"{self.call.name} x {self.fault} x {self.times}"

    @property
    def errors(self) -> tuple[str, ...]:
        """What may end the task; nothing where one fault has to heal by itself."""
        error = FAULTS[self.fault][1]
        if self.call.is_paid and self.call.endpoint == "POST /batches":
            # Creates of a part are bounded, whatever heals: each of them may have been carried out.
            is_bounded = self.times > 1 and error not in (*REFUSED.values(), "RateLimitError", "")
            return ("CreateUncertainError",) if is_bounded else ()
        if self.call.endpoint in ("GET /results/{id}", "GET /files/{id}/content"):
            return ()
        if not error or (self.times == 1 and error not in REFUSED.values()):
            return ()
        if self.call.endpoint in ("GET /files", "GET /user/info") or (
            self.call.is_paid and self.call.endpoint != "POST /batches"
        ):
            return ()
        if self.call.endpoint == "POST /batches" and error not in (*REFUSED.values(), "RateLimitError"):
            return ("CreateUncertainError",)
        return (error,)


@dataclass(frozen=True)
class Outcome:
    """What a cell came to, as the emulator and the result file have it."""

    error: str | None
    created: int
    kept: int
    most: int
    rows: int

    def __str__(self) -> str:
        healed_by = "a clear" if self.error == "CreateUncertainError" else "a retry"
        end = "succeeded" if self.error is None else f"{self.error}, healed by {healed_by}"
        return f"{end} | {self.created} | {self.most} | {self.rows}"


ALL = [Cell(call, fault, times) for call in CALLS for fault in FAULTS for times in (1, BURST)]
SAMPLE = [
    ("GET /files", "404", 1, None),
    ("POST /files", "lost answer after the work", 1, None),
    ("POST /files", "504 after the work", BURST, "ServerError"),
    ("GET /batches, before the create", "503", 1, None),
    ("GET /batches, before the create", "garbage 200", BURST, "UnreadableAnswerError"),
    ("POST /batches", "400", 1, "BadRequestError"),
    ("POST /batches", "429, Retry-After a date", BURST, "RateLimitError"),
    ("POST /batches", "504", 1, None),
    ("POST /batches", "504 after the work", BURST, None),
    ("POST /batches", "lost answer after the work", 1, None),
    ("POST /batches", "reset before the work", BURST, "CreateUncertainError"),
    ("POST /batches", "cut body", 1, None),
    ("POST /batches", "garbage 200 after the work", 1, None),
    ("GET /batches, after the create", "401", BURST, None),
    ("POST /batches/{id}/cancel, of a younger batch", "503", BURST, None),
    ("POST /batches/{id}/cancel, of a younger batch", "lost answer after the work", 1, None),
    ("GET /batches/{id}, while waiting", "403", 12, None),
    ("GET /batches/{id}, while waiting", "504", BURST, None),
    ("GET /batches, at the end of the wait", "503", BURST, None),
    ("GET /results/{id}", "cut body", BURST, None),
    ("GET /results/{id}", "garbage 200", BURST, None),
    ("GET /files/{id}/content", "404", BURST, None),
    ("POST /batches, of a job's second part", "lost answer after the work", 1, None),
    ("POST /batches, of a job's second part", "reset before the work", BURST, "CreateUncertainError"),
    ("POST /files, of a job's second part", "503", BURST, None),
    ("POST /batches, of a job's second part", "403", BURST, None),
    ("GET /batches, after a job's creates", "garbage 200", BURST, None),
    ("GET /batches, of a job that waits", "504", BURST, None),
    ("GET /user/info, of a job", "404", 1, None),
    ("GET /user/info, of a job", "403", BURST, None),
    ("GET /user/info, of a job", "garbage 200", BURST, None),
    ("POST /batches, of a job's second part", "400, too many batches", BURST, None),
    ("POST /batches, of a job's second part", "429, Retry-After 7", BURST, None),
    ("GET /results/{id}, for the cost of a job's first part", "503", BURST, None),
    ("GET /results/{id}, for the cost of a job's first part", "404", BURST, None),
    ("GET /batches, before a job's second create", "garbage 200", BURST, None),
    ("POST /batches, after a job's first batch", "400, too many batches", BURST, None),
    ("POST /batches, after a job's first batch", "429, Retry-After 7", BURST, None),
    ("POST /batches, after a job's first batch", "lost answer after the work", 1, None),
]
SEEN: dict[Cell, Outcome] = {}


@pytest.fixture
def options(options: EmulatorOptions, cell: Cell) -> EmulatorOptions:
    """Where a younger batch is cancelled, the list hid the older one, and neither has begun to run."""
    lag = LIST_LAG_SECONDS + 1 if cell.call.has_rival else 0.0
    return replace(
        options,
        url_seconds=3600,
        queue_seconds=3600 if cell.call.has_rival else options.queue_seconds,
        forms=Forms(result_ids=cell.call.result_ids, list_lag_seconds=lag),
    )


@pytest.fixture
def part_lines(monkeypatch) -> None:
    """Let a job have so many parts."""
    monkeypatch.setitem(PartWriter.__init__.__kwdefaults__, "most_lines", REQUESTS // PARTS)


@pytest.fixture
def outcome(
    cell: Cell, connection, emulator, context, clock, run, client, sums, tmp_path, monkeypatch, part_lines
) -> Outcome:
    """Run the flow with the fault in it; a task that fails is tried again without."""
    if cell.fault.startswith("timeout"):
        value = emulator.airflow_connection | {"extra": {"timeout": TIMEOUT}}
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(value))
    (tmp_path / "requests.jsonl").write_bytes(sums(REQUESTS))
    errors: list[str] = []

    def break_call() -> None:
        fields = FAULTS[cell.fault][0]
        if fields.get("retry_after") == "in 30 s":
            fields = fields | {"retry_after": formatdate(clock.now + 30, usegmt=True)}
        emulator.control.fault(cell.call.endpoint, nth=cell.call.nth, times=cell.times, **fields)

    def task(name: str, make: Callable[[], Any]) -> Any:
        context["ti"].task_id = name
        if name == "create" and cell.call.has_rival:
            CreateBatchOperator(task_id=name, input_file_id=file_id, wait_for_completion=False).execute(context)
        if name == cell.call.task:
            break_call()
        try:
            return run(make)
        except Exception as error:
            errors.append(type(error).__name__)
            emulator.control.reset()
            if isinstance(error, CreateUncertainError):
                # Too many creates whose answers were lost: only a person may let it send another.
                context["ti"].clear()
            return run(make)

    source, output = str(tmp_path / "requests.jsonl"), str(tmp_path / "out")
    if cell.call.task in JOBS:
        arguments = {"input_path": source, "output_path": output, **JOBS[cell.call.task]}
        task(cell.call.task, lambda: BatchInferenceOperator(task_id=cell.call.task, **arguments))
    else:
        file_id = task("upload", lambda: UploadFileOperator(task_id="upload", file_path=source))
        batch_id = task("create", lambda: CreateBatchOperator(task_id="create", input_file_id=file_id))
        download = partial(DownloadResultsOperator, batch_id=batch_id, output_path=output)
        task("download", lambda: download(task_id="download"))
    emulator.control.reset()
    rows = [json.loads(each) for each in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {each["custom_id"]: each["content"] for each in rows} == {f"r{i}": str(i + 1) for i in range(REQUESTS)}
    return Outcome(
        error=", ".join(errors) or None,
        created=emulator.control.batches_created(),
        kept=sum(each.status == "completed" for each in client.list_batches()),
        most=emulator.control.executions().most,
        rows=len(rows),
    )


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Write what all cells came to where FAULT_MATRIX says."""
    yield
    if TABLE:
        Path(TABLE).write_text("\n".join(table_lines()) + "\n")


def table_lines() -> Iterator[str]:
    healed = sum(each.error is not None for each in SEEN.values())
    broken = [cell for cell, seen in SEEN.items() if not is_fair(cell, seen)]
    yield f"""# What each fault comes to

`make fault-matrix` writes this page. Each row is one run of `UploadFileOperator`, `CreateBatchOperator` (deferred) and
`DownloadResultsOperator` with {REQUESTS} requests, or of `BatchInferenceOperator` (deferred) with as many in {PARTS}
parts. In it, one call to the emulator fails once, or {BURST} times in a row. A task that fails is then tried once more.
Where a younger batch is cancelled, two attempts ran at once, and neither batch had begun to run by then.

Of {len(SEEN)} runs, with Airflow {version("apache-airflow")} at {tried_commit()}, {len(SEEN) - healed} needed no retry
of a task and {healed} needed one."""
    if broken:
        yield f"\n**Something was paid twice or lost in {len(broken)}:** {', '.join(map(str, broken))}"
    else:
        yield "In each, every request has exactly one row, was executed exactly once, and one batch a file was kept."
    for call in CALLS:
        yield f"\n## {call.name}\n"
        yield "| fault | times | outcome | batches created | most executions of a request | rows |"
        yield "| --- | --- | --- | --- | --- | --- |"
        yield from (f"| {cell.fault} | {cell.times} | {seen} |" for cell, seen in SEEN.items() if cell.call == call)


def is_fair(cell: Cell, outcome: Outcome) -> bool:
    """Whether nothing was paid twice and nothing lost."""
    found = (outcome.created, outcome.kept, outcome.most, outcome.rows)
    return found == (*cell.call.batches, 1, REQUESTS)


def sample() -> list[Any]:
    calls = {each.name: each for each in CALLS}
    return [(Cell(calls[name], fault, times), error) for name, fault, times, error in SAMPLE]


if TABLE:

    @pytest.mark.parametrize("cell", ALL, ids=str)
    def test_no_fault_costs_money_or_rows(cell: Cell, outcome: Outcome) -> None:
        SEEN[cell] = outcome
        assert is_fair(cell, outcome), outcome
        assert outcome.error in (None, *cell.errors)

else:

    @pytest.mark.parametrize(("cell", "error"), sample(), ids=str)
    def test_no_fault_costs_money_or_rows(cell: Cell, error: str | None, outcome: Outcome) -> None:
        assert is_fair(cell, outcome), outcome
        assert outcome.error == error
