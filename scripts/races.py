"""Ten processes that run one task instance's attempt at once, over many rounds: one batch a file has to be left.

Airflow is imported once, here; each attempt is a process that is forked from this one. In every other round the
attempts start together, in the others within three seconds. Writes the page that is named, or prints it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")

from airflow.providers.common.compat.sdk import TaskDeferred

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.inputs.parts import PartWriter
from siliconflow_provider.jobs import opening, runner  # noqa: F401, before the fork
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.operators import identity  # noqa: F401, before the fork
from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.triggers.batches import BatchTrigger  # noqa: F401, before the fork
from tests.commit import tried_commit

PROCESSES = 10
ROUNDS = 50
JOB_ROUNDS = 20
PARTS = 3
PART_LINES = 4
SIDE_BY_SIDE = 10
LONGEST_LAG = 3.0
LATEST_START = 3.0
API_KEY = "sk-races"
RETRIED = "a retry heals it"
PAGE = """# Attempts at once

`make races` writes this page. Each round is one task instance whose attempt runs in {processes} processes at once, up
to its deferral, against an emulator that shows a new batch in its list so many seconds late. In the end one batch
has to be left, the others have to be cancelled, and every attempt has to wait for the one (its XCom says so too).

{rounds} rounds took {seconds:.0f} s at {commit}, {side_by_side} of them side by side. {summary}

| round | list lags, s | attempts start | batches created | left | attempts that wait for it |
| --- | --- | --- | --- | --- | --- |
{table}

## A whole job

The same with `BatchInferenceOperator` and a source that gives each process something else, in {parts} parts. One job
has to be left, whole, and every other attempt has to go on with it, or to end with an error that a retry heals: it
found the requests of another attempt in the job's place.

{job_rounds} rounds took {job_seconds:.0f} s. {job_summary}

| round | list lags, s | attempts start | batches created | left | attempts that wait for them | that are retried |
| --- | --- | --- | --- | --- | --- | --- |
{job_table}

## The rule

An attempt lists the batches, and takes the oldest of its own over or creates one. {settling:.0f} s later it looks
again, and once more when its wait is over. Of the batches of one submission the oldest by `created_at` (whole seconds)
and id is kept. Whoever sees two that run cancels the younger one, whoever created it, and waits for the older one. So
no lock is needed: the oldest has nobody who could cancel it, and a batch whose attempt died is cancelled by the next.

A job is agreed on before anything is submitted: {settling:.0f} s after an attempt has written `job.json` it reads it
again. The last one written stands, and its attempt puts its own requests back where another has replaced them; nobody
goes on with a job that is younger. Before they are used, requests are compared with the hashes in `job.json`.
An attempt that was held up between its look and its write finds the other's batches before it creates any, and ends
with an error that a retry heals; the other one puts its job back once it has submitted.

## What it cannot rule out

- **What the younger batch does before it is cancelled is billed**: the requests that it begins within about
  {settling:.0f} s of its creation, and until those in flight have ended.
- **A list that lags longer than {settling:.0f} s.** Of two batches, the attempt that looks later sees both when the
  list shows a batch within {settling:.0f} s of its creation. When it takes longer, both run, and are billed, until an
  attempt looks again: at the end of a wait, or on a retry. Each attempt at the same time can cost one batch then, whole
  in the worst case. Where both have completed, the older one's answers are used.
- **A create that is carried out late.** After a lost answer the list is asked after 2, 6 and 14 s, and then the batch
  is created again, three times in all. A create that the service still carries out, or shows, after that is a
  second batch until the next look finds it, which is {settling:.0f} s after the next create, at the end of the wait, or
  on a retry of the task: three batches at most for one attempt.
- **`wait_for_completion=False` looks only once.** When the list lags longer than {lag_of_one_look:.0f} s (within one
  second ids decide, so the kept batch may be the later one), such a task may have returned a batch that another attempt
  cancels: what waits for it ends with `BatchCancelledError`, and clearing the task finds the batch that was kept.
- **A list that shows an older batch as running after it has been cancelled or has failed.** The younger one is then
  cancelled in its favour, and the task ends with the older one's verdict: nothing is paid twice, but a person has to
  clear the task.
- **A cancel that the service refuses.** The attempt fails with the service's reason, and each retry tries again: while
  two batches run, no attempt goes on to wait as if there was one.
- **A list without what a batch says of itself.** Found are batches that show their metadata in the list or singly, and
  that are at most 30 days old.
- **Another file.** A batch is found by the id of its file. `UploadFileOperator` gives the same id for the same content
  as long as the list of files shows it; a list of files that hides an upload from a task that runs again leads to a
  second upload, and to a batch of its own. The batch of the other file is then named in a warning.
"""

fork = multiprocessing.get_context("fork")


@dataclass
class Round:
    """One task instance, and the service that it speaks to."""

    number: int
    lag: float
    is_staggered: bool
    is_job: bool = False
    base_url: str = ""
    folder: Path = Path()

    @property
    def files(self) -> int:
        """How many batches there have to be."""
        return PARTS if self.is_job else 1


@dataclass
class Result:
    """What a round came to.

    :param agreeing: attempts that wait for what is left
    :param retried: attempts that a retry heals
    """

    round: Round
    created: int
    left: int
    agreeing: int
    retried: int

    @property
    def is_violation(self) -> bool:
        """Whether something was paid twice, or lost."""
        return (self.left, self.agreeing + self.retried) != (self.round.files, PROCESSES)

    def __str__(self) -> str:
        start = f"within {LATEST_START:.0f} s" if self.round.is_staggered else "at once"
        row = [self.round.number, f"{self.round.lag:.1f}", start, self.created, self.left, self.agreeing]
        return f"| {' | '.join(map(str, row + [self.retried] * self.round.is_job))} |"


class TaskInstance:
    """What the operator uses of a task instance."""

    dag_id = "races"
    task_id = "create"
    run_id = "manual"
    map_index = -1
    try_number = 1
    max_tries = 3

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def serve(rounds: list[Round], directory: Path, addresses: Connection) -> None:
    """Run an emulator for each round until this process is ended; a batch stays in its queue."""
    for each in rounds:
        forms = Forms(list_lag_seconds=each.lag)
        options = EmulatorOptions(directory / str(each.number), api_key=API_KEY, queue_seconds=3600, forms=forms)
        emulator = Emulator(options)
        emulator.start()
        addresses.send(emulator.base_url)
    while True:
        time.sleep(60)


def attempt(one: Round, barrier: Any, ends: Any) -> None:
    """Run the task as far as its deferral, and report what it waits for and what its XCom says."""
    value = {"conn_type": "siliconflow", "host": one.base_url, "password": API_KEY}
    os.environ["AIRFLOW_CONN_SILICONFLOW_DEFAULT"] = json.dumps(value)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    ti = TaskInstance()
    task = job(one) if one.is_job else batch(one)
    barrier.wait()
    if one.is_staggered:
        time.sleep(random.Random(os.getpid()).uniform(0, LATEST_START))
    try:
        task.execute({"ti": ti})
    except TaskDeferred as deferral:
        waits = sorted(deferral.trigger.batch_ids)
        ends.put((one.number, waits if one.is_job or waits == [ti.xcoms["batch_id"]] else ["another in XCom"]))
    except RequestsLostError:
        ends.put((one.number, RETRIED))
    except Exception as error:
        ends.put((one.number, [repr(error)]))


def batch(one: Round) -> CreateBatchOperator:
    """Return a task that submits the round's file."""
    file = SiliconFlowClient(API_KEY, one.base_url).list_files()[0]
    return CreateBatchOperator(task_id="create", input_file_id=file.id)


def job(one: Round) -> BatchInferenceOperator:
    """Return a task whose source gives this process something else than the others."""
    PartWriter.__init__.__kwdefaults__["most_lines"] = PART_LINES
    prompts = [f"{os.getpid()}: {number}" for number in range(PARTS * PART_LINES)]
    return BatchInferenceOperator(task_id="create", requests=prompts, model="m", output_path=str(one.folder))


def run(rounds: list[Round], directory: Path) -> Iterator[Result]:
    """Run rounds side by side, and yield what each came to."""
    addresses, sender = fork.Pipe(duplex=False)
    server = fork.Process(target=serve, args=(rounds, directory, sender), daemon=True)
    server.start()
    try:
        for each in rounds:
            each.base_url, each.folder = addresses.recv(), directory / f"job-{each.number}"
            source = directory / f"{each.number}.jsonl"
            source.write_text('{"custom_id": "a", "body": {"model": "m", "messages": []}}\n')
            SiliconFlowClient(API_KEY, each.base_url).upload_file(source)
        barrier, ends = fork.Barrier(PROCESSES * len(rounds)), fork.Queue()
        attempts = [fork.Process(target=attempt, args=(each, barrier, ends)) for each in rounds * PROCESSES]
        for process in attempts:
            process.start()
        waits = [ends.get(timeout=120) for _ in attempts]
        for process in attempts:
            process.join()
        time.sleep(LONGEST_LAG)
        for each in rounds:
            created = list(SiliconFlowClient(API_KEY, each.base_url).list_batches())
            left = sorted(batch.id for batch in created if batch.status == "in_queue")
            ends_here = [end for number, end in waits if number == each.number]
            yield Result(each, len(created), len(left), ends_here.count(left), ends_here.count(RETRIED))
    finally:
        server.terminate()
        server.join()


def all_rounds(count: int, *, is_job: bool) -> tuple[list[Result], dict[str, Any]]:
    """Run so many rounds; return what they came to, and what the page says of them."""
    started, results = time.monotonic(), []
    rounds = [Round(number, random.uniform(0, LONGEST_LAG), number % 2 == 0, is_job) for number in range(1, count + 1)]
    with tempfile.TemporaryDirectory(prefix="races-") as directory:
        for first in range(0, count, SIDE_BY_SIDE):
            results += run(rounds[first : first + SIDE_BY_SIDE], Path(directory))
            print(f"{len(results)} of {count} rounds", file=sys.stderr, flush=True)
    failed = sum(each.is_violation for each in results)
    created, left = (sum(getattr(each, name) for each in results) for name in ("created", "left"))
    return results, {
        "seconds": time.monotonic() - started,
        "summary": f"**{failed} rounds broke the rule.**"
        if failed
        else f"{created} batches were created and {left} left.",
        "table": "\n".join(map(str, results)),
    }


def main() -> int:
    """Write the page, and return 1 when a round left more or less than it has to, or attempts that disagree."""
    batches, of_batches = all_rounds(ROUNDS, is_job=False)
    jobs, of_jobs = all_rounds(JOB_ROUNDS, is_job=True)
    shutil.rmtree(os.environ["AIRFLOW_HOME"])
    failed = [each for each in batches + jobs if each.is_violation]
    page = PAGE.format(
        processes=PROCESSES,
        commit=tried_commit(),
        rounds=ROUNDS,
        parts=PARTS,
        job_rounds=JOB_ROUNDS,
        side_by_side=SIDE_BY_SIDE,
        settling=LIST_LAG_SECONDS,
        lag_of_one_look=LIST_LAG_SECONDS - 1,
        **of_batches,
        **{f"job_{name}": value for name, value in of_jobs.items()},
    )
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(page)
    print(page if not sys.argv[1:] else "\n".join(map(str, failed)) or "No round broke the rule.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
