"""Inputs as users have them, in whole jobs."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pytest
from pyarrow import parquet

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.exceptions import InvalidInputError, MissedSuccessRateError, OutputPathError, StorageError
from siliconflow_provider.storage.object_storage import storage_path
from tests.inference_jobs import Infer, Rows, Run, batches, contents

ROWS = [{"id": "a", "n": 1}, {"id": "b", "n": 2}]
ASK: dict[str, Any] = {"prompt": "What is {n} + 1?", "id_column": "id"}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("id;n\n" + "".join(f"{row['id']};{row['n']}\n" for row in rows))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    "table", [pandas.DataFrame(ROWS), polars.DataFrame(ROWS), pyarrow.Table.from_pylist(ROWS)], ids=lambda t: type(t)
)
def test_a_table_is_one_request_per_row(infer: Infer, run: Run, rows: Rows, table: Any) -> None:
    run(lambda: infer(requests=table, **ASK))
    assert [(row["custom_id"], row["content"], row["input"]) for row in rows()] == [
        ("a", "2", ROWS[0]),
        ("b", "3", ROWS[1]),
    ]


def test_files_of_a_directory_are_read_by_name(infer: Infer, run: Run, rows: Rows, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "part=2").mkdir(parents=True)
    write_parquet(folder / "part=2" / "x.parquet", [{"id": "c", "n": 3}])
    write_csv(folder / "b.csv", ROWS[1:])
    (folder / "a.jsonl").write_text(json.dumps(ROWS[0]))
    (folder / "_SUCCESS").touch()
    run(lambda: infer(input_path=folder, **ASK))
    assert [(row["custom_id"], row["content"]) for row in rows()] == [("a", "2"), ("b", "3"), ("c", "4")]


def test_paths_may_be_objects(infer: Infer, run: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", ROWS)
    path = storage_path(tmp_path)
    run(lambda: infer(input_path=path / "in.csv", output_path=path / "out", **ASK))
    assert (tmp_path / "out" / "results.jsonl").exists()


@pytest.mark.parametrize("name", ["no*.csv", "empty"])
def test_an_input_without_files_is_an_error(
    infer: Infer, run: Run, client: SiliconFlowClient, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="no file matches it; nothing was submitted"):
        run(lambda: infer(input_path=tmp_path / name, **ASK))
    assert batches(client) == []


def test_a_directory_with_its_own_results_is_an_error(infer: Infer, run: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", ROWS)
    run(lambda: infer(input_path=tmp_path / "in.csv", output_path=tmp_path, **ASK))
    with pytest.raises(OutputPathError, match="would be overwritten"):
        run(lambda: infer(input_path=tmp_path, output_path=tmp_path, **ASK))


@pytest.mark.parametrize(
    ("items", "arguments", "reason"),
    [
        ([{"title": "A"}], {"prompt": "{titel}?"}, r"there is no column 'titel' \(did you mean 'title'\?\)"),
        ([{"q": float("nan")}], {"prompt": "{q}"}, "column 'q' is nan, a missing value"),
        (pandas.DataFrame({"q": ["a", None]}), {"prompt": "{q}"}, "item 2: column 'q' is null"),
        ([{"q": b"raw"}], {"prompt": "{q}"}, "column 'q' has a value of type bytes"),
        ([("a", 1)], {}, "it is tuple; give a text, a list of messages, a row such as a dict"),
        (pandas.DataFrame([[1, 2]], columns=["q", "q"]), {"prompt": "{q}"}, "more than one column 'q'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_was_not_meant_is_not_bought(
    infer: Infer, run: Run, client: SiliconFlowClient, items: Any, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        run(lambda: infer(requests=items, **arguments))
    assert (batches(client), client.list_files()) == ([], [])


def test_values_keep_their_meaning(infer: Infer, run: Run, rows: Rows) -> None:
    row = {
        "id": numpy.int64(7),
        "big": 2**70,
        "price": Decimal("1.10"),
        "day": datetime.date(2026, 1, 2),
        "share": numpy.float32(0.1),
        "none": float("nan"),
    }
    run(lambda: infer(requests=[row], prompt="{big} {price} {day} {share}", id_column="id"))
    (result,) = rows()
    assert (result["custom_id"], result["content"]) == ("7", f"{2**70} 1.10 2026-01-02 0.1")
    expected = {"id": 7, "big": 2**70, "price": "1.10", "day": "2026-01-02", "share": 0.1, "none": None}
    assert result["input"] == expected


def test_rendered_parameters_are_sent_as_numbers(infer: Infer, run: Run, tmp_path: Path) -> None:
    run(lambda: infer(requests=["1 + 1"], request_params={"max_tokens": "64", "temperature": numpy.float32(0.5)}))
    (line,) = (tmp_path / "out" / "_siliconflow" / "requests.jsonl").read_text().splitlines()
    body = json.loads(line)["body"]
    assert (body["max_tokens"], body["temperature"]) == (64, 0.5)


@pytest.mark.parametrize("limit", [2, "2"])
def test_a_limit_takes_the_first_items(infer: Infer, run: Run, rows: Rows, clear: Any, limit: Any) -> None:
    items = [f"{number} + 1" for number in range(5)]
    assert run(lambda: infer(requests=items, limit=limit))["rows"] == 2
    assert contents(rows()) == ["1", "2"]
    clear()
    assert run(lambda: infer(requests=items))["counts"] == {"succeeded": 5}
    assert [row["round"] for row in rows()] == [0, 0, 1, 1, 1]


def test_the_summary_is_there_when_the_rate_is_missed(infer: Infer, run: Run, context: Any, control: Any) -> None:
    control.plan(failing={"positions": [0]})
    with pytest.raises(MissedSuccessRateError, match=r"the success rate is 50\.00%, below"):
        run(lambda: infer(requests=["1 + 1", "2 + 1"], max_rounds=1))
    summary = context["ti"].xcoms["return_value"]
    assert (summary["counts"], Path(summary["results_path"].removeprefix("file://")).exists()) == (
        {"succeeded": 1, "failed": 1},
        True,
    )


def test_a_job_without_an_answer_is_never_green(infer: Infer, run: Run, control: Any) -> None:
    control.plan(failing={"share": 1.0})
    with pytest.raises(MissedSuccessRateError, match=r"no request succeeded.\n0 of 2 requests succeeded"):
        run(lambda: infer(requests=["1 + 1", "2 + 1"], max_rounds=1, min_success_rate=None))


def test_no_items_are_a_job_without_rows(infer: Infer, run: Run) -> None:
    assert run(lambda: infer(requests=[], min_success_rate=None))["rows"] == 0


def test_rows_have_the_columns_of_their_directories(infer: Infer, run: Run, rows: Rows, tmp_path: Path) -> None:
    for day in (1, 2):
        folder = tmp_path / "in" / f"day={day}"
        folder.mkdir(parents=True)
        write_parquet(folder / "part-0.parquet", ROWS[day - 1 : day])
    run(lambda: infer(input_path=tmp_path / "in" / "day=*" / "*.parquet", prompt="What is {day} + 1?"))
    assert [(row["content"], row["input"]["day"]) for row in rows()] == [("2", "1"), ("3", "2")]


def test_problems_name_the_file_in_the_directory(infer: Infer, run: Run, tmp_path: Path) -> None:
    (tmp_path / "in" / "c").mkdir(parents=True)
    for name in ("a.jsonl", "c/b.jsonl"):
        (tmp_path / "in" / name).write_text('{"n": 1}\n\n{}\n')
    with pytest.raises(InvalidInputError, match=r"\n  line 3 of a\.jsonl: there .*\n  line 3 of c/b\.jsonl: there "):
        run(lambda: infer(input_path=tmp_path / "in", prompt="{n}"))


def test_a_prompt_of_parts_is_rendered_and_filled(infer: Infer, run: Run, rows: Rows) -> None:
    parts = [
        {"type": "text", "text": "What is {n} + {{ m }}?"},
        {"type": "image_url", "image_url": {"url": "https://a.example/{id}.png"}},
    ]
    task = infer(requests=ROWS, prompt=parts, id_column="id")
    task.render_template_fields({"m": 5})
    run(lambda: task)
    assert [(row["content"], row["input"]) for row in rows()] == [("6", ROWS[0]), ("7", ROWS[1])]


def test_messages_of_rows_are_asked(infer: Infer, run: Run, rows: Rows) -> None:
    asked = [{"id": row["id"], "m": [{"role": "user", "content": f"What is {row['n']} + 1?"}]} for row in ROWS]
    run(lambda: infer(requests=asked, messages_column="m", id_column="id"))
    assert [(row["custom_id"], row["content"], row["input"]) for row in rows()] == [
        ("a", "2", {"id": "a"}),
        ("b", "3", {"id": "b"}),
    ]


def test_a_prompt_and_messages_are_an_error(infer: Infer) -> None:
    with pytest.raises(ValueError, match=r"give either prompt .* or messages_column"):
        infer(requests=ROWS, prompt="{n}", messages_column="m")


@pytest.mark.parametrize(("input_path", "output_path"), [("in", "in/out"), ("in", "in"), ("in/**/*.csv", "in/out")])
def test_an_output_inside_the_input_is_refused_before_buying(
    infer: Infer, run: Run, client: SiliconFlowClient, tmp_path: Path, input_path: str, output_path: str
) -> None:
    (tmp_path / "in").mkdir()
    write_csv(tmp_path / "in" / "a.csv", ROWS)
    arguments = {"input_path": tmp_path / input_path, "output_path": tmp_path / output_path, **ASK}
    if "*" in input_path:
        # Results are no CSV.
        assert run(lambda: infer(**arguments))["rows"] == 2
        return
    with pytest.raises(OutputPathError, match=r"is in the input .* Give an output_path outside of the input"):
        run(lambda: infer(**arguments))
    assert batches(client) == []


def test_other_files_of_a_directory_are_an_error(
    infer: Infer, run: Run, client: SiliconFlowClient, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "a.csv.bak"):
        write_csv(tmp_path / "in" / name, ROWS)
    with pytest.raises(
        InvalidInputError, match=r"a\.csv\.bak is in the input directory, and its ending is not an input format"
    ):
        run(lambda: infer(input_path=tmp_path / "in", **ASK))
    assert batches(client) == []
    assert run(lambda: infer(input_path=tmp_path / "in" / "*.csv", **ASK))["rows"] == 2


def test_items_of_two_kinds_are_refused(infer: Infer, run: Run, client: SiliconFlowClient) -> None:
    line = json.dumps({"body": {"messages": [{"role": "user", "content": "1 + 1"}]}})
    with pytest.raises(InvalidInputError, match="item 2: prompt= needs rows"):
        run(lambda: infer(requests=[{"n": 1}, line], prompt="{n}"))
    assert batches(client) == []


@pytest.mark.parametrize(
    ("name", "output"), [("*.csv?Signature=s3cret", "out"), ("in?Signature=s3cret/*.jsonl", "in?Signature=s3cret")]
)
def test_errors_of_an_input_show_no_signature(
    infer: Infer, run: Run, logged: Any, tmp_path: Path, name: str, output: str
) -> None:
    with pytest.raises((StorageError, OutputPathError)) as caught:
        run(lambda: infer(input_path=f"{tmp_path}/{name}", output_path=f"{tmp_path}/{output}", **ASK))
    assert "s3cret" not in f"{caught.value}{logged()}"
