from __future__ import annotations

from pathlib import Path

import pytest

from siliconflow_provider.plugins import stored_files
from siliconflow_provider.plugins.stored_files import Publisher, UnreadableError, read_file, read_manifest

TASK = Publisher("dag/task/run/-1")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output directory of TASK."""
    (tmp_path / "_siliconflow").mkdir()
    (tmp_path / "_siliconflow" / "owner.json").write_text('{"task": "dag/task/run/-1"}')
    return tmp_path


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 100_000])
def test_no_manifest_is_a_sentence(output: Path, content: bytes) -> None:
    path = output / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="does not hold a manifest"):
        read_manifest(str(path), TASK)


def test_a_missing_file_is_a_sentence(output: Path) -> None:
    for path in (output / "manifest.json", "unknown://x/manifest.json", "s3://bucket.test:x/manifest.json"):
        with pytest.raises(UnreadableError, match="cannot read manifest"):
            read_manifest(str(path), TASK)


def test_a_large_file_is_a_sentence(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "MOST_BYTES", 10)
    (output / "report.html").write_bytes(b"x" * 11)
    with pytest.raises(UnreadableError, match="larger than 10 bytes"):
        read_file(str(output / "report.html"), "report.html", TASK)


@pytest.mark.parametrize("path", ["/etc/passwd", "s3://b/report.html/x", "report.html2", "x/..report.html"])
def test_a_file_of_another_name_is_not_read(path: str) -> None:
    with pytest.raises(UnreadableError, match="another file"):
        read_file(path, "report.html", TASK)


@pytest.mark.parametrize(
    "owner", ["{}", "[", '{"task": "dag/task/run/0"}', '{"task": 7}', '{"task": "secret/task/run/-1"}']
)
def test_a_file_of_another_task_is_not_read(output: Path, owner: str) -> None:
    (output / "report.html").write_text("secret")
    assert read_file(f"{output}/report.html", "report.html", TASK) == b"secret"
    (output / "_siliconflow" / "owner.json").write_text(owner)
    with pytest.raises(UnreadableError, match="does not name this task instance"):
        read_file(f"{output}/report.html", "report.html", TASK)


@pytest.mark.parametrize(
    ("output_path", "path"),
    [
        (None, "s3://other@bucket/x/report.html"),
        (None, "file://other@/x/report.html"),
        (None, "http://127.0.0.1/x/report.html"),
        ("/x", "s3://bucket/x/report.html"),
        ("s3://bucket/x", "s3://other@bucket/x/report.html"),
        ("s3://own@bucket/x", "s3://other@bucket/x/report.html"),
        ("s3://own@bucket/x", "s3://own@secret/x/report.html"),
        ("s3://own@bucket/x", "/x/report.html"),
    ],
)
def test_another_storage_is_not_read(output_path: str | None, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "open_for_reading", None)
    with pytest.raises(UnreadableError, match="another storage"):
        read_file(path, "report.html", Publisher("dag/task/run/-1", output_path))


def test_the_storage_of_the_output_path_is_read(output: Path) -> None:
    (output / "report.html").write_text("report")
    for path in (f"{output}/report.html", f"file://{output}/report.html"):
        for output_path in (str(output), f"file://{output}/"):
            assert read_file(path, "report.html", Publisher("dag/task/run/-1", output_path)) == b"report"
