from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from siliconflow_provider.storage.object_storage import storage_path
from siliconflow_provider.storage.temporary import temporary_directory
from siliconflow_provider.storage.workspace import Workspace

# It imports only the standard library, so that it starts quickly.
ATTEMPT = """
import pathlib, sys
from siliconflow_provider.storage.temporary import temporary_directory
with temporary_directory() as path:
    pathlib.Path(path, "requests.jsonl").write_bytes(b"x" * 10_000)
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the worker's temporary files."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@contextmanager
def attempt() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run another attempt on this worker; return its process and directory."""
    command = [sys.executable, "-c", ATTEMPT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_killed_attempts_directory_is_removed(temporary: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "siliconflow_provider")
    with attempt() as (killed, left), attempt() as (_, used):
        killed.kill()
        killed.wait()
        assert (left / "requests.jsonl").exists()
        with temporary_directory() as own:
            assert set(temporary.iterdir()) == {own, used}
            assert (used / "requests.jsonl").exists()
    assert f"removed {left}" in caplog.text


def test_a_live_attempts_directory_stays(temporary: Path) -> None:
    with temporary_directory() as one:
        with temporary_directory() as other:
            assert set(temporary.iterdir()) == {one, other}
        assert list(temporary.iterdir()) == [one]
    assert list(temporary.iterdir()) == []


def test_other_directories_are_kept(temporary: Path, tmp_path: Path) -> None:
    """Files, directories of other users, and other names are kept."""
    (temporary / "siliconflow-file").touch()
    (temporary / "siliconflow-examples").mkdir()
    (temporary / "siliconflow-examples" / "mine").touch()
    (temporary / "siliconflow-link").symlink_to(tmp_path)
    (temporary / "other").mkdir()
    with attempt() as (killed, left):
        killed.kill()
        killed.wait()
        left.rename(temporary / "other" / "siliconflow-left")
        before = set(temporary.rglob("*"))
        with temporary_directory():
            pass
    assert set(temporary.rglob("*")) == before


def test_only_its_user_can_read_it(tmp_path: Path, object_store: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other.json").write_text("{}")
    with temporary_directory() as path:
        files = Workspace(storage_path(f"{object_store}/{tmp_path.name}"), path)
        files.publish_json("_siliconflow/a/job.json", {})
        files.discard("_siliconflow/a/job.json")
        assert files.read_json("_siliconflow/a/job.json", dict) == {}
        files.create("collected").close()
        modes = {entry: stat.S_IMODE(entry.stat().st_mode) for entry in (path, *path.rglob("*"))}
        assert len(modes) == 6
        assert {entry: mode for entry, mode in modes.items() if mode != (0o700 if entry.is_dir() else 0o600)} == {}


def test_published_files_are_readable_by_others(tmp_path: Path) -> None:
    """The worker's umask decides."""
    with temporary_directory() as path:
        files = Workspace(storage_path(tmp_path / "out"), path)
        files.publish_json("job.json", {})
        with files.writing("results.jsonl") as results:
            results.write(b"one\n")
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {entry.stat().st_mode for entry in (tmp_path / "out").iterdir()} == {usual}


def test_a_directory_removed_too_early_is_recreated(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another attempt removed it before it was locked."""
    make, made = tempfile.mkdtemp, []

    def make_and_lose(**options: str) -> str:
        made.append(make(**options))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with temporary_directory() as path:
        assert [str(path)] == made[1:]
        assert list(temporary.iterdir()) == [path]
