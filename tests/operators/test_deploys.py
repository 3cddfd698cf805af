"""A task is changed while its job is running: no answer is lost, and nothing is submitted twice."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.exceptions import (
    BatchTimeoutError,
    JobDefinitionError,
    MissedSuccessRateError,
    SubmissionStoppedError,
)
from siliconflow_provider.jobs.runner import JobRunner
from tests.inference_jobs import Infer, Rows, Run, contents, sums
from tests.kills import Killed


class TestRetries:
    """A deploy while the job waits: the definition has changed when the task resumes or is retried."""

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"system_prompt": "Be brief."}, "system_prompt"),
            ({"model": "Qwen/QwQ-32B", "completion_window": "48h"}, "model, completion_window"),
            ({"submission_key": "again"}, "submission_key"),
        ],
    )
    def test_answers_are_written_before_the_task_fails(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        manifest: Any,
        control: Control,
        kill: Any,
        retry: Any,
        change: dict[str, Any],
        named: str,
        deferrable: bool,
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        retry()
        with pytest.raises(JobDefinitionError, match=rf"^{named} changed since .*job\.json was created") as caught:
            run(lambda: infer(requests=sums(3), deferrable=deferrable, **change))
        assert f"In file://{os.sep}" in str(caught.value)
        said = "out/results.jsonl: 3 of 3 requests succeeded in 1 round.\nBilled by this attempt: nothing; in total: "
        assert said in str(caught.value)
        assert ("submits all requests again" in str(caught.value)) is (named == "submission_key")
        assert contents(rows()) == ["1", "2", "3"]
        assert (manifest()["complete"], control.batches_created()) == (True, 1)

    def test_a_resumed_task_writes_them_too(self, infer: Infer, run: Run, rows: Rows, control: Control) -> None:
        words = iter(["Be brief.", "Be very brief."])
        with pytest.raises(JobDefinitionError, match="system_prompt changed since"):
            run(lambda: infer(requests=sums(3), deferrable=True, system_prompt=next(words)))
        assert contents(rows()) == ["1", "2", "3"]
        assert control.batches_created() == 1

    def test_no_further_round_is_submitted(
        self, infer: Infer, run: Run, rows: Rows, control: Control, kill: Any, retry: Any, clear: Any
    ) -> None:
        control.plan(failing={"positions": [1]})
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        for _ in range(2):
            retry()
            with pytest.raises(JobDefinitionError, match=r"2 of 3 requests succeeded in 1 round \(1 failed\)"):
                run(lambda: infer(requests=sums(3), model="m"))
        assert [row["status"] for row in rows()] == ["succeeded", "failed", "succeeded"]
        assert control.batches_created() == 1
        # Now the change is undone.
        retry()
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}

    def test_parts_that_were_not_sent_stay_so(
        self, infer: Infer, run: Run, rows: Rows, control: Control, kill: Any, retry: Any, part_lines: Any
    ) -> None:
        part_lines(3)
        kill(SiliconFlowClient, "create_batch", nth=2)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        retry()
        with pytest.raises(JobDefinitionError, match=r"3 of 6 requests succeeded in 1 round \(3 unfinished\)"):
            run(lambda: infer(requests=sums(6), model="m"))
        assert {row["error"]["code"] for row in rows() if row["error"]} == {"not_sent"}
        assert control.batches_created() == 1

    def test_a_job_without_batches_stops_immediately(
        self, infer: Infer, run: Run, control: Control, kill: Any, retry: Any, tmp_path: Path
    ) -> None:
        kill(JobRunner, "submit")
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        retry()
        with pytest.raises(JobDefinitionError, match="model changed since"):
            run(lambda: infer(requests=sums(3), model="m"))
        assert control.batches_created() == 0
        assert not (tmp_path / "out" / "results.jsonl").exists()

    def test_a_list_that_fails_hides_no_batch(
        self, infer: Infer, run: Run, control: Control, kill: Any, retry: Any, tmp_path: Path, rows: Rows
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        for path in (tmp_path / "out" / "_siliconflow" / "creates").iterdir():
            path.unlink()
        retry()
        control.fault("GET /batches", status=400, times=20)
        with pytest.raises(SiliconFlowError):
            run(lambda: infer(requests=sums(3), model="m"))
        control.reset()
        retry()
        with pytest.raises(JobDefinitionError, match="3 of 3 requests succeeded"):
            run(lambda: infer(requests=sums(3), model="m"))
        assert contents(rows()) == ["1", "2", "3"]

    def test_a_deadline_leaves_batches_to_retries(
        self, infer: Infer, run: Run, control: Control, kill: Any, retry: Any
    ) -> None:
        control.plan(run_seconds=5000.0)
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        retry()
        with pytest.raises(BatchTimeoutError, match=r"batch_\w+ is still running"):
            run(lambda: infer(requests=sums(3), model="m", timeout=1000))
        retry()
        with pytest.raises(JobDefinitionError, match="3 of 3 requests succeeded"):
            run(lambda: infer(requests=sums(3), model="m", timeout=6000))
        assert control.batches_created() == 1

    def test_rows_of_the_old_type_stay(self, infer: Infer, run: Run, rows: Rows, retry: Any, control: Control) -> None:
        """Nothing is left that could validate it."""

        class Answer(BaseModel):
            answer: int

        requests = ["1 + 1", "hello"]
        control.plan(answers={"hello": '{"answer": "hello"}'})
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=requests, output_type=Answer, max_rounds=1))
        before = rows()
        assert [item["status"] for item in before] == ["succeeded", "invalid"]
        retry()
        with pytest.raises(JobDefinitionError, match="output_type changed since"):
            run(lambda: infer(requests=requests, output_type=dict[str, str]))
        assert rows() == before
        assert control.batches_created() == 1


class TestInput:
    """An input file that was corrected, or only touched, after the job was created."""

    @pytest.fixture(params=["in.jsonl", "in.jsonl.gz"])
    def write(self, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[list[str]], Path]:
        path = tmp_path / request.param

        def put(questions: list[str]) -> Path:
            content = "".join(json.dumps({"q": question}) + "\n" for question in questions).encode()
            path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
            return path

        return put

    def test_a_cleared_task_sends_corrected_rows(
        self, infer: Infer, run: Run, rows: Rows, write: Any, control: Control, clear: Any
    ) -> None:
        path = write(["1 + 1", "1 +", "3 + 1"])
        run(lambda: infer(input_path=str(path), prompt="{q}"))
        write(["1 + 1", "1 + 2", "3 + 1"])
        clear()
        run(lambda: infer(input_path=str(path), prompt="{q}"))
        assert [(row["round"], row["content"], row["input"]["q"]) for row in rows()] == [
            (0, "2", "1 + 1"),
            (1, "3", "1 + 2"),
            (0, "4", "3 + 1"),
        ]
        assert control.executions().total == 4

    def test_a_file_that_was_only_touched_costs_nothing(
        self, infer: Infer, run: Run, rows: Rows, write: Any, control: Control, clear: Any
    ) -> None:
        path = write(["1 + 1", "2 + 1"])
        run(lambda: infer(input_path=str(path), prompt="{q}"))
        os.utime(path, (1, 1))
        clear()
        assert run(lambda: infer(input_path=str(path), prompt="{q}"))["counts"] == {"succeeded": 2}
        assert contents(rows()) == ["2", "3"]
        assert control.batches_created() == 1

    def test_a_retry_writes_answers_of_sent_requests(
        self, infer: Infer, run: Run, rows: Rows, write: Any, control: Control, kill: Any, retry: Any
    ) -> None:
        path = write(["1 + 1", "1 +"])
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(input_path=str(path), prompt="{q}"))
        write(["1 + 1", "1 + 2"])
        retry()
        with pytest.raises(JobDefinitionError, match=r"^the file at input_path changed since"):
            run(lambda: infer(input_path=str(path), prompt="{q}"))
        assert (contents(rows())[0], control.batches_created()) == ("2", 1)


class TestOtherAccount:
    def test_a_retry_without_its_batches_stops(
        self,
        infer: Infer,
        run: Run,
        emulator: Emulator,
        options: EmulatorOptions,
        clock: Any,
        kill: Any,
        retry: Any,
        tmp_path: Path,
    ) -> None:
        """The service is the same, but the key belongs to an account without batches."""
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        (batch,) = SiliconFlowClient(emulator.api_key, emulator.base_url).list_batches()
        emulator.stop()
        port = int(emulator.base_url.rpartition(":")[2].removesuffix("/v1"))
        with Emulator(
            replace(options, port=port, storage_port=0, data_dir=tmp_path / "other account"), clock=clock
        ) as other:
            retry()
            with pytest.raises(
                SubmissionStoppedError, match=rf"\({batch.id}\) are not in the account of the connection"
            ):
                run(lambda: infer(requests=sums(3)))
            assert other.control.batches_created() == 0


class TestClearsAreSeen:
    def test_each_of_five_with_fewer_retries(
        self, infer: Infer, run: Run, control: Control, context: Any, clear: Any, clock: Any
    ) -> None:
        """The fifth clear sets the same number of tries as at the beginning."""
        context["ti"].max_tries = 5
        control.plan(failing={"positions": [0]}, times=6)
        for created, retries in zip(range(1, 7), (5, 0, 0, 0, 0, 0), strict=True):
            with pytest.raises(MissedSuccessRateError):
                run(lambda retries=retries: infer(requests=sums(3), max_rounds=1, retries=retries, timeout=900))
            assert control.batches_created() == created
            # Earlier batches do not affect the time of the next one.
            clock.advance(3600)
            clear(retries=0)
        assert context["ti"].max_tries == 6
        assert run(lambda: infer(requests=sums(3), max_rounds=1))["counts"] == {"succeeded": 3}

    def test_a_changed_job_after_five_too(
        self, infer: Infer, run: Run, control: Control, context: Any, clear: Any
    ) -> None:
        context["ti"].max_tries = 5
        control.plan(failing={"positions": [0]}, times=5)
        for _ in range(5):
            with pytest.raises(MissedSuccessRateError):
                run(lambda: infer(requests=sums(3), max_rounds=1))
            clear(retries=0)
        assert context["ti"].max_tries == 5
        assert run(lambda: infer(requests=sums(3), completion_window="48h"))["counts"] == {"succeeded": 3}

    def test_a_clear_during_the_wait_does_not_count(
        self, infer: Infer, run: Run, control: Control, kill: Any, clear: Any, retry: Any, clock: Any
    ) -> None:
        """The batch ended after the clear, so no user has decided about its end."""
        control.plan(failing={"positions": [1]})
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), max_rounds=1, retries=3))
        clear(retries=3)
        kill(JobRunner, "submit")
        kill(JobRunner, "__init__")
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), max_rounds=1, retries=3))
        retry()
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(3), max_rounds=1, retries=3))
        assert control.batches_created() == 1

    def test_nor_for_a_retry_of_another_definition(
        self, infer: Infer, run: Run, control: Control, kill: Any, clear: Any, retry: Any
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), retries=3))
        clear(retries=3)
        kill(JobRunner, "__init__")
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), retries=3))
        retry()
        with pytest.raises(JobDefinitionError, match="3 of 3 requests succeeded"):
            run(lambda: infer(requests=sums(3), model="m", retries=3))
        assert control.batches_created() == 1
