"""`check`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = "deepseek-ai/DeepSeek-V3"


def test_a_good_file_is_counted(run: Any, requests: Path, part_lines: Callable[[int], None]) -> None:
    part_lines(2)
    assert run("check", requests) == (0, f"{requests}: 3 requests in 2 parts, model {MODEL}\n", "")


def test_problems_are_named_with_their_lines(run: Any, requests: Path, jsonl: Any, line: Any) -> None:
    requests.write_bytes(jsonl([line("r0", "a"), "{", line("r0", "b"), line("r1", "c")]))
    printed = run("check", requests)
    assert (printed.code, printed.err) == (1, "")
    first, second, third = printed.out.splitlines()
    assert first == f"{requests}: 2 of 4 items are invalid; 2 requests in 1 part, model {MODEL}"
    assert second.startswith("  line 2: not JSON")
    assert third == "  line 3 (r0): its custom_id is also that of line 1; make it unique"
    (document,) = run("check", requests, "--json").json
    assert document == {
        "file": str(requests),
        "valid": False,
        "requests": 2,
        "invalid": 2,
        "parts": 1,
        "model": MODEL,
        "problems": [second.strip(), third.strip()],
    }


def test_each_file_is_checked(run: Any, requests: Path, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("id,text\na,I like it.\n")
    missing = tmp_path / "none.jsonl"
    printed = run("check", missing, table, "--prompt", "Rate: {txt}", "--model", "m")
    lines = printed.out.splitlines()
    assert printed.code == 1
    assert lines[0] == f"there is no file {missing}: check the path"
    assert lines[1] == f"{table}: 1 of 1 item is invalid; fix it and run the command again:"
    assert "'txt'" in lines[2]
    assert run("check", table, "--prompt", "Rate: {text}", "--model", "m").code == 0


def test_rows_without_a_prompt_are_named(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "question": "12 + 30"}\n')
    advice = (
        "To build requests from rows, give --prompt or --messages-column that names columns of the row (id, question)"
    )
    for options in ([], ["--model", "m"]):
        assert advice in run("check", path, *options).out
    assert "write {{hint}}\n" in run("check", path, "--prompt", "{question} {hint}").out


def test_requests_without_a_model_are_a_problem(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\nx\n")
    (document,) = run("check", path, "--prompt", "{text}", "--json").json
    assert document["problems"] == [f"{path}: no request names a model; give --model and run the command again"]
    assert (document["valid"], document["requests"]) == (False, None)


def test_names_of_files_are_escaped(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "\x1b[2J\udcff.jsonl"
    path.touch()
    assert run("check", path).out == f"{tmp_path}/\\x1b[2J\\udcff.jsonl: 0 requests in 0 parts\n"


def test_names_of_files_show_no_secret(run: Any, tmp_path: Path) -> None:
    present, missing = tmp_path / "a.jsonl?X-Amz-Signature=s3cret", tmp_path / "b.jsonl?X-Amz-Signature=s3cret"
    present.write_text("{")
    for options in ([], ["--json"]):
        printed = run("check", present, missing, "s3://AKIA:ab/s3cret@bucket/x", *options)
        assert printed.code == 1
        assert "s3cret" not in printed.out + printed.err
    assert f"there is no file {tmp_path}/b.jsonl?...: check the path" in printed.out


def test_a_line_break_in_a_name_begins_no_line(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "in"
    directory.mkdir()
    for name in ("a\n  all good.jsonl", "b\n  all good.jsonl"):
        (directory / name).write_text("{")
    missing = f"{tmp_path}/c\n  all good.jsonl"
    printed = run("check", directory, *sorted(directory.iterdir()), missing)
    assert printed.code == 1
    assert "all good" in printed.out
    assert not any(line.strip().startswith("all good") for line in printed.out.splitlines())
    assert any("c\\n  all good" in problem for problem in run("check", missing, "--json").json[0]["problems"])


def test_only_regular_files_are_read(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "in"
    directory.mkdir()
    pipe = directory / "a.jsonl"
    os.mkfifo(pipe)
    for name, shown in ((directory, f"file://{pipe}"), (directory / "*.jsonl", f"file://{pipe}"), (pipe, pipe)):
        printed = run("check", name)
        assert printed.code == 1
        assert f"{shown} is not a regular file" in printed.out or f"{shown}: it is not a regular file" in printed.out
