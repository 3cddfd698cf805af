"""All response forms that the service, or a compatible one, was seen to use.

Each row of a table names the source of its form.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.client import PAGE_SIZE, SiliconFlowClient
from siliconflow_provider.api.errors import IncompleteListError, UnreadableAnswerError
from siliconflow_provider.api.models import BatchTiming, File, RequestCounts

MakeBatch = Callable[..., dict[str, Any]]
REFERENCE = "vendor's reference"
GUIDE = "user guide"
LIVE = "seen live"
OPENAI = "OpenAI-compatible server"
NOBODY = "nobody yet"

MISSING = object()
CREATED = 1741685396
FILE = {"id": "file-1", "object": "file", "bytes": 2, "filename": "a.jsonl", "purpose": "batch"}
READ = File("file-1", "a.jsonl", 2, "batch", pendulum.from_timestamp(CREATED))
OK = {"code": 20000, "message": "Ok", "status": True}


def by_source(table: list[Any]) -> Any:
    """Return parameters with ids that show the source of each row."""
    shown = [(row[0], ", ".join(map(repr, row[1:]))) for row in table]
    return [
        pytest.param(*row[1:], id=f"{source}: {text[:60]}") for row, (source, text) in zip(table, shown, strict=True)
    ]


UPLOADS: list[tuple[str, Any, File]] = [
    (REFERENCE, OK | {"data": FILE | {"createdAt": CREATED}}, READ),
    (LIVE, FILE | {"createdAt": CREATED}, READ),
    (LIVE, FILE | {"created_at": CREATED}, READ),
    (OPENAI, FILE | {"created_at": CREATED, "status": "processed", "expires_at": None}, READ),
    (OPENAI, {"id": "file-1"}, File("file-1")),
    (NOBODY, {"code": None, "data": FILE | {"created_at": CREATED}}, READ),
    (NOBODY, {"code": "20000", "data": FILE | {"created_at": CREATED}}, READ),
    (NOBODY, OK | {"data": {"id": 7, "bytes": "two", "createdAt": "today"}, "trace": {}}, File("7")),
]


@pytest.mark.parametrize(("answer", "file"), by_source(UPLOADS))
def test_upload_response_is_read_in_every_form(server: Any, caller: SiliconFlowClient, answer: Any, file: File) -> None:
    server.json(answer)
    assert caller.upload_file(io.BytesIO(b"{}")) == file


FILE_LISTS: list[tuple[str, Any, list[File]]] = [
    (REFERENCE, OK | {"data": {"object": "file", "data": [FILE | {"created_at": CREATED, "line_count": 2}]}}, [READ]),
    (LIVE, OK | {"data": [FILE | {"createdAt": CREATED}]}, [READ]),
    (LIVE, {"object": "list", "data": [FILE | {"created_at": CREATED, "line_count": 1}]}, [READ]),
    (LIVE, {"object": "list", "data": [FILE | {"createdAt": CREATED}, {"id": "file-2"}]}, [READ, File("file-2")]),
    (OPENAI, {"object": "list", "data": [], "has_more": False}, []),
    (OPENAI, {"object": "list", "data": None}, []),
    (NOBODY, OK | {"data": {"object": "file", "data": None}}, []),
    (NOBODY, [FILE | {"created_at": CREATED, "new": [{}]}], [READ]),
]


@pytest.mark.parametrize(("answer", "files"), by_source(FILE_LISTS))
def test_files_are_listed_in_every_form(server: Any, caller: SiliconFlowClient, answer: Any, files: list[File]) -> None:
    server.json(answer)
    assert caller.list_files() == files


COUNTS = {"total": 0, "completed": 0, "failed": 0}
URL = "https://bucket.example/out.jsonl?Signature=abc"
NOT_UNIQUE = {"code": "dup", "message": "twice", "line": 3, "param": None}

# The expected values are attributes of the batch.
BATCHES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (REFERENCE, {}, {"id": "batch_rdyqgrcgjg", "status": "in_queue", "is_terminal": False, "errors": []}),
    (REFERENCE, {"request_counts": None}, {"request_counts": None}),
    (LIVE, {"request_counts": {}}, {"request_counts": None}),
    (REFERENCE, {"request_counts": COUNTS}, {"request_counts": RequestCounts(0, 0, 0)}),
    (OPENAI, {"request_counts": {"total": 5}}, {"request_counts": RequestCounts(5, 0, 0)}),
    (
        NOBODY,
        {"request_counts": {"total": 5, "completed": 4.0, "failed": 1, "retried": 2}},
        {"request_counts": RequestCounts(5, 4, 1)},
    ),
    (
        NOBODY,
        {"request_counts": {"total": None, "completed": "many", "failed": float("nan")}},
        {"request_counts": RequestCounts(0, 0, 0)},
    ),
    (NOBODY, {"request_counts": []}, {"request_counts": None}),
    (REFERENCE, {"errors": None}, {"errors": []}),
    (REFERENCE, {"errors": ["line 1: not JSON", "no"]}, {"errors": ["line 1: not JSON", "no"]}),
    (REFERENCE, {"errors": []}, {"errors": []}),
    (OPENAI, {"errors": {"object": "list", "data": [NOT_UNIQUE]}}, {"errors": ["line 3: dup: twice"]}),
    (OPENAI, {"errors": {"object": "list", "data": [NOT_UNIQUE | {"line": None}]}}, {"errors": ["dup: twice"]}),
    (OPENAI, {"errors": {"object": "list", "data": None}}, {"errors": []}),
    (NOBODY, {"errors": "bad file"}, {"errors": ["bad file"]}),
    (NOBODY, {"errors": [{"reason": "odd"}, None, 7]}, {"errors": ["{'reason': 'odd'}", "None", "7"]}),
    (REFERENCE, {"metadata": None}, {"metadata": {}}),
    (LIVE, {"metadata": MISSING}, {"metadata": {}}),
    (NOBODY, {"metadata": "none"}, {"metadata": {}}),
    (REFERENCE, {"output_file_id": "file-2"}, {"output_file_id": "file-2", "error_file_id": None}),
    (LIVE, {"output_file_id": URL, "error_file_id": URL}, {"output_file_id": URL, "error_file_id": URL}),
    (NOBODY, {"output_file_id": "", "error_file_id": MISSING}, {"output_file_id": None, "error_file_id": None}),
    *((GUIDE, {"status": status}, {"final_status": None}) for status in ("in_queue", "in_progress", "finalizing")),
    *((GUIDE, {"status": status}, {"final_status": status}) for status in ("completed", "expired", "cancelled")),
    (GUIDE, {"status": "cancelling", "cancelling_at": 5}, {"final_status": None}),
    (GUIDE, {"status": "validating"}, {"final_status": None}),
    (REFERENCE, {"status": "failed", "failed_at": 5}, {"final_status": "failed"}),
    (NOBODY, {"status": "pondering"}, {"status": "pondering", "final_status": None}),
    (NOBODY, {"status": None}, {"status": "unknown", "final_status": None}),
    (NOBODY, {"status": MISSING}, {"status": "unknown", "final_status": None}),
    *(
        (NOBODY, {"status": "pondering", f"{status}_at": 5}, {"final_status": status})
        for status in ("completed", "failed", "expired", "cancelled")
    ),
    # A time may be an estimate: a known status decides.
    (NOBODY, {"status": "cancelling", "cancelled_at": 5}, {"final_status": None}),
    (OPENAI, {"status": "in_progress", "completed_at": 0, "failed_at": 0}, {"final_status": None}),
    (LIVE, {"created_at": MISSING, "expires_at": MISSING}, {"timing": BatchTiming()}),
    *(
        (NOBODY, {"created_at": odd, "expires_at": None}, {"timing": BatchTiming()})
        for odd in (0, -1, "soon", [], {}, float("nan"), float("inf"), 1e20, 1741685413000)
    ),
    (OPENAI, {"endpoint": MISSING, "completion_window": MISSING}, {"endpoint": None, "completion_window": None}),
    (NOBODY, {"price": {"yuan": 1}, "code": 20000, "data": [], "message": None}, {"id": "batch_rdyqgrcgjg"}),
]


@pytest.mark.parametrize(("fields", "expected"), by_source(BATCHES))
def test_batch_is_read_in_every_form(
    server: Any,
    caller: SiliconFlowClient,
    batch_json: MakeBatch,
    fields: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    server.json({name: value for name, value in batch_json(**fields).items() if value is not MISSING})
    batch = caller.get_batch("batch_1")
    assert {name: getattr(batch, name) for name in expected} == expected


@pytest.mark.parametrize(
    "wrap",
    by_source(
        [
            (REFERENCE, lambda batch: batch),
            (NOBODY, lambda batch: OK | {"data": batch}),
            (NOBODY, lambda batch: {"code": None, "data": batch}),
            (NOBODY, lambda batch: batch | {"code": None, "message": ""}),
        ]
    ),
)
def test_every_call_accepts_a_wrapped_batch(
    server: Any, caller: SiliconFlowClient, batch_json: MakeBatch, wrap: Callable[[Any], Any]
) -> None:
    server.always = server.json(wrap(batch_json())).script.pop()
    calls = [caller.get_batch, caller.cancel_batch, caller.create_batch]
    assert [call("id-1").id for call in calls] == ["batch_rdyqgrcgjg"] * 3


def item(batch_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": batch_id, "object": "batch", "status": "completed"} | fields


def page(*ids: str, **fields: Any) -> dict[str, Any]:
    return {"object": "list", "data": [item(batch_id) for batch_id in ids]} | fields


MORE, LAST = {"has_more": True}, {"has_more": False}
FULL = [f"b{number}" for number in range(PAGE_SIZE)]

# The responses in order, the listed ids, and the `after` of the next requests.
LISTS: list[tuple[str, list[Any], list[str], list[str]]] = [
    (REFERENCE, [page("b", "a", first_id="b", last_id="a", **LAST)], ["b", "a"], []),
    (REFERENCE, [page("c", "b", **MORE), page("a", **LAST)], ["c", "b", "a"], ["b"]),
    (REFERENCE, [page("b", "a", **MORE), page(**LAST)], ["b", "a"], ["a"]),
    (GUIDE, [page("b", "a", **LAST)], ["b", "a"], []),
    (GUIDE, [page("b", "a")], ["b", "a"], []),
    (GUIDE, [page(*FULL, "a", "z")], [*FULL, "a", "z"], []),
    (NOBODY, [page(*FULL[:20]), page(*FULL[20:40]), page(*FULL[40:45])], FULL[:45], [FULL[19], FULL[39]]),
    (NOBODY, [page(*FULL[:20], **LAST), page(*FULL[:20], **LAST)], FULL[:20], [FULL[19]]),
    (OPENAI, [page(*FULL, has_more=None), page("a")], [*FULL, "a"], [FULL[-1]]),
    (OPENAI, [page(*FULL, **LAST), page(**LAST)], FULL, [FULL[-1]]),
    (NOBODY, [page("c", "b", **MORE), page("b", "a", **LAST)], ["c", "b", "a"], ["b"]),
    (NOBODY, [OK | {"data": page("b", **MORE)}, OK | {"data": page("a", **LAST)}], ["b", "a"], ["b"]),
    (NOBODY, [OK | {"data": [item("a")]}], ["a"], []),
    (NOBODY, [[item("a")]], ["a"], []),
    (NOBODY, [[]], [], []),
]


@pytest.mark.parametrize(("answers", "ids", "asked_on"), by_source(LISTS))
def test_batches_are_listed_completely_in_every_form(
    server: Any, caller: SiliconFlowClient, answers: list[Any], ids: list[str], asked_on: list[str]
) -> None:
    """A batch that is not listed would be submitted and billed again."""
    for answer in answers:
        server.json(answer)
    assert [batch.id for batch in caller.list_batches()] == ids
    pages = ["", *(f"&after={batch_id}" for batch_id in asked_on)]
    assert [request.target for request in server.received] == [f"/v1/batches?limit=100{page}" for page in pages]


@pytest.mark.parametrize("answers", [[page("b", "a", **MORE)] * 2, [page(**MORE)]], ids=["again", "empty"])
def test_incomplete_list_is_an_error(server: Any, caller: SiliconFlowClient, answers: list[Any]) -> None:
    """The missing batch may be the wanted one."""
    for answer in answers:
        server.json(answer)
    batches, shown = caller.list_batches(), []
    with pytest.raises(IncompleteListError, match=r"lists only \d batches .* there are more: try again later"):
        shown.extend(iter(batches))
    assert [batch.id for batch in shown] == [batch["id"] for batch in answers[0]["data"]][: len(shown)]


def test_endless_list_is_stopped(server: Any, caller: SiliconFlowClient, monkeypatch: Any) -> None:
    monkeypatch.setattr("siliconflow_provider.api.client.MOST_PAGES", 3)
    for number in range(3):
        server.json(page(f"b{number}", **MORE))
    with pytest.raises(IncompleteListError, match="lists only 3 batches"):
        list(caller.list_batches())


@pytest.mark.parametrize("answer", [{"object": "list", "data": None}, {"data": None, **LAST}])
def test_null_is_a_list_only_if_allowed(server: Any, caller: SiliconFlowClient, answer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("siliconflow_provider.api.clock.sleep", lambda seconds: None)
    server.always = server.json(answer).script.pop()
    assert list(caller.list_batches(may_be_empty=True)) == []
    with pytest.raises(UnreadableAnswerError, match="was answered without a list"):
        list(caller.list_batches())


ITEMS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (REFERENCE, {"file_name": "a.jsonl", "created_at": CREATED, "metadata": {"k": "v"}}, {"metadata": {"k": "v"}}),
    (LIVE, {}, {"metadata": {}, "timing": BatchTiming(), "output_file_id": None, "error_file_id": None}),
    (OPENAI, {"metadata": None, "created_at": 0, "output_file_id": None}, {"metadata": {}, "timing": BatchTiming()}),
    (LIVE, {"output_file_id": URL}, {"output_file_id": URL}),
]


@pytest.mark.parametrize(("fields", "expected"), by_source(ITEMS))
def test_list_item_needs_only_an_id(
    server: Any, caller: SiliconFlowClient, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    server.json({"object": "list", "data": [item("a", **fields)]})
    (batch,) = caller.list_batches()
    assert {name: getattr(batch, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("reference", "asked", "is_keyed"),
    by_source(
        [
            (REFERENCE, "file-out", "/v1/files/file-out/content", True),
            (LIVE, "{storage}/results/out?Expires=1&Signature=a%2Bb", "/results/out?Expires=1&Signature=a%2Bb", False),
            (NOBODY, "{upper}/results/out", "/results/out", False),
        ]
    ),
)
def test_result_reference_may_be_id_or_url(
    server: Any, storage: Any, caller: SiliconFlowClient, reference: str, asked: str, is_keyed: bool, key: str
) -> None:
    for origin in (server, storage):
        origin.text("result")
    url = reference.format(storage=storage.origin, upper=storage.origin.replace("http", "HTTP"))
    fileobj = io.BytesIO()
    assert caller.download(url, fileobj) == 6
    (received,) = [*server.received, *storage.received]
    assert received.target == asked
    assert received.key == (f"Bearer {key}" if is_keyed else None)
