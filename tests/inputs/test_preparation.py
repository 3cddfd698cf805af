from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest

from siliconflow_provider.inputs.preparation import Prepared, prepare
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.request_lines import InvalidRequestFileError


def prepared(items: Iterable[Any], **builder: Any) -> tuple[Prepared, list[dict[str, Any]], bytes]:
    requests, rows = io.BytesIO(), io.BytesIO()
    done = prepare(items, RequestBuilder(**{"model": "m", **builder}), requests, rows, name="it", most_lines=2)
    return done, [json.loads(each) for each in requests.getvalue().splitlines()], rows.getvalue()


def problems(items: Iterable[Any], **builder: Any) -> list[str]:
    with pytest.raises(InvalidRequestFileError) as caught:
        prepared(items, **builder)
    return str(caught.value).split("\n")


def test_items_are_written_and_cut_in_order() -> None:
    done, lines, rows = prepared(["a", "b", "c", "d", "e"])
    assert [each["custom_id"] for each in lines] == [f"request-{i:06d}" for i in range(1, 6)]
    assert [(each.first, each.lines) for each in done.parts] == [(0, 2), (2, 2), (4, 1)]
    assert (done.requests, done.has_rows, rows) == (5, False, b"")


def test_rows_are_kept_beside_the_requests() -> None:
    done, _, rows = prepared([{"q": "é\n"}, {"q": 1}], prompt="{q}")
    assert (done.has_rows, rows) == (True, '{"q":"é\\n"}\n{"q":1}\n'.encode())


def test_blank_lines_a_byte_order_mark_and_other_ends_of_line_do_no_harm() -> None:
    _, lines, _ = prepared([b'\xef\xbb\xbf{"q": "a"}\r\n', b"\r\n", b'{"q": "b"}'], prompt="{q}")
    assert [each["body"]["messages"][0]["content"] for each in lines] == ["a", "b"]


def test_a_repeated_id_is_named_with_both_items_as_they_are_counted_in_the_source() -> None:
    items = [b'{"id": "a", "q": 1}\n', b"\n", b'{"id": "b", "q": 1}\n', b"\n", b'{"id": "a", "q": 2}\n']
    assert problems(items, prompt="{q}", id_column="id")[1:] == [
        "  item 5 (a): its custom_id is that of item 1 too, it must be unique"
    ]
    assert problems([*items, b"{broken", items[2]], prompt="{q}", id_column="id")[2:] == [
        "  item 5 (a): its custom_id is that of item 1 too, it must be unique",
        "  item 7 (b): its custom_id is that of item 3 too, it must be unique",
    ]


def test_hashes_that_meet_are_no_repeated_ids() -> None:
    """-1 and -2 have the same hash, and so may two ids."""

    class Text(str):
        def __hash__(self) -> int:
            return 7

    from siliconflow_provider.inputs.parts import RepeatedIds, repeated_ids

    ids = RepeatedIds()
    names = [Text("a"), Text("b"), Text("a")]
    for each in names:
        ids.add([each])
    assert ids.repeated_hashes() == {7}
    assert list(repeated_ids(names, ids.repeated_hashes())) == [(2, "a", 0)]


def test_the_first_ten_bad_items_are_named_with_their_ids() -> None:
    items = [json.dumps({"id": i}).encode() for i in range(25)]
    first, *shown, last = problems([b'{"id": 99, "q": 1}', *items], prompt="{q}", id_column="id")
    assert first == "it: 25 of 26 items are bad and nothing was submitted; mend them and run the task again:"
    assert shown[0] == "  item 2 (0): column 'q' is missing, the row has 'id'"
    assert (len(shown), last) == (10, "  and 15 more")


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([None, None], "it: no request names a model, and nothing was submitted: give model="),
        (["m", "n", None], "do not name one model, and nothing was submitted: m (item 1), n (item 2), none (item 3)"),
    ],
)
def test_a_job_has_one_model(models: list[str | None], said: str) -> None:
    lines = [{"body": {"model": each, "messages": [{"role": "user", "content": "x"}]}} for each in models]
    assert said in problems(lines, model=None)[0]


def test_no_items_are_no_parts() -> None:
    assert prepared([])[0] == Prepared(0, False, [])


GOOD = b'{"custom_id": "a", "body": {"model": "m", "messages": [{"role": "user", "content": "x"}]}}\n'
OTHER = GOOD.replace(b'"a"', b'"b"')


@pytest.mark.parametrize(
    "lines",
    [
        [GOOD, OTHER],
        [GOOD, OTHER.strip()],
        [GOOD, OTHER.strip() + b"\r\n"],
        [GOOD.strip() + OTHER, b"\n"],
        [b"\xef\xbb\xbf" + GOOD, OTHER],
        [GOOD, b"\n", OTHER],
        [GOOD, GOOD],
        [GOOD, OTHER.replace(b'"b"', b'""')],
        [GOOD, OTHER.replace(b'"b"', b"1")],
        [GOOD, OTHER.replace(b'"x"', b'"\xff"')],
        [GOOD, OTHER.replace(b'"user"', b'"system"')],
        [GOOD, OTHER.replace(b'"m"', b'"other"')],
        [GOOD, OTHER.replace(b'"body"', b'"url": "/elsewhere", "body"')],
        [GOOD, b'{"custom_id": "b",\n', OTHER.removeprefix(b'{"custom_id": "b",')],
        [GOOD, b"[1]\n"],
        [GOOD, OTHER.replace(b'"model"', b'"temperature": 1e999, "model"')],
        [GOOD, OTHER.replace(b'"model"', b'"own": 1e999, "model"')],
        [GOOD, OTHER.replace(b'"model"', b'"own": "\xff", "model"')],
        [GOOD, OTHER.replace(b'"model"', b'"thinking_budget": 1, "model"')],
        [GOOD, OTHER.replace(b'"x"', b"null")],
        [GOOD, OTHER.replace(b'"x"', b'[{"type": "text", "text": "x"}]')],
        [b"\n", GOOD],
        [GOOD, b'{"custom_id": "c"}' + OTHER, b"\n"],
    ],
)
@pytest.mark.parametrize("builder", [{"model": None}, {"prompt": "{custom_id}"}], ids=["lines", "rows"])
def test_lines_together_are_judged_as_each_by_itself(lines: list[bytes], builder: dict[str, Any]) -> None:
    def outcome(items: list[bytes]) -> Any:
        try:
            return prepared(items, **builder)
        except InvalidRequestFileError as error:
            return str(error)

    assert outcome([b"".join(lines)]) == outcome([each.rstrip(b"\n") for each in lines])


@pytest.mark.parametrize("builder", [{"model": None}, {"prompt": "{custom_id}", "id_column": "custom_id"}])
def test_many_lines_are_not_taken_one_by_one(builder: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestBuilder, "request", None)
    _, lines, _ = prepared([GOOD + OTHER], **builder)
    assert [each["custom_id"] for each in lines] == ["a", "b"]


def test_ids_are_counted_through_all_blocks() -> None:
    row = b'{"q": "a"}\n'
    _, lines, rows = prepared([row * 3, b"\n", row * 2, {"q": "a"}], prompt="{q}")
    assert [each["custom_id"] for each in lines] == [f"request-{i:06d}" for i in range(1, 7)]
    assert rows == row * 5 + b'{"q":"a"}\n'


def test_an_item_of_several_lines_is_several_items() -> None:
    """A value over two lines would be two lines of the requests."""
    assert problems([b'{"q":\n"a"}'], prompt="{q}")[0].startswith("it: 2 of 2 items are bad")


@pytest.mark.parametrize(
    "row",
    [
        {"id": "b", "q": 7},
        {"id": 7, "q": ["é", None]},
        {"id": "b", "q": None},
        {"id": "", "q": "x"},
        {"q": "x"},
        {"id": "b", "q": "x", "r": "y"},
        {"id": "b", "q": "{q} %s {id}"},
    ],
)
@pytest.mark.parametrize("prompt", ["{q}", "100% {q} {r} {id}"])
@pytest.mark.parametrize("id_column", ["id", None])
def test_rows_together_are_filled_in_as_each_by_itself(row: dict[str, Any], prompt: str, id_column: str | None) -> None:
    def outcome(items: list[Any]) -> Any:
        try:
            return prepared(items, prompt=prompt, id_column=id_column)
        except InvalidRequestFileError as error:
            return str(error)

    rows = [{"id": "a", "q": "x"}, row, {"id": "c", "q": "z"}]
    assert outcome([b"".join(json.dumps(each).encode() + b"\n" for each in rows)]) == outcome(
        [json.dumps(each).encode() for each in rows]
    )


def test_what_the_service_refuses_in_every_row_is_found_though_rows_share_their_frame() -> None:
    found = problems([{"q": "a"}, {"q": "b"}], prompt="{q}", request_params={"thinking_budget": 1})
    assert [each.partition("body.")[2][:15] for each in found[1:]] == ["thinking_budget"] * 2


@pytest.mark.parametrize("builder", [{}, {"model": None}, {"prompt": "{q}"}])
def test_a_line_that_is_nested_too_deeply_is_named_too(builder: dict[str, Any]) -> None:
    assert problems([b'{"q": "a"}\n' + b"[" * 100_000], **builder)[-1].startswith("  item 2: ")
