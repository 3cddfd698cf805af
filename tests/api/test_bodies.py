from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from siliconflow_provider.api import bodies, download, errors
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.lenient_json import count_of_values

MEGABYTES = 1 << 20
BOMB = gzip.compress(b" " * (40 * MEGABYTES), 1)


@pytest.fixture
def once(server: Any, key: str, held_time: Any) -> SiliconFlowClient:
    """Return a client without retries."""
    return SiliconFlowClient(key, server.base_url, max_retries=0)


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress, "gzip"),
        (gzip.compress, "GZIP "),
        (gzip.compress, "x-gzip"),
        (zlib.compress, "deflate"),
        (lambda body: gzip.compress(body) + b"\0\0", "gzip"),
        (lambda body: gzip.compress(body[:10]) + gzip.compress(b"") + bytes(3) + gzip.compress(body[10:]), "gzip"),
        (lambda body: b"".join(gzip.compress(body[start : start + 99]) for start in range(0, len(body), 99)), "gzip"),
        (bytes, "identity"),
    ],
)
def test_compressed_response_is_decompressed(
    server: Any, once: SiliconFlowClient, batch_json: Any, packed: Any, encoding: str
) -> None:
    errors_of_batch = [f"line {number}" for number in range(30_000)]
    server.text(packed(json.dumps(batch_json(errors=errors_of_batch)).encode()), content_encoding=encoding)
    assert once.get_batch("batch_1").errors == errors_of_batch
    assert server.received[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_unknown_content_encoding_is_an_error(server: Any, once: SiliconFlowClient, encoding: str) -> None:
    server.text(gzip.compress(gzip.compress(b"{}")), content_encoding=encoding)
    with pytest.raises(errors.AnswerLostError, match=f"unsupported content encoding '{encoding}'"):
        once.get_batch("batch_1")


@pytest.mark.parametrize("before", ["", "gzip " * 5])
def test_key_in_the_content_encoding_is_hidden(server: Any, once: SiliconFlowClient, key: str, before: str) -> None:
    server.text(b"{}", content_encoding=f"{before}{key}")
    with pytest.raises(errors.AnswerLostError) as caught:
        once.get_batch("batch_1")
    shown = str(caught.value).lower()
    assert "unsupported content encoding" in shown
    assert not [start for start in range(len(key) - 7) if key[start : start + 8].lower() in shown]


@pytest.mark.parametrize("cut", [10, 100])
def test_truncated_compressed_response_is_incomplete(server: Any, once: SiliconFlowClient, cut: int) -> None:
    server.text(gzip.compress(bytes(range(256)) * 9)[:-cut], content_encoding="gzip")
    with pytest.raises(errors.IncompleteBodyError):
        once.get_batch("batch_1")


@pytest.mark.parametrize("rest", [gzip.compress(b"{}")[:-3], b"\0x", b"rest"], ids=["cut", "padded", "text"])
def test_garbage_after_a_compressed_body_is_an_error(server: Any, once: SiliconFlowClient, rest: bytes) -> None:
    server.text(gzip.compress(b"{}\n") + rest, content_encoding="gzip")
    with pytest.raises(errors.AnswerLostError):
        once.download("file-1", io.BytesIO())


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_all_compressed_members_are_read(size: int) -> None:
    packed = b"".join(map(gzip.compress, (b"one\n", b"", b"two\n"))) + bytes(20)
    pieces = iter([packed[start : start + size] for start in range(0, len(packed), size)])
    assert b"".join(bodies._decompressed(pieces, 2)) == b"one\ntwo\n"


@pytest.mark.parametrize("status", [200, 400, 302])
def test_compressed_bomb_takes_no_memory(
    server: Any, caller: SiliconFlowClient, peak_of: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(bodies, "LARGEST_OBJECT", MEGABYTES)
    server.text(BOMB, status, content_encoding="gzip", location="/elsewhere").json("no", 400)

    def ask() -> None:
        with pytest.raises(errors.SiliconFlowError) as caught:
            caller.get_batch("batch_1")
        if status == 200:
            assert type(caught.value) is errors.AnswerTooLargeError
            assert "was answered with more than 1,048,576 bytes" in str(caught.value)

    assert peak_of(ask) < 8 * MEGABYTES
    assert len(server.received) == (2 if status == 302 else 1), "it is not asked for again"


def test_create_with_too_large_response_is_uncertain(
    server: Any, caller: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LARGEST_OBJECT", 1_000)
    server.json({"id": "x" * 2_000})
    with pytest.raises(errors.CreateUncertainError):
        caller.create_batch("file-1")


@pytest.mark.parametrize("item", [b"{},", b"[],", b"1,", b"[", b'{"":', b'{"a":1},'])
def test_response_with_too_many_values_takes_no_memory(
    server: Any, once: SiliconFlowClient, peak_of: Any, monkeypatch: pytest.MonkeyPatch, item: bytes
) -> None:
    """Each value takes about 70 bytes of memory, but only 2 in the body."""
    monkeypatch.setattr(bodies, "MOST_VALUES_OF_OBJECT", 10_000)
    server.text(gzip.compress(b"[" + item * 2_000_000 + b"0]"), content_encoding="gzip")

    def ask() -> None:
        with pytest.raises(errors.AnswerTooLargeError, match="was answered with more than 10,000 values"):
            once.get_batch("batch_1")

    assert peak_of(ask) < 4 * MEGABYTES


def test_unpaged_list_of_20000_batches_is_accepted(batch_json: Any) -> None:
    metadata = {f"{'k' * 20}{number}": "v" * 60 for number in range(16)}
    url = f"https://bucket.example.com/{'p' * 100}?{'s' * 400}"
    item = json.dumps(batch_json(metadata=metadata, output_file_id=url, error_file_id=url))
    assert 20_000 * (len(item) + 1) < bodies.LARGEST_LIST * 1.2
    assert 20_000 * (count_of_values(item.encode()) + 1) < bodies.MOST_VALUES_OF_LIST / 1.5


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "wrapped", [b'{"data":[%b]}', b"[%b]", b'\xef\xbb\xbf{"n":NaN,"data":[%b]}', b'{"data":[],"a":[%b]}']
)
def test_list_may_be_large_but_not_its_items(
    server: Any, once: SiliconFlowClient, batch_json: Any, peak_of: Any, monkeypatch: pytest.MonkeyPatch, wrapped: bytes
) -> None:
    """Two nested values take about 90 bytes, and decoding blocks all threads."""
    monkeypatch.setattr(bodies, "MOST_VALUES_OF_OBJECT", 10_000)
    server.text(wrapped % b",".join([nested(400)] * 500))

    def ask() -> None:
        with pytest.raises(errors.SiliconFlowError):
            list(once.list_batches())

    assert peak_of(ask) < 4 * MEGABYTES


def test_list_item_has_the_limits_of_an_object(
    server: Any, once: SiliconFlowClient, batch_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LARGEST_OBJECT", 2_000)
    monkeypatch.setattr(bodies, "MOST_VALUES_OF_OBJECT", 100)
    items = [batch_json(f"batch_{number}") for number in range(9)]
    server.json({"data": items, "has_more": False})
    assert len(list(once.list_batches())) == 9
    for bad in (batch_json(errors="x" * 2_000), batch_json(errors=[0] * 200)):
        server.json({"data": [*items, bad], "has_more": False})
        with pytest.raises(
            errors.AnswerTooLargeError, match="answered with a part of more than 2,000 bytes or 100 values"
        ):
            list(once.list_batches())


def test_list_of_files_may_be_large(server: Any, once: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LARGEST_OBJECT", 2_000)
    server.json({"data": {"data": [{"id": f"file-{number}"} for number in range(500)]}})
    assert len(once.list_files()) == 500


def test_compressed_download_takes_no_memory(server: Any, once: SiliconFlowClient, peak_of: Any, tmp_path: Any) -> None:
    server.text(BOMB, content_encoding="gzip")
    with (tmp_path / "results").open("wb") as file:
        assert peak_of(lambda: once.download("file-1", file)) < 8 * MEGABYTES
    assert (tmp_path / "results").stat().st_size == 40 * MEGABYTES


@pytest.mark.parametrize("is_promised", [True, False])
def test_too_large_file_is_refused(
    server: Any, caller: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch, is_promised: bool
) -> None:
    monkeypatch.setattr(download, "LARGEST_FILE", 100_000)

    def endless(request: Any) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 100001\r\n\r\n" if is_promised else b"\r\n")
        while True:
            yield bytes(10_000)

    server.always = endless
    file = io.BytesIO()
    with pytest.raises(errors.AnswerTooLargeError, match="has more than 100,000 bytes: too large for a result file"):
        caller.download("file-1", file)
    assert len(file.getvalue()) <= (0 if is_promised else 100_000)
    assert len(server.received) == 1
