"""`check`."""

from __future__ import annotations

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
