from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import duckdb
import numpy
import pandas
import polars
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.prompt import PartsPrompt
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.tables import rows_of_table
from siliconflow_provider.inputs.values import InvalidItemError

SYSTEM = {"role": "system", "content": "Be brief."}
HI, HELLO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
TALK = [SYSTEM, HI, HELLO, {**HI, "name": "a"}]
TEXT = {"type": "text", "text": "What is it?"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "high"}}


def prepared(items: Iterable[Any], **builder: Any) -> tuple[list[dict[str, Any]], bytes]:
    requests, rows = io.BytesIO(), io.BytesIO()
    prepare(items, RequestBuilder(**{"model": "m", "messages_column": "m", **builder}), requests, rows, name="it")
    return [json.loads(line) for line in requests.getvalue().splitlines()], rows.getvalue()


def messages(items: Iterable[Any], **builder: Any) -> list[Any]:
    return [line["body"]["messages"] for line in prepared(items, **builder)[0]]


ROWS = [{"id": 1, "m": TALK}, {"id": 2, "m": [HI]}]
ARROW = pyarrow.Table.from_pylist(ROWS)
FORMS = {
    "lists": lambda: ROWS,
    "tuples": lambda: [{**row, "m": tuple(row["m"])} for row in ROWS],
    "texts of JSON": lambda: [{**row, "m": json.dumps(row["m"])} for row in ROWS],
    "lines": lambda: [b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)],
    "lines with texts of JSON": lambda: [json.dumps({**row, "m": json.dumps(row["m"])}).encode() for row in ROWS],
    "numpy": lambda: [{**row, "m": numpy.array(row["m"], dtype=object)} for row in ROWS],
    "pyarrow": lambda: rows_of_table(ARROW),
    "pyarrow scalars": lambda: [{"id": row["id"], "m": ARROW["m"][at]} for at, row in enumerate(ROWS)],
    "pandas": lambda: rows_of_table(pandas.DataFrame(ROWS)),
    "pandas from pyarrow": lambda: rows_of_table(ARROW.to_pandas()),
    "polars": lambda: rows_of_table(polars.DataFrame(ROWS)),
    "polars series": lambda: [{"id": row["id"], "m": polars.DataFrame(ROWS)["m"][at]} for at, row in enumerate(ROWS)],
    "duckdb": lambda: rows_of_table(duckdb.from_arrow(ARROW)),
    "duckdb frame": lambda: rows_of_table(duckdb.from_arrow(ARROW).df()),
}


@pytest.mark.parametrize("form", FORMS)
def test_messages_of_every_form_are_sent(form: str) -> None:
    lines, rows = prepared(FORMS[form](), id_column="id")
    assert [line["custom_id"] for line in lines] == ["1", "2"]
    assert [line["body"]["messages"] for line in lines] == [TALK, [HI]]
    assert [json.loads(row) for row in rows.splitlines()] == [{"id": 1}, {"id": 2}]


def test_defaults_apply_to_messages_of_rows() -> None:
    (line,), _ = prepared(
        [{"m": [HI]}], system_prompt="s", instruction="i", request_params={"max_tokens": 9}, model="other"
    )
    assert line["body"] == {
        "messages": [{"role": "system", "content": "s\n\ni"}, HI],
        "max_tokens": 9,
        "model": "other",
    }
    assert messages([{"m": [SYSTEM, HI]}], system_prompt="s") == [[SYSTEM, HI]]


def test_parts_become_one_user_message() -> None:
    assert messages([{"m": [TEXT, IMAGE]}]) == [[{"role": "user", "content": [TEXT, IMAGE]}]]
    table = pyarrow.Table.from_pylist([{"m": [TEXT, IMAGE]}])
    assert messages(rows_of_table(table)) == [[{"role": "user", "content": [TEXT, IMAGE]}]]


def test_messages_may_have_parts_and_calls() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}
    talk = [call, {"role": "user", "content": [TEXT, IMAGE]}]
    assert messages([{"m": talk}]) == [[{"role": "assistant", "tool_calls": [{"id": "a"}]}, talk[1]]]


@pytest.mark.parametrize("url", ["http://a/b.png", "HTTPS://a/b.png", "data:image/png;base64,iVBORw0"])
def test_urls_that_the_service_fetches_are_sent(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert messages([{"m": [part]}]) == [[{"role": "user", "content": [part]}]]


def test_values_of_a_line_stay_as_written() -> None:
    line = b'{"a": 1.10, "m": [{"role": "user", "content": "hi"}], "b": [1e5, "\\u00e9"]}\n'
    assert prepared([line])[1] == b'{"a":1.10,"b":[1e5, "\\u00e9"]}\n'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "column 'm' is null; set a value, or leave the row out"),
        (float("nan"), "column 'm' is nan, a missing value; set a value"),
        ([], "column 'm' has an empty list; give at least one message, or leave the row out"),
        ("[]", "column 'm' has an empty list"),
        ("hi", "column 'm' has a text that is not JSON ("),
        (7, "column 'm' has a value of type int; give a list of messages, such as ["),
        (HI, "column 'm' has a value of type dict; give a list of messages"),
        (b"raw", "column 'm' has a value of type bytes: turn it into a text; give an image as a URL"),
        (["hi"], "column 'm' has a value of type str as message 1; give messages such as {"),
        ([HI, None], "column 'm' has null as message 2; give messages"),
        ([{"content": "a"}], "column 'm' has message 1 without a role; use system, user, assistant"),
        ([HI, {"role": "tool", "content": "a"}, HI], "column 'm' has message 2 with the role 'tool'; use system"),
        ([HI, HELLO], "column 'm' has a last message with the role 'assistant'; the last one must have 'user'"),
        ([{"role": "user"}], "column 'm' has message 1 without content; set a text, or a list of parts"),
        ([{"role": "user", "content": []}], "column 'm' has message 1 without content; set a text, or a list"),
        ([{"role": "user", "content": 7}], "column 'm' has message 1 with a value of type int as content; give"),
        ([{"role": "user", "content": [7]}], "column 'm' has content part 1 that is a value of type int; give a part"),
        ([HI, TEXT], "column 'm' has message 2 without a role"),
        ([{"type": "text"}], "column 'm' has content part 1 of type 'text' without a text"),
        ([TEXT, {"type": "image_url", "image_url": "https://a"}],
         "column 'm' has content part 2 of type 'image_url' without a URL; write {\"type\": \"image_url\", "),
        ([{"type": "image_url", "image_url": {"url": "C:\\a"}}],
         "column 'm' has content part 1 of type 'image_url' with 'C:"),
        ([{"type": "image_url", "image_url": {"url": "iVBORw0"}}],
         "column 'm' has content part 1 of type 'image_url' with 'iVBORw0'; give a URL that begins with https://, or"),
        ([{"type": "image_url", "image_url": {"url": "s3://b/x.png"}}],
         "column 'm' has content part 1 of type 'image_url' with 's3://b/x.png'; give a URL that begins with https://"),
        ([{"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}],
         "column 'm' has content part 1 of type 'video_url' with 'file:///etc/passwd'; give a URL that begins"),
        ([{"type": "image_url", "image_url": {"url": b"\x89PNG"}}], "column 'm' has column 'image_url' has column 'url'"
         " has a value of type bytes: turn it into a text; give an image as a URL, or as base64 text such as data:"),
    ],
    ids=str,
)  # fmt: skip
def test_other_values_are_named_with_their_column(value: Any, reason: str) -> None:
    with pytest.raises(InvalidItemError) as caught:
        RequestBuilder(model="m", messages_column="m").build({"m": value}, 0)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("item", [[HI], "hi", b'"hi"'])
def test_a_column_of_messages_needs_rows(item: Any) -> None:
    with pytest.raises(InvalidItemError, match=r"^messages_column= needs rows, .* or leave messages_column= out$"):
        RequestBuilder(model="m", messages_column="m").build(item, 0)


def test_a_misspelt_column_of_messages_is_named() -> None:
    with pytest.raises(InvalidItemError, match=r"^there is no column 'masseges' \(did you mean 'messages'\?\)"):
        RequestBuilder(model="m", messages_column="masseges").build({"messages": [HI]}, 0)


PARTS = [
    {"type": "text", "text": 'Describe {title} as {"a": {{b}}}, 100%'},
    {"type": "image_url", "image_url": {"url": "{the url}", "detail": "high"}, "max_pixels": 7},
    {"type": "text", "text": "no column"},
]


def test_columns_are_replaced_in_all_parts() -> None:
    row = {"title": "{x} %s", "the url": "https://a/b.png"}
    filled = [
        {"type": "text", "text": 'Describe {x} %s as {"a": {b}}, 100%'},
        {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "high"}, "max_pixels": 7},
        PARTS[2],
    ]
    line = json.dumps(row).encode() + b"\n"
    for items in ([row], [line], [line.strip()]):
        lines, rows = prepared(items, messages_column=None, prompt=PARTS, system_prompt="s")
        assert lines[0]["body"]["messages"] == [
            {"role": "system", "content": "s"},
            {"role": "user", "content": filled},
        ]
        assert json.loads(rows) == row


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "a"}, "the prompt has content part 2 of type 'image_url' with '{the url}'; give a URL"),
        ({"title": "a", "the url": None}, "column 'the url' is null; set a value"),
        ({"title": "a", "the url": "iVBORw0KGgo"}, "the prompt has content part 2 of type 'image_url' with 'iVBORw0"),
        ({"title": "a", "the url": "gs://b/x.png"}, "the prompt has content part 2 of type 'image_url' with 'gs://b/x"),
        ({"title": "a", "the url": b"\x89PNG"}, "column 'the url' has a value of type bytes: turn it into a text; give "
         "an image as a URL, or as base64 text such as data:image/png;base64,..."),
        ({"titel": "a", "the url": "https://a"}, "there is no column 'title' (did you mean 'titel'?)"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_the_parts_are_named(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidItemError) as caught:
        PartsPrompt(PARTS).fill(row)
    assert str(caught.value).startswith(reason)


def test_parts_without_a_column_are_an_error() -> None:
    with pytest.raises(InvalidItemError, match="the prompt names no column, so all rows would ask the same"):
        PartsPrompt([TEXT]).fill({"q": "a"})


TEXTS = st.text(max_size=5)
PART = st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}, optional={"extra": st.none() | TEXTS}) | st.just(
    {**IMAGE, "text": None}
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant"]), "content": st.lists(PART, max_size=2)},
    optional={"name": st.none() | TEXTS},
)


@settings(max_examples=settings().max_examples // 4)
@given(st.lists(st.lists(MESSAGE, max_size=2) | st.lists(PART, max_size=2) | st.none(), min_size=1, max_size=3))
def test_arrow_and_json_give_the_same_messages(values: list[Any]) -> None:
    def outcome(rows: Iterable[Any]) -> Any:
        try:
            return messages(rows)
        except InvalidRequestFileError as error:
            return str(error).replace("line", "item")

    rows = [{"m": value} for value in values]
    expected = outcome(rows)
    assert outcome(json.dumps(row).encode() for row in rows) == expected
    assert outcome({"m": None if value is None else json.dumps(value)} for value in values) == expected
    assert outcome(rows_of_table(pyarrow.Table.from_pylist(rows))) == expected
