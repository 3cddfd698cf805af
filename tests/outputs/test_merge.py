from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.outputs.manifest import Tally
from siliconflow_provider.outputs.merge import rows_of_batch

LOGGER = "siliconflow_provider.outputs.answer_files"


def answer(custom_id: str, content: str = "4") -> bytes:
    body = {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    return json.dumps({"custom_id": custom_id, "response": {"body": body}}).encode() + b"\n"


def failure(custom_id: str, code: str = "x") -> bytes:
    return json.dumps({"custom_id": custom_id, "error": {"code": code, "message": "bad"}}).encode() + b"\n"


def merged(output: list[bytes], errors: list[bytes], tally: Tally | None = None) -> list[tuple[str, str, Any]]:
    rows = rows_of_batch("batch_1", output, errors, tally or Tally())
    return [(each.custom_id, each.status, each.content) for each in rows]


def test_answers_come_first_and_each_request_once() -> None:
    tally = Tally()
    rows = merged([answer("b"), answer("a"), answer("b", "other")], [failure("c"), failure("a"), failure("c")], tally)
    assert rows == [("b", "succeeded", "4"), ("a", "succeeded", "4"), ("c", "failed", None)]
    assert (tally.rows, tally.duplicates, tally.unreadable_lines) == (3, 3, 0)
    assert (tally.prompt_tokens, tally.completion_tokens) == (4, 6)


def test_rows_say_which_batch_they_are_of() -> None:
    rows = list(rows_of_batch("batch_7", [answer("a")], [failure("b")], Tally()))
    assert [each.batch_id for each in rows] == ["batch_7", "batch_7"]


def test_nothing_gives_nothing() -> None:
    assert merged([], []) == []
    assert merged([b"\n", b" \r\n"], [b""]) == []


def test_a_broken_line_is_counted_and_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    rows = merged(
        [answer("a"), b"{broken\n", b"\n", answer("b")],
        [b"[]\n", b"\xff\xfe\n", b'{"a":' + b"[" * 100_000, failure("c")],
        tally,
    )
    assert [each[0] for each in rows] == ["a", "b", "c"]
    assert (tally.rows, tally.unreadable_lines) == (3, 4)
    assert [each.rpartition(": ")[0] for each in caplog.messages[:2]] == [
        "line 2 of the output file of batch_1 is unreadable: JSON is malformed",
        "line 1 of the error file of batch_1 is unreadable",
    ]


def test_only_the_first_broken_lines_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    merged([b"{broken\n"] * 500, [], tally)
    assert (len(caplog.messages), tally.unreadable_lines) == (10, 500)


def test_repeated_lines_are_logged_once_for_their_own_batch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    tally = Tally()
    merged([answer("a")] * 3, [], tally)
    list(rows_of_batch("batch_2", [answer("b")], [], tally))
    list(rows_of_batch("batch_3", [answer("c")] * 2, [], tally))
    assert caplog.messages == [
        "batch batch_1: 2 lines repeat a request and were left out",
        "batch batch_3: 1 lines repeat a request and were left out",
    ]
    assert tally.duplicates == 3


def test_the_files_of_a_real_batch_give_a_row_for_each_request(
    client: SiliconFlowClient, clock: Any, sums: Callable[[int], bytes], jsonl: Callable[[list[Any]], bytes]
) -> None:
    bad = {"custom_id": "bad", "body": {"model": "deepseek-ai/DeepSeek-V3", "messages": []}}
    batch = client.create_batch(client.upload_file(io.BytesIO(sums(20) + jsonl([bad]))).id)
    clock.advance(200)
    done = client.get_batch(batch.id)
    files = []
    for reference in (done.output_file_id, done.error_file_id):
        fileobj = io.BytesIO()
        client.download(reference or "", fileobj)
        files.append(fileobj.getvalue().splitlines(keepends=True))
    tally = Tally()
    rows = {each.custom_id: each for each in rows_of_batch(done.id, *files, tally)}
    assert {name: each.content for name, each in rows.items() if each.status == "succeeded"} == {
        f"r{number}": str(number + 1) for number in range(20)
    }
    assert rows["bad"].status == "failed"
    assert tally.statuses == {"succeeded": 20, "failed": 1}
    assert tally.finish_reasons == {"stop": 20}
