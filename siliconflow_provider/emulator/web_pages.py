"""Keep web pages away from the control interface, which needs no key.

A page in a browser on this machine can send requests to it. A page cannot send `application/json` to another origin
without that origin's consent. A page whose host name leads to this machine (DNS rebinding) sends that name as `Host`.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from siliconflow_provider.emulator.errors import BAD_REQUEST, ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

JSON_TYPE = "application/json"


def refuse_web_pages(request: Request) -> None:
    """Raise ApiError if a web page of another origin may have sent the request."""
    host = request.headers.get("host", "")
    if not is_loopback(_without_port(host)):
        raise _refusal(403, f"Host is {host!r}: the control interface only answers 127.0.0.1, localhost and [::1]")
    content_type = request.headers.get("content-type", "")
    if request.method == "POST" and content_type.partition(";")[0].strip().lower() != JSON_TYPE:
        raise _refusal(415, f"Content-Type is {content_type!r}: send {JSON_TYPE}, even without a body")


def is_loopback(host: str) -> bool:
    """Return True if the host is `localhost` or a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _without_port(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _refusal(status: int, message: str) -> ApiError:
    return ApiError(status, {"code": BAD_REQUEST, "message": message, "data": None})
