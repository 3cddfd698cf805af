from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest

from siliconflow_provider.inputs.limit import first_items
from siliconflow_provider.inputs.parts import DuplicateIds, find_duplicates
from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import FileStart, InvalidRequestFileError
from siliconflow_provider.inputs.purpose import PreparedSource
from siliconflow_provider.inputs.request_builder import RequestBuilder


def prepared(items: Iterable[Any], **builder: Any) -> tuple[PreparedSource, list[dict[str, Any]], bytes]:
    requests, rows = io.BytesIO(), io.BytesIO()
    done = prepare(items, RequestBuilder(**{"model": "m", **builder}), requests, rows, name="it", most_lines=2)
    return done, [json.loads(line) for line in requests.getvalue().splitlines()], rows.getvalue()


def problems(items: Iterable[Any], **builder: Any) -> list[str]:
    with pytest.raises(InvalidRequestFileError) as caught:
        prepared(items, **builder)
    return str(caught.value).split("\n")


def test_items_are_written_and_cut_in_order() -> None:
    done, lines, rows = prepared(["a", "b", "c", "d", "e"])
    assert [line["custom_id"] for line in lines] == [f"request-{i:06d}" for i in range(1, 6)]
    assert [(part.first, part.lines) for part in done.parts] == [(0, 2), (2, 2), (4, 1)]
    assert (done.requests, done.has_rows, rows) == (5, False, b"")


def test_rows_are_kept_beside_the_requests() -> None:
    done, _, rows = prepared([{"q": "é\n"}, {"q": 1}], prompt="{q}")
    assert (done.has_rows, rows) == (True, '{"q":"é\\n"}\n{"q":1}\n'.encode())


def test_blank_lines_and_byte_order_mark_are_skipped() -> None:
    _, lines, _ = prepared([b'\xef\xbb\xbf{"q": "a"}\r\n', b"\r\n", b'{"q": "b"}'], prompt="{q}")
    assert [line["body"]["messages"][0]["content"] for line in lines] == ["a", "b"]


def test_a_duplicate_is_named_with_both_items() -> None:
    items = [b'{"id": "a", "q": 1}\n', b"\n", b'{"id": "b", "q": 1}\n', b"\n", b'{"id": "a", "q": 2}\n']
    assert problems(items, prompt="{q}", id_column="id")[1:] == [
        "  line 5 (a): its custom_id is also that of line 1; make it unique"
    ]
    found = problems([*items, b"{broken", items[2]], prompt="{q}", id_column="id")
    assert found[0] == "it: 3 of 7 lines are invalid and nothing was submitted; fix them and rerun the task:"
    assert found[1] == "  line 5 (a): its custom_id is also that of line 1; make it unique"
    assert found[2].startswith("  line 6: not JSON in UTF-8: ")
    assert found[3] == "  line 7 (b): its custom_id is also that of line 3; make it unique"


def test_items_that_are_no_lines_are_called_items() -> None:
    items = [{"id": "a", "q": 1}, {"id": "b"}, {"id": "a", "q": 2}]
    assert problems(items, prompt="{q}", id_column="id") == [
        "it: 2 of 3 items are invalid and nothing was submitted; fix them and rerun the task:",
        "  item 2 (b): there is no column 'q'; the row has 'id'. For braces that stay in a prompt, write "
        "{% raw %}{{q}}{% endraw %}",
        "  item 3 (a): its custom_id is also that of item 1; make it unique",
    ]


def test_problems_name_the_file_of_several() -> None:
    items = [FileStart("a.jsonl"), b'{"id": "a", "q": 1}\n\n', FileStart("b.jsonl"), b'\n{"id": "a", "q": 2}\n{}\n']
    assert problems(first_items(items, 3), prompt="{q}", id_column="id")[1:] == [
        "  line 2 of b.jsonl (a): its custom_id is also that of line 1 of a.jsonl; make it unique",
        "  line 3 of b.jsonl: there is no column 'id'; the row has none",
    ]


def test_ids_with_equal_hashes_are_no_duplicates() -> None:
    """-1 and -2 have the same hash; two ids can have the same one too."""

    class Text(str):
        def __hash__(self) -> int:
            return 7

    ids = DuplicateIds()
    names = [Text("a"), Text("b"), Text("a")]
    for name in names:
        ids.add([name])
    assert ids.duplicate_hashes() == {7}
    assert list(find_duplicates(names, ids.duplicate_hashes())) == [(2, "a", 0)]


def test_the_first_ten_invalid_items_are_named() -> None:
    items = [json.dumps({"id": i}).encode() for i in range(25)]
    first, *shown, last = problems([b'{"id": 99, "q": 1}', *items], prompt="{q}", id_column="id")
    assert first == "it: 25 of 26 lines are invalid and nothing was submitted; fix them and rerun the task:"
    assert shown[0].startswith(
        "  line 2 (0): there is no column 'q'; the row has 'id'. For braces that stay in a prompt"
    )
    assert (len(shown), last) == (10, "  and 15 more")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            [None, None],
            "it: no request names a model and nothing was submitted; set model= and rerun the task",
        ),
        (
            ["", ""],
            "it: no request names a model and nothing was submitted; set model= and rerun the task",
        ),
        (
            ["m", "n", None],
            "it: some requests name no model and nothing was submitted; set model=, or use one task for each model: "
            "m (item 1), n (item 2), none (item 3)",
        ),
        (
            ["m", "m", "n"],
            "it: the requests name different models and nothing was submitted; use one task for each model: "
            "m (item 1), n (item 3)",
        ),
    ],
)
def test_a_job_has_one_model(models: list[str | None], message: str) -> None:
    lines = [{"body": {"model": model, "messages": [{"role": "user", "content": "x"}]}} for model in models]
    assert problems(lines, model=None) == [message]


def test_without_items_there_are_no_parts() -> None:
    assert prepared([])[0] == PreparedSource(0, False, [])


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
def test_blocks_and_single_lines_give_the_same(lines: list[bytes], builder: dict[str, Any]) -> None:
    def outcome(items: list[bytes]) -> Any:
        try:
            return prepared(items, **builder)
        except InvalidRequestFileError as error:
            return str(error)

    assert outcome([b"".join(lines)]) == outcome([line.rstrip(b"\n") for line in lines])


@pytest.mark.parametrize("builder", [{"model": None}, {"prompt": "{custom_id}", "id_column": "custom_id"}])
def test_valid_lines_are_not_read_one_by_one(builder: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestBuilder, "build", None)
    _, lines, _ = prepared([GOOD + OTHER], **builder)
    assert [line["custom_id"] for line in lines] == ["a", "b"]


def test_generated_ids_count_through_all_blocks() -> None:
    row = b'{"q": "a"}\n'
    _, lines, rows = prepared([row * 3, b"\n", row * 2, {"q": "a"}], prompt="{q}")
    assert [line["custom_id"] for line in lines] == [f"request-{i:06d}" for i in range(1, 7)]
    assert rows == row * 5 + b'{"q":"a"}\n'


def test_an_item_of_several_lines_is_several_items() -> None:
    """Otherwise, the copy of a row over two lines would be read as two rows."""
    assert problems([b'{"q":\n"a"}'], prompt="{q}")[0].startswith("it: 2 of 2 lines are invalid")


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
def test_blocks_and_single_rows_give_the_same(row: dict[str, Any], prompt: str, id_column: str | None) -> None:
    def outcome(items: list[Any]) -> Any:
        try:
            return prepared(items, prompt=prompt, id_column=id_column)
        except InvalidRequestFileError as error:
            return str(error)

    rows = [{"id": "a", "q": "x"}, row, {"id": "c", "q": "z"}]
    assert outcome([b"".join(json.dumps(row).encode() + b"\n" for row in rows)]) == outcome(
        [json.dumps(row).encode() for row in rows]
    )


def test_invalid_parameters_are_found_in_every_row() -> None:
    found = problems([{"q": "a"}, {"q": "b"}], prompt="{q}", request_params={"thinking_budget": 1})
    assert [problem.partition("body.")[2][:15] for problem in found[1:]] == ["thinking_budget"] * 2


@pytest.mark.parametrize("builder", [{}, {"model": None}, {"prompt": "{q}"}])
def test_a_line_nested_too_deeply_is_named(builder: dict[str, Any]) -> None:
    assert problems([b'{"q": "a"}\n' + b"[" * 100_000], **builder)[-1].startswith("  line 2: ")
