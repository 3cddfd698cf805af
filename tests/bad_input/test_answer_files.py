"""Any file of answers gives each request exactly one row."""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siliconflow_provider.api.models import Batch
from siliconflow_provider.outputs.answer_files import rows_of_file
from siliconflow_provider.outputs.answers import ResultRow, parse_answer
from siliconflow_provider.outputs.manifest import build_manifest, report_batch
from siliconflow_provider.outputs.result_store import ResultStore
from tests.bad_input.json_values import JSON, NUMBERS, TEXTS, dumps, fields, files_of, lines_in, texts_of

BODIES = fields(
    choices=st.lists(
        fields(message=fields(content=TEXTS, reasoning_content=TEXTS, tool_calls=JSON), finish_reason=st.just("stop")),
        max_size=2,
    ),
    usage=fields(prompt_tokens=NUMBERS, completion_tokens=NUMBERS),
    model=st.just("m"),
    error=st.none(),
)
RESPONSES = fields(
    status_code=st.sampled_from([200, "200", None, 429]),
    body=BODIES | st.builds(dumps, BODIES),
)
ERRORS = st.none() | fields(code=st.sampled_from(["batch_expired", "batch_cancelled", 7, None]), message=TEXTS)
ANSWERS = fields(
    id=st.just("batch_req_1"),
    custom_id=st.sampled_from(["a", "b", "c", "d", "é"]) | TEXTS,
    response=st.none() | RESPONSES,
    error=ERRORS,
)
ANSWER_FILES = files_of(texts_of(ANSWERS))
STATUSES = {"succeeded", "failed", "expired", "cancelled"}


class Counts:
    """Count the lines that name no request."""

    unreadable_lines = 0


def alone(output: bytes, errors: bytes) -> tuple[list[ResultRow], Counts]:
    """Return the row of each line of a batch's files, decoded alone."""
    counts = Counts()
    lines = [*lines_in(output), *lines_in(errors)]
    return list(rows_of_file(lines, "b", "output", counts)), counts


def collected(output: bytes, errors: bytes, indexes: dict[str, int]) -> tuple[ResultStore, list[bytes]]:
    """Return the results of a batch with these requests, and the written rows."""
    results = io.BytesIO()
    with tempfile.TemporaryFile() as file:
        store = ResultStore(len(indexes), file)
        store.begin_batch()
        for name, content in (("output", output), ("error", errors)):
            store.add_file(lines_in(content), indexes, "b", 1, name)
        for custom_id, index in indexes.items():
            if not store.is_mentioned(index):
                store.set_outcome(index, ResultRow(custom_id=custom_id, status="missing"))
        store.write(results, iter([b'{"row": 1}'] * len(indexes)))
        manifest = build_manifest({}, store, [report_batch(Batch("b", "completed"), 1, "s", store.total)], **MANIFEST)
    assert json.loads(msgspec.json.encode(manifest))["rows"] == len(indexes)
    return store, lines_in(results.getvalue())


MANIFEST: dict[str, Any] = {"paths": {}, "kept": 0, "complete": True}


@given(ANSWER_FILES, ANSWER_FILES)
def test_each_answer_line_is_a_row_or_counted(output: bytes, errors: bytes) -> None:
    """The batch's requests are those in its files."""
    found, counts = alone(output, errors)
    ids = list(dict.fromkeys(row.custom_id for row in found))
    store, written = collected(output, errors, {custom_id: index for index, custom_id in enumerate(ids)})
    rows = [msgspec.json.decode(line, type=ResultRow) for line in written]
    assert all(line.count(b"\n") == 1 and line.endswith(b"}\n") for line in written)
    filled = [line for content in (output, errors) for line in lines_in(content) if line.strip()]
    assert [row.custom_id for row in rows] == ids
    assert len(rows) + store.duplicates + store.unreadable_lines == len(filled)
    assert (store.unknown_requests, store.unreadable_lines) == (0, counts.unreadable_lines)
    assert {row.status for row in rows} <= STATUSES
    assert store.counts() == Counter(row.status for row in rows)
    for row in rows:
        assert (row.error is None) == (row.status == "succeeded")
        assert row.error is None or row.error.message
        for tokens in (row.prompt_tokens, row.completion_tokens):
            assert tokens is None or 0 <= tokens <= 2**53
    named = [custom_id for custom_id in map(custom_id_of, filled) if custom_id is not None]
    assert set(named) <= set(ids)
    assert store.unreadable_lines <= len(filled) - len(named)


@given(ANSWER_FILES, ANSWER_FILES)
def test_each_request_has_exactly_one_row(output: bytes, errors: bytes) -> None:
    indexes = {"a": 0, "b": 1, "c": 2, "é": 3}
    store, written = collected(output, errors, indexes)
    rows = list(map(json.loads, written))
    assert [(row["index"], row["custom_id"], row["input"]) for row in rows] == [
        (index, custom_id, {"row": 1}) for custom_id, index in indexes.items()
    ]
    found, counts = alone(output, errors)
    # A bad answer never replaces a good one.
    good = {row.custom_id for row in found if row.status == "succeeded"}
    mentioned = {row.custom_id for row in found}
    for row in rows:
        assert (row["status"] == "missing") == (row["custom_id"] not in mentioned)
        assert (row["status"] == "succeeded") == (row["custom_id"] in good)
    assert store.counts() == Counter(row["status"] for row in rows)
    assert store.unknown_requests == sum(row.custom_id not in indexes for row in found)
    assert store.unreadable_lines == counts.unreadable_lines


@given(ANSWER_FILES)
def test_answer_lines_are_alike_together_and_alone(content: bytes) -> None:
    def outcome(blocks: list[bytes]) -> tuple[bytes, int]:
        counts = Counts()
        return msgspec.json.Encoder().encode_lines(rows_of_file(blocks, "b", "output", counts)), counts.unreadable_lines

    assert outcome([content]) == outcome([line.removesuffix(b"\n") for line in lines_in(content)])


def custom_id_of(line: bytes) -> str | None:
    """Return a line's custom_id as Python's `json` reads it; None if the line is invalid or too deeply nested."""
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    custom_id = found.get("custom_id") if isinstance(found, dict) else None
    is_whole = isinstance(custom_id, str) and custom_id.isprintable()
    return custom_id if is_whole else None


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\xff", b"\\ud83d", b'"', b"NaN"])
def test_an_answer_of_ten_megabytes_is_read(damage: bytes) -> None:
    text = b"x" * 5_000_000 + damage + b"\\n\xc3\xa9" * 1_250_000
    answer = b'{"custom_id": "a", "response": {"body": {"choices": [{"message": {"content": "%b"}}]}}}' % text
    assert len(answer) > 10_000_000
    counts = Counts()
    rows = list(rows_of_file([answer], "b", "output", counts))
    assert (len(rows), counts.unreadable_lines) == (1, 0)
    assert (rows[0].status == "succeeded") == (damage not in (b"\x00", b'"'))


SOUND_TEXTS = st.text(max_size=20)
COUNTS = st.integers(0, 2**31)


@given(
    custom_id=SOUND_TEXTS,
    message=st.fixed_dictionaries(
        {"content": SOUND_TEXTS | st.none()}, optional={"reasoning_content": SOUND_TEXTS, "tool_calls": st.just([{}])}
    ),
    usage=st.fixed_dictionaries({}, optional={"prompt_tokens": COUNTS, "completion_tokens": COUNTS}),
    model=SOUND_TEXTS,
    data=st.data(),
)
def test_all_answer_forms_give_the_same_row(
    custom_id: str, message: dict[str, Any], usage: dict[str, Any], model: str, data: st.DataObject
) -> None:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage, "model": model}
    shown = data.draw(st.sampled_from([body, json.dumps(body)]))
    response = {"body": shown} | data.draw(st.sampled_from([{}, {"status_code": 200, "request_id": "r"}]))
    extra = data.draw(st.sampled_from([{}, {"error": None}, {"id": "batch_req_1", "error": {}}]))
    fields = data.draw(st.permutations([("custom_id", custom_id), ("response", response), *extra.items()]))
    line = json.dumps(dict(fields), ensure_ascii=data.draw(st.booleans())).encode()
    damaged = data.draw(st.sampled_from([line, b"\xef\xbb\xbf" + line, line + b"\r\n", line[:-1] + b', "x": NaN}']))
    assert parse_answer(damaged, "b") == ResultRow(
        custom_id=custom_id,
        status="succeeded",
        content=message["content"],
        reasoning_content=message.get("reasoning_content"),
        tool_calls=message.get("tool_calls"),
        finish_reason="stop",
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        model=model,
        batch_id="b",
    )


@pytest.mark.parametrize("depth", [*range(850, 1000, 7), 2000, 5000, 100_000])
def test_a_line_near_the_limits_is_handled(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for line in (
        '{"custom_id": "a", "error": %s}',
        '{"custom_id": "a", "response": {"body": {"model": %s, "choices": [{"message": {}}]}}}',
        '{"custom_id": "a", "response": {"body": {"choices": [{"message": {"content": %s}}]}}}',
    ):
        counts = Counts()
        rows = [msgspec.json.encode(row) for row in rows_of_file([(line % deep).encode()], "b", "output", counts)]
        assert len(rows) + counts.unreadable_lines == 1
