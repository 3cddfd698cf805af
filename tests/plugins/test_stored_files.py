from __future__ import annotations

from pathlib import Path

import pytest

from siliconflow_provider.plugins import stored_files
from siliconflow_provider.plugins.stored_files import UnreadableError, read_file, read_manifest


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 100_000])
def test_no_manifest_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="does not hold a manifest"):
        read_manifest(str(path))


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "manifest.json", "unknown://x/manifest.json", "s3://bucket.test:x/manifest.json"):
        with pytest.raises(UnreadableError, match="cannot read manifest"):
            read_manifest(str(path))


def test_a_large_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "MOST_BYTES", 10)
    (tmp_path / "report.html").write_bytes(b"x" * 11)
    with pytest.raises(UnreadableError, match="larger than 10 bytes"):
        read_file(str(tmp_path / "report.html"), "report.html")


@pytest.mark.parametrize("path", ["/etc/passwd", "s3://b/report.html/x", "report.html2", "x/..report.html"])
def test_a_file_of_another_name_is_not_read(path: str) -> None:
    with pytest.raises(UnreadableError, match="another file"):
        read_file(path, "report.html")
