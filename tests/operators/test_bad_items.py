"""Items that cannot be sent, in whole jobs."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from pydantic import BaseModel

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.decorators.inference import BatchInferenceDecoratedOperator
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import InvalidInputError, JobDefinitionError, MissedSuccessRateError
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.results import read_results
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, batches, contents, statuses
from tests.kills import Killed

MODEL = "deepseek-ai/DeepSeek-V3"
NULL, SENT = {"q": None}, [{"q": f"{number} + 1"} for number in range(6)]
ITEMS: list[Any] = [NULL, *SENT[:3], 7, *SENT[3:], NULL]
ASK: dict[str, Any] = {"prompt": "{q}", "bad_items": "skip", "min_success_rate": 0.5}
REJECTED = {0: "column 'q' is null", 4: "it is int", 8: "column 'q' is null"}


def test_every_item_is_one_row_in_order(
    infer: Infer,
    run: Run,
    rows: Rows,
    manifest: Any,
    caplog: pytest.LogCaptureFixture,
    part_lines: Any,
    control: Control,
    tmp_path: Path,
) -> None:
    part_lines(4)
    summary = run(lambda: infer(requests=ITEMS, **ASK))
    assert (summary["counts"], round(summary["success_rate"], 2)) == ({"succeeded": 6, "rejected": 3}, 0.67)
    assert [row["index"] for row in rows()] == list(range(9))
    assert contents(rows()) == [None, "1", "2", "3", None, "4", "5", "6", None]
    assert [row["custom_id"] for row in rows()] == [f"request-{number:06d}" for number in range(1, 10)]
    assert [row["input"] for row in rows()] == [NULL, *SENT[:3], None, *SENT[3:], NULL]
    for index, reason in REJECTED.items():
        row = rows()[index]
        assert (row["status"], row["error"]["code"], row["batch_id"]) == ("rejected", "invalid_item", None)
        assert reason in row["error"]["message"]
    assert [row.index for row in read_results(tmp_path / "out", status="rejected")] == [0, 4, 8]
    assert (manifest()["counts"], manifest()["errors"][0]["count"]) == (summary["counts"], 2)
    (line,) = [record.getMessage() for record in caplog.records if "skipping" in record.getMessage()]
    assert line.startswith("requests: skipping 3 of 9 items, which cannot be sent")
    assert "item 1: column 'q' is null; set a value, or leave the row out; item 5: it is int" in line
    assert_nothing_was_bought_twice(control, 6)


def test_resends_take_the_right_requests(
    infer: Infer, run: Run, rows: Rows, control: Control, clear: Any, part_lines: Any
) -> None:
    part_lines(4)
    control.plan(failing={"positions": [1]}, times=3)
    with pytest.raises(MissedSuccessRateError, match=r"\d of 9 requests succeeded"):
        run(lambda: infer(requests=ITEMS, **ASK | {"min_success_rate": 0.6}))
    clear()
    assert run(lambda: infer(requests=ITEMS, **ASK))["counts"] == {"succeeded": 6, "rejected": 3}
    assert contents(rows()) == [None, "1", "2", "3", None, "4", "5", "6", None]


def test_an_attempt_after_a_kill_gives_the_same_rows(
    infer: Infer, run: Run, rows: Rows, kill: Any, retry: Any, control: Control
) -> None:
    kill(JobRunner, "submit", after=True)
    with pytest.raises(Killed):
        run(lambda: infer(requests=ITEMS, **ASK))
    retry()
    # The source is not read again.
    assert run(lambda: infer(requests=[], **ASK))["rows"] == 9
    assert statuses(rows()) == ["rejected", *["succeeded"] * 3, "rejected", *["succeeded"] * 3, "rejected"]
    assert_nothing_was_bought_twice(control, 6)


def test_lost_rejections_are_no_rows(infer: Infer, run: Run, kill: Any, tmp_path: Path) -> None:
    kill(JobRunner, "submit", after=True)
    with pytest.raises(Killed):
        run(lambda: infer(requests=ITEMS, **ASK))
    path = tmp_path / "out" / "_siliconflow" / "rejected.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(RequestsLostError, match=r"rejected\.jsonl is missing or truncated; restore it"):
        run(lambda: infer(requests=ITEMS, **ASK))


def test_a_fixed_input_keeps_answers_and_sends_the_rest(
    infer: Infer, run: Run, rows: Rows, manifest: Any, control: Control, clear: Any, tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    write = lambda items: path.write_text("".join(f"{json.dumps(item)}\n" for item in items))  # noqa: E731
    write([NULL, SENT[0], NULL, NULL, *SENT[1:3]])
    run(lambda: infer(input_path=path, **ASK))
    clear()
    write([SENT[3], SENT[0], NULL, SENT[4], *SENT[1:3]])
    run(lambda: infer(input_path=path, **ASK))
    assert contents(rows()) == ["4", "1", None, "5", "2", "3"]
    assert [row["round"] for row in rows()] == [1, 0, None, 1, 0, 0]
    assert (manifest()["kept"], manifest()["counts"]) == (3, {"succeeded": 5, "rejected": 1})
    assert_nothing_was_bought_twice(control, 5)


def test_without_a_good_item_nothing_is_submitted(
    infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, context: Any, clear: Any
) -> None:
    for _ in range(2):
        with pytest.raises(
            MissedSuccessRateError,
            match=r"no item could be sent, so nothing was submitted.\n0 of 2 requests .*\n.* 2 x invalid_item",
        ):
            run(lambda: infer(requests=[NULL, NULL], **ASK | {"min_success_rate": None}))
        assert statuses(rows()) == ["rejected", "rejected"]
        assert (batches(client), client.list_files()) == ([], [])
        assert context["ti"].xcoms["return_value"]["counts"] == {"rejected": 2}
        clear()


def test_a_column_that_no_row_has_is_an_error(
    infer: Infer, run: Run, client: SiliconFlowClient, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="2 of 2 items are invalid and nothing was submitted"):
        run(lambda: infer(requests=SENT[:2], **ASK | {"prompt": "{query}"}))
    assert (batches(client), (tmp_path / "out" / "results.jsonl").exists()) == ([], False)


def test_bad_items_fail_by_default(infer: Infer, run: Run, client: SiliconFlowClient) -> None:
    with pytest.raises(InvalidInputError, match="3 of 9 items are invalid and nothing was submitted"):
        run(lambda: infer(requests=[item if item != 7 else {"q": b""} for item in ITEMS], prompt="{q}"))
    assert batches(client) == []


def test_a_changed_bad_items_is_a_change_if_any_was_skipped(
    infer: Infer, run: Run, retry: Any, clear: Any, client: SiliconFlowClient
) -> None:
    run(lambda: infer(requests=ITEMS, **ASK))
    retry()
    with pytest.raises(JobDefinitionError, match="bad_items changed since"):
        run(lambda: infer(requests=ITEMS, **ASK | {"bad_items": "fail"}))
    clear()
    with pytest.raises(InvalidInputError):
        run(lambda: infer(requests=[NULL], **ASK | {"bad_items": "fail"}))
    assert len(batches(client)) == 1


@pytest.mark.parametrize(("before", "after"), [("skip", "fail"), ("fail", "skip")])
def test_bad_items_without_bad_items_changes_nothing(
    infer: Infer, run: Run, clear: Any, logged: Any, before: str, after: str
) -> None:
    run(lambda: infer(requests=SENT, prompt="{q}", bad_items=before))
    clear()
    run(lambda: infer(requests=SENT, prompt="{q}", bad_items=after))
    assert "resuming the job" in logged()


class Answer(BaseModel):
    answer: int


def test_skipped_rows_in_a_priced_table_of_messages(
    infer: Infer, run: Run, manifest: Any, control: Control, part_lines: Any, tmp_path: Path
) -> None:
    part_lines(2)
    asked = [[{"role": "user", "content": f"What is {number} + 1?"}] for number in range(6)]
    given = {
        "id": [*"abcdef"],
        "paid": [Decimal(number) for number in range(6)],
        "messages": [*asked[:2], None, *asked[3:]],
    }
    given["id"][4] = None
    parquet.write_table(pyarrow.table(given), tmp_path / "in.parquet")
    control.plan(answers={"d": "no"}, times=2)
    prices = {"currency": "CNY", "models": {MODEL: {"input": 1000, "output": 4000, "cached_input": 500}}}
    columns: dict[str, Any] = {"messages_column": "messages", "id_column": "id", "output_type": Answer}
    summary = run(
        lambda: infer(
            input_path=tmp_path / "in.parquet", bad_items="skip", min_success_rate=0.5, output_format="parquet",
            prices=prices, request_params={"max_tokens": 100}, max_cost=100, **columns,
        )
    )  # fmt: skip
    assert (summary["counts"], summary["rounds"]) == ({"succeeded": 4, "rejected": 2}, 2)
    table = parquet.read_table(tmp_path / "out" / "results.parquet")
    assert table.select(["id", "paid"]).to_pydict() == {name: given[name] for name in ("id", "paid")}
    assert "messages" not in table.column_names
    assert table["answer"].to_pylist() == [1, 2, None, 4, None, 6]
    assert table["custom_id"].to_pylist() == ["a", "b", "c", "d", "request-000005", "f"]
    assert table["round"].to_pylist() == [1, 1, None, 2, None, 1]
    costs = [float(cost) for cost in table["cost"].to_pylist()]
    assert [cost > 0 for cost in costs] == [True, True, False, True, False, True]
    # The first answer of the corrected row was billed too.
    assert sum(costs) < manifest()["cost"]["total"] <= 100
    (line,) = (tmp_path / "out/_siliconflow/round-2.jsonl").read_text().splitlines()
    request = json.loads(line)
    assert (request["custom_id"], request["body"]["messages"][-2]["content"]) == ("d", "no")
    assert_nothing_was_bought_twice(control, 5)


def test_equal_requests_around_bad_items_share_a_row(
    infer: Infer, run: Run, rows: Rows, control: Control, part_lines: Any
) -> None:
    part_lines(2)
    items = [NULL, SENT[0], SENT[1], NULL, SENT[0], SENT[2], NULL, SENT[2]]
    run(lambda: infer(requests=items, deduplicate=True, **ASK))
    assert contents(rows()) == [None, "1", "2", None, "1", "3", None, "3"]
    assert [row["reused"] for row in rows()] == [False, False, False, False, True, False, False, True]
    assert [row["custom_id"] for row in rows()] == [f"request-{number:06d}" for number in range(1, 9)]
    assert_nothing_was_bought_twice(control, 3)


def test_an_earlier_run_with_bad_items_is_reused(
    infer: Infer, run: Run, rows: Rows, control: Control, context: dict[str, Any], tmp_path: Path
) -> None:
    context["ti"].run_id = "earlier"
    run(lambda: infer(requests=[NULL, *SENT[:3]], output_path=tmp_path / "earlier", **ASK))
    context["ti"].run_id = "later"
    items = [SENT[2], NULL, NULL, SENT[3], SENT[0]]
    run(lambda: infer(requests=items, reuse_from=tmp_path / "earlier", **ASK))
    assert contents(rows()) == ["3", None, None, "4", "1"]
    assert [row["reused"] for row in rows()] == [True, False, False, False, True]
    assert_nothing_was_bought_twice(control, 4)


def test_a_limit_counts_bad_items(infer: Infer, run: Run) -> None:
    assert run(lambda: infer(requests=ITEMS, limit=2, **ASK))["counts"] == {"succeeded": 1, "rejected": 1}


@pytest.mark.parametrize("bad_items", ["ignore", None, True])
def test_an_invalid_value_names_the_choices(infer: Infer, bad_items: Any) -> None:
    with pytest.raises(ValueError, match=r"bad_items is .*: give 'fail' or 'skip'"):
        infer(requests=[], bad_items=bad_items)


def test_the_decorator_takes_the_argument(run: Run, connection: str, tmp_path: Path) -> None:
    summary = run(
        lambda: BatchInferenceDecoratedOperator(
            task_id="create",
            python_callable=lambda: ITEMS,
            output_path=str(tmp_path / "out"),
            deferrable=False,
            model=MODEL,
            **ASK,
        )
    )
    assert summary["counts"] == {"succeeded": 6, "rejected": 3}
