"""Whole jobs: invalid answers are resent for correction, and a failure of most requests is not resent at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import RepeatedFailureError
from siliconflow_provider.jobs.runner import JobRunner
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, statuses, sums
from tests.kills import Killed

Sent = Callable[[int], list[dict[str, Any]]]


class Answer(BaseModel):
    answer: int


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    """Return the requests of a later round."""
    return lambda number: [
        json.loads(line) for line in (tmp_path / f"out/_siliconflow/round-{number}.jsonl").read_text().splitlines()
    ]


def wrong(*numbers: int, content: str = "I am not sure.") -> dict[str, str]:
    """Planned answers to the requests with these numbers, from 1."""
    return {f"request-{number:06d}": content for number in numbers}


def roles(request: dict[str, Any]) -> list[str]:
    return [message["role"] for message in request["body"]["messages"]]


class TestCorrections:
    def test_an_invalid_answer_is_corrected(
        self, infer: Infer, run: Run, rows: Rows, control: Control, manifest: Any, logged: Any, sent: Sent
    ) -> None:
        control.plan(answers=wrong(1, 3, 5, content='{"a": 1}'), failing={"positions": [3]})
        assert run(lambda: infer(requests=sums(6), output_type=Answer))["counts"] == {"succeeded": 6}
        assert [row["output"]["answer"] for row in rows()] == [1, 2, 3, 4, 5, 6]
        first, _, failed, _ = sent(2)
        assert [message["content"] for message in first["body"]["messages"][-3:]] == [
            "What is 0 + 1?",
            '{"a": 1}',
            "Your answer is not valid: answer: Field required. Answer again with the complete, corrected JSON object "
            "and nothing else.",
        ]
        assert (failed["custom_id"], roles(failed)) == ("request-000004", ["system", "user"])
        assert (
            "round 2: resending 4 requests in 1 batch: 3 invalid (answer: Field required), 1 failed (server_error The"
        ) in logged()
        (resent,) = manifest()["resent"]
        assert (resent["round"], resent["requests"]) == (2, 4)
        assert resent["reasons"][0] == {
            "status": "invalid",
            "code": "invalid_output",
            "message": "answer: Field required",
            "count": 3,
        }

    def test_later_rounds_show_only_the_newest_answer(
        self, infer: Infer, run: Run, control: Control, sent: Sent
    ) -> None:
        for content in ("no", "still no", "never"):
            control.plan(answers=wrong(1, content=content))
        # A row keeps its invalid answer if its next request fails.
        control.plan(failing={"positions": [0]})
        run(lambda: infer(requests=sums(2), output_type=Answer, max_rounds=5))
        added = [sent(number)[0]["body"]["messages"][2:] for number in (2, 3, 4, 5)]
        assert [answer["content"] for answer, _ in added] == ["no", "still no", "never", "never"]

    def test_a_planned_round_is_sent_as_written(
        self, infer: Infer, run: Run, control: Control, kill: Any, tmp_path: Path
    ) -> None:
        """Its answers may be gone, or the validator's words may differ, when an attempt resumes it."""
        control.plan(answers=wrong(1))
        kill(JobRunner, "submit", nth=2)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), output_type=Answer))
        planned = (tmp_path / "out/_siliconflow/round-2.jsonl").read_bytes()
        assert run(lambda: infer(requests=sums(3), output_type=Answer))["counts"] == {"succeeded": 3}
        assert (tmp_path / "out/_siliconflow/round-2.jsonl").read_bytes() == planned
        assert_nothing_was_bought_twice(control, 4)

    def test_a_corrected_answer_is_reused(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clear: Any
    ) -> None:
        """It is compared by the original request."""
        control.plan(answers=wrong(2))
        run(lambda: infer(requests=sums(3), output_type=Answer))
        clear()
        run(lambda: infer(requests=sums(4), output_type=Answer, completion_window="48h"))
        assert [row["round"] for row in rows()] == [0, 0, 0, 1]
        assert_nothing_was_bought_twice(control, 5)


class TestRepeatedFailure:
    def test_only_a_clear_resends_a_repeated_failure(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clear: Any, retry: Any, context: Any, tmp_path: Path
    ) -> None:
        control.plan(answers=wrong(*range(1, 13), content='{"result": 7}'))
        for is_retry in (False, True):
            if is_retry:
                retry()
            with pytest.raises(
                RepeatedFailureError,
                match=r"(?s)^answer: Field required\.\nFor this reason 12 of 20 requests of round 1 are invalid, "
                r"such as request-000001, which was answered '{\"result\": 7}'\.\nNo further round .*"
                r"8 of 20 requests succeeded in 1 round .*Clearing the task would resend 12 requests",
            ):
                run(lambda: infer(requests=sums(20), output_type=Answer, min_success_rate=None))
        assert statuses(rows()).count("invalid") == 12
        assert "For this reason 12 of 20 requests of round 1" in (tmp_path / "out" / "report.html").read_text()
        assert context["ti"].xcoms["return_value"]["counts"] == {"succeeded": 8, "invalid": 12}
        assert control.batches_created() == 1
        clear()
        assert run(lambda: infer(requests=sums(20), output_type=Answer))["counts"] == {"succeeded": 20}
        assert control.batches_created() == 2

    def test_a_small_job_is_resent(self, infer: Infer, run: Run, control: Control) -> None:
        control.plan(answers=wrong(1))
        assert run(lambda: infer(requests=sums(1), output_type=Answer))["rounds"] == 2

    def test_an_overloaded_service_is_tried_again(self, infer: Infer, run: Run, control: Control) -> None:
        control.plan(failing={"share": 1.0, "code": "50505", "message": "Model service overloaded."})
        assert run(lambda: infer(requests=sums(12)))["counts"] == {"succeeded": 12}

    def test_the_last_round_ends_as_before(self, infer: Infer, run: Run, control: Control) -> None:
        """There is no further round that could be saved."""
        control.plan(answers=wrong(*range(1, 13)))
        summary = run(lambda: infer(requests=sums(20), output_type=Answer, max_rounds=1, min_success_rate=0.4))
        assert summary["counts"] == {"succeeded": 8, "invalid": 12}
