"""Any content of request files and responses gives a clear error or a correct result, and loses no row."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import tempfile
import threading
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pendulum
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import LONGEST_ID, Batch, File
from siliconflow_provider.api.service_texts import is_printable
from siliconflow_provider.emulator.checks import check_input
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.exceptions import InvalidInputError
from siliconflow_provider.inputs.preparation import UPLOAD, PreparedSource, prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.outputs.answer_files import rows_of_file
from siliconflow_provider.outputs.answers import ResultRow, parse_answer
from siliconflow_provider.outputs.manifest import build_manifest, report_batch
from siliconflow_provider.outputs.result_store import ResultStore
from siliconflow_provider.waiting.batch_wait import (
    BatchWait,
    describe_end,
    describe_progress,
    wait_ends,
)
from siliconflow_provider.waiting.events import from_event, to_event

ENDPOINT = "/v1/chat/completions"

# --- valid JSON, and what servers send as JSON


class Raw(float):
    """A number that is written literally."""

    def __new__(cls, text: str) -> Raw:
        number = super().__new__(cls, text if len(text) < 100 else "1")
        number.text = text
        return number

    def __repr__(self) -> str:
        return f"Raw({self.text[:20]!r}...)"


def dumps(value: Any, ascii_only: bool = True) -> str:
    """Return JSON; an object may be a list of pairs, so that keys may repeat, and numbers may be any text."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{dumps(k, ascii_only)}: {dumps(v, ascii_only)}" for k, v in value) + "}"
    if isinstance(value, dict):
        return dumps(Pairs(value.items()), ascii_only)
    if isinstance(value, list):
        return "[" + ", ".join(dumps(item, ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


class Pairs(tuple[Any, ...]):
    """Return objects that may have repeated keys."""


def nested(depth: int) -> Any:
    return Raw("[" * depth + "]" * depth)


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    """Return one of these values, which may be long; `sampled_from` would show all of them in its name."""
    return st.sampled_from(range(len(values))).map(values.__getitem__)


TEXTS = st.text(st.characters(), max_size=8) | one_of(
    "", " ", "\x00", "\ud83d", "half \ude00\ud83d", "\ufeff", "é\u2028", "x" * 2000, "200", "https://a/b?Signature=s"
)
NUMBERS = (
    st.integers()
    | st.floats()
    | one_of(0, -1, 1, 127, 128, 200, 20000, 2**53, 2**63, 2**64, 10**400, 253402300799, 253402300800, 1e300, 0.5)
    | one_of(Raw("1e999"), Raw("-1E+9999"), Raw("9" * 5000), Raw("-0"), Raw("1.0"), Raw("128.0"))
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
) | one_of([], {}, nested(400), nested(900), nested(985), nested(3000), nested(100_000), Raw("[" * 5000))


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return objects with these fields, which may be valid, of another type, missing or repeated; or other values."""
    one = st.one_of(*[st.tuples(st.just(name), value) for name, value in known.items()])
    wrong = st.tuples(st.sampled_from(list(known)), JSON)
    right = st.fixed_dictionaries(known).map(lambda pairs: tuple(pairs.items()))
    extra = st.lists(one | wrong | st.tuples(TEXTS, JSON), max_size=3).map(tuple)
    partial = st.fixed_dictionaries({}, optional=known).map(lambda pairs: tuple(pairs.items()))
    # The last of equal keys counts, so fields in front break less.
    whole = st.tuples(right | partial, extra).map(lambda two: Pairs(two[0] + two[1]))
    return st.one_of(right.map(Pairs), whole, st.tuples(extra, right).map(lambda two: Pairs(two[0] + two[1]))) | JSON


def texts_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return the bytes of such values, valid or damaged."""
    written = st.builds(dumps, values, st.booleans()).map(lambda text: text.encode("utf-8", "surrogatepass"))

    def damage(draw: st.DrawFn) -> bytes:
        text = draw(written)
        kind = draw(st.sampled_from(["none"] * 8 + ["cut", "bom", "byte", "append", "utf-16", "spaces"]))
        place = draw(st.integers(0, len(text)))
        piece = draw(
            st.sampled_from([b"\xff", b"\xe9", b"\x00", b"\xed\xa0\x80", b"\r", b'"', b"}", b"NaN", b"\\ud83d"])
        )
        return {
            "none": text,
            "cut": text[:place],
            "bom": b"\xef\xbb\xbf" + text,
            "byte": text[:place] + piece + text[place:],
            "append": text + piece,
            "utf-16": text.decode("utf-8", "replace").encode("utf-16"),
            "spaces": b" \t" + text + b"  ",
        }[kind]

    return st.composite(damage)()


def files_of(lines: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return files of such lines, with any line ends and blank lines."""
    line = st.tuples(lines | st.sampled_from([b"", b" \t", b"\x0b"]), st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]))
    return st.tuples(st.lists(line.map(b"".join), max_size=6).map(b"".join), lines | st.just(b"")).map(b"".join)


def lines_in(content: bytes) -> list[bytes]:
    return io.BytesIO(content).readlines()


# --- request files

MESSAGES = st.lists(
    fields(
        role=st.sampled_from(["user", "user", "user", "system", "assistant", "tool"]),
        content=TEXTS | st.just([{"type": "text", "text": "hi"}]),
    ),
    min_size=1,
    max_size=3,
)
REQUESTS = fields(
    custom_id=one_of("a", "b", "c", "d", "é", "x" * 5000, "") | TEXTS,
    method=st.just("POST"),
    url=st.just(ENDPOINT),
    body=fields(
        model=st.just("m"),
        messages=MESSAGES,
        thinking_budget=st.integers(100, 33_000) | st.none(),
        temperature=NUMBERS,
    ),
)
REQUEST_FILES = files_of(texts_of(REQUESTS))


def check(content: bytes) -> tuple[bytes, PreparedSource | None, dict[int, str]]:
    """Return the bytes that would be uploaded for a file, the result, and the reason of each invalid line."""
    copy = io.BytesIO()
    try:
        done = prepare(lines_in(content), RequestBuilder(), copy, io.BytesIO(), name="a.jsonl", purpose=UPLOAD)
    except InvalidRequestFileError as error:
        message = str(error)
    else:
        return copy.getvalue(), done, {}
    named = dict(re.findall(r"\n  line (\d+)(?: \(.*?\))?: (.*)", message))
    # No file here has more than the ten lines that a message names.
    assert f"{len(named)} of " in message or "it has no requests; write one request per line" in message
    return copy.getvalue(), None, {int(number): reason for number, reason in named.items()}


@given(REQUEST_FILES)
def test_each_request_line_is_accepted_or_named(content: bytes) -> None:
    lines = [line.removeprefix(BOM_UTF8) if not index else line for index, line in enumerate(lines_in(content))]
    copy, done, named = check(content)
    assert all(0 < len(reason) < 500 for reason in named.values())
    good = [line for number, line in enumerate(lines, start=1) if number not in named and line.strip()]
    assert (done is None) == (bool(named) or not good)
    if good:
        again, only_good, none_named = check(b"".join(good))
        assert (again, none_named) == (b"".join(good), {})
        assert only_good is not None
        # A batch can set the model, so lines may lack it or differ in it.
        read = check_input(good, ENDPOINT, "m")
        requests = [msgspec.json.decode(line) for line in good]
        limited = [index for index, request in enumerate(requests) if {"n", "max_tokens"} & request["body"].keys()]
        assert (read.total, read.errors, set(read.bad) - set(limited)) == (len(good), (), set())
        if only_good.model_conflict is None:
            assert check_input(good, ENDPOINT, None).errors == ()
    if done is not None:
        assert (copy, done.requests) == (b"".join(good), len(good))
        assert [part.sha256 for part in done.parts] == [hashlib.sha256(copy).hexdigest()]


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\xff", b"\\ud83d", b'"', b"NaN"])
def test_a_line_of_ten_megabytes_is_accepted(damage: bytes) -> None:
    text = b"x" * 5_000_000 + damage + b"\\n\xc3\xa9" * 1_250_000
    line = b'{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "%b"}]}}' % text
    assert len(line) > 10_000_000
    assert len(check(line)[2]) == (damage not in (b"", b"NaN"))
    answer = b'{"custom_id": "a", "response": {"body": {"choices": [{"message": {"content": "%b"}}]}}}' % text
    counts = Counts()
    rows = list(rows_of_file([answer], "b", "output", counts))
    assert len(rows) + counts.unreadable_lines == 1
    assert len(rows) == (damage not in (b"\x00", b'"'))


def test_long_values_are_cut() -> None:
    long = "x" * 10_000_000
    for request in (
        {"custom_id": "a", "method": long, "body": {"messages": [{"role": "user", "content": ""}]}},
        {"custom_id": "a", "url": long, "body": {"messages": [{"role": "user", "content": ""}]}},
        {"custom_id": "a", "body": {"messages": [{"role": long, "content": ""}]}},
        {"custom_id": long, "body": {"messages": [{"role": "user", "content": ""}]}},
    ):
        (reason,) = check(json.dumps(request).encode())[2].values()
        assert len(reason) < 200


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bytes], bytes]]:
    """Return a function that uploads a file with the operator, and returns the file at the service."""
    directory = tmp_path_factory.mktemp("upload")
    path = directory / "requests.jsonl"
    with Emulator(EmulatorOptions(data_dir=directory / "data")) as emulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(emulator.airflow_connection))
        client = SiliconFlowClient(emulator.api_key, emulator.base_url)

        def run(content: bytes) -> bytes:
            path.write_bytes(content)
            back = io.BytesIO()
            client.download(UploadFileOperator(task_id="upload", file_path=str(path)).execute({}), back)
            return back.getvalue()

        yield run


@given(REQUEST_FILES)
def test_a_file_is_uploaded_unchanged_or_rejected(upload: Callable[[bytes], bytes], content: bytes) -> None:
    """Blank lines and a byte order mark are left out."""
    copy, done, _ = check(content)
    if done is None:
        with pytest.raises(InvalidInputError):
            upload(content)
    else:
        assert copy == b"".join(line for line in lines_in(content.removeprefix(BOM_UTF8)) if line.strip())
        assert upload(content) == copy


RECIPES = one_of(
    RequestBuilder(), RequestBuilder(model="m"), RequestBuilder(model="m", system_prompt="s", request_params={"n": 1})
)
ROWS = fields(id=one_of("a", "b", "c", "é", "") | JSON, q=TEXTS | JSON, other=JSON)


def prepared(content: bytes, builder: RequestBuilder) -> tuple[list[bytes], list[bytes]]:
    """Return the requests and rows of a job for a file; both empty if the file is rejected."""
    requests, rows = io.BytesIO(), io.BytesIO()
    try:
        done = prepare(lines_in(content), builder, requests, rows, name="a.jsonl", most_lines=2)
    except InvalidRequestFileError:
        return [], []
    lines = lines_in(requests.getvalue())
    assert [part.lines for part in done.parts] == [len(lines[i : i + 2]) for i in range(0, len(lines), 2)]
    assert [part.sha256 for part in done.parts] == [
        hashlib.sha256(b"".join(lines[i : i + 2])).hexdigest() for i in range(0, len(lines), 2)
    ]
    return lines, lines_in(rows.getvalue())


@given(REQUEST_FILES, RECIPES)
def test_a_job_sends_valid_requests_or_none(content: bytes, builder: RequestBuilder) -> None:
    lines, rows = prepared(content, builder)
    if lines:
        assert len(lines) == sum(bool(line.removeprefix(BOM_UTF8).strip()) for line in lines_in(content))
        read = check_input(lines, ENDPOINT, None)
        requests = [msgspec.json.decode(line) for line in lines]
        limited = [index for index, request in enumerate(requests) if {"n", "max_tokens"} & request["body"].keys()]
        assert (read.total, read.errors, set(read.bad) - set(limited), rows) == (len(lines), (), set(), [])


@given(files_of(texts_of(ROWS)))
def test_rows_become_requests_or_the_file_is_rejected(content: bytes) -> None:
    lines, rows = prepared(content, RequestBuilder(prompt="Q: {q} {none}", id_column="id", model="m"))
    assert len(lines) == len(rows)
    if lines:
        read = check_input(lines, ENDPOINT, None)
        assert (read.errors, list(read.bad)) == ((), [])
    for line, row in zip(map(msgspec.json.decode, lines), map(msgspec.json.decode, rows), strict=True):
        asked = row["q"] if isinstance(row["q"], str) else msgspec.json.encode(row["q"]).decode()
        assert line["body"]["messages"] == [{"role": "user", "content": f"Q: {asked} {{none}}"}]


@given(REQUEST_FILES, st.sampled_from([{}, {"model": "m"}, {"prompt": "{custom_id} {a}"}]))
def test_lines_are_prepared_alike_together_and_alone(content: bytes, builder: dict[str, str]) -> None:
    def outcome(items: list[bytes]) -> Any:
        requests, rows = io.BytesIO(), io.BytesIO()
        try:
            done = prepare(items, RequestBuilder(**builder), requests, rows, name="it", most_lines=2)
        except InvalidRequestFileError as error:
            return str(error)
        return done, requests.getvalue(), rows.getvalue()

    lines = lines_in(content)
    assert outcome([content] if content else []) == outcome([line.removesuffix(b"\n") for line in lines])


# --- files of answers

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
        manifest = build_manifest({}, store, [report_batch(Batch("b", "completed"), 1, "s")], **MANIFEST)
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


# --- objects of the service, and its HTTP responses

MOMENTS = ("created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at")
BATCHES = fields(
    id=st.sampled_from(["batch_1", "batch_2", 7]) | TEXTS,
    status=st.sampled_from(["in_queue", "in_progress", "completed", "failed", "pondering"]),
    completion_window=one_of("24h", "336h", "9" * 5000 + "h"),
    output_file_id=st.sampled_from(["file-1", 7, "https://127.0.0.1:1/a?Signature=s"]),
    errors=st.none() | st.lists(fields(code=st.just("c"), message=TEXTS, line=NUMBERS), max_size=2),
    request_counts=fields(total=NUMBERS, completed=NUMBERS, failed=NUMBERS),
    metadata=st.dictionaries(TEXTS, TEXTS, max_size=2),
    **{name: st.integers(1_741_685_413, 1_741_785_413) | NUMBERS for name in MOMENTS},
)
FILES = fields(id=st.just("file-1"), filename=st.just("a"), bytes=NUMBERS, purpose=TEXTS, createdAt=NUMBERS)
NOW = pendulum.datetime(2025, 3, 11, 10)


def read_back(values: Any) -> Any:
    """Return a value as the client decodes it; skip the value if that fails."""
    from siliconflow_provider.api.lenient_json import decode_any

    try:
        return decode_any(dumps(values).encode())
    except msgspec.DecodeError:
        assume(False)


@given(BATCHES, FILES)
def test_an_object_is_read_or_has_no_id(batch_object: Any, file_object: Any) -> None:
    for kind, value in ((Batch, read_back(batch_object)), (File, read_back(file_object))):
        if isinstance(value, dict):
            try:
                read = kind.from_json(value)
            except KeyError:
                assert (
                    not isinstance(value.get("id"), (str, int))
                    or not str(value["id"]).strip()
                    or isinstance(value["id"], bool)
                    or not is_printable(str(value["id"]))
                    or len(str(value["id"])) > LONGEST_ID
                )
            else:
                assert isinstance(read.id, str)
                assert isinstance(repr(read), str)


@given(BATCHES)
def test_a_batch_survives_the_trigger_event(batch_object: Any) -> None:
    """A wait, the log messages and the trigger event accept any batch."""
    value = read_back(batch_object)
    assume(isinstance(value, dict))
    with suppress(KeyError):
        batch = Batch.from_json(value)
        wait = BatchWait(batch.id)
        wait.record_batch(batch)
        assert math.isfinite(wait.pause(NOW)) if wait.state(NOW) == "running" else True
        assert wait.next_log_line(NOW)
        assert describe_progress(batch, NOW)
        assert describe_end(batch)
        assert json.loads(json.dumps(batch.timing.to_report()))
        ends = wait_ends([wait], NOW) or wait_ends([wait], pendulum.datetime(9999, 1, 1))
        assert ends is not None
        (end,) = from_event(json.loads(json.dumps(to_event(ends), allow_nan=False)))
        assert (end.batch_id, end.state, end.deadline) == (ends[0].batch_id, ends[0].state, ends[0].deadline)
        # The event has no metadata of the user.
        written = Batch.from_json({**value, "output_file_id": None, "error_file_id": None, "metadata": None})
        assert end.batch is not None
        assert replace(end.batch, metadata={}) == written


WAITS = fields(
    batch_id=st.just("batch_1"),
    state=st.sampled_from(["over", "timeout", "error", "running"]),
    batch=st.none() | fields(id=st.just("batch_1"), status=st.sampled_from(["completed", "failed", "in_queue"])),
    error=st.none() | TEXTS,
    deadline=st.none() | TEXTS,
)


@given(fields(waits=st.lists(WAITS, max_size=2)))
def test_an_event_is_read_or_rejected(written: Any) -> None:
    event = read_back(written)
    try:
        ends = from_event(event)
    except ValueError:
        with pytest.raises(ValueError, match=r"^unexpected trigger event: .{0,900}$"):
            from_event(event)
    else:
        assert ends
        for end in ends:
            assert isinstance(end.batch_id, str)
            assert end.state in ("timeout", "error") or (end.batch is not None and end.batch.is_terminal)


class Service:
    """A server with one response to all requests."""

    def __init__(self) -> None:
        self.answer: tuple[int, list[tuple[str, str]], bytes] = (200, [], b"")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._reply()

            def do_POST(self) -> None:
                self._reply()

            def _reply(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, body = outer.answer
                if self.path.startswith("/elsewhere"):
                    status, headers, body = 404, [], b""
                self.send_response(status)
                names = {name.lower() for name, _ in headers}
                for name, value in headers:
                    self.send_header(name, value)
                if "content-length" not in names:
                    self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                # The client may close the connection early.
                with suppress(ConnectionError):
                    super().handle()

            def log_message(self, *arguments: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.client = SiliconFlowClient(
            "sk-key", f"http://127.0.0.1:{self._server.server_port}/v1", timeout=2, max_retries=0
        )
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.stop()


def outcome(action: Callable[[], Any]) -> Any:
    """Return the result or the SiliconFlow error of an action; any other error fails the test."""
    try:
        return action()
    except SiliconFlowError as error:
        return error


def check_error(error: SiliconFlowError) -> None:
    assert error.message
    assert "sk-key" not in str(error)
    assert "Signature=s" not in str(error)


def first_page(client: SiliconFlowClient) -> list[Batch]:
    batches = client.list_batches()
    return [batch for batch, _ in zip(batches, range(5), strict=False)]


CALLS: list[Callable[[SiliconFlowClient], Any]] = [
    lambda client: client.get_batch("batch_1"),
    lambda client: client.cancel_batch("batch_1"),
    lambda client: client.create_batch("file-1"),
    lambda client: client.upload_file(io.BytesIO(b"{}")),
    lambda client: client.list_files(),
    first_page,
]
ENVELOPES = st.sampled_from([20000, "20000", None, 20012, [7], {}, 20000.0])
OBJECTS = BATCHES | FILES
LISTS = fields(data=st.lists(OBJECTS, max_size=3), has_more=st.booleans() | JSON)
ANSWERED = OBJECTS | LISTS | fields(code=ENVELOPES, message=TEXTS, data=OBJECTS | LISTS) | st.lists(OBJECTS, max_size=2)
REFUSED = fields(code=NUMBERS | TEXTS, message=TEXTS, error=TEXTS | fields(message=TEXTS), data=st.none())
STATUS_CODES = st.sampled_from(
    [200, 200, 201, 204, 206, 300, 304, 400, 401, 404, 418, 429, 500, 503, 504, 599, 700, 999]
)
HEADER_TEXTS = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=10)
HEADERS = st.lists(
    st.one_of(
        st.tuples(
            st.just("Retry-After"),
            st.sampled_from(["nan", "inf", "-1", "9" * 400, "²", "Mon, 01 Jan 0001 00:00:00 -0000"]) | HEADER_TEXTS,
        ),
        st.tuples(
            st.just("Location"),
            st.sampled_from(
                [
                    "http://[",
                    "//",
                    "ftp://a",
                    "/elsewhere",
                    "http://a:99999/",
                    "http://127.0.0.1:1/",
                    "http://.a/",
                    "\xff",
                    "",
                ]
            )
            | HEADER_TEXTS,
        ),
        st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "br", "odd"])),
        st.tuples(st.just("Content-Range"), st.sampled_from(["bytes 0-1/2", "bytes 2-1/²", "bytes 0-0/" + "9" * 5000])),
        st.tuples(st.just("Content-Length"), st.sampled_from(["0", "1", "²", "-1", "1e3", "9" * 5000, "99999"])),
        st.tuples(st.sampled_from(["Content-Type", "Set-Cookie", "x-request-id", "ETag"]), HEADER_TEXTS),
    ),
    max_size=2,
)


@given(st.sampled_from(CALLS), STATUS_CODES | st.just(302), HEADERS, texts_of(ANSWERED | REFUSED) | st.binary())
def test_a_call_returns_its_type_or_siliconflow_error(
    service: Service, call: Callable[..., Any], status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    service.answer = (status, headers, body)
    found = outcome(lambda: call(service.client))
    if isinstance(found, SiliconFlowError):
        check_error(found)
    else:
        for item in found if isinstance(found, list) else [found]:
            assert isinstance(item, (Batch, File))
            assert item.id.strip()


@given(STATUS_CODES | st.just(302), HEADERS, st.binary(), st.booleans())
def test_a_download_is_complete_or_an_error(
    service: Service, status: int, headers: list[tuple[str, str]], body: bytes, by_url: bool
) -> None:
    service.answer = (status, headers, body)
    reference = f"{service.client.base_url}/results/1?Signature=s" if by_url else "file-1"
    target = io.BytesIO()
    length = outcome(lambda: service.client.download(reference, target))
    if isinstance(length, SiliconFlowError):
        check_error(length)
    else:
        assert length == len(target.getvalue())
        promised = dict(headers).get("Content-Length", str(len(body)))
        if not headers or promised == str(len(body)):
            assert target.getvalue() == body or "Content-Encoding" in dict(headers) or "Location" in dict(headers)


@pytest.mark.parametrize(
    "reference", ["\ud800", "http://[", "http://a\ud800/", "http://.a/", "http://a b/", "HTTPS://", "x" * 10_000]
)
def test_an_invalid_file_reference_is_an_error(service: Service, reference: str) -> None:
    service.answer = (404, [], b"")
    with pytest.raises(SiliconFlowError):
        service.client.download(reference, io.BytesIO())
