"""Any HTTP response gives a call its type, or an error of this package."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch, File
from tests.bad_input.json_values import JSON, NUMBERS, TEXTS, fields, texts_of
from tests.bad_input.service_objects import BATCHES, FILES
from tests.servers import LocalServer, QuietHandler


class Service(LocalServer):
    """A server with one response to all requests."""

    def __init__(self) -> None:
        self.answer: tuple[int, list[tuple[str, str]], bytes] = (200, [], b"")
        outer = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._reply()

            def do_POST(self) -> None:
                self._reply()

            def _reply(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, body = outer.answer
                if self.path.startswith("/elsewhere"):
                    status, headers, body = 404, [], b""
                self.send_response(status)
                names = {name.lower() for name, _ in headers}
                for name, value in headers:
                    self.send_header(name, value)
                if "content-length" not in names:
                    self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                # The client may close the connection early.
                with suppress(ConnectionError):
                    super().handle()

        super().__init__(Handler)
        self.client = SiliconFlowClient("sk-key", f"{self.origin}/v1", timeout=2, max_retries=0)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.stop()


def outcome(action: Callable[[], Any]) -> Any:
    """Return the result or the SiliconFlow error of an action; any other error fails the test."""
    try:
        return action()
    except SiliconFlowError as error:
        return error


def check_error(error: SiliconFlowError) -> None:
    assert error.message
    assert "sk-key" not in str(error)
    assert "Signature=s" not in str(error)


def first_page(client: SiliconFlowClient) -> list[Batch]:
    batches = client.list_batches()
    return [batch for batch, _ in zip(batches, range(5), strict=False)]


CALLS: list[Callable[[SiliconFlowClient], Any]] = [
    lambda client: client.get_batch("batch_1"),
    lambda client: client.cancel_batch("batch_1"),
    lambda client: client.create_batch("file-1"),
    lambda client: client.upload_file(io.BytesIO(b"{}")),
    lambda client: client.list_files(),
    first_page,
]
ENVELOPES = st.sampled_from([20000, "20000", None, 20012, [7], {}, 20000.0])
OBJECTS = BATCHES | FILES
LISTS = fields(data=st.lists(OBJECTS, max_size=3), has_more=st.booleans() | JSON)
ANSWERED = OBJECTS | LISTS | fields(code=ENVELOPES, message=TEXTS, data=OBJECTS | LISTS) | st.lists(OBJECTS, max_size=2)
REFUSED = fields(code=NUMBERS | TEXTS, message=TEXTS, error=TEXTS | fields(message=TEXTS), data=st.none())
STATUS_CODES = st.sampled_from(
    [200, 200, 201, 204, 206, 300, 304, 400, 401, 404, 418, 429, 500, 503, 504, 599, 700, 999]
)
HEADER_TEXTS = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=10)
HEADERS = st.lists(
    st.one_of(
        st.tuples(
            st.just("Retry-After"),
            st.sampled_from(["nan", "inf", "-1", "9" * 400, "²", "Mon, 01 Jan 0001 00:00:00 -0000"]) | HEADER_TEXTS,
        ),
        st.tuples(
            st.just("Location"),
            st.sampled_from(
                [
                    "http://[",
                    "//",
                    "ftp://a",
                    "/elsewhere",
                    "http://a:99999/",
                    "http://127.0.0.1:1/",
                    "http://.a/",
                    "\xff",
                    "",
                ]
            )
            | HEADER_TEXTS,
        ),
        st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "br", "odd"])),
        st.tuples(st.just("Content-Range"), st.sampled_from(["bytes 0-1/2", "bytes 2-1/²", "bytes 0-0/" + "9" * 5000])),
        st.tuples(st.just("Content-Length"), st.sampled_from(["0", "1", "²", "-1", "1e3", "9" * 5000, "99999"])),
        st.tuples(st.sampled_from(["Content-Type", "Set-Cookie", "x-request-id", "ETag"]), HEADER_TEXTS),
    ),
    max_size=2,
)


@given(st.sampled_from(CALLS), STATUS_CODES | st.just(302), HEADERS, texts_of(ANSWERED | REFUSED) | st.binary())
def test_a_call_returns_its_type_or_siliconflow_error(
    service: Service, call: Callable[..., Any], status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    service.answer = (status, headers, body)
    found = outcome(lambda: call(service.client))
    if isinstance(found, SiliconFlowError):
        check_error(found)
    else:
        for item in found if isinstance(found, list) else [found]:
            assert isinstance(item, (Batch, File))
            assert item.id.strip()


@given(STATUS_CODES | st.just(302), HEADERS, st.binary(), st.booleans())
def test_a_download_is_complete_or_an_error(
    service: Service, status: int, headers: list[tuple[str, str]], body: bytes, by_url: bool
) -> None:
    service.answer = (status, headers, body)
    reference = f"{service.client.base_url}/results/1?Signature=s" if by_url else "file-1"
    target = io.BytesIO()
    length = outcome(lambda: service.client.download(reference, target))
    if isinstance(length, SiliconFlowError):
        check_error(length)
    else:
        assert length == len(target.getvalue())
        promised = dict(headers).get("Content-Length", str(len(body)))
        if not headers or promised == str(len(body)):
            assert target.getvalue() == body or "Content-Encoding" in dict(headers) or "Location" in dict(headers)


@pytest.mark.parametrize(
    "reference", ["\ud800", "http://[", "http://a\ud800/", "http://.a/", "http://a b/", "HTTPS://", "x" * 10_000]
)
def test_an_invalid_file_reference_is_an_error(service: Service, reference: str) -> None:
    service.answer = (404, [], b"")
    with pytest.raises(SiliconFlowError):
        service.client.download(reference, io.BytesIO())
