"""Map exceptions of requests and error responses of the service to the errors of this package."""

from __future__ import annotations

import re
import ssl
import string
from collections.abc import Callable, Mapping
from http.client import IncompleteRead
from typing import Any

import msgspec
import requests
from urllib3.exceptions import HTTPError, ProxyError

from siliconflow_provider.api import clock
from siliconflow_provider.api.bodies import start_of_body
from siliconflow_provider.api.errors import (
    AnswerLostError,
    CertificateError,
    ConnectionFailedError,
    IncompleteBodyError,
    InvalidRequestError,
    PlainHttpError,
    SiliconFlowError,
    error_class,
)
from siliconflow_provider.api.lenient_json import decode_any, text_of
from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.api.retry import parse_retry_after
from siliconflow_provider.api.service_texts import cut_between_words, word

REQUEST_ID_HEADERS = ("x-siliconcloud-trace-id", "x-request-id")
LONGEST_MESSAGE = 500
LARGEST_ERROR_BODY = 65_536
LARGEST_CODE = 2**53
# Secrets are hidden before a text is cut: a part of a secret would not be recognized.
Hide = Callable[[str], str]
# OpenSSL's reasons, by version, for a response that is not TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_AROUND_PAGES = string.whitespace + "\ufeff"


def from_exception(
    error: Exception, request_name: str, place: str = "the base URL", *, was_sent: bool, hide: Hide = without_queries
) -> SiliconFlowError:
    """Return the package's error for an exception of requests or urllib3.

    :param request_name: the request and its host, without a query
    :param place: names the setting of the host, for the remedy
    :param was_sent: True if a part of the request may have reached the service
    :param hide: removes secrets from a text
    """
    reason = _root_reason(error, hide)
    chain = _chain(error)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return CertificateError(
            f"{request_name}: the TLS certificate was not accepted ({reason}): check {place}, "
            "or set REQUESTS_CA_BUNDLE to the certificates of your own authority"
        )
    if not was_sent:
        # A network error is an OSError or HTTPError and no ValueError. All others come from settings.
        if isinstance(error, ValueError) or not isinstance(error, (OSError, HTTPError)):
            return InvalidRequestError(
                f"{request_name} cannot be sent ({reason}): check {place} and the proxy settings"
            )
        if _is_plain_http(chain):
            return PlainHttpError(
                f"{request_name}: the server speaks HTTP, not HTTPS ({reason}): write http:// in {place}"
            )
        return ConnectionFailedError(f"{request_name}: no connection ({reason}): check {place} and the network")
    kind = IncompleteBodyError if any(isinstance(cause, IncompleteRead) for cause in chain) else AnswerLostError
    return kind(f"{request_name}: request sent, but the response was lost or incomplete ({reason})")


def from_response(
    response: requests.Response, request_name: str, remedies: Mapping[int, str], hide: Hide = without_queries
) -> SiliconFlowError:
    """Return the package's error for an error response. Read its body.

    :param remedies: by HTTP status
    :param hide: removes secrets from a text
    """
    body, status = _decoded_body(response), response.status_code
    return refusal(response, request_name, body, error_class(status), remedies.get(status), hide=hide)


def refusal(
    response: requests.Response,
    request_name: str,
    body: Any,
    kind: type[SiliconFlowError],
    remedy: str | None = None,
    *,
    hide: Hide = without_queries,
) -> SiliconFlowError:
    """Return an error of this class with the message, code and id of a response.

    :param hide: removes secrets from a text
    """
    reason = _message(body, hide) or hide(response.reason or "") or "no reason given"
    return kind(
        f"{request_name} was refused: {reason}{f': {remedy}' if remedy else ''}",
        status=response.status_code,
        code=_code(body, hide),
        request_id=request_id(response, hide),
        retry_after=parse_retry_after(response.headers.get("Retry-After"), clock.now()),
    )


def request_id(response: requests.Response, hide: Hide = without_queries) -> str | None:
    """Return the id that the service's support needs to find this request."""
    found = (response.headers[name] for name in REQUEST_ID_HEADERS if name in response.headers)
    return next((word(hide(value)) for value in found), None)


def _code(body: Any, hide: Hide) -> int | str | None:
    code = body.get("code") if isinstance(body, dict) else None
    if isinstance(code, int) and abs(code) < LARGEST_CODE:
        return code
    return word(hide(str(code))) if isinstance(code, (int, str)) else None


def _decoded_body(response: requests.Response) -> Any:
    try:
        body = start_of_body(response, LARGEST_ERROR_BODY)
    except Exception:
        # The error is reported by its status alone.
        return None
    try:
        return decode_any(body)
    except msgspec.DecodeError:
        return body.decode("utf-8", "replace")


def _message(body: Any, hide: Hide) -> str:
    """Return the message in an error body, which is a JSON string, an object, or a page of HTML or XML."""
    if isinstance(body, dict):
        inner = body.get("error")
        body = body.get("message") or (inner.get("message") if isinstance(inner, dict) else inner) or ""
    text = text_of(body or "").strip(_AROUND_PAGES)
    if text.startswith("<"):
        # The XML of object stores repeats the signature, so only these elements are shown.
        found = re.search(r"<(?:Message|title)>([^<]*)</(?:Message|title)>", text)
        text = found.group(1).strip() if found else ""
    return cut_between_words(hide(text), LONGEST_MESSAGE)


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and its causes, outermost first. urllib3 keeps causes in `args` and `reason`."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        # Not __context__: it may be an unrelated exception from before the request.
        inner = [getattr(error, "reason", None), *error.args, error.__cause__]
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)
    return found


def _is_plain_http(chain: list[BaseException]) -> bool:
    """Return True if a server, and not a proxy, answered the TLS handshake without TLS."""
    is_proxy = any(isinstance(cause, (requests.exceptions.ProxyError, ProxyError)) for cause in chain)
    return not is_proxy and any(getattr(cause, "reason", None) in _NOT_TLS for cause in chain)


def _root_reason(error: Exception, hide: Hide) -> str:
    root = _chain(error)[-1]
    text = getattr(root, "strerror", None) or str(root)
    # Texts of urllib3 may hold a URL without a host or with another scheme.
    text = re.sub(r"\?\S+", "?...", hide(str(text)))
    text = re.sub(r"//[^/@\s]*@", "//***@", text)
    return f"{type(root).__name__}: {text}" if text else type(root).__name__
