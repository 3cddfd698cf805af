"""Whole jobs with `reuse_from` and `deduplicate`: only requests that nobody has answered are sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import (
    BatchTimeoutError,
    InvalidInputError,
    JobDefinitionError,
    MissedSuccessRateError,
)
from siliconflow_provider.jobs import opening
from siliconflow_provider.jobs.runner import JobRunner
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, contents, statuses, sums
from tests.kills import Killed

NO_TOKENS = {"prompt": 0, "completion": 0, "cached": 0}
PRICES = {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1, "output": 4}}}
Day = Callable[..., dict[str, Any]]


@pytest.fixture
def day(infer: Infer, run: Run, context: dict[str, Any], tmp_path: Path) -> Day:
    """Run the task of another day, in a directory of its own below `runs`."""

    def run_day(name: str, requests: Any, **arguments: Any) -> dict[str, Any]:
        context["ti"].run_id = name
        summary: dict[str, Any] = run(
            lambda: infer(requests=requests, output_path=str(tmp_path / "runs" / name), **arguments)
        )
        return summary

    return run_day


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """The pattern of all days."""
    return str(tmp_path / "runs" / "*")


@pytest.fixture
def rows_of(tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Return the rows of a day."""
    return lambda name: [
        json.loads(line) for line in (tmp_path / "runs" / name / "results.jsonl").read_text().splitlines()
    ]


def named(*texts: str) -> list[dict[str, str]]:
    return [{"id": text, "q": text} for text in texts]


class TestReuse:
    def test_only_changed_rows_are_sent(
        self, day: Day, runs: str, rows_of: Any, control: Control, logged: Any, tmp_path: Path
    ) -> None:
        """The chain's third day copies what the first one paid for, with its batch, round and tokens."""
        options: dict[str, Any] = {"prompt": "{q}", "id_column": "id", "reuse_from": runs, "prices": PRICES}
        first = day("1", named("1 + 1", "2 + 1", "3 + 1"), **options)
        assert (first["reused"], "matches no directory" in logged()) == (0, True)
        second = day("2", [*named("3 + 1"), {"id": "new", "q": "2 + 1"}, *named("4 + 1")], **options)
        assert (second["reused"], second["rows"], second["counts"]) == (2, 3, {"succeeded": 3})
        said = logged()
        assert "sending 1 request: reusing 2 answers of earlier runs, leaving out 0 duplicate requests" in said
        assert "estimate for 1 request: about 9 prompt tokens, about CNY 0.000013; no upper bound" in said
        assert "prepared 1 of 3 requests in 1 part" in said
        assert control.batches_created() == 2
        third = day("3", [*named("4 + 1"), {"id": "newer", "q": "2 + 1"}], **options)
        assert (third["reused"], third["rounds"], third["tokens"]) == (2, 0, NO_TOKENS)
        assert control.batches_created() == 2
        assert_nothing_was_bought_twice(control, 4)
        rows = {name: {row["custom_id"]: row for row in rows_of(name)} for name in "123"}
        assert {row["reused"] for row in rows["1"].values()} == {False}
        assert [row["reused"] for row in rows["2"].values()] == [True, True, False]
        assert rows["1"]["2 + 1"]["cost"] > 0
        place = {"cost": 0.0, "index": 1, "custom_id": "newer", "reused": True, "input": {"id": "newer", "q": "2 + 1"}}
        assert rows["3"]["newer"] == {**rows["1"]["2 + 1"], **place}
        assert json.loads((tmp_path / "runs" / "3" / "manifest.json").read_text())["reused"] == 2

    def test_a_retry_needs_no_earlier_files(
        self, day: Day, runs: str, rows_of: Any, control: Control, kill: Any, tmp_path: Path
    ) -> None:
        """A crash before the job is published buys nothing, and one after it loses nothing."""
        day("1", sums(2))
        kill(opening, "publish_job")
        with pytest.raises(Killed):
            day("2", sums(3), reuse_from=runs)
        assert control.batches_created() == 1
        kill(JobRunner, "submit")
        with pytest.raises(Killed):
            day("2", sums(3), reuse_from=runs)
        (tmp_path / "runs" / "1" / "results.jsonl").unlink()
        summary = day("2", sums(3), reuse_from=str(tmp_path / "absent"))
        assert (summary["reused"], contents(rows_of("2"))) == (2, ["1", "2", "3"])
        assert_nothing_was_bought_twice(control, 3)

    def test_a_failed_answer_is_sent_again(self, day: Day, runs: str, rows_of: Any, control: Control) -> None:
        control.plan(end="cancelled", run_share=0.5)
        with pytest.raises(MissedSuccessRateError):
            day("1", sums(4))
        assert day("2", sums(4), reuse_from=runs)["reused"] == 2
        assert statuses(rows_of("2")) == ["succeeded"] * 4
        assert_nothing_was_bought_twice(control, 4)

    def test_answers_of_a_resent_request_are_reused(self, day: Day, runs: str, control: Control) -> None:
        control.plan(failing={"positions": [1], "once": True})
        day("1", sums(2))
        assert day("2", sums(2), reuse_from=runs)["reused"] == 2

    def test_answers_of_a_replaced_job_are_reused(
        self, day: Day, runs: str, rows_of: Any, control: Control, context: Any
    ) -> None:
        """The second job kept one answer of the first; a third task reuses both of its answers."""
        day("1", sums(2))
        context["ti"].clear()
        day("1", sums(2, start=1), completion_window="48h")
        assert day("2", sums(3), reuse_from=runs)["reused"] == 2
        assert [row["round"] for row in rows_of("2")] == [1, 0, 1]

    def test_a_clear_keeps_reused_answers(
        self, day: Day, runs: str, rows_of: Any, control: Control, context: Any, tmp_path: Path
    ) -> None:
        """The new job of a changed task keeps them, and reads the earlier runs for the others."""
        day("1", sums(2))
        day("2", sums(3, start=1), reuse_from=runs)
        context["ti"].clear()
        options: dict[str, Any] = {"reuse_from": [str(tmp_path / "runs" / "1")], "deduplicate": True}
        summary = day("2", [*sums(4), *sums(4)], completion_window="48h", **options)
        manifest = json.loads((tmp_path / "runs" / "2" / "manifest.json").read_text())
        assert (manifest["kept"], summary["reused"], summary["deduplicated"], summary["rounds"]) == (6, 2, 0, 0)
        assert contents(rows_of("2")) == ["1", "2", "3", "4"] * 2
        assert_nothing_was_bought_twice(control, 4)

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (
                lambda path: path.rename(path.parent.parent / "elsewhere"),
                "it does not exist, or is no output_path of a",
            ),
            (lambda path: (path / "manifest.json").unlink(), "its job has written no results yet"),
            (lambda path: (path / "results.jsonl").write_text("{}\n"), "its results.jsonl is missing or was changed"),
            (lambda path: (path / "_siliconflow" / "job.json").write_text("{}"), "its files are damaged, or another"),
            (lambda path: _requests(path).write_text("{}\n"), "the file of its requests is missing or was changed"),
        ],
        ids=["absent", "unfinished", "changed", "another version", "other requests"],
    )
    def test_what_cannot_be_reused_is_an_error(
        self, day: Day, runs: str, control: Control, logged: Any, tmp_path: Path, damage: Any, reason: str
    ) -> None:
        """With a pattern it is a warning, and the rows are sent."""
        day("1", sums(2))
        path = tmp_path / "runs" / "1"
        damage(path)
        expected = f"(?s)reuse_from names file://{path}, but .*: {reason}.*end the path"
        with pytest.raises(InvalidInputError, match=expected):
            day("2", sums(2), reuse_from=str(path))
        assert control.batches_created() == 1
        assert day("2", sums(2), reuse_from=runs)["reused"] == 0
        assert path.exists() is (f"reusing no answers of file://{path}: {reason}" in logged())

    def test_one_unusable_directory_stops_no_pattern(
        self, day: Day, runs: str, control: Control, logged: Any, tmp_path: Path
    ) -> None:
        """A directory that others have written is named in a warning, and no file is written for it elsewhere."""
        day("1", sums(2))
        damages: list[Callable[[Path], object]] = [
            lambda path: as_directory(path / "_siliconflow" / "job.json"),
            lambda path: as_directory(path / "manifest.json"),
            lambda path: as_directory(path / "results.jsonl"),
            lambda path: as_directory(_requests(path)),
            lambda path: in_job(path, '"directory": ""', '"directory": "../../../../../../tmp/elsewhere"'),
            lambda path: in_job(path, '"offset": 0', '"offset": -5'),
        ]
        for number, damage in enumerate(damages):
            damage(Path(shutil.copytree(tmp_path / "runs" / "1", tmp_path / "runs" / f"9{number}")))
        assert day("2", sums(2), reuse_from=runs)["reused"] == 2
        assert control.batches_created() == 1
        for number in range(len(damages)):
            assert f"reusing no answers of file://{tmp_path}/runs/9{number}: " in logged()

    def test_a_running_job_gives_the_answers_that_it_has(
        self, day: Day, runs: str, control: Control, logged: Any, part_lines: Any
    ) -> None:
        part_lines(2)
        control.plan(nth=2, queue_seconds=7200)
        with pytest.raises(BatchTimeoutError):
            day("1", sums(4), timeout=3600)
        assert day("2", sums(4), reuse_from=runs)["reused"] == 2
        assert "is not over: only the answers that it has written are reused" in logged()


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def in_job(path: Path, old: str, new: str) -> None:
    """Replace a text in the job file of a directory."""
    file = path / "_siliconflow" / "job.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def _requests(path: Path) -> Path:
    return path / "_siliconflow" / "requests.jsonl"


class TestDeduplicate:
    def test_equal_requests_are_sent_once(self, infer: Infer, run: Run, rows: Rows, control: Control) -> None:
        """A failed one that stands for three is resent once, and a retry changes nothing."""
        control.plan(failing={"positions": [1], "once": True})
        items = [{"id": f"r{i}", "q": f"{i % 2} + 1"} for i in range(6)]
        options: dict[str, Any] = {"prompt": "{q}", "id_column": "id", "deduplicate": True, "prices": PRICES}
        summary = run(lambda: infer(requests=items, **options))
        assert (summary["rows"], summary["deduplicated"], summary["counts"]) == (6, 4, {"succeeded": 6})
        executions = control.executions()
        assert (executions.distinct, executions.most, executions.total) == (2, 2, 3)
        shown = [(row["index"], row["custom_id"], row["content"], row["reused"], row["input"]) for row in rows()]
        assert shown == [(i, f"r{i}", str(i % 2 + 1), i > 1, items[i]) for i in range(6)]
        assert [row["round"] for row in rows()] == [1, 2] * 3
        assert [row["cost"] > 0 for row in rows()] == [not row["reused"] for row in rows()]
        tokens = sum(row["prompt_tokens"] for row in rows() if not row["reused"])
        before = rows()
        assert run(lambda: infer(requests=items, **options))["tokens"]["prompt"] >= tokens
        assert rows() == before

    def test_a_lasting_failure_is_every_rows(self, infer: Infer, run: Run, rows: Rows, control: Control) -> None:
        control.plan(failing={"positions": [0], "code": "400"})
        summary = run(lambda: infer(requests=["1 + 1", "2 + 1", "1 + 1"], deduplicate=True, min_success_rate=0.1))
        assert summary["counts"] == {"failed": 2, "succeeded": 1}
        assert [(row["error"] is not None, row["reused"]) for row in rows()] == [
            (True, False), (False, False), (True, True),
        ]  # fmt: skip

    def test_a_changed_setting_buys_nothing_again(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clear: Any
    ) -> None:
        items = ["1 + 1", "1 + 1", "2 + 1"]
        run(lambda: infer(requests=items))
        before = control.executions().total
        with pytest.raises(JobDefinitionError, match=r"deduplicate changed since"):
            run(lambda: infer(requests=items, deduplicate=True))
        for deduplicate in (True, False):
            clear()
            summary = run(lambda: infer(requests=items, deduplicate=deduplicate))  # noqa: B023
            assert (summary["counts"], summary["deduplicated"]) == ({"succeeded": 3}, 0)
        assert control.executions().total == before
        assert "reused" not in rows()[0]

    def test_a_running_part_is_not_bought_again(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clear: Any, kill: Any
    ) -> None:
        """It was submitted with its duplicates, and stays as it is."""
        items = ["1 + 1", "1 + 1", "2 + 1"]
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=items))
        clear()
        assert run(lambda: infer(requests=items, deduplicate=True))["deduplicated"] == 0
        assert (control.batches_created(), contents(rows())) == (1, ["2", "2", "3"])

    def test_after_30_days_rows_stay(
        self, infer: Infer, run: Run, rows: Rows, clock: Any, control: Control, manifest: Any
    ) -> None:
        """The published rows are read back; their tokens count once."""
        run(lambda: infer(requests=["1 + 1", "1 + 1", "2 + 1"], deduplicate=True))
        before, tokens = rows(), manifest()["tokens"]
        clock.advance(31 * 24 * 3600)
        run(lambda: infer(requests=["1 + 1", "1 + 1", "2 + 1"], deduplicate=True))
        assert (rows(), manifest()["tokens"]) == (before, tokens)


def test_results_of_another_format_are_reused(day: Day, runs: str, rows_of: Any, control: Control) -> None:
    day("1", sums(2), output_format="csv")
    assert day("2", sums(2), reuse_from=runs)["reused"] == 2
    assert contents(rows_of("2")) == ["1", "2"]
    assert_nothing_was_bought_twice(control, 2)
