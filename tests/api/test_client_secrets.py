"""No message, log or request to another host has the key or the query of a signed URL."""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api import errors
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch

Sums = Callable[[int], bytes]


def downloaded(client: SiliconFlowClient, file_ref: str) -> bytes:
    fileobj = io.BytesIO()
    assert client.download(file_ref, fileobj) == len(fileobj.getvalue())
    return fileobj.getvalue()


def rows(data: bytes) -> dict[str, Any]:
    return {line["custom_id"]: line for line in map(json.loads, data.splitlines())}


class Watched(logging.Handler):
    """Keeps every record of every logger as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.args} {record.msg}")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Return the texts of all loggers at all levels."""
    caplog.set_level(logging.DEBUG)
    watched = Watched()
    logging.getLogger().addHandler(watched)
    yield watched.texts
    logging.getLogger().removeHandler(watched)


def everything_of(error: BaseException | None) -> str:
    """Return all texts in the traceback, repr and attributes of an error and its causes."""
    texts = []
    if error is not None:
        texts += traceback.format_exception(error)
    while error is not None:
        texts += [repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def test_key_is_sent_to_the_api_only(server: Any, storage: Any, caller: SiliconFlowClient, key: str) -> None:
    server.json({"data": []}).text("mine")
    storage.text("signed")
    caller.list_files()
    assert downloaded(caller, "file-1") == b"mine"
    assert downloaded(caller, storage.signed_url) == b"signed"
    assert [request.key for request in server.received] == [f"Bearer {key}"] * 2
    assert [request.key for request in storage.received] == [None]
    assert key not in repr(storage.received)


def test_signed_url_is_requested_unchanged(storage: Any, caller: SiliconFlowClient) -> None:
    url = f"{storage.origin}/a%2Fb?Signature=a%2Bb%3D&x=%20y&Expires=1"
    storage.text("signed")
    downloaded(caller, url)
    assert storage.received[0].target == url.removeprefix(storage.origin)


def test_signed_url_on_api_origin_gets_no_key(server: Any, caller: SiliconFlowClient) -> None:
    server.text("signed")
    downloaded(caller, server.signed_url)
    assert [request.key for request in server.received] == [None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_key_does_not_follow_a_redirect(
    server: Any, storage: Any, caller: SiliconFlowClient, status: int, key: str
) -> None:
    server.redirects(storage.signed_url, status)
    storage.text("signed")
    assert downloaded(caller, "file-1") == b"signed"
    assert [request.key for request in storage.received] == [None]
    assert key not in repr(storage.received)


def test_key_is_not_added_after_a_signed_url(server: Any, storage: Any, caller: SiliconFlowClient) -> None:
    storage.redirects(f"{server.base_url}/files/file-1/content")
    server.text("mine")
    downloaded(caller, storage.signed_url)
    assert [request.key for request in server.received] == [None]


def test_post_is_not_redirected(server: Any, storage: Any, caller: SiliconFlowClient) -> None:
    for status in (301, 302, 303, 307, 308):
        server.redirects(storage.origin, status)
        with pytest.raises(errors.BadRequestError):
            caller.cancel_batch("batch_1")
    assert storage.received == []


def test_netrc_is_not_read(
    server: Any, storage: Any, held_time: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password netrc-s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    client = SiliconFlowClient(key, server.base_url)
    server.json({"data": []}).redirects(storage.signed_url)
    storage.text("signed").text("signed")
    client.list_files()
    downloaded(client, "file-1")
    downloaded(client, storage.signed_url)
    assert [request.key for request in server.received] == [f"Bearer {key}"] * 2
    assert [request.key for request in storage.received] == [None, None]


@pytest.mark.parametrize("key", ["sk-s3cret\nx", "sk s3cret", "sk-s3crét"])
def test_invalid_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(errors.InvalidRequestError) as caught:
        SiliconFlowClient(key)
    assert "s3c" not in everything_of(caught.value).replace(repr(key), "")
    assert "s3c" not in repr(vars(caught.value))


@pytest.mark.parametrize("status", [200, 400, 401, 429, 503])
def test_key_repeated_by_the_service_is_hidden(
    server: Any, caller: SiliconFlowClient, logged: list[str], key: str, status: int
) -> None:
    said = {"code": f"bad {key}", "message": f"the key {key} is bad"}
    for _ in range(6):
        server.json(said, status, x_request_id=f"trace of {key}")
    with pytest.raises(SiliconFlowError) as caught:
        caller.get_batch("batch_1")
    assert "the key *** is bad" in str(caught.value)
    assert key not in everything_of(caught.value)
    assert key not in "".join(logged)


def test_key_at_the_cut_is_not_partly_shown(server: Any, caller: SiliconFlowClient, key: str) -> None:
    server.text("x" * 490 + key, 400)
    with pytest.raises(SiliconFlowError) as caught:
        caller.get_batch("batch_1")
    assert key[:8] not in everything_of(caught.value)


def test_key_in_an_uncertain_create_is_hidden(server: Any, caller: SiliconFlowClient, key: str) -> None:
    server.json(f"failed for {key}", 500)
    with pytest.raises(errors.CreateUncertainError, match=r"failed for \*\*\*") as caught:
        caller.create_batch("file-1")
    assert key not in everything_of(caught.value)


BROKEN: list[tuple[str, Callable[[Any], Any]]] = [
    ("expired", lambda server: server.text("<Error><Message>expired</Message></Error>", 403)),
    ("repeated", lambda server: server.json({"message": f"cannot serve {server.signed_url}"}, 404)),
    ("cut", lambda server: server.cut(b"short", 100)),
    ("reset", lambda server: server.resets()),
    ("busy", lambda server: server.text(f"busy: {server.signed_url}", 503)),
    ("garbage", lambda server: server.raw(b"garbage\r\n\r\n")),
    ("a redirect elsewhere", lambda server: server.redirects(server.signed_url.replace("http:", "s3:"))),
    ("a redirect nowhere", lambda server: server.redirects(server.signed_url.replace("127.0.0.1", ""))),
    ("a redirect to itself", lambda server: server.redirects(server.signed_url)),
]


@pytest.mark.parametrize(("name", "fail"), BROKEN)
def test_signed_url_query_is_never_shown(
    storage: Any,
    caller: SiliconFlowClient,
    logged: list[str],
    signature: str,
    name: str,
    fail: Callable[[Any], Any],
) -> None:
    for _ in range(6):
        fail(storage)
    storage.always = storage.script[-1]
    with pytest.raises(SiliconFlowError) as caught:
        caller.download(storage.signed_url, io.BytesIO())
    assert any("Starting new HTTP connection" in message for message in logged), "the pool logs at DEBUG"
    for text in (everything_of(caught.value), "".join(logged)):
        assert signature not in text
        assert "Expires" not in text
    assert f"127.0.0.1:{storage.port}" in str(caught.value)


def test_signed_url_query_is_not_in_urllib3_warnings(
    storage: Any, caller: SiliconFlowClient, logged: list[str], signature: str
) -> None:
    storage.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon here\r\n\r\n{}")
    caller.download(storage.signed_url, io.BytesIO())
    assert any("Failed to parse headers" in message for message in logged)
    assert signature not in "".join(logged)


def test_unreachable_signed_url_query_is_never_shown(
    refused_port: int, caller: SiliconFlowClient, logged: list[str], signature: str
) -> None:
    url = f"http://127.0.0.1:{refused_port}/out?Signature={signature}"
    with pytest.raises(errors.ConnectionFailedError) as caught:
        caller.download(url, io.BytesIO())
    assert signature not in everything_of(caught.value) + "".join(logged)


def test_invalid_signed_url_is_never_shown(caller: SiliconFlowClient, logged: list[str], signature: str) -> None:
    for url in (f"http://[bad/out?Signature={signature}", f"http://host:x/out?Signature={signature}"):
        with pytest.raises(SiliconFlowError) as caught:
            caller.download(url, io.BytesIO())
        assert signature not in "".join([str(caught.value), repr(vars(caught.value)), *logged])


def test_credentials_in_a_url_are_never_shown(storage: Any, caller: SiliconFlowClient, logged: list[str]) -> None:
    storage.text("no", 403).resets()
    caller._transport._max_retries = 0
    url = storage.signed_url.replace("127", "me:pa55word@127")
    for _ in range(2):
        with pytest.raises(SiliconFlowError) as caught:
            caller.download(url, io.BytesIO())
        assert "pa55word" not in everything_of(caught.value) + "".join(logged)


def test_download_by_signed_url_leaves_no_trace(
    client: SiliconFlowClient, clock: Any, sums: Sums, logged: list[str]
) -> None:
    """With the emulator: no log shows a query, and no repr shows a reference."""
    batch = client.create_batch(client.upload_file(io.BytesIO(sums(1))).id)
    clock.advance(120)
    done = client.get_batch(batch.id)
    assert "Signature=" in (done.output_file_id or "")
    assert rows(downloaded(client, done.output_file_id or ""))
    for text in ("".join(logged), repr(done), json.dumps(done.to_json())):
        assert "Signature" not in text


def test_expired_signed_url_has_a_remedy(client: SiliconFlowClient, clock: Any, sums: Sums) -> None:
    batch = client.create_batch(client.upload_file(io.BytesIO(sums(1))).id)
    clock.advance(120)
    done: Batch = client.get_batch(batch.id)
    clock.advance(61)
    with pytest.raises(errors.PermissionDeniedError) as caught:
        client.download(done.output_file_id or "", io.BytesIO())
    assert "Request has expired.: the link to the result file may have expired: try again" in caught.value.message


def test_key_in_batch_errors_is_hidden(server: Any, caller: SiliconFlowClient, key: str) -> None:
    server.json({"id": "batch_1", "status": "failed", "errors": [f"{key} is out of money"]})
    assert caller.get_batch("batch_1").errors == ["*** is out of money"]


def test_escaped_key_in_a_response_is_hidden(server: Any, caller: SiliconFlowClient, key: str) -> None:
    escaped = key.replace("s", "\\u0073", 1)
    server.text(
        json.dumps({"id": "batch_1", "status": "failed", "errors": ["KEY is out of money"]}).replace("KEY", escaped)
    )
    assert caller.get_batch("batch_1").errors == ["*** is out of money"]


def test_short_key_is_kept_in_responses(server: Any, held_time: Any) -> None:
    """Local servers accept short keys, which are not secret."""
    server.json({"id": "batch_1", "status": "completed"})
    assert SiliconFlowClient("batch", server.base_url).get_batch("batch_1").id == "batch_1"


def test_signature_repeated_by_the_storage_is_hidden(storage: Any, caller: SiliconFlowClient, signature: str) -> None:
    storage.text(f"<Error><Message>{signature} is no signature</Message></Error>", 403)
    with pytest.raises(SiliconFlowError) as caught:
        downloaded(caller, storage.signed_url)
    assert "*** is no signature" in str(caught.value)
    assert signature not in everything_of(caught.value)
