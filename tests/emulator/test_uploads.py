from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.emulator import uploads
from siliconflow_provider.emulator.errors import ApiError
from siliconflow_provider.emulator.uploads import Upload

CONTENT_TYPE = "multipart/form-data; boundary=cut"
PURPOSE = b'--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nline\r\n-\n\r\n'
END = b"--cut--\r\n"
CONTENT = b"line\r\n-\n"


def send(form: bytes, path: Path) -> None:
    with Upload(CONTENT_TYPE, path) as upload:
        upload.write(form)
        upload.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("form", [PURPOSE + FILE + END, FILE + PURPOSE + END])
def test_form_may_be_split_and_in_any_order(tmp_path: Path, form: bytes, size: int) -> None:
    with Upload(CONTENT_TYPE, tmp_path / "upload") as upload:
        for start in range(0, len(form), size):
            upload.write(form[start : start + size])
        upload.finish()
        assert (upload.filename, upload.bytes) == ("a.jsonl", len(CONTENT))
        assert upload.path.read_bytes() == CONTENT


def test_temporary_file_is_deleted(tmp_path: Path) -> None:
    with Upload(CONTENT_TYPE, tmp_path / "upload") as upload:
        upload.write(PURPOSE + FILE)
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (FILE + END, "purpose"),
        (PURPOSE.replace(b"batch", b"fine-tune") + FILE + END, "purpose"),
        (PURPOSE + END, "file"),
        (PURPOSE + FILE.replace(b'; filename="a.jsonl"', b"") + END, "file"),
        (PURPOSE + FILE.replace(CONTENT, b"") + END, "file"),
        (PURPOSE + FILE, "file"),
        (PURPOSE + FILE[:-10], "file"),
        (b"", "file"),
        (b"nonsense\r\n", "file"),
    ],
)
def test_invalid_form_is_refused_with_its_field(tmp_path: Path, form: bytes, field: str) -> None:
    with pytest.raises(ApiError) as caught:
        send(form, tmp_path / "upload")
    assert caught.value.status == 400
    assert caught.value.body["data"] == field
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content_type", [None, "application/json", "multipart/form-data"])
def test_only_multipart_forms_are_accepted(tmp_path: Path, content_type: str | None) -> None:
    with pytest.raises(ApiError, match="multipart/form-data"):
        Upload(content_type, tmp_path / "upload")
    assert not list(tmp_path.iterdir())


def test_too_large_file_is_refused_and_deleted(tmp_path: Path, monkeypatch: Any) -> None:
    form = PURPOSE + FILE + END
    monkeypatch.setattr(uploads, "MOST_BYTES", len(CONTENT))
    send(form, tmp_path / "upload")
    monkeypatch.setattr(uploads, "MOST_BYTES", len(CONTENT) - 1)
    with pytest.raises(ApiError, match="at most 1 GB"):
        send(form, tmp_path / "upload")
