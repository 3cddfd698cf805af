"""Alternative response forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import requests

from siliconflow_provider.emulator.errors import EmulatorError
from siliconflow_provider.emulator.forms import MEANINGS, Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

SECOND = 1_800_000_000
Sums = Callable[[int], bytes]


@pytest.fixture
def options(options: EmulatorOptions, request: pytest.FixtureRequest) -> EmulatorOptions:
    """Return emulator options. An indirect parameter has the names of the forms."""
    return replace(options, forms=Forms.named(request.param))


@pytest.fixture
def mixed(api: Any, clock: Any, line: Any, jsonl: Any) -> dict[str, Any]:
    """Return a completed batch: "good" succeeded, "bad" failed."""
    batch_id = api.create(jsonl([line("good", "1+1"), line("bad", "x", max_tokens=0)]))
    clock.advance(200)
    batch: dict[str, Any] = api.batch(batch_id)
    return batch


def named(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("options", [names], indirect=True, ids=["-and-".join(names)])


@named("result-ids")
def test_result_files_can_be_ids(api: Any, mixed: dict[str, Any]) -> None:
    assert mixed["output_file_id"].startswith("file-")
    assert mixed["error_file_id"].startswith("file-")
    answer = api.call("GET", f"/files/{mixed['output_file_id']}/content")
    assert json.loads(answer.content)["custom_id"] == "good"
    url = f"{api.base_url}/files/{mixed['output_file_id']}/content"
    assert requests.get(url, timeout=10).status_code == 401


@named("flat-upload")
def test_upload_response_can_be_flat(api: Any) -> None:
    answer = api.call("POST", "/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", b"{}\n")}).json()
    assert answer.pop("id").startswith("file-")
    assert answer == {
        "object": "file",
        "bytes": 3,
        "created_at": SECOND,
        "filename": "a.jsonl",
        "purpose": "batch",
    }


@named("wrapped-file-list")
def test_list_of_files_can_be_wrapped(api: Any) -> None:
    file_id = api.upload(b"{}\n")
    listed = api.call("GET", "/files?purpose=batch").json()
    assert (listed["code"], listed["status"]) == (20000, True)
    assert [(item["id"], item["createdAt"]) for item in listed["data"]] == [(file_id, SECOND)]


@named("nested-file-list")
def test_list_of_files_can_be_wrapped_twice(api: Any) -> None:
    file_id = api.upload(b"{}\n")
    listed = api.call("GET", "/files?purpose=batch").json()
    assert (listed["code"], listed["data"]["object"]) == (20000, "file")
    assert [item["id"] for item in listed["data"]["data"]] == [file_id]


@named("error-objects")
def test_errors_can_be_objects(api: Any, clock: Any, jsonl: Any) -> None:
    failed, empty = api.create(jsonl(["nonsense", "[]"])), api.create(b"\n")
    clock.advance(200)
    assert api.batch(failed)["errors"] == {
        "object": "list",
        "data": [
            {"code": "invalid_request", "message": "not JSON", "line": 1},
            {"code": "invalid_request", "message": "not a JSON object", "line": 2},
        ],
    }
    assert api.batch(empty)["errors"]["data"] == [
        {"code": "invalid_request", "message": "the input file has no line", "line": None}
    ]


@named("openai-lines")
def test_lines_can_have_openais_form(api: Any, mixed: dict[str, Any]) -> None:
    (good,), (bad,) = api.rows(mixed["output_file_id"]), api.rows(mixed["error_file_id"])
    assert (good["response"]["status_code"], good["error"]) == (200, None)
    assert good["response"]["request_id"] != bad["response"]["request_id"]
    assert good["response"]["body"]["choices"][0]["message"]["content"] == "2"
    assert (bad["response"]["status_code"], bad["error"]) == (400, None)
    assert bad["response"]["body"]["error"]["code"] == "invalid_request"


@named("openai-lines")
def test_unexecuted_request_never_has_a_response(api: Any, emulator: Emulator, clock: Any, sums: Sums) -> None:
    emulator.control.plan(end="expired", run_share=0)
    batch_id = api.create(sums(1))
    clock.advance(200)
    (row,) = api.rows(api.batch(batch_id)["error_file_id"])
    assert (row["response"], row["error"]["code"]) == (None, "batch_expired")


@named("body-strings")
def test_body_can_be_a_json_string(api: Any, mixed: dict[str, Any]) -> None:
    (good,) = api.rows(mixed["output_file_id"])
    assert set(good["response"]) == {"body"}
    assert json.loads(good["response"]["body"])["choices"][0]["message"]["content"] == "2"


@named("errors-without-code")
def test_errors_can_have_no_code(api: Any, mixed: dict[str, Any]) -> None:
    (bad,) = api.rows(mixed["error_file_id"])
    assert bad["error"] == {"message": "max_tokens: must be an integer of at least 1"}


@named("list-without-metadata")
def test_listed_batches_can_lack_metadata(api: Any, sums: Sums) -> None:
    batch_id = api.create(sums(1), metadata={"a": "b"})
    (item,) = api.call("GET", "/batches").json()["data"]
    assert "metadata" not in item
    assert item["created_at"] == SECOND
    assert api.batch(batch_id)["metadata"] == {"a": "b"}


@named("list-without-times")
def test_listed_batches_can_lack_times_and_results(api: Any, mixed: dict[str, Any]) -> None:
    (item,) = api.call("GET", "/batches").json()["data"]
    assert not [field for field in item if field.endswith("_at")]
    assert "output_file_id" not in item
    assert "error_file_id" not in item
    assert (item["id"], item["input_file_id"], item["status"]) == (mixed["id"], mixed["input_file_id"], "completed")
    assert mixed["completed_at"]


@named("unpaged")
@pytest.mark.parametrize("query", ["limit=1", "limit=x&after=batch_no", ""])
def test_paging_can_be_ignored(api: Any, sums: Sums, query: str) -> None:
    ids = [api.create(sums(1)) for _ in range(3)][::-1]
    page = api.call("GET", f"/batches?{query}").json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (ids, False)


@pytest.mark.parametrize("options", [()], indirect=True)
class TestListLag:
    @pytest.fixture
    def options(self, options: EmulatorOptions) -> EmulatorOptions:
        return replace(options, forms=Forms(list_lag_seconds=3))

    def test_new_batch_can_be_missing_from_list(self, api: Any, clock: Any, sums: Sums) -> None:
        old = api.create(sums(1))
        clock.advance(2.9)
        new = api.create(sums(1))

        def listed() -> tuple[list[str], bool]:
            page = api.call("GET", "/batches?limit=1").json()
            return [item["id"] for item in page["data"]], page["has_more"]

        assert listed() == ([], False)
        assert api.batch(old)["id"] == old
        clock.advance(0.1)
        assert listed() == ([old], False)
        clock.advance(2.9)
        assert listed() == ([new], True)


def test_every_form_has_a_name_and_a_meaning() -> None:
    assert {name.replace("-", "_") for name in MEANINGS} == {form.name for form in fields(Forms)} - {"list_lag_seconds"}
    assert Forms.named(["result-ids", "unpaged"], 2.0) == Forms(result_ids=True, unpaged=True, list_lag_seconds=2.0)


def test_two_forms_of_one_response_are_refused() -> None:
    with pytest.raises(EmulatorError, match=r"wrapped-file-list and nested-file-list .*; choose one"):
        Forms.named(["wrapped-file-list", "nested-file-list"])


@pytest.fixture
def listed(api: Any, clock: Any, sums: Any) -> list[str]:
    """Return the ids of 45 batches, newest first."""
    ids = []
    for _ in range(45):
        ids.append(api.create(sums(1)))
        clock.advance(1)
    return ids[::-1]


@pytest.mark.parametrize(
    ("options", "query", "shown", "has_more"),
    [
        ([], "", slice(None), False),
        (["list-oldest-first"], "?limit=3", slice(-1, -4, -1), True),
        (["pages-of-twenty"], "?limit=100", slice(20), True),
        (["pages-of-twenty"], "", slice(20), True),
        (["pages-of-twenty", "without-has-more"], "?limit=100", slice(20), None),
        (["second-page-missing"], "?limit=10", slice(10), True),
    ],
    indirect=["options"],
)
def test_lists_of_batches_can_have_other_forms(
    api: Any, listed: list[str], query: str, shown: slice, has_more: bool | None
) -> None:
    answer = api.call("GET", f"/batches{query}").json()
    assert [batch["id"] for batch in answer["data"]] == listed[shown]
    assert answer.get("has_more") == has_more


@pytest.mark.parametrize(
    ("options", "second"),
    [
        (["list-oldest-first"], slice(34, 24, -1)),
        (["second-page-missing"], slice(20, 30)),
        (["after-ignored"], slice(10)),
    ],
    indirect=["options"],
)
def test_second_page_can_be_different(api: Any, listed: list[str], second: slice) -> None:
    first = api.call("GET", "/batches?limit=10").json()["data"]
    answer = api.call("GET", f"/batches?limit=10&after={first[-1]['id']}").json()
    assert [batch["id"] for batch in answer["data"]] == listed[second]


@pytest.mark.parametrize("options", [["list-unordered"]], indirect=True)
def test_batches_can_be_listed_in_random_order(api: Any, listed: list[str]) -> None:
    ids = [batch["id"] for batch in api.call("GET", "/batches").json()["data"]]
    assert sorted(ids) == sorted(listed)
    assert ids not in (listed, listed[::-1])


@pytest.mark.parametrize(
    ("options", "metadata"),
    [
        (["metadata-dropped"], None),
        (["metadata-users-only"], {"team": "n" * 40}),
        (["metadata-cut"], {"team": "n" * 32, "airflow_key": "k" * 32}),
    ],
    indirect=["options"],
)
def test_metadata_can_be_dropped(api: Any, sums: Any, metadata: Any) -> None:
    created = api.create(sums(1), metadata={"team": "n" * 40, "airflow_key": "k" * 40})
    assert api.call("GET", f"/batches/{created}").json()["metadata"] == metadata
    assert api.call("GET", "/batches").json()["data"][0]["metadata"] == metadata


@pytest.mark.parametrize(
    ("options", "query", "shown"),
    [
        ([], "?purpose=batch", slice(10)),
        ([], "?purpose=batch&limit=12", slice(12)),
        (["files-oldest-first"], "?purpose=batch&limit=3", slice(-1, -4, -1)),
        (["files-without-query"], "", slice(None)),
        (["files-query-ignored"], "?purpose=x&limit=12", slice(10)),
    ],
    indirect=["options"],
)
def test_some_files_are_listed(api: Any, query: str, shown: slice) -> None:
    ids = [api.upload(b"{}\n") for _ in range(14)][::-1]
    assert [file["id"] for file in api.call("GET", f"/files{query}").json()["data"]] == ids[shown]


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ([], ""),
        ([], "?limit=5"),
        ([], "?purpose=x"),
        ([], "?purpose=batch&limit=0"),
        (["files-without-query"], "?purpose=batch"),
    ],
    indirect=["options"],
)
def test_list_of_files_can_be_refused(api: Any, query: str) -> None:
    assert api.call("GET", f"/files{query}").status_code == 400
