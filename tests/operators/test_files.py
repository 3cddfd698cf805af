from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.storage.errors import MissingFileError, StorageError


@pytest.fixture
def upload_path(connection: str, context: dict[str, Any]) -> Callable[[object], str]:
    """Run the operator on a path."""
    return lambda path: UploadFileOperator(task_id="upload", file_path=str(path)).execute(context)


@pytest.fixture
def request_file(tmp_path: Path, sums: Callable[[int], bytes]) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(sums(12))
    return path


@pytest.fixture
def download(client: SiliconFlowClient, tmp_path: Path) -> Callable[[str], bytes]:
    """Return the content of an uploaded file."""

    def content_of(file_id: str) -> bytes:
        with (tmp_path / "back").open("w+b") as back:
            client.download(file_id, back)
        return (tmp_path / "back").read_bytes()

    return content_of


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b" \t\n"])
@pytest.mark.parametrize("last_end", [True, False])
def test_the_file_is_uploaded_as_it_is(
    upload_path, request_file, download, logged, line_end: bytes, last_end: bool
) -> None:
    content = request_file.read_bytes().replace(b"\n", line_end)
    content = content if last_end else content.rstrip()
    request_file.write_bytes(content)
    assert download(upload_path(request_file)) == content
    assert f": 12 requests, {len(content):,} bytes" in logged()


def test_blank_lines_and_byte_order_mark_are_skipped(upload_path, request_file, download) -> None:
    content = request_file.read_bytes()
    request_file.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\n\n") + b" \r\n")
    assert download(upload_path(request_file)) == content


def test_a_file_that_is_too_large_is_refused(upload_path, request_file, sums, client: SiliconFlowClient) -> None:
    request_file.write_bytes(sums(5001))
    with pytest.raises(InvalidRequestFileError, match=r"it has 5,001 requests and .* or use BatchInferenceOperator"):
        upload_path(request_file)
    assert client.list_files() == []


def test_the_same_content_is_uploaded_once(upload_path, request_file, client: SiliconFlowClient, tmp_path) -> None:
    first = upload_path(request_file)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(request_file.read_bytes())
    assert upload_path(copy) == first
    assert len(client.list_files()) == 1


def test_an_upload_is_resent_after_a_lost_response(
    upload_path, request_file, client: SiliconFlowClient, emulator
) -> None:
    """The service then has the file several times. This costs nothing, and a batch can use any of the files."""
    emulator.control.fault("POST /files", kind="lost_answer", times=3)
    first = upload_path(request_file)
    files = client.list_files()
    assert len(files) == 4
    assert first in {file.id for file in files}
    assert upload_path(request_file) == min(files, key=lambda file: (file.created_at, file.id)).id


@pytest.mark.parametrize("status", [400, 403, 404, 503])
def test_a_failed_list_of_files_is_a_warning(upload_path, request_file, emulator, logged, status: int) -> None:
    emulator.control.fault("GET /files", status=status, every=1)
    upload_path(request_file)
    assert "could not list uploaded files, so this file may be uploaded a second time: GET /files at" in logged()


@pytest.mark.parametrize("forms", [Forms(), Forms(files_oldest_first=True), Forms(files_query_ignored=True)])
def test_a_file_missing_from_the_list_costs_nothing(
    upload_path, request_file, upload, sums, run, client: SiliconFlowClient
) -> None:
    def submit() -> str:
        file_id = upload_path(request_file)
        return run(lambda: CreateBatchOperator(task_id="create", input_file_id=file_id))

    for number in range(20, 32):
        upload(sums(number))
    first = submit()
    for number in range(40, 52):
        upload(sums(number))
    assert submit() == first
    assert len(list(client.list_batches())) == 1


def test_other_content_is_another_upload(upload_path, request_file, sums) -> None:
    first = upload_path(request_file)
    request_file.write_bytes(sums(13))
    assert upload_path(request_file) != first


def test_a_local_path_may_be_relative_or_url(upload_path, request_file, monkeypatch) -> None:
    monkeypatch.chdir(request_file.parent)
    assert upload_path(request_file.name) == upload_path(f"file://{request_file}") == upload_path(request_file)


def test_the_file_may_be_in_object_storage(upload_path, request_file, object_store) -> None:
    remote = ObjectStoragePath(f"{object_store}/requests.jsonl")
    remote.fs.pipe_file(remote.path, request_file.read_bytes())
    assert upload_path(remote) == upload_path(request_file)


def test_a_missing_file_is_named(upload_path, tmp_path) -> None:
    with pytest.raises(MissingFileError, match=r"^cannot read file_path file:///.*/no\.jsonl: the file does not exist"):
        upload_path(tmp_path / "no.jsonl")


def test_an_empty_file_is_refused(upload_path, tmp_path, client: SiliconFlowClient) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(InvalidRequestFileError, match=r"/empty\.jsonl was not uploaded: it has no requests; write one"):
        upload_path(empty)
    assert client.list_files() == []


def test_a_line_that_is_too_long_is_named(
    upload_path, request_file, longest_line, client: SiliconFlowClient, line, jsonl
) -> None:
    longest_line(1_000)
    request_file.write_bytes(request_file.read_bytes() + jsonl([line("long", "x" * 5_000), line("short", "x")]))
    with pytest.raises(
        InvalidRequestFileError, match=r"1 of 14 lines is invalid.*\n  line 13: it has more than 33,554,432 bytes"
    ):
        upload_path(request_file)
    assert client.list_files() == []


def test_a_duplicate_is_named_with_both_lines(upload_path, request_file, sums, client: SiliconFlowClient) -> None:
    lines = sums(4800).splitlines(keepends=True)
    lines[4710] = lines[11]
    request_file.write_bytes(b"".join(lines))
    with pytest.raises(
        InvalidRequestFileError,
        match=r"1 of 4,800 lines is invalid.*\n  line 4,711 \(r11\): its custom_id is also that of line 12;",
    ):
        upload_path(request_file)
    assert client.list_files() == []


def test_the_first_ten_invalid_lines_are_named(upload_path, request_file) -> None:
    request_file.write_text("not JSON\n" * 25)
    with pytest.raises(InvalidRequestFileError, match=r"25 of 25 lines are invalid") as failure:
        upload_path(request_file)
    shown = str(failure.value).splitlines()[1:]
    assert [text.split(":")[0].strip() for text in shown[:10]] == [f"line {number}" for number in range(1, 11)]
    assert shown[10:] == ["  and 15 more"]


@pytest.mark.parametrize("models", [("a", "b"), ("a", None), (None, None)])
def test_models_that_differ_are_a_warning(upload_path, request_file, jsonl, logged, models) -> None:
    """They are no error, since the batch can set its own model."""
    body = {"messages": [{"role": "user", "content": "1 + 1"}]}
    lines = [
        {"custom_id": str(number), "body": body | ({"model": model} if model else {})}
        for number, model in enumerate(models)
    ]
    request_file.write_bytes(jsonl(lines))
    assert upload_path(request_file)
    assert "name the same model, so set model= on the batch, or it will fail" in logged()


def test_a_file_changed_meanwhile_is_uploaded_as_checked(upload_path, request_file, download, monkeypatch) -> None:
    """The source is read once, and the checked copy is uploaded."""
    original, list_files = request_file.read_bytes(), SiliconFlowClient.list_files

    def list_and_change(self: SiliconFlowClient) -> Any:
        request_file.write_text("changed")
        return list_files(self)

    monkeypatch.setattr(SiliconFlowClient, "list_files", list_and_change)
    assert download(upload_path(request_file)) == original


def test_a_full_temporary_disk_is_named(upload_path, request_file, monkeypatch) -> None:
    full = "siliconflow_provider.operators.files.TemporaryFile"
    monkeypatch.setattr(full, lambda **_: Path("/dev/full").open("wb"))  # noqa: SIM115
    with pytest.raises(StorageError, match="TMPDIR"):
        upload_path(request_file)
