"""Any request file is sent unchanged or rejected, and a message names each invalid line."""

from __future__ import annotations

import hashlib
import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.checks import check_input
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.exceptions import InvalidInputError
from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.purpose import UPLOAD, PreparedSource
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.operators.files import UploadFileOperator
from tests.bad_input.json_values import JSON, NUMBERS, TEXTS, fields, files_of, lines_in, one_of, texts_of

ENDPOINT = "/v1/chat/completions"

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
