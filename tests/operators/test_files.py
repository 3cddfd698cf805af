from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.inputs.request_lines import InvalidRequestFileError
from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.storage.errors import MissingFileError, StorageError


@pytest.fixture
def upload_path(connection: str, context: dict[str, Any]) -> Callable[[object], str]:
    """Runs the operator on a path."""
    return lambda path: UploadFileOperator(task_id="upload", file_path=str(path)).execute(context)


@pytest.fixture
def request_file(tmp_path: Path, sums: Callable[[int], bytes]) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(sums(12))
    return path


def test_the_file_is_uploaded_as_it_is(upload_path, request_file, client: SiliconFlowClient, tmp_path) -> None:
    file_id = upload_path(request_file)
    with (tmp_path / "back").open("wb") as back:
        client.download(file_id, back)
    assert (tmp_path / "back").read_bytes() == request_file.read_bytes()


def test_the_same_content_is_uploaded_once(upload_path, request_file, client: SiliconFlowClient, tmp_path) -> None:
    first = upload_path(request_file)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(request_file.read_bytes())
    assert upload_path(copy) == first
    assert len(client.list_files()) == 1


def test_an_upload_with_lost_response_is_resent(upload_path, request_file, client: SiliconFlowClient, emulator) -> None:
    """It is there several times then, which costs nothing; what is bought does not depend on which one is named."""
    emulator.control.fault("POST /files", kind="lost_answer", times=3)
    first = upload_path(request_file)
    files = client.list_files()
    assert len(files) == 4
    assert first in {each.id for each in files}
    assert upload_path(request_file) == min(files, key=lambda each: (each.created_at, each.id)).id


@pytest.mark.parametrize("status", [400, 403, 404, 503])
def test_a_failing_file_list_only_warns(upload_path, request_file, emulator, logged, status: int) -> None:
    emulator.control.fault("GET /files", status=status, every=1)
    upload_path(request_file)
    assert "could not list the uploaded files, so it is uploaded: GET /files at" in logged()


@pytest.mark.parametrize("forms", [Forms(), Forms(files_oldest_first=True), Forms(files_query_ignored=True)])
def test_equal_content_is_submitted_once_without_its_file(
    upload_path, request_file, upload, sums, run, client: SiliconFlowClient
) -> None:
    def buy() -> str:
        file_id = upload_path(request_file)
        return run(lambda: CreateBatchOperator(task_id="create", input_file_id=file_id))

    for number in range(20, 32):
        upload(sums(number))
    bought = buy()
    for number in range(40, 52):
        upload(sums(number))
    assert buy() == bought
    assert len(list(client.list_batches())) == 1


def test_other_content_is_another_upload(upload_path, request_file, sums) -> None:
    first = upload_path(request_file)
    request_file.write_bytes(sums(13))
    assert upload_path(request_file) != first


def test_local_paths_may_be_urls_or_relative(upload_path, request_file, monkeypatch) -> None:
    monkeypatch.chdir(request_file.parent)
    assert upload_path(request_file.name) == upload_path(f"file://{request_file}") == upload_path(request_file)


def test_the_file_may_be_in_object_storage(upload_path, request_file, object_store) -> None:
    remote = ObjectStoragePath(f"{object_store}/requests.jsonl")
    remote.fs.pipe_file(remote.path, request_file.read_bytes())
    assert upload_path(remote) == upload_path(request_file)


def test_a_missing_file_is_named(upload_path, tmp_path) -> None:
    with pytest.raises(MissingFileError, match=r"^cannot read file_path file:///.*/no\.jsonl: there is no such file"):
        upload_path(tmp_path / "no.jsonl")


def test_an_empty_file_is_refused(upload_path, tmp_path, client: SiliconFlowClient) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(InvalidRequestFileError, match=r"empty\.jsonl is empty: write one request a line to it"):
        upload_path(empty)
    assert client.list_files() == []


def test_a_line_that_is_too_long_is_named(
    upload_path, request_file, longest_line, client: SiliconFlowClient, line, jsonl
) -> None:
    longest_line(1_000)
    request_file.write_bytes(request_file.read_bytes() + jsonl([line("long", "x" * 5_000), line("short", "x")]))
    with pytest.raises(
        InvalidRequestFileError, match=r"1 of 14 lines .*\n  line 13: it has more than 33,554,432 bytes"
    ):
        upload_path(request_file)
    assert client.list_files() == []


def test_a_duplicate_id_is_named_with_both_lines(upload_path, request_file, sums, client: SiliconFlowClient) -> None:
    lines = sums(4800).splitlines(keepends=True)
    lines[4710] = lines[11]
    request_file.write_bytes(b"".join(lines))
    with pytest.raises(
        InvalidRequestFileError,
        match=r"1 of 4,800 lines are bad.*\n  line 4,711: custom_id 'r11' is already on line 12: it must be unique",
    ):
        upload_path(request_file)
    assert client.list_files() == []


def test_ten_invalid_lines_are_named_others_counted(upload_path, request_file) -> None:
    request_file.write_text("not JSON\n" * 25)
    with pytest.raises(InvalidRequestFileError, match=r"25 of 25 lines are bad") as failure:
        upload_path(request_file)
    shown = str(failure.value).splitlines()[1:]
    assert [each.split(":")[0].strip() for each in shown[:10]] == [f"line {each}" for each in range(1, 11)]
    assert shown[10:] == ["  and 15 more bad lines"]


@pytest.mark.parametrize("models", [("a", "b"), ("a", None), (None, None)])
def test_models_that_differ_are_warned_of(upload_path, request_file, jsonl, logged, models) -> None:
    """They are not refused: the batch may name its own model."""
    body = {"messages": [{"role": "user", "content": "1 + 1"}]}
    lines = [
        {"custom_id": str(number), "body": body | ({"model": model} if model else {})}
        for number, model in enumerate(models)
    ]
    request_file.write_bytes(jsonl(lines))
    assert upload_path(request_file)
    assert "name different models or none" in logged()


def test_a_file_changed_during_checks_uploads_unchanged(
    upload_path, request_file, client: SiliconFlowClient, tmp_path, monkeypatch
) -> None:
    """The source is read once: the upload is the checked copy."""
    original, list_files = request_file.read_bytes(), SiliconFlowClient.list_files

    def list_and_change(self: SiliconFlowClient) -> Any:
        request_file.write_text("changed meanwhile")
        return list_files(self)

    monkeypatch.setattr(SiliconFlowClient, "list_files", list_and_change)
    with (tmp_path / "back").open("wb") as back:
        client.download(upload_path(request_file), back)
    assert (tmp_path / "back").read_bytes() == original


def test_a_full_temporary_disk_is_named(upload_path, request_file, monkeypatch) -> None:
    full = "siliconflow_provider.operators.files.TemporaryFile"
    monkeypatch.setattr(full, lambda **_: Path("/dev/full").open("wb"))  # noqa: SIM115
    with pytest.raises(StorageError, match="TMPDIR"):
        upload_path(request_file)
