"""Jobs and files in a real S3 server on this machine, through s3fs."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import socketserver
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.results import read_results
from siliconflow_provider.storage.errors import MissingFileError, StorageError
from siliconflow_provider.storage.object_storage import open_for_reading, storage_path
from siliconflow_provider.storage.publishing import create_once, publish

try:
    from airflow.sdk.io import attach
except ImportError:
    from airflow.io.store import attach


class BreakingProxy(socketserver.ThreadingTCPServer):
    """Forward connections to a port; break them after some bytes if a test asks for it."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), BreakingHandler)
        self.port = port
        self.breaks_after: int | None = None


class BreakingHandler(socketserver.BaseRequestHandler):
    server: BreakingProxy

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port)) as behind:
            Thread(target=pass_on, args=(behind, self.request), daemon=True).start()
            passed = 0
            while block := self.request.recv(1 << 16):
                behind.sendall(block)
                passed += len(block)
                if self.server.breaks_after is not None and passed > self.server.breaks_after:
                    self.request.shutdown(socket.SHUT_RDWR)
                    return


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            target.sendall(block)
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def connection_to_s3() -> Iterator[BreakingProxy]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with BreakingProxy(server.get_host_and_port()[1]) as proxy:
        Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        yield proxy
        proxy.shutdown()
    server.stop()


@pytest.fixture
def bucket(connection_to_s3: BreakingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a new bucket's URL; endpoint and credentials come from the environment, not from a connection."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{connection_to_s3.server_address[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    # Any earlier path on S3 has left a store without credentials.
    sys.modules[attach.__module__]._STORE_CACHE.pop("s3", None)  # type: ignore[attr-defined]
    attach("s3", fs=s3fs.S3FileSystem())
    name = "".join(character for character in tmp_path.name if character.isalnum()).lower()
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


def names(url: str) -> set[str]:
    """Return the names of files and directories."""
    files = s3fs.S3FileSystem(use_listings_cache=False)
    return {name.rpartition("/")[2] for name in files.ls(url)}


def contents(url: str) -> bytes:
    return s3fs.S3FileSystem(use_listings_cache=False).cat_file(url)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_job_from_s3_to_s3(bucket: str, connection: str, run: Callable[..., Any], suffix: str) -> None:
    rows = [{"id": f"q{i}", "question": f"What is {i} + 1?"} for i in range(12)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    s3fs.S3FileSystem().pipe(f"{bucket}/in/qa.jsonl{suffix}", gzip.compress(content) if suffix else content)

    def make() -> BatchInferenceOperator:
        return BatchInferenceOperator(
            task_id="eval",
            input_path=f"{bucket}/in/qa.jsonl{suffix}",
            prompt="Q: {question}",
            id_column="id",
            model="deepseek-ai/DeepSeek-V3",
            output_path=f"{bucket}/out",
        )

    summary = run(make)
    found = list(read_results(summary))
    assert [(row.custom_id, row.content, row.input) for row in found] == [
        (row["id"], str(number), row) for number, row in enumerate(rows, start=1)
    ]
    assert names(f"{bucket}/out") == {"results.jsonl", "manifest.json", "report.html", "_siliconflow"}
    private = {"job.json", "requests.jsonl", "rows.jsonl", "creates", "owner.json", "written"}
    assert names(f"{bucket}/out/_siliconflow") == private
    assert run(make) == summary


def test_answers_of_earlier_runs_are_reused(
    bucket: str, connection: str, run: Callable[..., Any], context: dict[str, Any]
) -> None:
    """S3 has no directories: a pattern matches prefixes."""
    s3fs.S3FileSystem().pipe(f"{bucket}/runs/notes.txt", b"")
    for day, reused in (("1", 0), ("2", 2)):
        context["ti"].run_id = day
        summary = run(
            lambda: BatchInferenceOperator(
                task_id="eval",
                requests=["1 + 1", "2 + 1"],
                model="deepseek-ai/DeepSeek-V3",
                output_path=f"{bucket}/runs/{day}",  # noqa: B023
                reuse_from=f"{bucket}/runs/*",
            )
        )
        assert (summary["reused"], summary["counts"]) == (reused, {"succeeded": 2})


@pytest.fixture
def object_before(bucket: str) -> str:
    """Return the URL of an existing object."""
    s3fs.S3FileSystem().pipe(f"{bucket}/out/results.jsonl", b"as it was\n")
    return f"{bucket}/out/results.jsonl"


def test_an_unreadable_source_leaves_the_previous_file(object_before: str) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        publish(Path("/proc/self/mem"), storage_path(object_before))
    assert contents(object_before) == b"as it was\n"


def test_a_broken_connection_leaves_the_previous_file(
    object_before: str, bucket: str, connection_to_s3: BreakingProxy, tmp_path: Path
) -> None:
    source = tmp_path / "results.jsonl"
    source.write_bytes(b"new\n" * 250_000)
    connection_to_s3.breaks_after = 300_000
    for name in ("results.jsonl", "manifest.json"):
        with pytest.raises(StorageError):
            publish(source, storage_path(f"{bucket}/out") / name)
    connection_to_s3.breaks_after = None
    assert contents(object_before) == b"as it was\n"
    assert names(f"{bucket}/out") == {"results.jsonl"}


def test_a_missing_bucket_is_named(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"write output_path s3://nowhere/a: the bucket does not exist: create it"):
        publish(tmp_path / "a", storage_path("s3://nowhere/a"))
    with pytest.raises(
        MissingFileError, match=r"read input_path s3://nowhere/a: .* bucket does not exist: correct the path"
    ):
        open_for_reading(storage_path("s3://nowhere/a", "input_path"))


def test_one_of_two_concurrent_writers_creates_the_file(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = storage_path(f"{bucket}/out/owner.json")
    monkeypatch.setattr(s3fs.S3FileSystem, "exists", lambda *_, **__: False)
    for content in (b"first", b"second"):
        create_once(target, content)
    assert contents(str(target)) == b"first"


def test_a_prefix_is_not_an_empty_file(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    publish(tmp_path / "a", storage_path(f"{bucket}/rows/a"))
    with open_for_reading(storage_path(f"{bucket}/rows/a")) as stored:
        assert stored.read() == b""
    with pytest.raises(StorageError, match=r"read input_path s3://.*/rows: it is a directory: give the path of a file"):
        open_for_reading(storage_path(f"{bucket}/rows", "input_path"))


def test_warehouse_round_trip_brings_answers_to_their_rows(
    load_dag_file: Callable[[str], ModuleType],
    bucket: str,
    connection: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = tmp_path / "warehouse" / "warehouse.sqlite"
    warehouse = json.dumps({"conn_type": "sqlite", "host": str(database)})
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_EXAMPLE_WAREHOUSE", warehouse)
    monkeypatch.setenv("SILICONFLOW_EXAMPLE_OUTPUT", bucket)
    run = load_dag_file("example_dags/warehouse_round_trip.py").warehouse_round_trip().test()
    assert str(run.state).endswith("success")
    with closing(sqlite3.connect(database)) as opened:
        joined = opened.execute(
            "SELECT question, answer FROM questions JOIN answers USING (id, category) WHERE tokens > 0"
        ).fetchall()
    assert len(joined) == 240
    assert ("What is 313 + 863?", "1176") in joined
    (directory,) = names(f"{bucket}/warehouse_round_trip")
    assert names(f"{bucket}/warehouse_round_trip/{directory}/answers") == {
        "results.parquet", "manifest.json", "report.html", "_siliconflow",
    }  # fmt: skip
