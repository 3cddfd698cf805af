"""Whole jobs against the emulator, with a held clock: input, answers and the outcome of the task."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from pydantic import BaseModel, ConfigDict, Field

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import InvalidRequestError
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import (
    BatchCancelledError,
    BatchTimeoutError,
    BatchWaitError,
    InvalidInputError,
    JobDefinitionError,
    MissedSuccessRateError,
)
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.results import read_results
from siliconflow_provider.storage.errors import StorageError
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, batches, statuses, sums
from tests.kills import Killed


class TestIn:
    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_input_rows_keep_order_in_results(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        tmp_path: Path,
        client: SiliconFlowClient,
        deferrable: bool,
        suffix: str,
    ) -> None:
        given = [{"id": f"q{i}", "question": f"{i} + 1", "more": {"a": [1, None, "é"]}} for i in range(12)]
        content = "".join(json.dumps(row) + "\n" for row in given).encode()
        path = tmp_path / f"qa.jsonl{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        summary = run(
            lambda: infer(
                input_path=str(path),
                prompt="What is {question}?",
                id_column="id",
                system_prompt="Answer with a number.",
                request_params={"max_tokens": 50},
                deferrable=deferrable,
            )
        )
        assert summary == {
            "results_path": f"file://{tmp_path}/out/results.jsonl",
            "manifest_path": f"file://{tmp_path}/out/manifest.json",
            "report_path": f"file://{tmp_path}/out/report.html",
            "success_rate": 1.0,
            "rows": 12,
            "counts": {"succeeded": 12},
            "tokens": summary["tokens"],
            "reused": 0,
            "deduplicated": 0,
            "rounds": 1,
        }
        assert [row["input"] for row in rows()] == given
        assert [(row["index"], row["custom_id"], row["content"]) for row in rows()] == [
            (i, f"q{i}", str(i + 1)) for i in range(12)
        ]
        assert len(batches(client)) == 1

    @pytest.mark.parametrize(
        "items",
        [
            ["1 + 1", "2 + 1"],
            [[{"role": "user", "content": "1 + 1"}], ({"role": "user", "content": "2 + 1"},)],
            [{"body": {"messages": [{"role": "user", "content": name}]}} for name in ("1 + 1", "2 + 1")],
        ],
        ids=["texts", "message lists", "request lines"],
    )
    def test_any_iterable_is_accepted(self, infer: Infer, run: Run, rows: Rows, items: list[Any]) -> None:
        run(lambda: infer(requests=iter(items)))
        assert [(row["custom_id"], row["content"], row["input"]) for row in rows()] == [
            ("request-000001", "2", None),
            ("request-000002", "3", None),
        ]

    @pytest.mark.parametrize(
        ("paths", "named"),
        [
            ({"input_path": "/nowhere/qa.jsonl"}, "cannot read input_path file:///nowhere/qa.jsonl: "),
            ({"input_path": "gs://b/qa.jsonl"}, "input_path gs://b/qa.jsonl: no file system for gs:// is installed"),
            (
                {"output_path": "/dev/null/out"},
                "cannot (read|write) output_path file:///dev/null/out/.*: a part of the",
            ),
            ({"output_path": " "}, "output_path is empty: give a path"),
        ],
    )
    def test_invalid_paths_are_named_before_submitting(
        self, infer: Infer, run: Run, client: SiliconFlowClient, paths: dict[str, str], named: str
    ) -> None:
        requests = None if "input_path" in paths else ["1 + 1"]
        with pytest.raises(StorageError, match=named):
            run(lambda: infer(requests=requests, prompt=None, **paths))
        assert (batches(client), client.list_files()) == ([], [])

    def test_request_lines_are_sent_unchanged(
        self, infer: Infer, run: Run, tmp_path: Path, sums: Callable[[int], bytes]
    ) -> None:
        """This holds with a byte order mark, blank lines and other line endings too."""
        path = tmp_path / "requests.jsonl"
        path.write_bytes(b"\xef\xbb\xbf" + sums(3).replace(b"\n", b"\r\n\r\n"))
        run(lambda: infer(input_path=str(path), model=None))
        assert (tmp_path / "out" / "_siliconflow" / "requests.jsonl").read_bytes() == sums(3)
        assert not (tmp_path / "out" / "_siliconflow" / "rows.jsonl").exists()

    def test_bad_items_are_named_and_nothing_is_submitted(
        self, infer: Infer, run: Run, client: SiliconFlowClient, tmp_path: Path
    ) -> None:
        items = [{"id": f"q{i}", "q": "1 + 1"} if i % 2 else {"id": f"q{i}"} for i in range(1, 31)]
        with pytest.raises(InvalidInputError) as caught:
            run(lambda: infer(requests=items, prompt="{q}", id_column="id"))
        first, *shown, last = str(caught.value).split("\n")
        assert first.startswith("requests: 15 of 30 items are invalid and nothing was submitted")
        assert shown[0].startswith(
            "  item 2 (q2): there is no column 'q'; the row has 'id'. For braces that stay in a prompt"
        )
        assert (len(shown), last) == (10, "  and 5 more")
        assert not client.list_files()
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_ids_that_may_come_back_changed_are_refused(
        self, infer: Infer, run: Run, client: SiliconFlowClient, tmp_path: Path, suffix: str
    ) -> None:
        content = "".join(json.dumps({"id": value, "q": "1 + 1"}) + "\n" for value in ("a", "b ", "c" * 513)).encode()
        path = tmp_path / f"in.jsonl{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        with pytest.raises(InvalidInputError) as caught:
            run(lambda: infer(input_path=str(path), prompt="{q}", id_column="id"))
        shown = str(caught.value).split("\n")[1:]
        assert shown[0] == "  line 2 (b ): custom_id 'b ' begins or ends with whitespace; remove it"
        assert re.fullmatch(
            r"  line 3 \(c+\.\.\.\): custom_id 'c+\.\.\. has 513 characters; use at most 512, .*", shown[1]
        )
        assert client.list_files() == []

    def test_invalid_metadata_fails_before_the_source_is_read(self, infer: Infer, run: Run, tmp_path: Path) -> None:
        unread = (pytest.fail("the source is read") for _ in range(1))
        with pytest.raises(InvalidRequestError, match="keys that begin with 'airflow_'"):
            run(lambda: infer(requests=unread, metadata={"airflow_team": "a"}))
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_an_empty_input_succeeds_without_a_batch(
        self, infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, deferrable: bool, manifest: Any
    ) -> None:
        summary = run(lambda: infer(requests=[], deferrable=deferrable))
        assert (summary["rows"], summary["success_rate"], rows(), batches(client)) == (0, 1.0, [], [])
        assert (manifest()["complete"], manifest()["rounds"]) == (True, 0)

    def test_requests_stream_from_a_generator(self, infer: Infer, run: Run, tmp_path: Path) -> None:
        """Items of a cursor are not kept: only a few items are in memory at a time."""
        alive: Counter[str] = Counter()

        class Row(dict[str, str]):
            def __init__(self) -> None:
                super().__init__(q="1 + 1")
                alive["now"] += 1
                alive["most"] = max(alive["most"], alive["now"])

            def __del__(self) -> None:
                alive["now"] -= 1

        run(lambda: infer(requests=(Row() for _ in range(500)), prompt="{q}"))
        assert alive["most"] <= 3


class TestLongLines:
    def test_a_too_long_answer_loses_one_row(
        self, infer: Infer, run: Run, rows: Rows, longest_line: Any, control: Control
    ) -> None:
        """It is billed, and a resent request would get the same answer."""
        longest_line(3_000)
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=["1 + 1", "x" * 5_000, "2 + 1"], max_rounds=3))
        assert [(row["index"], row["status"], row["content"]) for row in rows()] == [
            (0, "succeeded", "2"), (1, "failed", None), (2, "succeeded", "3"),
        ]  # fmt: skip
        assert rows()[1]["error"]["code"] == "answer_too_long"
        assert_nothing_was_bought_twice(control, 3)

    def test_an_item_that_is_too_long_is_named(
        self, infer: Infer, run: Run, longest_line: Any, tmp_path: Path, client: SiliconFlowClient
    ) -> None:
        longest_line(3_000)
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"a": "x" * size}) + "\n" for size in (9, 5_000, 9)))
        with pytest.raises(
            InvalidInputError, match=r"1 of 3 lines is invalid.*\n  line 2: it has more than 33,554,432 bytes"
        ):
            run(lambda: infer(input_path=str(path), prompt="{a}"))
        assert batches(client) == []


class Answer(BaseModel):
    answer: int


class TestStructuredOutput:
    def test_structured_answers_are_requested_and_validated(
        self, infer: Infer, run: Run, rows: Rows, tmp_path: Path
    ) -> None:
        run(lambda: infer(requests=sums(2), output_type=Answer, system_prompt="Be brief."))
        assert [row["output"] for row in rows()] == [{"answer": 1}, {"answer": 2}]
        request = json.loads((tmp_path / "out" / "_siliconflow" / "requests.jsonl").read_text().splitlines()[0])["body"]
        assert request["response_format"] == {"type": "json_object"}
        assert request["messages"][0]["content"].startswith("Be brief.\n\nAnswer with one JSON object")

    def test_invalid_answers_keep_text_and_are_resent(
        self, infer: Infer, run: Run, rows: Rows, control: Control, manifest: Any
    ) -> None:
        control.plan(answers={"hello": '{"answer":"hello"}'})
        control.plan(nth=2, failing={"positions": [0]})
        with pytest.raises(MissedSuccessRateError, match="1 x invalid_output: answer: Input should be a valid integer"):
            run(lambda: infer(requests=["1 + 1", "hello"], output_type=Answer))
        assert statuses(rows()) == ["succeeded", "invalid"]
        # Round 2 had no better result.
        assert (rows()[1]["content"], rows()[1]["round"]) == ('{"answer":"hello"}', 1)
        assert manifest()["rounds"] == 2

    def test_emulator_answers_with_any_type(self, infer: Infer, run: Run, rows: Rows) -> None:
        class Line(BaseModel):
            model_config = ConfigDict(extra="forbid")

            article: str = Field(alias="theArticle", pattern=r"^[A-Z]{3}-\d+$")
            price: Decimal = Field(gt=0, max_digits=3)
            kind: Literal["new", "used"]

        class Order(BaseModel):
            lines: list[Line] = Field(min_length=1)
            due: date | None
            replaces: Order | None = None

        assert run(lambda: infer(requests=["hello", "goodbye"], output_type=Order))["counts"] == {"succeeded": 2}
        orders = [Order.model_validate(row["output"]) for row in rows()]
        assert orders[0].replaces is not None
        assert orders[0] != orders[1]

    def test_another_schema_is_another_definition(self, infer: Infer, run: Run) -> None:
        run(lambda: infer(requests=sums(1), output_type=Answer))
        with pytest.raises(JobDefinitionError, match="output_type changed since"):
            run(lambda: infer(requests=sums(1), output_type=dict[str, int]))


class TestOut:
    def test_results_and_manifest_on_an_object_store(
        self, infer: Infer, run: Run, object_store: str, tmp_path: Path, context: Any
    ) -> None:
        context["ti"].run_id = tmp_path.name
        summary = run(lambda: infer(requests=sums(3), output_path=f"{object_store}/{tmp_path.name}"))
        assert summary["results_path"].endswith(f"bucket/{tmp_path.name}/results.jsonl")
        assert [row.content for row in read_results(summary)] == ["1", "2", "3"]
        assert run(lambda: infer(requests=sums(3), output_path=f"{object_store}/{tmp_path.name}")) == summary

    def test_a_timeout_writes_answers_and_can_resume(
        self, infer: Infer, run: Run, rows: Rows, control: Control, part_lines: Any, manifest: Any, deferrable: bool
    ) -> None:
        part_lines(3)
        control.plan(nth=2, run_seconds=5000.0)

        def make(timeout: float) -> Any:
            return infer(requests=sums(6), timeout=timeout, deferrable=deferrable)

        with pytest.raises(
            BatchTimeoutError,
            match=r"(?s)timed out at [\d: -]+ UTC.\n3 of 6 requests succeeded in 1 round \(3 unfinished\).*"
            r"Billed in total: 12 prompt and 3 completion tokens, plus the answered requests of batch (batch_\w+) "
            r"\(\d of 3 requests\).\nBatch \1 is still running.*"
            "To continue the job, set a larger timeout, or none, and clear the task",
        ) as caught:
            run(lambda: make(1000.0))
        assert isinstance(caught.value, AirflowFailException)
        assert Counter(statuses(rows())) == {"succeeded": 3, "unfinished": 3}
        assert manifest()["complete"] is False
        assert run(lambda: make(6000.0))["counts"] == {"succeeded": 6}
        assert manifest()["complete"] is True
        assert_nothing_was_bought_twice(control, 6)

    @pytest.fixture(params=[True, False], ids=["deferred", "on the worker"])
    def deferrable(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def test_cancel_on_timeout_cancels_without_retry(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        client: SiliconFlowClient,
        control: Control,
        context: Any,
        clock: Any,
        deferrable: bool,
    ) -> None:
        control.plan(run_seconds=5000.0)

        def make() -> Any:
            return infer(requests=sums(6), timeout=1000, cancel_on_timeout=True, deferrable=deferrable)

        with pytest.raises(
            BatchCancelledError, match=r"cancel_on_timeout cancelled batch batch_\w+.\n0 of 6 .*unfinished"
        ):
            run(make)
        assert batches(client)[0].status == "cancelling"
        clock.advance(100)
        with pytest.raises(
            MissedSuccessRateError,
            match=r"(?s)1 of 6 .*5 cancelled.*Clearing the task would resend 5 requests without",
        ):
            run(make)
        context["ti"].clear()
        assert run(make)["counts"] == {"succeeded": 6}
        assert_nothing_was_bought_twice(control, 6)

    def test_an_attempt_that_begins_too_late_cancels_too(
        self, infer: Infer, run: Run, client: SiliconFlowClient, control: Control, clock: Any, kill: Any
    ) -> None:
        control.plan(stuck="in_progress")
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        clock.advance(2000)
        with pytest.raises(BatchCancelledError, match="cancel_on_timeout cancelled"):
            run(lambda: infer(requests=sums(6), timeout=1000, cancel_on_timeout=True))
        assert batches(client)[0].status == "cancelling"

    def test_parts_not_sent_in_time_are_unfinished(
        self, infer: Infer, run: Run, rows: Rows, kill: Any, part_lines: Any, clock: Any, manifest: Any
    ) -> None:
        part_lines(3)
        kill(JobRunner, "submit")
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        kill(SiliconFlowClient, "create_batch", nth=2)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        clock.advance(2000)
        with pytest.raises(BatchTimeoutError, match=r"3 of 6 requests succeeded in 1 round \(3 unfinished\)"):
            run(lambda: infer(requests=sums(6), timeout=1000))
        assert manifest()["complete"] is False
        assert {row["error"]["code"] for row in rows() if row["error"]} == {"not_sent"}
        assert run(lambda: infer(requests=sums(6), timeout=6000))["counts"] == {"succeeded": 6}

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    def test_an_unreadable_batch_ends_one_attempt_only(
        self, infer: Infer, run: Run, control: Control, deferrable: bool
    ) -> None:
        control.fault("GET /batches/{id}", status=404, times=200)
        with pytest.raises(BatchWaitError, match=r"gave up polling batch batch_\w+: "):
            run(lambda: infer(requests=sums(3), deferrable=deferrable))
        control.reset()
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}
        assert_nothing_was_bought_twice(control, 3)

    @pytest.mark.parametrize(("rate", "fails"), [(1.0, True), (0.76, True), (0.75, False), (None, False), (0.0, False)])
    def test_the_success_rate_decides_once_everything_is_written(
        self, infer: Infer, run: Run, rows: Rows, control: Control, rate: float | None, fails: bool, logged: Any
    ) -> None:
        control.plan(failing={"positions": [1]})

        def make() -> Any:
            return infer(requests=sums(4), max_rounds=1, min_success_rate=rate)

        if fails:
            with pytest.raises(MissedSuccessRateError, match=r"the success rate is 75\.00%, below"):
                run(make)
        else:
            assert run(make)["success_rate"] == 0.75
            assert (
                "3 of 4 requests succeeded in 1 round (1 failed).\nMost frequent errors: 1 x server_error: The request "
                "failed, as planned.\nBilled in total: 12 prompt and 3 completion tokens.\n"
                "No batch is running any more.\nClearing the task would resend 1 request without a good answer"
            ) in logged()
        assert statuses(rows()) == ["succeeded", "failed", "succeeded", "succeeded"]

    def test_results_are_read_back_by_status(self, infer: Infer, run: Run, control: Control, tmp_path: Path) -> None:
        control.plan(failing={"positions": [1]})
        summary = run(lambda: infer(requests=sums(3), max_rounds=1, min_success_rate=None))
        assert [row.custom_id for row in read_results(summary, status="failed")] == ["request-000002"]
        assert len(list(read_results(tmp_path / "out", status={"succeeded", "failed"}))) == 3

    def test_a_killed_tasks_batches_are_resumed(
        self, infer: Infer, run: Run, client: SiliconFlowClient, clock: Any, logged: Any
    ) -> None:
        task = infer(requests=sums(3))
        clock.after(50, task.on_kill)
        with pytest.raises(BatchWaitError, match="killed while waiting"):
            run(lambda: task)
        assert "task was killed. Batch" in logged()
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}
        assert len(batches(client)) == 1
