"""Each job has a `report.html` beside its manifest, whatever the job's end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import BatchTimeoutError, MissedSuccessRateError
from siliconflow_provider.links import ReportLink
from siliconflow_provider.operators.batches import DownloadResultsOperator
from tests.documents import HOSTILE, Parsed
from tests.inference_jobs import Infer, Run, sums

PRICES = {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1000, "output": 4000}}}
Report = Callable[[], Parsed]


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Return the report of that job."""
    return lambda: Parsed((tmp_path / "out" / "report.html").read_text())


def test_a_report_has_outcome_figures_and_rows(infer: Infer, run: Run, report: Report, control: Control) -> None:
    control.plan(failing={"positions": [1], "once": True, "message": "try later"})
    rows = [{"id": f"q{number}", "q": f"What is {number} + 1?"} for number in range(4)]
    summary = run(
        lambda: infer(requests=rows, prompt="{q}", id_column="id", prices=PRICES, request_params={"max_tokens": 9})
    )
    text = report().text
    assert summary["report_path"].endswith("/out/report.html")
    assert "4 of 4 requests succeeded." in text
    assert f"CNY {summary['cost']['total']:.2f}" in text
    assert "estimated cost, at most" in text
    assert "1 failed: try later" in text  # why there was a second round
    assert text.count("1m 55s") == 2  # the time of each round
    assert all(word in text for word in ("Round 1", "Round 2", "q3", '{"id":"q3","q":"What is 3 + 1?"}', "stop"))


@pytest.mark.parametrize(("limit", "is_shown"), [(10_000, True), (600, False)])
def test_a_task_with_a_summary_shows_the_link(
    infer: Infer, run: Run, control: Control, limit: int, is_shown: bool
) -> None:
    control.plan(run_seconds=5000.0, failing={"positions": [0]})
    operators = []
    with pytest.raises((MissedSuccessRateError, BatchTimeoutError)):
        run(lambda: operators.append(infer(requests=sums(2), max_rounds=1, timeout=limit)) or operators[-1])
    key = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    assert bool(ReportLink().get_link(operators[-1], ti_key=key)) == is_shown


def test_a_missed_success_rate_is_a_failure(infer: Infer, run: Run, report: Report, control: Control) -> None:
    control.plan(failing={"positions": [1], "message": HOSTILE})
    with pytest.raises(MissedSuccessRateError):
        run(lambda: infer(requests=sums(4), max_rounds=1, min_success_rate=0.9))
    parsed = report()
    assert "failed 3 of 4 requests succeeded, and min_success_rate is 90.00%." in parsed.text
    assert "server_error: </script><script>" in parsed.text
    assert {tag for tag, _ in parsed.elements}.isdisjoint({"script", "img", "a", "link"})


def test_a_timeout_leaves_an_unfinished_report(infer: Infer, run: Run, report: Report, control: Control) -> None:
    control.plan(run_seconds=5000.0)
    with pytest.raises(BatchTimeoutError):
        run(lambda: infer(requests=sums(3), timeout=600))
    text = report().text
    assert "unfinished 0 of 3 requests succeeded so far" in text
    assert "now" in text


def test_a_job_of_reused_rows_has_no_batches(infer: Infer, run: Run, context: Any, tmp_path: Path) -> None:
    run(lambda: infer(requests=sums(2)))
    context["ti"].run_id = "later"
    run(lambda: infer(requests=sums(2), output_path=str(tmp_path / "later"), reuse_from=str(tmp_path / "out")))
    text = Parsed((tmp_path / "later" / "report.html").read_text()).text
    assert "2 of 2 requests succeeded." in text
    assert "reused from earlier runs2" in text
    assert "Times of the batches" not in text


def test_a_job_without_rows_has_a_report(infer: Infer, run: Run, report: Report) -> None:
    run(lambda: infer(requests=[]))
    assert "succeeded 0 of 0 requests succeeded." in report().text


def test_a_table_has_a_report_too(infer: Infer, run: Run, report: Report) -> None:
    run(lambda: infer(requests=[{"q": "What is 1 + 1?"}], prompt="{q}", output_format="csv"))
    assert '{"q":"What is 1 + 1?"}' in report().text
    assert "results.csv" in report().text


def test_keys_and_signed_urls_are_not_shown(
    infer: Infer, run: Run, emulator: Any, report: Report, tmp_path: Path
) -> None:
    key, url = emulator.airflow_connection["password"], "https://bucket.example/a.png?X-Amz-Signature=s3cret-s3cret"
    escaped = url.replace("/", "\\/").replace("?", "\\u003f")
    (tmp_path / "in.jsonl").write_text("".join(f'{{"q": "{text}"}}\n' for text in (url, escaped, key)))
    run(lambda: infer(input_path=str(tmp_path / "in.jsonl"), prompt="{q}"))
    text = report().text
    assert text.count("https://bucket.example/a.png?...") == 2 * 2  # input and answer
    assert "s3cret" not in text
    assert key not in text


def test_a_users_report_is_left_alone(infer: Infer, run: Run, clear: Any, tmp_path: Path, logged: Any) -> None:
    path = tmp_path / "out" / "report.html"
    path.parent.mkdir()
    path.write_text("mine")
    summary = run(lambda: infer(requests=sums(2)))
    assert (path.read_text(), summary["counts"]) == ("mine", {"succeeded": 2})
    assert "report_path" not in summary
    assert "no report was written" in logged()
    clear()
    run(lambda: infer(requests=sums(2), request_params={"max_tokens": 9}))
    assert list(tmp_path.rglob("report.html")) == [path]


def test_a_replaced_jobs_report_is_kept(
    infer: Infer, run: Run, clear: Any, clock: Any, control: Control, tmp_path: Path
) -> None:
    control.plan(run_seconds=5000.0)
    with pytest.raises(BatchTimeoutError):
        run(lambda: infer(requests=sums(1), timeout=600))
    clock.advance(5000)
    clear()
    run(lambda: infer(requests=sums(2), request_params={"max_tokens": 9}))
    (kept,) = tmp_path.glob("out/_siliconflow/replaced/*/report.html")
    # Its batch has ended before the new job began, which is no failure of the old one.
    assert "succeeded 1 of 1 requests succeeded." in Parsed(kept.read_text()).text
    assert kept.read_text() != (tmp_path / "out" / "report.html").read_text()


def test_a_downloaded_batch_has_a_report(
    connection: str, client: Any, file_id: str, context: Any, clock: Any, tmp_path: Path, report: Report
) -> None:
    batch = client.create_batch(file_id)
    clock.advance(200)
    operator = DownloadResultsOperator(task_id="download", batch_id=batch.id, output_path=str(tmp_path / "out"))
    assert operator.execute(context)["report_path"] == operator.report_path
    text = report().text
    assert "downloaded 12 of 12 requests succeeded." in text
    assert batch.id in text
