from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.api import download as download_module
from siliconflow_provider.api import errors
from siliconflow_provider.api.client import SiliconFlowClient

CONTENT = bytes(range(40))
OTHER = bytes(range(100, 140))
CHUNK = 7
ETAG = '"v1"'
DATE = "Fri, 15 Jan 2027 08:00:30 GMT"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the sizes of chunks and progress."""
    monkeypatch.setattr(download_module, "CHUNK_BYTES", CHUNK)


def answer(status: int, body: bytes, *, promised: int | None = None, **headers: str) -> bytes:
    """Return a response with its Content-Length, or another one."""
    length = f"Content-Length: {len(body) if promised is None else promised}"
    lines = [f"HTTP/1.1 {status} Some reason", length, "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(status: int, body: bytes, *, whole: bool = True, **headers: str) -> bytes:
    """Return a chunked response. An incomplete one ends within a chunk or lacks the last chunk."""
    lines = [f"HTTP/1.1 {status} Some reason", "Transfer-Encoding: chunked", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    pieces = [body[place : place + 5] for place in range(0, len(body), 5)]
    coded = b"".join(b"5\r\n" + piece + (b"\r\n" if len(piece) == 5 else b"") for piece in pieces)
    return "\r\n".join([*lines, "", ""]).encode() + coded + (b"0\r\n\r\n" if whole else b"")


def rest(offset: int, content: bytes = CONTENT, total: int | str | None = None, **headers: str) -> bytes:
    """Return a partial response from an offset."""
    size = len(content) if total is None else total
    content_range = f"bytes {offset}-{len(content) - 1}/{size}"
    return answer(206, content[offset:], **{"content_range": content_range} | headers)


class OneWay(io.RawIOBase):
    """A file object that cannot seek."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += bytes(data)
        return len(data)

    def getvalue(self) -> bytes:
        return self.content


def fetched(client: SiliconFlowClient, file_ref: str = "file-1") -> bytes:
    fileobj = io.BytesIO()
    assert client.download(file_ref, fileobj) == len(fileobj.getvalue())
    return fileobj.getvalue()


def ranges(server: Any) -> list[str | None]:
    """Return the ranges of all requests."""
    return [request.headers.get("range") for request in server.received]


def test_download_starts_at_the_file_position(server: Any, caller: SiliconFlowClient) -> None:
    server.text(CONTENT)
    fileobj = io.BytesIO(b"before")
    fileobj.seek(6)
    assert caller.download("file-1", fileobj) == len(CONTENT)
    assert fileobj.getvalue() == b"before" + CONTENT


def test_download_truncates_the_file(server: Any, caller: SiliconFlowClient) -> None:
    server.text("new")
    fileobj = io.BytesIO(b"something old and longer")
    assert caller.download("file-1", fileobj) == 3
    assert fileobj.getvalue() == b"new"


def test_refused_download_keeps_the_file(server: Any, caller: SiliconFlowClient) -> None:
    server.json("404 page not found", 404)
    fileobj = io.BytesIO(b"something old")
    with pytest.raises(errors.NotFoundError):
        caller.download("file-1", fileobj)
    assert fileobj.getvalue() == b"something old"


@pytest.mark.parametrize("body", [b"", b"abc", CONTENT])
def test_chunked_download_is_complete(server: Any, caller: SiliconFlowClient, body: bytes) -> None:
    server.raw(chunked(200, body + bytes(-len(body) % 5)))
    assert fetched(caller) == body + bytes(-len(body) % 5)


def test_download_requests_the_whole_uncompressed_file(server: Any, caller: SiliconFlowClient) -> None:
    server.text("abc")
    assert fetched(caller) == b"abc"
    headers = server.received[0].headers
    assert headers["accept-encoding"] == "identity"
    assert not {"range", "if-range"} & set(headers)


def test_compressed_download_is_checked_by_its_length(server: Any, caller: SiliconFlowClient) -> None:
    server.text(gzip.compress(b"abc" * 100), content_encoding="gzip")
    assert fetched(caller) == b"abc" * 100


def test_empty_file_is_downloaded(server: Any, caller: SiliconFlowClient) -> None:
    server.text("")
    assert fetched(caller) == b""


def test_disk_error_is_not_a_service_error(server: Any, caller: SiliconFlowClient) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    server.text("abc")
    with pytest.raises(OSError, match="No space left"):
        caller.download("file-1", Full())
    assert len(server.received) == 1


def test_short_write_is_an_error(server: Any, caller: SiliconFlowClient) -> None:
    """On a full disk, an unbuffered file writes only a part and returns its size."""

    class Filling(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(data[:2])

    server.text("abc")
    with pytest.raises(OSError, match="only 2 of 3 bytes could be written"):
        caller.download("file-1", Filling())


CUTS = {
    "a promised length": lambda body: answer(200, body, promised=len(CONTENT)),
    "chunks": lambda body: chunked(200, body, whole=False),
}


def offset_of(request: Any) -> int:
    """Return the offset of a request."""
    return int(request.headers.get("range", "bytes=0-")[6:-1])


def going_on(request: Any) -> list[bytes]:
    """Return the response of a server that can resume."""
    return [rest(offset_of(request)) if offset_of(request) else answer(200, CONTENT)]


def starting_again(request: Any) -> list[bytes]:
    """Return the response of a server that cannot resume."""
    return [answer(200, CONTENT)]


@pytest.mark.parametrize("framing", CUTS)
@pytest.mark.parametrize("place", [0, 1, 6, 7, 8, 20, 38, 39])
@pytest.mark.parametrize(("reply", "kind"), [(going_on, io.BytesIO), (starting_again, io.BytesIO), (going_on, OneWay)])
@pytest.mark.usefixtures("small_chunks")
def test_interrupted_download_is_completed(
    server: Any, caller: SiliconFlowClient, framing: str, place: int, reply: Any, kind: Any
) -> None:
    server.raw(CUTS[framing](CONTENT[:place])).script.append(reply)
    target = kind()
    assert caller.download("file-1", target) == len(CONTENT)
    assert target.getvalue() == CONTENT
    assert len(server.received) == 2
    assert place - CHUNK < offset_of(server.received[1]) <= place, "what had arrived is kept"


@pytest.mark.parametrize("framing", CUTS)
@pytest.mark.parametrize("place", [7, 8, 20, 38, 39])
@pytest.mark.usefixtures("small_chunks")
def test_nothing_is_written_twice_without_seek(
    server: Any, caller: SiliconFlowClient, framing: str, place: int
) -> None:
    server.raw(CUTS[framing](CONTENT[:place])).script.append(starting_again)
    target = OneWay()
    with pytest.raises(errors.IncompleteBodyError, match="download it again from the beginning"):
        caller.download("file-1", target)  # type: ignore[arg-type]
    assert CONTENT[:place].startswith(target.content)
    assert len(server.received) == 2


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\n"])
def test_response_cut_in_its_headers_is_retried(server: Any, caller: SiliconFlowClient, head: bytes) -> None:
    server.raw(head).text(CONTENT)
    assert fetched(caller) == CONTENT


@pytest.mark.parametrize("ending", ["reset", "hang"])
@pytest.mark.usefixtures("small_chunks")
def test_reset_or_silent_connection_is_resumed(server: Any, held_time: Any, key: str, ending: str) -> None:
    server.raw(answer(200, CONTENT[:21], promised=40), ending=ending).script.append(going_on)
    assert fetched(SiliconFlowClient(key, server.base_url, timeout=0.2)) == CONTENT
    assert len(server.received) == 2


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        ({}, None),
        ({"etag": ETAG}, ETAG),
        ({"etag": ETAG, "last_modified": DATE}, ETAG),
        ({"last_modified": DATE}, DATE),
        ({"etag": 'W/"v1"', "last_modified": DATE}, DATE),
        ({"etag": 'W/"v1"'}, None),
    ],
    ids=repr,
)
@pytest.mark.usefixtures("small_chunks")
def test_rest_is_requested_for_the_same_version(
    server: Any, caller: SiliconFlowClient, headers: dict[str, str], condition: str | None, key: str
) -> None:
    server.raw(answer(200, CONTENT[:14], promised=40, **headers)).raw(rest(14, **headers))
    assert fetched(caller) == CONTENT
    assert ranges(server) == [None, "bytes=14-"]
    assert server.received[1].headers.get("if-range") == condition
    assert server.received[1].key == f"Bearer {key}"


MISFITS: dict[str, bytes] = {
    "another position": answer(206, OTHER[13:], content_range="bytes 13-39/40"),
    "no position": answer(206, OTHER[14:]),
    "a position that cannot be read": answer(206, OTHER[14:], content_range="items 14-39/40"),
    "another length": answer(206, OTHER[14:], content_range="bytes 14-39/41"),
    "another ETag": rest(14, OTHER, etag='"v2"'),
    "another date": rest(14, OTHER, last_modified="Fri, 15 Jan 2027 09:00:00 GMT"),
    "a compressed rest": rest(14, OTHER, content_encoding="gzip"),
    "a 416": answer(416, b"", content_range="bytes */40"),
}


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.usefixtures("small_chunks")
def test_mismatching_rest_restarts_the_download(server: Any, caller: SiliconFlowClient, misfit: str) -> None:
    server.raw(answer(200, CONTENT[:14], promised=40, etag=ETAG, last_modified=DATE))
    server.raw(MISFITS[misfit]).raw(answer(200, OTHER))
    assert fetched(caller) == OTHER
    assert ranges(server) == [None, "bytes=14-", None]


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.usefixtures("small_chunks")
def test_mismatching_rest_without_seek_is_an_error(server: Any, caller: SiliconFlowClient, misfit: str) -> None:
    server.raw(answer(200, CONTENT[:14], promised=40, etag=ETAG, last_modified=DATE)).raw(MISFITS[misfit])
    target = OneWay()
    with pytest.raises(errors.IncompleteBodyError, match=r"broke off after 14 bytes and cannot be resumed"):
        caller.download("file-1", target)  # type: ignore[arg-type]
    assert target.content == CONTENT[:14]
    assert len(server.received) == 2


@pytest.mark.usefixtures("small_chunks")
def test_changed_file_replaces_the_received_part(server: Any, caller: SiliconFlowClient) -> None:
    server.raw(answer(200, CONTENT[:14], promised=40, etag=ETAG)).raw(answer(200, OTHER[:30], etag='"v2"'))
    assert fetched(caller) == OTHER[:30]
    assert ranges(server) == [None, "bytes=14-"]


def test_unrequested_part_is_not_a_file(server: Any, caller: SiliconFlowClient) -> None:
    server.raw(answer(206, b"part", content_range="bytes 0-3/40"))
    with pytest.raises(errors.IncompleteBodyError):
        caller.download("file-1", io.BytesIO())


@pytest.mark.usefixtures("small_chunks")
def test_partial_responses_are_requested_until_complete(server: Any, caller: SiliconFlowClient) -> None:
    server.raw(answer(200, CONTENT[:14], promised=40))
    server.raw(answer(206, CONTENT[14:20], content_range="bytes 14-19/40"))
    server.raw(answer(206, CONTENT[20:39], content_range="bytes 20-38/*"))
    server.raw(answer(206, CONTENT[39:], content_range="bytes 39-39/40"))
    assert fetched(caller) == CONTENT
    assert ranges(server) == [None, "bytes=14-", "bytes=20-", "bytes=39-"]


@pytest.mark.usefixtures("small_chunks")
def test_length_from_content_range_is_checked(server: Any, caller: SiliconFlowClient) -> None:
    server.raw(chunked(200, CONTENT[:15], whole=False))
    server.raw(chunked(206, CONTENT[15:35], content_range="bytes 15-39/40"))
    server.raw(rest(35))
    assert fetched(caller) == CONTENT
    assert ranges(server) == [None, "bytes=15-", "bytes=35-"]


@pytest.mark.usefixtures("small_chunks")
def test_too_long_rest_restarts_the_download(server: Any, caller: SiliconFlowClient) -> None:
    server.raw(answer(200, CONTENT[:14], promised=40))
    server.raw(answer(206, CONTENT[14:] + b"more!", content_range="bytes 14-39/40")).text(CONTENT)
    assert fetched(caller) == CONTENT
    assert ranges(server) == [None, "bytes=14-", None]


@pytest.mark.usefixtures("small_chunks")
def test_compressed_body_is_not_resumed(server: Any, caller: SiliconFlowClient) -> None:
    packed = gzip.compress(CONTENT * 50, 0)
    server.raw(answer(200, packed[:500], promised=len(packed), content_encoding="gzip", etag=ETAG))
    server.text(packed, content_encoding="gzip", etag=ETAG)
    assert fetched(caller) == CONTENT * 50
    assert ranges(server) == [None, None]


@pytest.mark.usefixtures("small_chunks")
def test_signed_url_expired_between_tries_is_an_error(storage: Any, caller: SiliconFlowClient) -> None:
    storage.raw(answer(200, CONTENT[:14], promised=40)).text("<Error><Message>expired</Message></Error>", 403)
    with pytest.raises(errors.PermissionDeniedError, match=f"^GET of a signed URL at 127.0.0.1:{storage.port} was"):
        caller.download(storage.signed_url, io.BytesIO())
    assert ranges(storage) == [None, "bytes=14-"]
    assert [request.key for request in storage.received] == [None, None]


@pytest.mark.usefixtures("small_chunks")
def test_rest_is_requested_through_a_redirect(server: Any, storage: Any, caller: SiliconFlowClient) -> None:
    for part in (answer(200, CONTENT[:14], promised=40, etag=ETAG), rest(14, etag=ETAG)):
        server.redirects(storage.signed_url)
        storage.raw(part)
    assert fetched(caller) == CONTENT
    assert ranges(storage) == [None, "bytes=14-"]
    assert [request.key for request in storage.received] == [None, None]


def test_incomplete_download_is_an_error(server: Any, caller: SiliconFlowClient) -> None:
    server.always = server.cut(b"short", 100).script.pop()
    with pytest.raises(errors.IncompleteBodyError) as caught:
        caller.download("file-1", io.BytesIO())
    assert caught.value.message.startswith(f"GET /files/file-1/content at 127.0.0.1:{server.port}")
    assert len(server.received) == 6


def trickling(step: int, *, goes_on: bool = True) -> Callable[[Any], list[bytes]]:
    """Return responses that break off later each time."""
    furthest = 0

    def reply(request: Any) -> list[bytes]:
        nonlocal furthest
        offset = offset_of(request) if goes_on else 0
        furthest = (offset if goes_on else furthest) + step
        place = {"content_range": f"bytes {offset}-39/40"} if offset else {}
        return [answer(206 if offset else 200, CONTENT[offset:furthest], promised=40 - offset, **place)]

    return reply


@pytest.mark.parametrize("goes_on", [True, False])
def test_progress_resets_the_retries(
    server: Any, held_time: Any, key: str, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(download_module, "PROGRESS_BYTES", 2)
    server.always = trickling(2, goes_on=goes_on)
    assert fetched(SiliconFlowClient(key, server.base_url, max_retries=1)) == CONTENT
    assert len(server.received) == len(CONTENT) // 2


def test_small_progress_does_not_reset_the_retries(
    server: Any, held_time: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two retries, three tries must receive four bytes: one byte per try is not enough."""
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(download_module, "PROGRESS_BYTES", 4)
    server.always = trickling(1)
    with pytest.raises(errors.IncompleteBodyError):
        fetched(SiliconFlowClient(key, server.base_url, max_retries=2))
    assert len(server.received) == 3
    server.received.clear()
    server.always = trickling(2)
    assert fetched(SiliconFlowClient(key, server.base_url, max_retries=2)) == CONTENT


@pytest.mark.usefixtures("small_chunks")
def test_repeated_bytes_do_not_reset_the_retries(
    server: Any, caller: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a server that cannot resume and always breaks off would be retried without end."""
    monkeypatch.setattr(download_module, "PROGRESS_BYTES", 1)
    server.always = server.cut(CONTENT[:20], 40).script.pop()
    with pytest.raises(errors.IncompleteBodyError):
        caller.download("file-1", io.BytesIO())
    assert len(server.received) == 6, "one that brought something, and five that did not"


def test_no_retries_means_one_request(server: Any, held_time: Any, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "PROGRESS_BYTES", 1)
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 1)
    server.cut(CONTENT[:20], 40)
    with pytest.raises(errors.IncompleteBodyError):
        SiliconFlowClient(key, server.base_url, max_retries=0).download("file-1", io.BytesIO())
    assert len(server.received) == 1


def test_download_without_seek_retries_before_first_byte(server: Any, caller: SiliconFlowClient) -> None:
    server.json("slow down", 429).json("busy", 503).resets().text(CONTENT)
    target = OneWay()
    assert caller.download("file-1", target) == len(CONTENT)  # type: ignore[arg-type]
    assert target.content == CONTENT
