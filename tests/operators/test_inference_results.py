"""Whole jobs: results that are late, incomplete, wrong or lost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator
from siliconflow_provider.exceptions import MissedSuccessRateError
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, batches, statuses, sums


class TestResults:
    """Late, incomplete, lost or foreign results of a job of three parts with three requests each."""

    @pytest.fixture
    def forms(self) -> Forms:
        return Forms(result_ids=True)

    @pytest.fixture
    def connection(self, connection: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
        """Retry a request once, since each job retries the download of its results too, for up to an hour."""
        values = emulator.airflow_connection
        values["extra"] |= {"max_retries": 1}
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(values))
        return connection

    @pytest.fixture(autouse=True)
    def three_parts(self, part_lines: Any) -> None:
        part_lines(3)

    @pytest.mark.parametrize(
        ("plan", "deferrable"),
        [
            ({"counts_late_seconds": 1.5, "files_late_seconds": 1.5}, True),
            ({"files_late_seconds": 1.5}, False),
            ({"files_late_seconds": 500.0}, True),
            ({"files_late_seconds": 500.0}, False),
            ({"lines_late_seconds": 500.0}, True),
            ({"counts_late_seconds": 90.0, "lines_late_seconds": 90.0}, False),
            ({"counts_late_seconds": 1e9}, True),
            ({"gone_seconds": 3000.0}, True),
            ({"gone_seconds": 3000.0}, False),
        ],
        ids=str,
    )
    def test_late_results_are_awaited_and_submitted_once(
        self, infer: Infer, run: Run, rows: Rows, control: Control, plan: dict[str, float], deferrable: bool
    ) -> None:
        control.plan(nth=2, **plan)
        assert run(lambda: infer(requests=sums(9), deferrable=deferrable))["counts"] == {"succeeded": 9}
        assert [row["content"] for row in rows()] == [str(i + 1) for i in range(9)]
        assert_nothing_was_bought_twice(control, 9)

    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            ({"files_late_seconds": 1e9}, "are 3 completed and 0 failed, but the service shows no output file"),
            ({"lines_late_seconds": 1e9}, "are 3 completed and 0 failed, but its output file has 0"),
            ({"unwritten": {"positions": [1]}}, "are 3 completed and 0 failed, but its output file has 2"),
            (
                {"counts_late_seconds": 1e9, "files_late_seconds": 1e9},
                "completed, but has neither request counts nor results",
            ),
            (
                {"failing": {"positions": [1]}, "unwritten": {"positions": [1]}},
                "are 2 completed and 1 failed, but its files have 2 of these",
            ),
        ],
        ids=str,
    )
    def test_undelivered_results_are_resubmitted_only_when_cleared(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any, plan: dict[str, Any], message: str
    ) -> None:
        control.plan(nth=2, **plan)
        for _ in range(2):
            with pytest.raises(
                SiliconFlowError, match=rf"{message}.*a retry downloads again.*clear the task"
            ) as caught:
                run(lambda: infer(requests=sums(9), retries=3))
            assert not isinstance(caught.value, AirflowFailException)
            assert Counter(statuses(rows())) == {"succeeded": 6, "unfinished": 3}
            assert control.batches_created() == 3
            context["ti"].try_number += 1
        context["ti"].clear(retries=3)
        assert run(lambda: infer(requests=sums(9), retries=3))["counts"] == {"succeeded": 9}
        assert control.batches_created() == 4
        # For a retry of the cleared task, that part is no error either.
        context["ti"].try_number += 1
        assert run(lambda: infer(requests=sums(9), retries=3))["counts"] == {"succeeded": 9}
        assert control.batches_created() == 4

    @pytest.mark.parametrize(
        ("plan", "examples"),
        [
            ({"lowered_ids": True}, r"in 3 of 3 lines: sent 'ID-(.)', received 'id-\1', sent 'ID-"),
            ({"ids_cut_to": 3}, r"in 3 of 3 lines: sent 'ID-\d', received 'ID-'"),
        ],
        ids=str,
    )
    def test_changed_ids_stop_the_job_without_submitting(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any, plan: dict[str, Any], examples: str
    ) -> None:
        items = [{"id": f"ID-{i}", "q": question} for i, question in enumerate(sums(9))]
        control.plan(nth=2, **plan)
        for _ in range(2):
            with pytest.raises(SiliconFlowError, match=rf"{examples}.*nothing is resubmitted"):
                run(lambda: infer(requests=items, prompt="{q}", id_column="id"))
            context["ti"].try_number += 1
        assert Counter(statuses(rows())) == {"succeeded": 6, "unfinished": 3}
        assert_nothing_was_bought_twice(control, 9)

    def test_half_a_batch_missing_stops_the_job(self, infer: Infer, run: Run, control: Control, context: Any) -> None:
        control.plan(missing={"positions": [0, 1]}, counts_late_seconds=1e9)
        for _ in range(2):
            with pytest.raises(SiliconFlowError, match=r"its files lack 2 of its 3 requests, such as 'requ"):
                run(lambda: infer(requests=sums(3)))
            context["ti"].try_number += 1
        assert control.batches_created() == 1

    @pytest.mark.parametrize("is_counted", [True, False])
    def test_a_single_missing_row_needs_agreeing_counts(
        self, infer: Infer, run: Run, control: Control, is_counted: bool
    ) -> None:
        control.plan(**{"missing" if is_counted else "unwritten": {"positions": [0]}})
        if is_counted:
            assert run(lambda: infer(requests=sums(1)))["rounds"] == 2
        else:
            with pytest.raises(SiliconFlowError, match="are 1 completed and 0 failed, but its output file has 0"):
                run(lambda: infer(requests=sums(1)))
            assert control.batches_created() == 1

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    def test_lost_results_are_missing_until_cleared(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any, clock: Any, deferrable: bool
    ) -> None:
        """Meanwhile other requests are resent, and late results are not awaited a second time."""
        control.plan(failing={"positions": [1]})
        control.plan(gone_seconds=1e9)
        started = clock.now
        for _ in range(2):
            with pytest.raises(
                MissedSuccessRateError, match=r"(?s)6 of 9 .* \(3 missing\).*3 x results_lost.*would resend 3 requests"
            ):
                run(lambda: infer(requests=sums(9), retries=3, deferrable=deferrable))
            assert clock.now - started < 3 * 3600
            assert control.batches_created() == 4
            context["ti"].try_number += 1
        found = Counter((row["status"], row["error"] and row["error"]["code"]) for row in rows())
        assert found == {("succeeded", None): 6, ("missing", "results_lost"): 3}
        context["ti"].clear(retries=3)
        assert run(lambda: infer(requests=sums(9), retries=3))["counts"] == {"succeeded": 9}
        assert control.batches_created() == 5
        assert sorted(control.executions().counts.values()) == [1] * 5 + [2] * 4

    @pytest.mark.parametrize(
        "plan", [{"files_late_seconds": 500.0}, {"lines_late_seconds": 500.0}, {"gone_seconds": 3000.0}], ids=str
    )
    def test_a_new_rounds_late_results_are_awaited(
        self, infer: Infer, run: Run, control: Control, context: Any, plan: dict[str, float]
    ) -> None:
        def make() -> Any:
            return infer(requests=sums(3), max_rounds=1, retries=3)

        control.plan(failing={"positions": [1]})
        with pytest.raises(MissedSuccessRateError):
            run(make)
        context["ti"].clear(retries=3)
        control.plan(**plan)
        assert run(make)["counts"] == {"succeeded": 3}

    def test_an_undownloaded_round_is_not_written(
        self, infer: Infer, run: Run, control: Control, context: Any, rows: Rows
    ) -> None:
        def make() -> Any:
            return infer(requests=sums(3), max_rounds=1, retries=3)

        control.plan(failing={"positions": [1]})
        with pytest.raises(MissedSuccessRateError):
            run(make)
        context["ti"].clear(retries=3)
        control.plan(lines_late_seconds=5000.0)
        for _ in range(2):
            with pytest.raises(SiliconFlowError, match="but its output file has 0"):
                run(make)
            assert statuses(rows()) == ["succeeded", "unfinished", "succeeded"]
            context["ti"].try_number += 1

    def test_written_results_outlive_the_services_files(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clock: Any
    ) -> None:
        run(lambda: infer(requests=sums(9)))
        before, started = rows(), clock.now
        control.fault("GET /files/{id}/content", status=404, every=1)
        assert run(lambda: infer(requests=sums(9)))["counts"] == {"succeeded": 9}
        assert rows() == before
        assert clock.now - started < 60
        assert control.batches_created() == 3

    @pytest.mark.parametrize(
        "fault",
        [{"kind": "garbage"}, {"kind": "cut", "after_bytes": 20}, {"status": 403}, {"status": 503}],
        ids=str,
    )
    @pytest.mark.parametrize("seconds", [3000, 5000], ids=["heals", "lasts"])
    def test_an_unreadable_file_holds_no_other_part(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        control: Control,
        client: SiliconFlowClient,
        clock: Any,
        fault: Any,
        seconds: int,
    ) -> None:
        """A problem of less than an hour fails no task; after a longer one, a retry succeeds."""

        def break_second(*arguments: Any) -> None:
            reference = batches(client)[1].output_file_id
            control.fault(f"GET /files/{reference}/content", every=1, **fault)
            clock.after(seconds, control.reset)

        def make() -> Any:
            return infer(requests=sums(9), poll_interval=200)

        started = clock.now
        clock.after(150, break_second)
        if seconds > 3600:
            with pytest.raises(SiliconFlowError):
                run(make)
            assert Counter(statuses(rows())) == {"succeeded": 6, "unfinished": 3}
            clock.advance(seconds)
        assert run(make)["counts"] == {"succeeded": 9}
        assert clock.now - started > 2900
        assert_nothing_was_bought_twice(control, 9)

    @pytest.mark.parametrize("status", [403, 404, 503])
    def test_an_unreachable_batch_fails_no_task(
        self, infer: Infer, run: Run, control: Control, clock: Any, status: int
    ) -> None:
        """The batch becomes unreachable after its wait, when its answers are downloaded."""
        # The wait polls each of the three batches twice.
        control.fault("GET /batches/{id}", status=status, nth=7, every=1)
        clock.after(3000, control.reset)
        assert run(lambda: infer(requests=sums(9), poll_interval=200))["counts"] == {"succeeded": 9}
        assert control.answers()["GET /batches/{id}"][status] > 6
        assert_nothing_was_bought_twice(control, 9)

    def test_written_answers_survive_an_undownloaded_part(
        self, infer: Infer, run: Run, rows: Rows, control: Control
    ) -> None:
        run(lambda: infer(requests=sums(9)))
        before = rows()
        control.fault("GET /files/{id}/content", status=503, nth=2, every=1)
        with pytest.raises(SiliconFlowError):
            run(lambda: infer(requests=sums(9)))
        assert rows() == before


LATE = {"counts_late_seconds": 120, "files_late_seconds": 120}
NEVER = {"counts_late_seconds": 1e9, "files_late_seconds": 1e9}


class TestUnfinishedBatches:
    """A batch that expired or was cancelled has answered two of four requests."""

    @pytest.mark.parametrize("end", ["expired", "cancelled"])
    @pytest.mark.parametrize("late", [LATE, {"counts_late_seconds": 1e9, "lines_late_seconds": 120}], ids=str)
    def test_late_answers_are_not_bought_again(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clear: Any, end: str, late: Any
    ) -> None:
        control.plan(end=end, run_share=0.5, **late)
        if end == "cancelled":
            assert run(lambda: infer(requests=sums(4), min_success_rate=0.5))["counts"] == {"succeeded": 2, end: 2}
            clear()
        run(lambda: infer(requests=sums(4)))
        assert [(row["content"], row["round"]) for row in rows()] == [("1", 1), ("2", 1), ("3", 2), ("4", 2)]
        assert_nothing_was_bought_twice(control, 4)

    @pytest.mark.parametrize("end", ["expired", "cancelled"])
    @pytest.mark.parametrize("late", [NEVER, {"counts_late_seconds": 1e9, "lines_late_seconds": 1e9}], ids=str)
    def test_undelivered_answers_are_bought_after_a_clear(
        self, infer: Infer, run: Run, control: Control, clear: Any, end: str, late: Any
    ) -> None:
        control.plan(end=end, run_share=0.5, **late)
        with pytest.raises(SiliconFlowError, match=f"{end}, but has neither request counts nor results: nothing is re"):
            run(lambda: infer(requests=sums(4)))
        assert control.batches_created() == 1
        clear()
        assert run(lambda: infer(requests=sums(4)))["counts"] == {"succeeded": 4}

    @pytest.mark.parametrize(
        "plan",
        [{"end": "failed"}, {"end": "expired", "run_share": 0.0}, {"queue_seconds": 1e6}],
        ids=["failed", "nothing answered", "never started"],
    )
    def test_nothing_is_awaited_without_answers(
        self, infer: Infer, run: Run, control: Control, clock: Any, plan: Any
    ) -> None:
        control.plan(**plan)
        started = clock.now
        assert run(lambda: infer(requests=sums(4)))["counts"] == {"succeeded": 4}
        assert (control.batches_created(), (clock.now - started) % 86_400 < 600) == (2, True)


class TestDamagedLines:
    @pytest.mark.parametrize(
        ("plan", "status", "code"),
        [("cut", "failed", "unreadable_answer"), ("garbled", "missing", "results_lost")],
    )
    def test_a_damaged_answer_is_bought_after_a_clear(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clear: Any, retry: Any, clock: Any,
        plan: str, status: str, code: str,
    ) -> None:  # fmt: skip
        control.plan(**{plan: {"positions": [3]}})
        started = clock.now
        for _ in range(2):
            summary = run(lambda: infer(requests=sums(5), retries=3, min_success_rate=0.8))
            assert summary["counts"] == {"succeeded": 4, status: 1}
            assert rows()[3]["error"]["code"] == code
            assert 600 <= clock.now - started < 1_200
            retry()
        assert control.batches_created() == 1
        clear(retries=3)
        assert run(lambda: infer(requests=sums(5), retries=3))["counts"] == {"succeeded": 5}

    def test_a_line_that_is_whole_later_is_taken(
        self, infer: Infer, run: Run, control: Control, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        download, cut = SiliconFlowClient.download, list[str]()

        def cut_first(self: SiliconFlowClient, reference: str, file: Any) -> int:
            size = download(self, reference, file)
            if not cut:
                cut.append(reference)
                file.truncate(size - 40)
            return size

        monkeypatch.setattr(SiliconFlowClient, "download", cut_first)
        control.plan(counts_late_seconds=1e9)
        assert run(lambda: infer(requests=sums(5)))["counts"] == {"succeeded": 5}
        assert len(cut) == control.batches_created() == 1


class TestSignedUrls:
    def test_an_expired_url_is_requested_again(
        self, infer: Infer, run: Run, control: Control, part_lines: Any, monkeypatch: pytest.MonkeyPatch, clock: Any
    ) -> None:
        part_lines(3)
        download = SiliconFlowClient.download

        def slow(self: SiliconFlowClient, *arguments: Any, **options: Any) -> int:
            if not slowed:
                slowed.append(True)
                clock.advance(3600)
            return download(self, *arguments, **options)

        slowed: list[bool] = []
        monkeypatch.setattr(SiliconFlowClient, "download", slow)
        assert run(lambda: infer(requests=sums(9)))["counts"] == {"succeeded": 9}
        assert_nothing_was_bought_twice(control, 9)


def test_shortened_event_errors_are_complete_on_disk(
    infer: Any, run: Any, control: Control, manifest: Any, tmp_path: Path
) -> None:
    errors = [f"line {number}: not JSON" for number in range(1, 5_001)]
    control.plan(end="failed", errors=errors)
    with pytest.raises(MissedSuccessRateError) as caught:
        run(lambda: infer(requests=["1+1"], deferrable=True, max_rounds=1))
    path = f"{tmp_path}/out/_siliconflow/errors.jsonl"
    assert manifest()["paths"]["errors"] == f"file://{path}"
    assert [json.loads(line)["message"] for line in Path(path).read_text().splitlines()] == errors
    assert f"line 4: not JSON; and 4,996 more.\nFull texts of shortened errors: file://{path}" in str(caught.value)
    assert len(str(caught.value)) < 2_000
