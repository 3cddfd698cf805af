"""The HTTP session. It sends the key to the API's own origin only."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from requests.utils import select_proxy

from siliconflow_provider.api.addresses import ResultHosts
from siliconflow_provider.api.clock import ServiceClock
from siliconflow_provider.api.connections import MASKED_AUTHORIZATION, OwnAdapter
from siliconflow_provider.api.errors import InvalidRequestError
from siliconflow_provider.api.hidden import Secret, SignedUrl

DEFAULT_BASE_URL = "https://api.siliconflow.com/v1"
LONGEST_URL = 16_384
MOST_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def address(url: str) -> str:
    """Return host and port of a URL, without credentials and query, for messages.

    :raises InvalidRequestError: if it is not a URL
    """
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError as error:
        raise InvalidRequestError(f"a URL (not shown, it may be signed) cannot be read: {error}") from None


def checked_key(api_key: str | Secret | None) -> Secret:
    """Return the key without surrounding white space. Raise InvalidRequestError if it cannot be a key."""
    api_key = Secret(api_key).stripped()
    if not api_key.reveal():
        raise InvalidRequestError("api_key is empty: give the SiliconFlow API key, which begins with sk-")
    if not (api_key.reveal().isascii() and api_key.reveal().isprintable()) or " " in api_key.reveal():
        raise InvalidRequestError(
            "api_key has invalid characters (spaces, control characters or non-ASCII): copy it again"
        )
    return api_key


def checked_base_url(base_url: str) -> str:
    """Return the base URL without a final slash. Raise InvalidRequestError if it is not usable."""
    try:
        parts = urlsplit(base_url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        # It may be a key that was entered in the wrong field.
        shown = (
            "(not shown, since it may hold a secret)"
            if "@" in base_url or base_url.startswith("sk-")
            else repr(base_url)
        )
        raise InvalidRequestError(f"base_url {shown} is not a URL: give one like 'https://api.siliconflow.com/v1'")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidRequestError(
            f"base_url for {parts.hostname} has credentials, a query or a fragment in it: "
            "give scheme, host and path, and the key as api_key"
        )
    return base_url.rstrip("/")


def base_url_of(host: str | None, schema: str | None = None, port: int | None = None) -> str:
    """Return the base URL that a connection's fields or a setting name; the default without a host.

    :param host: a URL, a host with a path, or a host name, which gets `/v1`
    :param schema: of a host without one; `https` by default
    :param port: of a host without one
    :raises InvalidRequestError: if the URL is not usable
    """
    if not host:
        return DEFAULT_BASE_URL
    host = host if "://" in host else f"{schema or 'https'}://{host}"
    # Checked before urlsplit, which would raise an unclear error for an invalid URL.
    parts = urlsplit(checked_base_url(host))
    # Airflow's form stores an empty port as 0. A stored default port is only needed for its test button.
    needs_port = port and not parts.port and (parts.scheme, port) not in (("https", 443), ("http", 80))
    netloc = f"{parts.netloc}:{port}" if needs_port else parts.netloc
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/') or '/v1'}"


def checked_proxy(proxy: str, url: str) -> None:
    """Raise InvalidRequestError if a proxy URL is not usable. The message does not show the proxy's password."""
    try:
        # requests uses http for a proxy without a scheme.
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        is_usable = parts.scheme.lower() in PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        scheme = urlsplit(url).scheme
        shown = "(not shown)" if "@" in proxy else repr(proxy)
        raise InvalidRequestError(
            f"the proxy {shown} for {address(url)} cannot be used: set {scheme.upper()}_PROXY to a URL like "
            "'http://proxy.example.com:3128', or name the host in NO_PROXY"
        )


class NoAuth(AuthBase):
    """Sends no credentials. Without an auth object, requests would read .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class BearerAuth(AuthBase):
    """Marks requests to the API's origin, so that the connection puts the key into them."""

    def __init__(self, api_key: str | Secret, base_url: str) -> None:
        self.api_key = Secret(api_key)
        self.base_url = base_url
        self.origin = origin(base_url)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if origin(request.url or "") == self.origin:
            request.headers["Authorization"] = MASKED_AUTHORIZATION
        return request


class Session(requests.Session):
    """A session that does not send the key to another origin after a redirect.

    It takes proxies and certificate bundles from the environment, as any `requests.Session` does, but ignores .netrc.

    :param results: the hosts that downloads are allowed from, besides the API
    """

    def __init__(self, auth: BearerAuth, results: ResultHosts | None = None) -> None:
        super().__init__()
        self._results = results or ResultHosts(auth.base_url)
        for scheme in ("http://", "https://"):
            self.mount(scheme, OwnAdapter(auth.api_key, self._results.check_peer))
        # The API needs no cookies, and a server could set thousands.
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # bodies.py decompresses gzip piece by piece.
        self.headers["Accept-Encoding"] = "gzip"
        self.auth = auth
        self.service_clock = ServiceClock()
        self._api_origin = auth.origin

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request, follow its redirects if `allow_redirects` is set, and update the service's clock.

        :raises UnsafeAddressError: if a redirect leads to a host that is not allowed
        """
        follows = options.pop("allow_redirects", False)
        response = self._send(request, options)
        for _ in range(MOST_REDIRECTS):
            target = redirect_target(response) if follows else None
            if target is None:
                break
            # Not read: the body of a redirect could be endless.
            response.close()
            request = self._redirected(request, target)
            response = self._send(request, options)
        return response

    def _send(self, request: requests.PreparedRequest, options: dict[str, Any]) -> requests.Response:
        url = SignedUrl(request.url or "")
        if origin(url) != self._api_origin:
            self._results.check_url(url)
        stream = options.get("stream", False)
        options |= self.merge_environment_settings(url, {}, stream, None, None)
        proxy = select_proxy(url, options["proxies"])
        if proxy:
            checked_proxy(proxy, url)
        response = super().send(request, allow_redirects=False, **options)
        if origin(url) == self._api_origin:
            self.service_clock.note(response.headers.get("Date"))
        return response

    def _redirected(self, request: requests.PreparedRequest, target: str) -> requests.PreparedRequest:
        """Return a copy of the request for another URL, without the key if that is not the API."""
        redirected = request.copy()
        redirected.prepare_url(target, None)
        if origin(redirected.url or "") != self._api_origin:
            redirected.headers.pop("Authorization", None)
        return redirected

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None, because requests would read the whole body of a redirect. `send` follows redirects."""


def redirect_target(response: requests.Response) -> SignedUrl | None:
    """Return the target of a redirect, or None if the response has no valid one and thus is an error."""
    location = response.headers.get("Location")
    if response.status_code not in REDIRECTS or not location or len(location) > LONGEST_URL:
        return None
    try:
        # http.client decodes headers as Latin-1, but servers send Location in UTF-8.
        target = urljoin(response.url, location.encode("latin-1").decode())
        return SignedUrl(requests.Request("GET", target).prepare().url)
    except ValueError:
        return None
