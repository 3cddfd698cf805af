from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.batches.content import file_name, sha256_in_name, sha256_of_file
from siliconflow_provider.emulator.forms import Forms

SHA = "a1" * 32


@pytest.mark.parametrize(
    ("name", "content"),
    [(f"{SHA}.jsonl", SHA), (None, None), ("requests.jsonl", None), (f"{SHA}.json", None), (f"x{SHA}.jsonl", None)],
)
def test_a_name_may_tell_the_content(name: str | None, content: str | None) -> None:
    assert sha256_in_name(name) == content


def test_the_listed_name_tells_the_content(client: SiliconFlowClient, control: Any) -> None:
    file = client.upload_file(io.BytesIO(b"{}\n"), filename=file_name(SHA))
    assert sha256_of_file(client, file.id) == SHA
    assert control.answers()["GET /files/{id}/content"].total() == 0


def test_a_file_with_another_name_has_no_digest(client: SiliconFlowClient) -> None:
    assert sha256_of_file(client, client.upload_file(io.BytesIO(b"{}\n"), filename="mine.jsonl").id) is None


@pytest.mark.parametrize("forms", [Forms(files_query_ignored=True)])
def test_a_file_that_is_not_listed_is_read(client: SiliconFlowClient, forms: Forms) -> None:
    sha = hashlib.sha256(b"{}\n").hexdigest()
    file = client.upload_file(io.BytesIO(b"{}\n"), filename=file_name(sha))
    for _ in range(12):
        client.upload_file(io.BytesIO(b"{}\n"))
    assert sha256_of_file(client, file.id) == sha


def test_an_unreadable_file_has_no_digest(
    client: SiliconFlowClient, control: Any, caplog: pytest.LogCaptureFixture
) -> None:
    control.fault("GET /files", status=403)
    assert sha256_of_file(client, "file-x") is None
    assert "could not read file file-x, so only its id identifies its content: GET /files" in caplog.text


def test_an_id_forges_no_line(client: SiliconFlowClient, control: Any, caplog: pytest.LogCaptureFixture) -> None:
    control.fault("GET /files", status=403)
    assert sha256_of_file(client, "file-x\nERROR forged \x1b[2J") is None
    assert "could not read file file-x\\nERROR forged \\x1b[2J, so only its id" in caplog.text
