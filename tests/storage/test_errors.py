from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.storage.errors import MissingFileError, StorageError, storage_errors, temporary_disk
from siliconflow_provider.storage.object_storage import fetch, open_for_reading, read_chunks, storage_path
from siliconflow_provider.storage.publishing import publish
from tests.servers import LocalServer, QuietHandler

try:
    from airflow.sdk.io import attach
except ImportError:
    from airflow.io.store import attach

DISK_FULL = r"^no space left on the worker's disk of temporary files, /.*: .* TMPDIR to a directory on a larger disk$"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"one\n")
    return path


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that makes a path a link to a full disk."""

    def fill(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.symlink_to("/dev/full")

    return fill


def test_a_missing_input_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as caught:
        list(read_chunks(storage_path(tmp_path / "no.jsonl", "input_path")))
    assert str(caught.value) == (
        f"cannot read input_path file://{tmp_path}/no.jsonl: the file does not exist: "
        "correct the path, or create the file first"
    )
    assert isinstance(caught.value, FileNotFoundError)


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"cannot read file_path file:///.*: it is a directory: give the path of a file"
    ):
        open_for_reading(storage_path(tmp_path, "file_path"), "file_path")


def test_an_empty_path_is_named() -> None:
    with pytest.raises(StorageError, match=r"^output_path is empty: give a path$"):
        storage_path(" ")


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("foo://a/b", "correct the scheme, or install the Airflow provider for it"),
        ("s3a://a/b", "install apache-airflow-providers-amazon[s3fs]"),
        ("gs://a/b", "install apache-airflow-providers-google"),
        ("abfs://a/b", "install apache-airflow-providers-microsoft-azure"),
    ],
)
def test_a_missing_file_system_names_its_package(path: str, remedy: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_for_reading(storage_path(path, "input_path"))
    scheme = path.partition(":")[0]
    assert "input_path" in str(caught.value)
    assert str(caught.value).endswith(f"no file system for {scheme}:// is installed: {remedy}")


def test_a_missing_extra_names_its_package() -> None:
    with (
        pytest.raises(StorageError, match=r"no file system for s3:// is installed: install .*-amazon\[s3fs\]$"),
        storage_errors("read", "input_path", "s3://a/b"),
    ):
        raise ImportError("requires the s3fs library")


def test_a_file_in_the_way_is_named(tmp_path: Path, source: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write output_path .*/out\.jsonl: a part of the path is a file"):
        publish(source, storage_path(source / "out.jsonl"))


def test_a_directory_without_permission_is_named() -> None:
    with (
        pytest.raises(StorageError, match=r"cannot write output_path /out: Permission denied: let the user that runs"),
        storage_errors("write", "output_path", "/out"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "/out")


def test_a_full_output_disk_is_named(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(StorageError, match=r"cannot write output_path file:///.*/out/a: the disk is full .*: free sp"):
        publish(source, storage_path(tmp_path / "out" / "a"))


def test_a_full_temporary_disk_is_named(
    tmp_path: Path, source: Path, object_store: str, full_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "siliconflow_provider.storage.object_storage.new_private_file"
    monkeypatch.setattr(full, lambda path: full_disk(path) or io.BytesIO())
    publish(source, storage_path(f"{object_store}/full"))
    with pytest.raises(StorageError, match=DISK_FULL):
        fetch(storage_path(f"{object_store}/full"), tmp_path / "copy")
    full_disk(tmp_path / "copy")
    with pytest.raises(StorageError, match=DISK_FULL), temporary_disk(), (tmp_path / "copy").open("wb") as file:
        file.write(b"x")


def test_other_errors_pass_through_temporary_disk() -> None:
    with pytest.raises(ValueError, match="mine"), temporary_disk():
        raise ValueError("mine")
    with pytest.raises(StorageError, match="output"), temporary_disk():
        raise StorageError("output")


def test_an_error_shows_no_secret() -> None:
    error = OSError("cannot connect to https://h/k?Signature=s3cret")
    with (
        pytest.raises(StorageError) as caught,
        storage_errors("read", "input_path", "s3://key:s3cret@bucket/a"),
    ):
        raise error
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("credentials", ["AKIA:s3cret-s3cret", "AKIA:ab/s3cret-s3cret"])
def test_the_reason_shows_no_credentials(credentials: str) -> None:
    """Airflow takes a user and password for the id of a connection, and a slash for the end of the bucket."""
    for reason in (f"The conn_id `{credentials}` isn't defined", "AKIA:ab", "x" * 285 + "s3cret-s3cret"):
        with pytest.raises(StorageError) as caught, storage_errors("use", "input_path", f"gs://{credentials}@b/x"):
            raise ValueError(reason)
        assert "s3c" not in str(caught.value)
        assert "AKIA" not in str(caught.value)
        assert "cannot use input_path gs://***@b/x: ValueError: " in str(caught.value)


@pytest.mark.parametrize(
    ("path", "error", "is_temporary"),
    [
        ("s3://b/a", TimeoutError(), True),
        ("s3://b/a", OSError("503 Slow Down"), True),
        ("s3://b/a", PermissionError(), False),
        ("s3://b/a", FileNotFoundError(), False),
        ("/a", IsADirectoryError(), False),
        ("/a", OSError(errno.ENAMETOOLONG, "File name too long"), False),
        ("/a", OSError(errno.EIO, "Input/output error"), True),
        ("/a", OSError(errno.ENOSPC, "No space left on device"), True),
    ],
)
def test_failures_of_a_whole_storage_are_temporary(path: str, error: Exception, is_temporary: bool) -> None:
    with pytest.raises(StorageError) as caught, storage_errors("read", "reuse_from", path):
        raise error
    assert caught.value.is_temporary is is_temporary


def test_an_error_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(MissingFileError("gone")))
    assert (type(copy), str(copy)) == (MissingFileError, "gone")


class Refusing(QuietHandler):
    """An S3 server that refuses all requests."""

    def refuse(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = refuse


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Attach an S3 storage with these credentials under a new name, and return a bucket's URL."""
    server = LocalServer(Refusing)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.origin)

    def attached(**credentials: str) -> str:
        name = f"connection{uuid.uuid4().hex}"
        attach("s3", conn_id=name, fs=s3fs.S3FileSystem(skip_instance_cache=True, **credentials))
        return f"s3://{name}@bucket"

    yield attached
    server.stop()


def test_refused_credentials_are_named(s3: Any, source: Path) -> None:
    target = ObjectStoragePath(s3(key="a", secret="b")) / "out.jsonl"
    refused = r"output_path s3://.*bucket/out\.jsonl: access was refused \(PermissionError: .*\): check the credentials"
    with pytest.raises(StorageError, match=f"cannot write {refused} .* permission to write there$"):
        publish(source, target)
    with pytest.raises(StorageError, match=f"cannot read {refused} .* permission to read there$"):
        fetch(target, source.with_name("copy"))


def test_missing_credentials_are_named(s3: Any, source: Path) -> None:
    with pytest.raises(StorageError, match=r"no valid credentials \(NoCredentialsError: .*s3://conn_id@bucket/key$"):
        publish(source, ObjectStoragePath(s3()) / "out.jsonl")


def test_an_unreachable_storage_is_named(s3: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot write .*EndpointConnectionError: .*: check the storage's endpoint"):
        publish(source, ObjectStoragePath(s3(key="a", secret="b")) / "out.jsonl")
