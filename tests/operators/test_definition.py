from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel

from siliconflow_provider.batches.submission import digest
from siliconflow_provider.jobs.job import fingerprint
from siliconflow_provider.operators.definition import (
    INPUT_FILE,
    definition_of,
    request_builder_of,
    schema_of,
)
from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.storage.object_storage import size_and_version_of, storage_path

Task = Callable[..., BatchInferenceOperator]
NAMES = [
    "input_path",
    INPUT_FILE,
    "prompt",
    "messages_column",
    "id_column",
    "system_prompt",
    "request_params",
    "model",
    "limit",
    "deduplicate",
    "output_type",
    "completion_window",
    "connection",
    "bad_items",
]


class Answer(BaseModel):
    answer: int


class Other(BaseModel):
    answer: str


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str = "siliconflow_default", **fields: Any) -> None:
    value = {"conn_type": "siliconflow", "password": "sk-secret", "host": "https://one.example/v1"} | fields
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """Return an operator; no request is sent."""
    connect(monkeypatch)
    usual: dict[str, Any] = {"task_id": "ask", "output_path": "/out", "input_path": "/in.jsonl", "prompt": "{q}"}
    return lambda **arguments: BatchInferenceOperator(**{**usual, **arguments})


def defined(task: BatchInferenceOperator) -> dict[str, str]:
    return definition_of(task, schema_of(task))


def test_no_deduplication_is_like_no_argument(task: Task) -> None:
    """A job of a version without the argument has not changed."""
    one, other = defined(task()), defined(task(deduplicate=True))
    assert one["deduplicate"] == fingerprint(None) != other["deduplicate"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("input_path", {"input_path": "/other.jsonl"}),
        ("prompt", {"prompt": "{q}?"}),
        ("prompt", {"prompt": [{"type": "text", "text": "{q}"}]}),
        ("id_column", {"id_column": "id"}),
        ("system_prompt", {"system_prompt": "Be brief."}),
        ("request_params", {"request_params": {"max_tokens": 9}}),
        ("model", {"model": "m"}),
        ("limit", {"limit": 3}),
        ("output_type", {"output_type": Answer}),
        ("completion_window", {"completion_window": "48h"}),
        ("connection", {"siliconflow_conn_id": "other"}),
    ],
)
def test_each_defining_argument_has_a_hash(
    task: Task, monkeypatch: pytest.MonkeyPatch, name: str, change: dict[str, Any]
) -> None:
    connect(monkeypatch, "other", host="https://two.example/v1")
    one, other = defined(task()), defined(task(**change))
    assert [item for item in NAMES if one[item] != other[item]] == [name]
    assert (list(one), list(other)) == (NAMES, NAMES)


def test_the_column_of_messages_has_a_hash(task: Task) -> None:
    one, other = (defined(task(prompt=None, messages_column=name)) for name in ("m", "n"))
    assert [item for item in NAMES if one[item] != other[item]] == ["messages_column"]


@pytest.mark.parametrize(
    "change",
    [
        {"output_path": "/elsewhere"},
        {"metadata": {"team": "a"}},
        {"max_rounds": 9},
        {"min_success_rate": None},
        {"deferrable": False, "poll_interval": 60, "timeout": 60},
        {"cancel_on_kill": True, "cancel_on_timeout": True},
        {"submission_key": "again"},
        {"request_params": {}},
        {"completion_window": timedelta(hours=24)},
        {"completion_window": "24h"},
        {"siliconflow_conn_id": "same"},
    ],
)
def test_arguments_outside_requests_keep_the_job(
    task: Task, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Another connection to the same service, or another key, does not change it either."""
    connect(monkeypatch, "same", password="sk-other", host="one.example")
    assert defined(task(**change)) == defined(task())


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "https://one.example/v1/"},
        {"host": "https://one.example:443/v1"},
        {"host": "one.example"},
        {"host": "one.example", "port": 443},
        {"host": "one.example/v1/", "schema": "https"},
        {"host": "HTTPS://One.Example/v1"},
    ],
    ids=str,
)
def test_another_spelling_of_the_service_is_no_change(
    task: Task, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    before = defined(task())
    connect(monkeypatch, **fields)
    assert defined(task()) == before


@pytest.mark.parametrize("host", ["http://one.example/v1", "https://one.example:8443/v1", "https://one.example/v2"])
def test_another_service_is_a_change(task: Task, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    before = defined(task())
    connect(monkeypatch, host=host)
    assert defined(task()) != before


class TestInputFile:
    @pytest.fixture(params=["in.jsonl", "in.jsonl.gz"])
    def path(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        path = tmp_path / request.param
        path.write_bytes(b"one")
        return path

    def test_another_size_or_time_is_another_file(self, task: Task, path: Path) -> None:
        def hashed() -> str:
            return defined(task(input_path=str(path)))[INPUT_FILE]

        before = hashed()
        assert before == hashed()
        stat = path.stat()
        path.write_bytes(b"three")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        longer = hashed()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
        assert len({before, longer, hashed()}) == 3

    def test_an_object_store_input_has_a_version(self, task: Task, object_store: str, tmp_path: Path) -> None:
        path = storage_path(f"{object_store}/{tmp_path.name}/in.jsonl")

        def hashed() -> str:
            return defined(task(input_path=str(path)))[INPUT_FILE]

        path.fs.pipe_file(path.path, b"one")
        before = hashed()
        assert before == hashed()
        path.fs.pipe_file(path.path, b"two")
        assert hashed() != before

    def test_without_a_version_the_size_counts(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        monkeypatch.setattr(LocalFileSystem, "info", lambda self, path: {"name": path, "size": 7})
        assert size_and_version_of(storage_path(path)) == ["7", ""]

    def test_a_missing_input_has_no_version(self, task: Task, path: Path) -> None:
        path.unlink()
        assert defined(task(input_path=str(path)))[INPUT_FILE] == ""
        assert defined(task(input_path=None, requests=["a"]))[INPUT_FILE] == ""


def test_given_items_are_not_hashed(task: Task) -> None:
    one, other = (task(input_path=None, requests=iter(value)) for value in (["a"], ["b", "c"]))
    assert defined(one) == defined(other)
    assert list(one.source({})) == ["a"]  # type: ignore[arg-type]


def test_parameter_order_is_ignored_list_order_counts(task: Task) -> None:
    def hashed(**params: Any) -> str:
        return defined(task(request_params=params))["request_params"]

    assert hashed(n=1, stop=["a", "b"]) == hashed(stop=["a", "b"], n=1)
    assert hashed(stop=["a", "b"]) != hashed(stop=["b", "a"])


def test_schemas_differ_by_their_content(task: Task) -> None:
    assert defined(task(output_type=Answer)) != defined(task(output_type=Other))
    assert defined(task(output_type=list[int])) == defined(task(output_type=list[int]))


def test_a_definition_has_no_secret(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(len(value) in (0, 16) for value in defined(task(output_type=Answer)).values())
    assert "sk-secret" not in json.dumps(defined(task()))


def test_request_defaults_come_from_the_task(task: Task) -> None:
    made = task(id_column="id", system_prompt="s", request_params={"n": 1}, model="m")
    builder = request_builder_of(made, None)
    assert (builder.prompt, builder.id_column, builder.system_prompt, builder.model) == ("{q}", "id", "s", "m")
    assert (builder.instruction, builder.request_params) == (None, {"n": 1})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, {"response_format": {"type": "json_object"}}),
        ({"n": 1}, {"n": 1, "response_format": {"type": "json_object"}}),
        ({"response_format": {"type": "text"}}, {"response_format": {"type": "text"}}),
    ],
)
def test_a_schema_sets_a_default_response_format(task: Task, given: Any, sent: Any) -> None:
    before = dict(given or {})
    made = task(request_params=given, output_type=Answer)
    schema = schema_of(made)
    assert schema is not None
    builder = request_builder_of(made, schema)
    assert (builder.request_params, builder.instruction) == (sent, schema.instruction)
    assert dict(given or {}) == before
    assert schema_of(task()) is None


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"dag_id": "other"}, False),
        ({"task_id": "other"}, False),
        ({"run_id": "other"}, False),
        ({"map_index": 3}, False),
        ({"try_number": 2}, True),
        ({"max_tries": 9}, True),
    ],
)
def test_all_tries_have_the_same_submission(
    task: Task, context: dict[str, Any], change: dict[str, Any], is_same: bool
) -> None:
    one = task().submission(context, input_file_id="", round=1)
    for name, value in change.items():
        setattr(context["ti"], name, value)
    other = task().submission(context, input_file_id="", round=1)
    assert (one.key == other.key) is is_same
    assert other.max_tries == context["ti"].max_tries


def test_a_submission_identifies_its_task(task: Task, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, extra=json.dumps({"deployment": "staging"}))
    ti = context["ti"]
    made = task(submission_key="again", metadata={"team": "a"}, completion_window=timedelta(hours=48))
    found = made.submission(context, input_file_id="", round=1)
    assert found.key == digest("staging", ti.dag_id, ti.task_id, ti.run_id, "-1", "again")
    assert found.run_key == digest("staging", ti.dag_id, ti.run_id)
    assert found.label == f"{ti.dag_id}/{ti.task_id}/{ti.run_id}/-1"
    assert (found.metadata, found.round, found.model) == ({"team": "a"}, 1, None)
    # Parts of a job have no file yet, and the model is on each line.
    assert (found.input_file_id, found.completion_window) == ("", timedelta(hours=48))
    assert task().submission(context, input_file_id="", round=1).key != found.key
