"""Items that cannot be sent, in a source whose other items are."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest

from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import FileStart, InvalidRequestFileError
from siliconflow_provider.inputs.purpose import PreparedSource
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.request_lines import MAXIMUM_CUSTOM_ID
from siliconflow_provider.inputs.source_files import InputFileError, items_of_file
from siliconflow_provider.jsonl import LongLine

Lines = list[dict[str, Any]]
ROW: dict[str, Any] = {"prompt": "{q}", "id_column": "id"}
BODY = {"messages": [{"role": "user", "content": "x"}]}


def json_lines(file: io.BytesIO) -> list[Any]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


def prepared(items: Iterable[Any], **builder: Any) -> tuple[PreparedSource, Lines, Lines, list[Any]]:
    """Return the source, the request lines, the rejected items and the rows."""
    requests, rejected, rows = io.BytesIO(), io.BytesIO(), io.BytesIO()
    built = RequestBuilder(**{"model": "m", **builder})
    done = prepare(items, built, requests, rows, name="it", rejected=rejected, most_lines=2)
    lines = json_lines(requests)
    assert len(lines) == done.requests == sum(part.lines for part in done.parts)
    return done, lines, sorted(json_lines(rejected), key=lambda item: item["index"]), json_lines(rows)


def reasons(items: Iterable[Any], **builder: Any) -> list[tuple[int, str, str]]:
    done, _, rejected, _ = prepared(items, **builder)
    assert list(done.rejected) == [item["index"] for item in rejected]
    return [(item["index"], item["custom_id"], item["reason"]) for item in rejected]


@pytest.mark.parametrize(
    ("item", "builder", "custom_id", "reason"),
    [
        ({"id": "a", "q": None}, ROW, "a", "column 'q' is null"),
        ({"id": 7}, ROW, "7", "there is no column 'q'; the row has 'id'"),
        ({"id": "a", "q": b"raw"}, ROW, "a", "column 'q' has a value of type bytes"),
        ({"id": "a", "q": "\ud800"}, ROW, "a", "surrogates not allowed"),
        ({"id": "\ud800", "q": "x"}, ROW, "request-000002", "surrogates not allowed"),
        ({"id": None, "q": "x"}, ROW, "request-000002", "column 'id' is null"),
        ({"id": "", "q": "x"}, ROW, "request-000002", "custom_id is empty"),
        ({"id": " a", "q": "x"}, ROW, " a", "begins or ends with whitespace"),
        ({"id": "a" * 600, "q": "x"}, ROW, "a" * MAXIMUM_CUSTOM_ID + "... (88 more characters)", "has 600 characters"),
        ({"custom_id": "mine", "q": None}, {"prompt": "{q}"}, "request-000002", "column 'q' is null"),
        (b'{"id": "a", "q"', ROW, "request-000002", "not JSON in UTF-8"),
        (b'{"id": "\xff"}', ROW, "request-000002", "not JSON in UTF-8"),
        (LongLine(b'{"id": "a", "q": "xxx'), ROW, "request-000002", "it has more than 33,554,432 bytes"),
        (7, ROW, "request-000002", "it is int; give a text"),
        (None, {}, "request-000002", "it is NoneType; give a text"),
        ({"custom_id": "a", "body": {"messages": [{"role": "judge"}]}}, {}, "a", "has the role 'judge'"),
        ('{"custom_id": "a", "body": {"messages": []}}', {}, "a", "body.messages is empty"),
        ({"custom_id": 5, "body": BODY}, {}, "5", "Expected `str`, got `int`"),
    ],
    ids=lambda value: str(value)[:25].encode("ascii", "replace").decode(),
)
def test_one_item_is_rejected_with_its_reason(item: Any, builder: dict[str, Any], custom_id: str, reason: str) -> None:
    good: list[Any] = [{"id": name, "q": "x"} for name in "12"] if builder else ["x", "x"]
    if isinstance(item, bytes):
        good = [json.dumps(row).encode() + b"\n" for row in good]
    ((index, found_id, found_reason),) = reasons([good[0], item, good[1]], **builder)
    assert (index, found_id) == (1, custom_id)
    assert reason in found_reason


def test_rows_and_generated_ids_keep_their_positions() -> None:
    items = [b'{"q": null}\n\n{"q": "b"}\nbroken\n', b'{"q": "d"}\n{"q": "e"}']
    done, lines, rejected, rows = prepared(items, prompt="{q}")
    assert [line["custom_id"] for line in lines] == ["request-000002", "request-000004", "request-000005"]
    assert [(item["index"], item["custom_id"]) for item in rejected] == [(0, "request-000001"), (2, "request-000003")]
    assert rows == [{"q": None}, {"q": "b"}, None, {"q": "d"}, {"q": "e"}]
    assert (done.has_rows, list(done.rejected), len(done.reasons)) == (True, [0, 2], 2)


def test_later_duplicates_are_rejected_and_not_sent() -> None:
    ids = ["a", "b", "a", None, "c", "a", "c", "d"]
    done, lines, rejected, rows = prepared([{"id": name, "q": number} for number, name in enumerate(ids)], **ROW)
    assert [(line["custom_id"], line["body"]["messages"][0]["content"]) for line in lines] == [
        ("a", "0"), ("b", "1"), ("c", "4"), ("d", "7"),
    ]  # fmt: skip
    assert [(part.first, part.lines) for part in done.parts] == [(0, 2), (2, 2)]
    assert [(item["index"], item["custom_id"], item["reason"]) for item in rejected if item["custom_id"] in "ac"] == [
        (2, "a", "its custom_id is also that of item 1; make it unique"),
        (5, "a", "its custom_id is also that of item 1; make it unique"),
        (6, "c", "its custom_id is also that of item 5; make it unique"),
    ]
    assert (list(done.rejected), [row["q"] for row in rows]) == ([2, 3, 5, 6], list(range(8)))


def test_an_id_of_a_rejected_item_is_free() -> None:
    items = [{"id": "a", "q": None}, {"id": "a", "q": "x"}]
    assert reasons(items, **ROW) == [(0, "a", "column 'q' is null; set a value, or leave the row out")]


def test_a_csv_line_of_another_length_is_rejected() -> None:
    content = b"id,q\na,1\nb,2,3\nc,4\n"
    items = items_of_file("in.csv", lambda: iter([content]), lambda: io.BytesIO(content))
    assert reasons(items, **ROW) == [(1, "request-000002", "line 3 has 3 values, and the header has 2 columns")]


def test_partition_columns_join_the_rows_only() -> None:
    content = b"id,q\na,1\nb,2,3\nc,4\n"
    items = items_of_file("in.csv", lambda: iter([content]), lambda: io.BytesIO(content), {"dt": "1"})
    _, _, rejected, rows = prepared(items, **ROW)
    assert [item["index"] for item in rejected] == [1]
    assert rows == [{"dt": "1", "id": "a", "q": "1"}, None, {"dt": "1", "id": "c", "q": "4"}]


def test_reasons_name_the_file_of_an_item() -> None:
    row = {"id": "a", "q": "x"}
    done, *_ = prepared([FileStart("a.csv"), row, FileStart("b.csv"), {"id": "b", "q": None}, row], **ROW)
    first, second = done.reasons
    assert first.startswith("item 1 of b.csv (b): column 'q' is null")
    assert second == "item 2 of b.csv (a): its custom_id is also that of item 1 of a.csv; make it unique"


def test_a_row_of_messages_keeps_its_id_and_other_columns() -> None:
    good, bad = {"id": "a", "m": BODY["messages"], "n": 1}, {"id": "b", "m": [{"role": "judge"}], "n": 2}
    for items in ([good, bad], [json.dumps(good).encode(), json.dumps(bad).encode()]):
        _, _, rejected, rows = prepared(items, messages_column="m", id_column="id")
        assert [item["custom_id"] for item in rejected] == ["b"]
        assert rows == [{"id": "a", "n": 1}, {"id": "b", "n": 2}]


def test_without_skipping_such_a_line_is_an_error() -> None:
    content = b"id,q\na,1\nb,2,3\n"
    items = items_of_file("in.csv", lambda: iter([content]), lambda: io.BytesIO(content))
    with pytest.raises(InputFileError, match=r"in\.csv has 3 values on line 3, and 2 columns: fix that line"):
        prepare(items, RequestBuilder(model="m", **ROW), io.BytesIO(), io.BytesIO(), name="it")


def test_a_bad_first_row_does_not_decide_on_columns() -> None:
    _, lines, _, _ = prepared([{"q": None}, {"q": "1", "left side": "2"}], prompt="{q} {left side}")
    assert [line["body"]["messages"][0]["content"] for line in lines] == ["1 2"]


def test_nor_does_one_that_fills_some_parts() -> None:
    parts = [{"type": "text", "text": text} for text in ("{q} {left side}", "{r}")]
    _, lines, _, _ = prepared([{"q": "0", "r": None}, {"q": "1", "r": "3", "left side": "2"}], prompt=parts)
    ((first, second),) = [line["body"]["messages"][0]["content"] for line in lines]
    assert (first["text"], second["text"]) == ("1 2", "3")


@pytest.mark.parametrize(
    ("items", "builder", "message"),
    [
        ([{"title": "a"}, {"title": "b"}], {"prompt": "{titel}"}, "there is no column 'titel' (did you mean 'title'?)"),
        ([{"q": "a"}, b"broken", {"q": "b"}], {"prompt": "{q}", "id_column": "id"}, "there is no column 'id'"),
        ([{"q": "a"}], {"prompt": "always the same"}, "the prompt names no column"),
        ([{"q": 1.5}], {"prompt": "{q:.2f}"}, "the prompt has {q:.2f}; write {q}"),
        ([{"q": "a"}], {"prompt": [{"type": "text", "text": "{no column"}]}, "the prompt names no column"),
        ([{"q": "a"}, {"q": "b"}], {"messages_column": "m"}, "there is no column 'm'"),
        ([{"q": "a"}, "b"], {"prompt": "{q}"}, "item 2: prompt= needs rows, but this is a text or a list"),
        ([{"q": "a"}], {"prompt": "{q}", "request_params": {"thinking_budget": 1}}, "body.thinking_budget is 1"),
        ([{"q": "a"}, {"q": "b", "a b": 1}], {"prompt": "{q} {a b}"}, "column 'a b' is not in the first row"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_what_concerns_the_source_stays_an_error(items: Any, builder: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestFileError) as caught:
        prepared(items, **builder)
    assert message in str(caught.value)


def test_a_model_conflict_stays_an_error() -> None:
    items = [{"body": BODY | {"model": model}} for model in ("m", "n")]
    with pytest.raises(InvalidRequestFileError, match="the requests name different models"):
        prepared([*items, None], model=None)


def test_all_items_may_be_rejected() -> None:
    done, lines, rejected, _ = prepared([{"id": "a", "q": None}, {"id": "b", "q": None}], **ROW)
    assert (lines, done.parts, [item["custom_id"] for item in rejected]) == ([], [], ["a", "b"])


def test_nothing_is_rejected_of_a_good_source() -> None:
    done, lines, _, _ = prepared([{"id": "a", "q": "x"}], **ROW)
    assert (len(lines), list(done.rejected), list(done.reasons)) == (1, [], [])
