"""Random lives of a task instance: no answered request is submitted twice, and no row is lost."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.batches.creation import MAXIMUM_CREATES
from siliconflow_provider.emulator import batches
from siliconflow_provider.emulator.executions import BatchExecutions
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.inputs.parts import PartWriter
from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator
from tests.conftest import HeldClock, hold_time, request_line
from tests.lives import RETRIES, Create, Life, Limits, Lives

EXAMPLES = int(os.environ.get("NEVER_TWICE_EXAMPLES", "1"))
DAY = 24 * 3600
MODEL = "deepseek-ai/DeepSeek-V3"
# The first source, one with other requests, and one with equal requests.
SOURCES = [range(4), [2, 5, 3, 6], [0, 1, 1, 4, 0]]
# An earlier run has the answers to these.
EARLIER = [1, 3, 5]
PART_LINES = 2
# An answer has one token, which is 1 CNY, so that costs and their upper bounds are nearly equal.
PRICES = {"currency": "CNY", "models": {name: {"input": 1, "output": 1e6} for name in (MODEL, "Qwen/QwQ-32B")}}
# Less than a request, one part, a round, and a round with resent requests.
MAX_COSTS = [0.5, 2.5, 4.5, 6.5]
OTHERS_OLD, OTHERS = 21, 3

FORMS = [
    Forms(),
    Forms(list_lag_seconds=20),
    Forms(list_lag_seconds=90),
    Forms(list_lag_seconds=1e6),
    Forms(list_oldest_first=True),
    Forms(list_unordered=True),
    Forms(list_without_metadata=True),
    Forms(list_without_times=True),
    Forms(pages_of_twenty=True),
    Forms(pages_of_twenty=True, without_has_more=True),
    Forms(pages_of_twenty=True, after_ignored=True),
    Forms(pages_of_twenty=True, after_ignored=True, without_has_more=True),
    Forms(pages_of_twenty=True, second_page_missing=True),
    Forms(pages_of_twenty=True, list_oldest_first=True, without_has_more=True),
    Forms(unpaged=True, list_without_metadata=True),
    Forms(metadata_dropped=True),
    Forms(metadata_users_only=True),
    Forms(metadata_cut=True),
]
PLANS: list[dict[str, Any]] = [
    {},
    {"run_seconds": 3000.0},
    {"failing": {"positions": [0]}},
    {"failing": {"share": 0.5, "once": True}},
    {"missing": {"positions": [1]}},
    {"end": "cancelled", "run_share": 0.5},
    {"end": "expired", "run_share": 0.5},
    {"end": "failed"},
    {"counts_late_seconds": 60.0, "files_late_seconds": 90.0},
    {"lines_late_seconds": 100.0},
]
NULL = {"object": "list", "data": None, "has_more": False}
FAULTS: list[dict[str, Any]] = [
    {"endpoint": "POST /batches", "kind": "lost_answer"},
    {"endpoint": "POST /batches", "kind": "garbage", "after_work": True},
    {"endpoint": "POST /batches", "status": 504, "after_work": True},
    {"endpoint": "POST /batches", "status": 503},
    {"endpoint": "POST /batches", "kind": "reset"},
    {"endpoint": "POST /batches", "status": 403},
    {"endpoint": "GET /batches", "status": 200, "body": NULL},
    {"endpoint": "GET /batches", "status": 503},
    {"endpoint": "GET /batches", "status": 403},
    {"endpoint": "GET /batches", "kind": "cut", "after_bytes": 40},
    {"endpoint": "GET /batches/{id}", "status": 503},
    {"endpoint": "GET /batches/{id}", "status": 404},
    {"endpoint": "GET /results/{id}", "status": 404},
    {"endpoint": "GET /results/{id}", "kind": "cut", "after_bytes": 40},
    {"endpoint": "POST /files", "kind": "lost_answer"},
    {"endpoint": "POST /batches/{id}/cancel", "status": 503},
]
JOB_VARIANTS: list[dict[str, Any]] = [
    {},
    {"system_prompt": "Be brief."},
    {"model": "Qwen/QwQ-32B"},
    {"completion_window": "48h"},
]
BATCH_VARIANTS: list[dict[str, Any]] = [{}, {"model": "Qwen/QwQ-32B"}, {"completion_window": "48h"}, {"file": 1}]


def faults() -> st.SearchStrategy[dict[str, Any]]:
    repetitions = st.sampled_from([{}, {}, {"times": 4}, {"every": 1}, {"every": 1, "times": 12}])
    return st.builds(
        lambda fault, nth, repeated: {**fault, **repeated, **({"nth": nth} if nth > 1 else {})},
        st.sampled_from(FAULTS),
        st.integers(1, 4),
        repetitions,
    )


def lives_in(forms: Forms) -> st.SearchStrategy[list[Life]]:
    """Return lives that mostly meet the same form of the service, so that later attempts find earlier batches."""
    return st.lists(st.builds(Life, forms=st.sampled_from([forms] * 2 * len(FORMS) + FORMS), **CONDITIONS), **LENGTH)


LENGTH = {"min_size": 1, "max_size": 4}
LIMITS = st.builds(
    Limits,
    source=st.sampled_from([0, 0, 0, 1, 2]),
    deduplicate=st.sampled_from([False, False, True]),
    reuses=st.sampled_from([False, False, True]),
    max_cost=st.sampled_from([None, None, *MAX_COSTS]),
    max_active_batches=st.sampled_from([None, 1, 1, 2]),
)
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "variant": st.sampled_from([0, 0, 0, 0, 1, 2, 3]),
    "limits": st.just(Limits()) | LIMITS,
    "cleared": st.sampled_from([False, False, False, True]),
    "pause": st.sampled_from([0.0, 1.0, 30.0, 300.0, 4000.0]),
    "plan": st.sampled_from(PLANS),
    "faults": st.lists(faults(), max_size=2).map(tuple),
    "crash_at": st.none() | st.tuples(st.integers(1, 40), st.booleans()),
    "rival_at": st.sampled_from([None, None, None, *range(1, 25)]),
    "deferrable": st.booleans(),
}
SEQUENCES = st.sampled_from(FORMS).flatmap(lives_in)
FAILING = {"failing": {"positions": [0]}}
WAVES = Limits(max_active_batches=1, max_cost=4.5)
# Each of a job's arguments changes, and is changed back.
DEPLOYS = [
    Life(limits=WAVES, plan=FAILING, crash_at=(30, True)),
    Life(limits=replace(WAVES, max_cost=0.5)),
    Life(limits=replace(WAVES, max_cost=2.5), deferrable=False),
    Life(limits=WAVES),
    Life(limits=replace(WAVES, source=1, reuses=True), cleared=True, plan=FAILING),
    Life(limits=Limits(source=2, deduplicate=True), cleared=True, crash_at=(40, False)),
    Life(limits=Limits(source=2), cleared=True, rival_at=12),
    Life(limits=Limits(), cleared=True),
]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data of an account with foreign batches, most of them old."""
    directory, clock = tmp_path_factory.mktemp("account"), HeldClock()
    clock.advance(-40 * DAY)
    with Emulator(EmulatorOptions(directory), clock=clock) as emulator:
        client = SiliconFlowClient(emulator.api_key, emulator.base_url)
        for batches, days in ((OTHERS_OLD, 40), (OTHERS, 0)):
            file_id = client.upload_file(io.BytesIO(_lines(range(100, 101)))).id
            for _ in range(batches):
                client.create_batch(file_id, metadata={"airflow_key": "somebody else's"})
            clock.advance(days * DAY)
    return directory


@pytest.fixture
def world(account: Path, tmp_path: Path) -> Callable[..., Any]:
    """Return a new emulator, clock and output directory for each sequence of lives."""
    numbers = count()

    @contextmanager
    def make(seed: int, *, has_store: bool = False) -> Iterator[tuple[Lives, Path]]:
        directory, clock, chance = tmp_path / str(next(numbers)), HeldClock(), random.Random(seed)
        shutil.copytree(account, directory / "account")
        options = EmulatorOptions(
            directory / "account",
            queue_seconds=5,
            run_seconds=20,
            finalize_seconds=5,
            cancel_seconds=5,
            url_seconds=60,
            control=True,
        )
        with pytest.MonkeyPatch.context() as monkeypatch:
            hold_time(clock, monkeypatch)
            # Of two batches with the same creation time, the one with the smaller id counts as older.
            monkeypatch.setattr(batches, "new_id", lambda prefix: f"{prefix}{chance.getrandbits(64):016x}")
            monkeypatch.setitem(PartWriter.__init__.__kwdefaults__, "most_lines", PART_LINES)
            yield Lives(options, clock, monkeypatch, has_store=has_store), directory

    return make


def _lines(numbers: Any) -> bytes:
    lines = [request_line(f"r{number}", f"What is {number} + 1?") for number in numbers]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def never_twice(live: Callable[[list[Life], int], None], *known: list[Life]) -> None:
    """Run the test with some known sequences of lives, and with a number of others."""
    # A failing sequence is not shrunk, since that takes many minutes.
    chosen = settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
    )
    test = given(SEQUENCES, st.integers(0, 9))(live)
    for sequence in known:
        test = example(sequence, 0)(test)
    chosen(test)()


class Witness:
    """The requests that the service has executed, and the attempt of each create."""

    def __init__(self, lives: Lives) -> None:
        lives.clock.advance(DAY)
        with lives.service(Forms()) as emulator:
            executed = {item.batch_id: item for item in lives.control.executions_by_batch()}
            client = SiliconFlowClient(emulator.api_key, emulator.base_url)
            self.costs = {create.batch_id: cost_of(client, create.batch_id) for create in lives.creates}
        self.lives = lives
        self.batches: list[tuple[Create, BatchExecutions]] = [
            (create, executed[create.batch_id]) for create in lives.creates
        ]

    def check_creates(self, *names: str, is_written_down: bool = True) -> None:
        """Check that no batch was created if one existed already, or if its requests were answered.

        :param names: of metadata, by which batches are told apart of which there may be one each
        :param is_written_down: whether a later attempt can read what was created
        """

        def same(batch: BatchExecutions) -> tuple[str, ...]:
            return tuple(batch.metadata[name] for name in names)

        assert not self.lives.is_endless
        for index, (create, batch) in enumerate(self.batches):
            for other_create, other in self._seen(create, self.batches[:index], is_written_down):
                again = batch.executed & other.answered if is_over(other, batch) else frozenset()
                is_same = same(batch) == same(other)
                if create.is_anonymous and not is_written_down:
                    # Only the content tells whose batch it is.
                    is_same &= batch.metadata["airflow_input"] == other.metadata["airflow_input"]
                if other_create.epoch == create.epoch and (is_same or (again and not create.job)):
                    raise AssertionError(f"{create} although there was {other_create}: {batch} {other}")
        counts = Counter((same(batch), create.epoch) for create, batch in self.batches)
        assert max(counts.values(), default=0) <= MAXIMUM_CREATES * (1 + len(self.lives.rivals))

    def check_answers(self, earlier: frozenset[str]) -> None:
        """Check that no job has submitted a request of which it could have had as many answers as it needs.

        :param earlier: the requests that the run at `reuse_from` has answered
        """
        for index, (create, batch) in enumerate(self.batches):
            assert create.job is not None
            answered = Counter(
                digest
                for other_create, other in self._seen(create, self.batches[:index])
                if is_over(other, batch) and (other_create.epoch == create.epoch or not create.is_lossy)
                for digest in other.answered
            )
            limits = create.job.limits
            for digest in batch.executed:
                needed = 1 if limits.deduplicate else create.job.copies[digest]
                assert answered[digest] < needed, (
                    f"{create} {batch}: {digest} has {answered[digest]} of {needed} answers"
                )
            assert not limits.reuses or not batch.executed & earlier, f"{create}: an earlier run has answers"

    def check_limits(self) -> None:
        """Check that jobs have cost at most `max_cost`, and never had more than `max_active_batches` batches."""
        for index, (create, batch) in enumerate(self.batches):
            own = [
                (other_create, other)
                for other_create, other in [*self._seen(create, self.batches[:index]), (create, batch)]
                if other_create.job == create.job
            ]
            limits = create.limits
            if limits.max_cost is not None:
                spent = sum(self.costs[other.batch_id] for _, other in own)
                assert spent <= limits.max_cost, f"{create}: {spent} spent"
            if limits.max_active_batches is not None:
                active = [other.batch_id for _, other in own if not is_over(other, batch)]
                assert len(active) <= limits.max_active_batches, f"{create}: {active} are active"

    def _seen(
        self, create: Create, others: list[tuple[Create, BatchExecutions]], is_written_down: bool = True
    ) -> Iterator[tuple[Create, BatchExecutions]]:
        """Yield those of these batches that the attempt of a create could know of."""
        for other, batch in others:
            is_unseen = create.is_late and not (is_written_down and batch.batch_id in create.known)
            numbers = other.number, create.number
            at_once = numbers in self.lives.rivals or numbers[::-1] in self.lives.rivals
            if not is_unseen and not at_once:
                yield other, batch


def is_over(other: BatchExecutions, batch: BatchExecutions) -> bool:
    """Whether a batch was over when another one was created."""
    return other.over_at is not None and other.over_at <= batch.created_at


def cost_of(client: SiliconFlowClient, batch_id: str) -> int:
    """Return the cost of a batch by the usage in its output, without its prompt tokens."""
    reference = client.get_batch(batch_id).output_file_id
    if reference is None:
        return 0
    output = io.BytesIO()
    client.download(reference, output)
    usages = (json.loads(line)["response"]["body"]["usage"] for line in output.getvalue().splitlines())
    return sum(usage["completion_tokens"] for usage in usages)


def end(lives: Lives, last: Life) -> Any:
    """Let everything succeed from now on; return the task's result."""
    outcomes = []
    limits = replace(last.limits, max_cost=None)
    for cleared in (False, False, True, True, True):
        outcomes.append(lives.live(Life(last.variant, limits, cleared, pause=4000.0)))
        if not isinstance(outcomes[-1], BaseException):
            return outcomes[-1]
    raise AssertionError(f"it did not heal: {outcomes}") from outcomes[-1]


class Rows:
    """The rows of a job. Existing rows must not disappear."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._landed: set[tuple[str, str, str]] = set()

    def current(self) -> list[dict[str, Any]]:
        return _rows(self._directory / "results.jsonl")

    def check(self) -> None:
        """Check that each request has a row, and that no existing answer is lost."""
        current = self.current()
        assert [item["index"] for item in current] in ([], *(list(range(len(numbers))) for numbers in SOURCES))
        kept = [row for path in self._directory.glob("_siliconflow/replaced/*/results.jsonl") for row in _rows(path)]
        found = {
            (value["custom_id"], value["batch_id"], value["content"])
            for value in (*current, *kept)
            if value["status"] == "succeeded"
        }
        assert self._landed <= found, f"lost: {self._landed - found}"
        self._landed |= found


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def live_job(world: Callable[..., Any], sequence: list[Life], seed: int) -> None:
    """Check the invariants for a job with these lives."""
    with world(seed) as (lives, directory):
        for number, source in enumerate([*SOURCES, EARLIER]):
            lines = [json.dumps(f"What is {item} + 1?") for item in source]
            (directory / f"{number}.jsonl").write_text("\n".join(lines))
        usual: dict[str, Any] = {"task_id": "job", "model": MODEL, "retries": RETRIES, "prices": PRICES}
        usual["request_params"] = {"max_tokens": 1}

        def make_earlier(life: Life) -> BaseOperator:
            paths = {"input_path": directory / f"{len(SOURCES)}.jsonl", "output_path": directory / "earlier"}
            return BatchInferenceOperator(submission_key="earlier", **usual, **paths)

        def make(life: Life) -> BaseOperator:
            limits = life.limits
            arguments = {
                **usual,
                "input_path": directory / f"{limits.source}.jsonl",
                "output_path": directory / "out",
                "deduplicate": limits.deduplicate,
                "reuse_from": str(directory / "earlier") if limits.reuses else None,
                "max_cost": limits.max_cost,
                "max_active_batches": limits.max_active_batches,
            }
            return BatchInferenceOperator(deferrable=life.deferrable, **{**arguments, **JOB_VARIANTS[life.variant]})

        earlier: frozenset[str] = frozenset()
        if any(life.limits.reuses for life in sequence):
            lives.make = make_earlier
            lives.live(Life())
            earlier = frozenset(*(job.copies for job in lives.jobs.values()))
            lives.creates.clear()
        lives.make = make
        rows = Rows(directory / "out")
        for life in sequence:
            lives.live(life)
            rows.check()
        end(lives, sequence[-1])
        rows.check()
        assert [item["content"] for item in rows.current()] == [
            str(number + 1) for number in SOURCES[sequence[-1].limits.source]
        ]
        witness = Witness(lives)
        witness.check_creates("airflow_key", "airflow_input", "airflow_round")
        witness.check_answers(earlier)
        witness.check_limits()


def live_batch(world: Callable[..., Any], sequence: list[Life], seed: int, *, has_store: bool) -> None:
    """Check the invariants for a single batch."""
    with world(seed, has_store=has_store) as (lives, _):
        with lives.service(Forms()) as emulator:
            client = SiliconFlowClient(emulator.api_key, emulator.base_url)
            files = [client.upload_file(io.BytesIO(_lines(range(item, item + 3)))).id for item in (0, 10)]

        def make(life: Life) -> BaseOperator:
            usual: dict[str, Any] = {"task_id": "create", "file": 0, **BATCH_VARIANTS[life.variant]}
            file_id = files[usual.pop("file")]
            return CreateBatchOperator(input_file_id=file_id, deferrable=life.deferrable, retries=RETRIES, **usual)

        lives.make = make
        for life in sequence:
            lives.live(life)
        batch_id = end(lives, sequence[-1])
        witness = Witness(lives)
        witness.check_creates("airflow_key", is_written_down=has_store)
        (answered,) = [batch.answered for _, batch in witness.batches if batch.batch_id == batch_id]
        assert answered


def test_a_job_submits_nothing_twice_and_loses_nothing(world: Callable[..., Any]) -> None:
    never_twice(lambda sequence, seed: live_job(world, sequence, seed), DEPLOYS)


@pytest.mark.parametrize("has_store", [True, False], ids=["written down", "listed only"])
def test_a_single_batch_is_created_once(world: Callable[..., Any], has_store: bool) -> None:
    never_twice(lambda sequence, seed: live_batch(world, sequence, seed, has_store=has_store))
