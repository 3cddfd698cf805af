from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from urllib3.exceptions import LocationParseError, ProtocolError, ProxySchemeUnknown

from siliconflow_provider.api import errors
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.error_mapping import from_exception
from siliconflow_provider.api.errors import SiliconFlowError

WHAT = "GET /batches/batch_1 at api.siliconflow.com"
URL = "https://a.b/c?Signature=s3cret"


def what(server: Any) -> str:
    return f"GET /batches/batch_1 at 127.0.0.1:{server.port}"


@pytest.fixture
def failure(caller: SiliconFlowClient) -> Callable[[], SiliconFlowError]:
    """Return the error of a single request for a batch."""
    caller._transport._max_retries = 0

    def ask() -> SiliconFlowError:
        with pytest.raises(SiliconFlowError) as caught:
            caller.get_batch("batch_1")
        return caught.value

    return ask


NO_BALANCE_OR_PERMISSION = (
    "the charged balance is too low, or the API key lacks permission: charge the account at "
    "https://cloud.siliconflow.com/me/expensebill, or verify its identity in the console"
)
OVERLOADED = "Model service overloaded. Please try again later."
DOCUMENTED: list[tuple[int, Any, type[SiliconFlowError], str, Any]] = [
    (
        400,
        {"code": 20012, "message": "limit: must be at least 1", "data": "limit"},
        errors.BadRequestError,
        "limit: must be at least 1",
        20012,
    ),
    (
        401,
        "Invalid token",
        errors.AuthenticationError,
        "Invalid token: check the API key; keys of api.siliconflow.cn and api.siliconflow.com are not interchangeable",
        None,
    ),
    (
        403,
        "Forbidden",
        errors.PermissionDeniedError,
        f"Forbidden: {NO_BALANCE_OR_PERMISSION}",
        None,
    ),
    (
        403,
        {"code": 30003, "message": "verify your identity"},
        errors.PermissionDeniedError,
        f"verify your identity: {NO_BALANCE_OR_PERMISSION}",
        30003,
    ),
    (
        404,
        "404 page not found",
        errors.NotFoundError,
        "404 page not found: check the id, which must be of the account of the API key; "
        "batches and results are deleted after 30 days",
        None,
    ),
    (429, {"message": "slow down"}, errors.RateLimitError, "slow down", None),
    (429, "slow down", errors.RateLimitError, "slow down", None),
    (503, "busy", errors.ServerError, "busy", None),
    (503, {"code": 50505, "message": OVERLOADED, "data": None}, errors.ServerError, OVERLOADED, 50505),
    (504, "timeout", errors.ServerError, "timeout", None),
    (400, {"error": {"message": "no such model"}}, errors.BadRequestError, "no such model", None),
    (400, {"error": "no such model"}, errors.BadRequestError, "no such model", None),
    (400, {}, errors.BadRequestError, "Some reason", None),
    (400, None, errors.BadRequestError, "Some reason", None),
    (400, [1, 2], errors.BadRequestError, "[1, 2]", None),
]


@pytest.mark.parametrize(("status", "body", "kind", "said", "code"), DOCUMENTED)
def test_documented_error_has_its_class_and_message(
    server: Any,
    failure: Any,
    status: int,
    body: Any,
    kind: type[SiliconFlowError],
    said: str,
    code: Any,
) -> None:
    server.json(body, status, x_siliconcloud_trace_id="trace-1")
    error = failure()
    assert type(error) is kind
    assert error.message == f"{what(server)} was refused: {said}"
    assert (error.status, error.code, error.request_id) == (status, code, "trace-1")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<html><head><title>504 Gateway Time-out</title></head><body/></html>", "504 Gateway Time-out"),
        ("<html><body>nginx</body></html>", "Some reason"),
        ("<Error><Code>AccessDenied</Code><Message>Expired.</Message><Sig>s3cret</Sig></Error>", "Expired."),
        ("plain words", "plain words"),
        ("", "Some reason"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("see https://a.b/c?Signature=s3cret", "see https://a.b/c?..."),
        ("long " * 110, "long " * 100 + "... (49 more characters)"),
        ("字" * 1600, "字" * 500 + "... (1,100 more characters)"),
        ("[" * 5000 + "]" * 5000, "[" * 500 + "... (9,500 more characters)"),
        ("begin " + "x" * 5000, "begin ... (5,000 more characters)"),
        ('{"message": %s}' % ("[" * 900 + "]" * 900), None),
        ("HTTPS://a.b/c?Signature=s3cret", "HTTPS://a.b/c?..."),
        (r"{see https:\/\/a.b\/c?Signature=s3cret", r"{see https:\/\/a.b\/c?..."),
        ("at /c?Signature=s3cret", "at /c?..."),
    ],
)
def test_error_pages_are_reduced_to_their_message(server: Any, failure: Any, page: Any, said: str | None) -> None:
    server.text(page, 504)
    message = failure().message
    assert message.startswith(f"{what(server)} was refused: ") if said is None else message.endswith(f"refused: {said}")


@pytest.mark.parametrize("code", [[URL], {"url": URL}, URL, True, None])
def test_error_texts_show_no_query(server: Any, failure: Any, code: Any) -> None:
    body = json.dumps({"code": code}).encode()
    head = f"HTTP/1.1 400 see {URL}\r\nx-request-id: {URL}\r\nContent-Length: {len(body)}\r\n\r\n"
    server.raw(head.encode() + body)
    error = failure()
    assert "s3cret" not in f"{error} {vars(error)}"


def test_truncated_error_body_leaves_the_status(server: Any, failure: Any) -> None:
    server.raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\nContent-Encoding: gzip\r\n\r\n", b"not gzip")
    error = failure()
    assert (type(error), error.message) == (errors.ServerError, f"{what(server)} was refused: Busy")


@pytest.mark.parametrize("name", ["x-siliconcloud-trace-id", "x-request-id"])
def test_request_id_is_kept(server: Any, failure: Any, name: str) -> None:
    server.json("busy", 503, **{name: "trace-7"})
    assert failure().request_id == "trace-7"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("Fri, 15 Jan 2027 08:00:30 GMT", 29.75), ("soon", None)],
)
def test_retry_after_is_kept(server: Any, failure: Any, header: str, seconds: float | None) -> None:
    server.json("slow down", 429, retry_after=header)
    assert failure().retry_after == seconds


@pytest.mark.parametrize(
    ("sent", "kind", "reason"),
    [
        (b"garbage\r\n\r\n", errors.AnswerLostError, "BadStatusLine: garbage"),
        (b"", errors.AnswerLostError, "Remote end closed connection without response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", errors.IncompleteBodyError, "IncompleteRead"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
            errors.IncompleteBodyError,
            "IncompleteRead",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\nabcd",
            errors.AnswerLostError,
            "incorrect header check",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}", errors.AnswerLostError, "Content-Length"),
    ],
)
def test_broken_response_is_a_lost_response(
    server: Any, failure: Any, sent: bytes, kind: type[SiliconFlowError], reason: str
) -> None:
    server.raw(sent)
    error = failure()
    assert type(error) is kind
    assert error.message.startswith(f"{what(server)}: request sent, but the response was lost or incomplete (")
    assert reason in error.message


def test_reset_connection_is_a_lost_response(server: Any, failure: Any) -> None:
    server.resets()
    error = failure()
    assert type(error) is errors.AnswerLostError
    assert error.message == (
        f"{what(server)}: request sent, but the response was lost or incomplete "
        "(ConnectionResetError: Connection reset by peer)"
    )


def test_missing_response_is_a_lost_response(server: Any, held_time: Any, key: str) -> None:
    server.hangs()
    client = SiliconFlowClient(key, server.base_url, timeout=0.1, max_retries=0)
    with pytest.raises(errors.AnswerLostError, match=r"the response was lost or incomplete .*timed out"):
        client.get_batch("batch_1")


def test_refused_connection_means_nothing_was_sent(refused_port: int, held_time: Any, key: str) -> None:
    client = SiliconFlowClient(key, f"http://127.0.0.1:{refused_port}/v1", max_retries=0)
    with pytest.raises(errors.ConnectionFailedError) as caught:
        client.get_batch("batch_1")
    assert caught.value.message == (
        f"GET /batches/batch_1 at 127.0.0.1:{refused_port}: no connection "
        "(ConnectionRefusedError: Connection refused): "
        "check the base URL and the network"
    )


def test_unknown_host_means_nothing_was_sent(held_time: Any, key: str) -> None:
    client = SiliconFlowClient(key, "http://nowhere.invalid/v1", max_retries=0)
    with pytest.raises(errors.ConnectionFailedError, match=r"at nowhere\.invalid: no connection \(gaierror: "):
        client.get_batch("batch_1")


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectTimeout("slow"),
        requests.exceptions.ProxyError(ConnectionResetError(104, "Connection reset")),
        requests.exceptions.SSLError("wrong version number"),
        OSError("Could not find a suitable TLS CA certificate bundle"),
        LocationParseError("x"),
        requests.exceptions.InvalidProxyURL("no host"),
        ProxySchemeUnknown("foo"),
        UnicodeError("label too long"),
        TypeError("no host"),
    ],
)
def test_only_unsent_create_may_be_retried(error: Exception) -> None:
    """An uncertain create must not be retried: a batch may exist and be billed."""
    never = from_exception(error, WHAT, was_sent=False)
    of_settings = not isinstance(error, OSError) or isinstance(error, ValueError)
    assert type(never) is (errors.InvalidRequestError if of_settings else errors.ConnectionFailedError)
    assert type(from_exception(error, WHAT, was_sent=True)) is errors.AnswerLostError


def test_reason_shows_no_password() -> None:
    reason = str(from_exception(LocationParseError("http://me:s3cret@:x"), WHAT, was_sent=False))
    assert "s3cret" not in reason


def test_reason_ignores_the_exception_context() -> None:
    """urllib3 1 first tries a call that Python rejects, and hides the TypeError with `from None`."""
    try:
        try:
            raise TypeError("no such argument")
        except TypeError:
            raise ConnectionResetError(104, "Connection reset by peer") from None
    except ConnectionResetError as error:
        reset = requests.ConnectionError(ProtocolError("Connection aborted.", error))
    assert "(ConnectionResetError: Connection reset by peer)" in str(from_exception(reset, WHAT, was_sent=True))


@pytest.mark.parametrize(
    "text",
    [
        "http://h:1/x?Signature=s3cret",
        "HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /x?Signature=s3cret (Caused by ...)",
        "No connection adapters were found for 's3://bucket/x?Signature=s3cret'",
        "Failed to parse: //h/x?Signature=s3cret",
    ],
)
def test_reason_shows_no_query(text: str) -> None:
    assert "s3cret" not in str(from_exception(requests.RequestException(text), WHAT, was_sent=True))
