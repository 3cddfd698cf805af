"""The HTTP session: the key goes to the API's own origin and nowhere else."""

from __future__ import annotations

from functools import lru_cache
from math import inf
from time import monotonic
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from siliconflow_provider.api.clock import ServiceClock
from siliconflow_provider.api.errors import InvalidRequestError

LONGEST_IDLE_SECONDS = 1.0


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def address(url: str) -> str:
    """Return host and port of a URL for messages, which must not show credentials or a query.

    :raises InvalidRequestError: when it cannot be a URL
    """
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError as error:
        raise InvalidRequestError(f"a URL (not shown, it may be signed) cannot be read: {error}") from None


def checked_key(api_key: str | None) -> str:
    """Return the key without surrounding white space, or raise without showing it."""
    key = (api_key or "").strip()
    if not key:
        raise InvalidRequestError("api_key is empty: give the SiliconFlow API key, which begins with sk-")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidRequestError(
            "api_key holds characters that no key has (spaces, control characters, non-ASCII): copy it again"
        )
    return key


def checked_base_url(base_url: str) -> str:
    """Return the base URL without a final slash, or raise when no request can be sent to it."""
    try:
        parts = urlsplit(base_url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        # What stands here by mistake may be a key.
        shown = "(not shown)" if "@" in base_url or base_url.startswith("sk-") else repr(base_url)
        raise InvalidRequestError(f"base_url {shown} is not a URL: give one like 'https://api.siliconflow.com/v1'")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidRequestError(
            f"base_url for {parts.hostname} has credentials, a query or a fragment in it: "
            "give scheme, host and path, and the key as api_key"
        )
    return base_url.rstrip("/")


class NoAuth(AuthBase):
    """Sends no credentials; that there is an auth at all keeps requests from reading .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class BearerAuth(AuthBase):
    """Puts the key on requests to the API's origin."""

    def __init__(self, api_key: str, base_url: str) -> None:
        self._api_key = api_key
        self.origin = origin(base_url)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if origin(request.url or "") == self.origin:
            request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


class _Connection:
    """What is mixed into urllib3's connections. They print nothing, and are left once they were idle.

    Those of `http.client` print the key when its debug level is set. A server closes an idle connection after some
    seconds, 5 for instance; a request that is sent in that moment is lost.
    """

    debuglevel = 0
    _answered_at = inf

    def getresponse(self, *arguments: Any, **options: Any) -> Any:
        response = super().getresponse(*arguments, **options)  # type: ignore[misc]
        self._answered_at = monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        is_idle = monotonic() - self._answered_at > LONGEST_IDLE_SECONDS
        return not is_idle and super().is_connected  # type: ignore[misc]


@lru_cache
def _own(connection_class: Any) -> Any:
    if issubclass(connection_class, _Connection):
        return connection_class
    return type(connection_class.__name__, (_Connection, connection_class), {})


class OwnAdapter(HTTPAdapter):
    """Sends over connections that print nothing, and over none that was idle for long."""

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the pool for a request."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = _own(pool.ConnectionCls)
        return pool


class Session(requests.Session):
    """A session whose key does not survive a redirect to another origin.

    Proxies and certificate bundles come from the environment as with any `requests.Session`; .netrc does not.
    """

    def __init__(self, auth: BearerAuth) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, OwnAdapter())
        self.auth = auth
        self.service_clock = ServiceClock()
        self._api_origin = auth.origin

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request, and note what time it is for the API."""
        response = super().send(request, **options)
        if origin(response.url) == self._api_origin:
            self.service_clock.note(response.headers.get("Date"))
        return response

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer sends the request; nothing when that is no URL, so that it counts as a refusal."""
        try:
            target = super().get_redirect_target(resp)
            if target is not None:
                requests.Request("GET", urljoin(resp.url, target)).prepare()
        except ValueError:
            return None
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Drop the key when a redirect leaves the API; requests would ask .netrc here too."""
        if origin(prepared_request.url or "") != self._api_origin:
            prepared_request.headers.pop("Authorization", None)
