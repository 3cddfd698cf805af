"""The moments of a task's life at which its process is killed, as they show from outside of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.system.crashes import TaskKill

JOB = "job"
PARTS = 3
Condition = Callable[["TaskKill"], bool]


@dataclass(frozen=True)
class Point:
    """One moment.

    :param reached: the moment has come, or is about to: the task's process is stopped
    :param near: the process is looked for then, where `reached` leaves no time for it
    :param settled: so is what goes on without the stopped process: it is looked at, and killed
    :param passed: the process has gone further than the moment
    :param faults: what the emulator does so that the moment lasts
    :param plan: what the emulator has planned for the batch
    :param waits: the ways of waiting in which the moment differs
    :param big: with a request file that fills the buffers between two processes, and takes long to copy
    :param executions: how often a request is to be executed at most
    :param arguments: of the job
    :param parts: of the job's first round
    :param equal: every two of the job's requests are equal
    :param verdict: the error by which the task is to fail
    """

    name: str
    title: str
    task_id: str
    reached: Condition
    passed: Condition
    near: Condition | None = None
    settled: Condition = lambda crash: True
    faults: tuple[dict[str, Any], ...] = ()
    plan: dict[str, Any] = field(default_factory=dict)
    waits: tuple[str, ...] = ("deferred",)
    big: bool = False
    executions: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    parts: int = PARTS
    equal: bool = False
    verdict: str | None = None

    @property
    def is_job(self) -> bool:
        """Whether it is in the life of a whole job in one task."""
        return self.task_id == JOB

    @property
    def results(self) -> str:
        """The name of the file with the results."""
        return f"results.{self.arguments.get('output_format', 'jsonl')}"


def received(endpoint: str, times: int = 1) -> Condition:
    """The emulator has got so many requests of the endpoint."""
    return lambda crash: len(crash.emulator.requests("received", endpoint)) >= times


def answered(endpoint: str, times: int = 1) -> Condition:
    """The emulator has answered so many."""
    return lambda crash: len(crash.emulator.requests("answered", endpoint)) >= times


def pushed(task_id: str, key: str = "return_value") -> Condition:
    """Airflow has the XCom."""
    return lambda crash: crash.has_xcom(task_id, key)


def created(crash: TaskKill) -> bool:
    """The service has carried a create out."""
    return crash.emulator.control("GET", "/counts")["batches"] > 0


def downloads(crash: TaskKill) -> bool:
    """Some of the output has come to the task's temporary directory."""
    opened = (Path(each.path) for each in crash.process.open_files())
    return any(path.name.endswith("-output") and path.stat().st_size for path in opened)


def publishes(crash: TaskKill) -> bool:
    """The results are in their directory, but not yet under their name."""
    return any(crash.output.glob(".results.jsonl.*.part"))


def published(name: str) -> Condition:
    """A file has its name."""
    return lambda crash: (crash.output / name).exists()


def written(pattern: str) -> Condition:
    """A file whose name is not known has been published."""
    return lambda crash: any(crash.output.glob(pattern))


def held(endpoint: str, *, nth: int = 1, seconds: float = 60) -> dict[str, Any]:
    """The request waits for its work, until its client has died."""
    return {"endpoint": endpoint, "kind": "delay", "nth": nth, "seconds": seconds}


def late(endpoint: str, seconds: float = 4, *, nth: int = 1) -> dict[str, Any]:
    """The work is done, and its answer waits."""
    return held(endpoint, nth=nth, seconds=seconds) | {"after_work": True}


BOTH = ("deferred", "worker")
# The list is asked for before the create, after it, and when the wait is over.
AFTER_CREATE, AFTER_WAIT = 2, 3

POINTS = (
    Point(
        "before_upload",
        "before the upload: the list of files is answered",
        "upload",
        reached=received("GET /files"),
        settled=answered("GET /files"),
        passed=received("POST /files"),
        faults=(late("GET /files"),),
    ),
    Point(
        "mid_upload",
        "mid-upload: the file is half sent",
        "upload",
        reached=received("POST /files"),
        passed=answered("POST /files"),
        faults=(held("POST /files"),),
        big=True,
    ),
    Point(
        "after_upload",
        "after the upload's answer",
        "upload",
        reached=received("POST /files"),
        settled=answered("POST /files"),
        passed=pushed("upload"),
        faults=(late("POST /files"),),
    ),
    Point(
        "before_create",
        "before the create is sent: the list of batches is answered",
        "create",
        reached=received("GET /batches"),
        settled=answered("GET /batches"),
        passed=received("POST /batches"),
        faults=(late("GET /batches"),),
        waits=BOTH,
    ),
    Point(
        "before_answer",
        "after the create was carried out, before its answer",
        "create",
        reached=created,
        passed=answered("POST /batches"),
        faults=(late("POST /batches", 60),),
        waits=BOTH,
    ),
    Point(
        "before_xcom",
        "after the create's answer, before XCom `batch_id`",
        "create",
        reached=received("POST /batches"),
        settled=answered("POST /batches"),
        passed=pushed("create", "batch_id"),
        faults=(late("POST /batches"),),
        waits=BOTH,
    ),
    Point(
        "before_wait",
        "after XCom `batch_id`, before it waits",
        "create",
        reached=lambda crash: answered("POST /batches")(crash) and pushed("create", "batch_id")(crash),
        passed=received("GET /batches", AFTER_CREATE),
        waits=BOTH,
    ),
    Point(
        "waiting",
        "while it waits",
        "create",
        reached=answered("GET /batches/{id}", 2),
        passed=received("GET /batches", AFTER_WAIT),
        plan={"run_seconds": 20},
        waits=("worker",),
    ),
    Point(
        "after_wait",
        "after the wait: at resume, or at the end of the wait",
        "create",
        reached=received("GET /batches", AFTER_WAIT),
        passed=answered("GET /batches", AFTER_WAIT),
        faults=(held("GET /batches", nth=AFTER_WAIT),),
        waits=BOTH,
    ),
    Point(
        "verdict",
        "at a verdict: expired is seen, and not yet raised",
        "create",
        reached=received("GET /batches", AFTER_WAIT),
        passed=answered("GET /batches", AFTER_WAIT),
        faults=(held("GET /batches", nth=AFTER_WAIT),),
        plan={"end": "expired"},
        verdict="BatchExpiredError",
        waits=BOTH,
    ),
    Point(
        "mid_download",
        "mid-download: some of the output has come",
        "download",
        near=received("GET /results/{id}"),
        reached=downloads,
        passed=answered("GET /results/{id}"),
        faults=({"endpoint": "GET /results/{id}", "kind": "slow", "chunk_bytes": 1_000_000, "pause_seconds": 0.5},),
        big=True,
    ),
    Point(
        "before_rename",
        "before the final rename of `results.jsonl`",
        "download",
        near=received("GET /results/{id}"),
        reached=publishes,
        passed=published("results.jsonl"),
        big=True,
    ),
)

ONE_BY_ONE = {"max_active_batches": 1}
PRICED = {
    "prices": {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1, "output": 4}}},
    "request_params": {"max_tokens": 10},
}

# A job asks for the list of files once a round, or once a wave of batches, and for the list of batches before and
# after each of them.
JOB_POINTS = (
    Point(
        "before_job",
        "while the job is written: `requests.jsonl` is there, `job.json` is not",
        JOB,
        near=received("GET /batches"),
        reached=published("_siliconflow/requests.jsonl"),
        passed=published("_siliconflow/job.json"),
        faults=(late("GET /batches"),),
    ),
    Point(
        "between_parts",
        "between parts: one of three batches is created",
        JOB,
        reached=lambda crash: answered("POST /batches")(crash) and received("POST /batches", PARTS)(crash),
        passed=answered("POST /batches", 2),
        faults=(held("POST /batches", nth=2), held("POST /batches", nth=3)),
    ),
    Point(
        "between_rounds",
        "between rounds: the second is planned, and not submitted",
        JOB,
        near=published("_siliconflow/round-2.json"),
        reached=received("GET /files", 2),
        passed=answered("GET /files", 2),
        faults=(held("GET /files", nth=2),),
        plan={"failing": {"positions": [0]}, "times": 1},
        executions=2,
    ),
    Point(
        "mid_merge",
        "mid-merge: some answers have come",
        JOB,
        near=received("GET /results/{id}", 2),
        reached=downloads,
        passed=answered("GET /results/{id}", 2),
        faults=({"endpoint": "GET /results/{id}", "kind": "slow", "chunk_bytes": 200_000, "pause_seconds": 0.5},),
    ),
    Point(
        "before_manifest",
        "between results and manifest",
        JOB,
        near=received("GET /results/{id}", PARTS),
        reached=published("results.jsonl"),
        passed=published("manifest.json"),
        faults=(late("GET /results/{id}", nth=PARTS),),
    ),
    Point(
        "reuse_written",
        "while a job with `deduplicate` is written: `duplicates.jsonl` is there, `job.json` is not",
        JOB,
        near=received("GET /batches"),
        reached=written("_siliconflow/*/duplicates.jsonl"),
        passed=published("_siliconflow/job.json"),
        faults=(late("GET /batches"),),
        arguments={"deduplicate": True},
        parts=2,
        equal=True,
    ),
    Point(
        "between_waves",
        "with `max_active_batches`, between waves: one of three batches is over, the next is not created",
        JOB,
        reached=received("GET /files", 2),
        passed=answered("GET /files", 2),
        faults=(held("GET /files", nth=2),),
        arguments=ONE_BY_ONE,
    ),
    Point(
        "before_cost_check",
        "with `max_cost`, before its check: the cost of the first batch is being read",
        JOB,
        reached=received("GET /results/{id}"),
        passed=answered("GET /results/{id}"),
        faults=(held("GET /results/{id}"),),
        arguments={**ONE_BY_ONE, **PRICED, "max_cost": 100},
    ),
    Point(
        "after_cost_check",
        "with `max_cost`, after its check: the cost of the first batch is written, the next is not created",
        JOB,
        reached=lambda crash: received("GET /files", 2)(crash) and written("_siliconflow/usage-1-*.json")(crash),
        passed=answered("GET /files", 2),
        faults=(held("GET /files", nth=2),),
        arguments={**ONE_BY_ONE, **PRICED, "max_cost": 100},
    ),
    Point(
        "before_refusal",
        "before a job is refused for its `max_cost`: the balance is being read",
        JOB,
        reached=received("GET /user/info"),
        passed=answered("GET /user/info"),
        faults=(held("GET /user/info"),),
        arguments={**PRICED, "max_cost": 0.01},
        parts=0,
        verdict="MaxCostError",
    ),
    Point(
        "before_parquet_manifest",
        "between `results.parquet` and manifest",
        JOB,
        near=received("GET /results/{id}", PARTS),
        reached=published("results.parquet"),
        passed=published("manifest.json"),
        faults=(late("GET /results/{id}", nth=PARTS),),
        arguments={"output_format": "parquet"},
    ),
)
