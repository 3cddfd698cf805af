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
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator
from hypothesis import Phase, given, settings
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
from tests.lives import RETRIES, Create, Life, Lives

EXAMPLES = int(os.environ.get("NEVER_TWICE_EXAMPLES", "1"))
DAY = 24 * 3600
MODEL = "deepseek-ai/DeepSeek-V3"
REQUESTS = [f"What is {number} + 1?" for number in range(4)]
PART_LINES = 2
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
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "variant": st.sampled_from([0, 0, 0, 0, 1, 2, 3]),
    "cleared": st.sampled_from([False, False, False, True]),
    "pause": st.sampled_from([0.0, 1.0, 30.0, 300.0, 4000.0]),
    "plan": st.sampled_from(PLANS),
    "faults": st.lists(faults(), max_size=2).map(tuple),
    "crash_at": st.none() | st.tuples(st.integers(1, 40), st.booleans()),
    "rival_at": st.sampled_from([None, None, None, *range(1, 25)]),
    "deferrable": st.booleans(),
}
SEQUENCES = st.sampled_from(FORMS).flatmap(lives_in)


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


def never_twice(live: Callable[[list[Life], int], None]) -> None:
    """Run the test with a number of sequences of lives."""
    # A failing sequence is not shrunk, since that takes many minutes.
    chosen = settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
    )
    chosen(given(SEQUENCES, st.integers(0, 9))(live))()


class Witness:
    """The requests that the service has executed, and the attempt of each create."""

    def __init__(self, lives: Lives) -> None:
        lives.clock.advance(DAY)
        with lives.service(Forms()):
            executed = {item.batch_id: item for item in lives.control.executions_by_batch()}
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
            for other_create, other in self.batches[:index]:
                is_over = other.over_at is not None and other.over_at <= batch.created_at
                again = batch.executed & other.answered if is_over else frozenset()
                if (same(batch) == same(other) or again) and not self._is_excused(
                    create, other_create, is_written_down
                ):
                    raise AssertionError(f"{create} although there was {other_create}: {batch} {other}")
        counts = Counter((same(batch), create.epoch) for create, batch in self.batches)
        assert max(counts.values(), default=0) <= MAXIMUM_CREATES * (1 + len(self.lives.rivals))

    def _is_excused(self, create: Create, other: Create, is_written_down: bool) -> bool:
        is_unseen = create.is_late and not (is_written_down and other.batch_id in create.known)
        at_once = (other.number, create.number) in self.lives.rivals or (
            (create.number, other.number) in self.lives.rivals
        )
        return is_unseen or at_once or other.epoch < create.epoch


def end(lives: Lives, variant: int) -> Any:
    """Let everything succeed from now on; return the task's result."""
    outcomes = []
    for cleared in (False, False, True, True, True):
        outcomes.append(lives.live(Life(variant, cleared, pause=4000.0)))
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
        assert [item["index"] for item in current] in ([], list(range(len(REQUESTS))))
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
    """Check the three invariants for a job with these lives."""
    with world(seed) as (lives, directory):
        output = directory / "out"

        def make(variant: int, *, deferrable: bool) -> BaseOperator:
            usual: dict[str, Any] = {"task_id": "job", "model": MODEL, "requests": list(REQUESTS)}
            arguments = {**usual, "output_path": str(output), "retries": RETRIES, **JOB_VARIANTS[variant]}
            return BatchInferenceOperator(deferrable=deferrable, **arguments)

        lives.make = make
        rows = Rows(output)
        for life in sequence:
            lives.live(life)
            rows.check()
        end(lives, sequence[-1].variant)
        rows.check()
        assert [item["content"] for item in rows.current()] == [str(number + 1) for number in range(len(REQUESTS))]
        Witness(lives).check_creates("airflow_key", "airflow_input", "airflow_round")


def live_batch(world: Callable[..., Any], sequence: list[Life], seed: int, *, has_store: bool) -> None:
    """Check the invariants for a single batch."""
    with world(seed, has_store=has_store) as (lives, _):
        with lives.service(Forms()) as emulator:
            client = SiliconFlowClient(emulator.api_key, emulator.base_url)
            files = [client.upload_file(io.BytesIO(_lines(range(item, item + 3)))).id for item in (0, 10)]

        def make(variant: int, *, deferrable: bool) -> BaseOperator:
            usual: dict[str, Any] = {"task_id": "create", "file": 0, **BATCH_VARIANTS[variant]}
            file_id = files[usual.pop("file")]
            return CreateBatchOperator(input_file_id=file_id, deferrable=deferrable, retries=RETRIES, **usual)

        lives.make = make
        for life in sequence:
            lives.live(life)
        batch_id = end(lives, sequence[-1].variant)
        witness = Witness(lives)
        witness.check_creates("airflow_key", is_written_down=has_store)
        (answered,) = [batch.answered for _, batch in witness.batches if batch.batch_id == batch_id]
        assert answered


def test_a_job_submits_nothing_twice_and_loses_nothing(world: Callable[..., Any]) -> None:
    never_twice(lambda sequence, seed: live_job(world, sequence, seed))


@pytest.mark.parametrize("has_store", [True, False], ids=["written down", "listed only"])
def test_a_single_batch_is_created_once(world: Callable[..., Any], has_store: bool) -> None:
    never_twice(lambda sequence, seed: live_batch(world, sequence, seed, has_store=has_store))
