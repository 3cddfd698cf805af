"""Send requests to the service, read their responses, and retry them."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import pendulum
import requests
from urllib3.exceptions import HTTPError

from siliconflow_provider.api import clock
from siliconflow_provider.api.addresses import ResultHosts
from siliconflow_provider.api.bodies import check_object, whole_body
from siliconflow_provider.api.connections import Exchange
from siliconflow_provider.api.error_mapping import Hide, from_exception, from_response, refusal, request_id
from siliconflow_provider.api.errors import (
    BadRequestError,
    InvalidRequestError,
    SiliconFlowError,
    UnreadableAnswerError,
)
from siliconflow_provider.api.hidden import MASK, Secret, SignedUrl
from siliconflow_provider.api.known_secrets import KnownSecrets
from siliconflow_provider.api.lenient_json import decode_any, decode_page
from siliconflow_provider.api.redaction import SHORTEST_SECRET, query_secrets, quiet_urls, without_queries
from siliconflow_provider.api.remedies import LINK_REMEDIES, api_remedies
from siliconflow_provider.api.retry import pause_before_retry, should_retry
from siliconflow_provider.api.session import (
    BearerAuth,
    NoAuth,
    Session,
    address,
    checked_base_url,
    checked_key,
    origin,
    redirect_target,
)

log = logging.getLogger(__name__)

SUCCESS_CODES = (20000, "20000", None)
LONGEST_CONNECT_TIMEOUT = 10.0
# The total timeout of an exchange, in timeouts without data.
TIMEOUTS_OF_EXCHANGE = 3
# The transfer of a file may take longer, unless it is slower than this.
SLOWEST_BYTES_PER_SECOND = 10_000

T = TypeVar("T")


class Transport:
    """Sends requests to one service with one key. Threads may share it.

    :param timeout: seconds without data after which a request times out; at most 10 to connect, and three times as
        many in total
    :param max_retries: maximum number of retries of a request
    :param label: names the settings of key and base URL, for messages
    :param url_label: names that of the base URL, if it is another one
    :param storage_hosts: the only hosts, besides the API's, that results may be downloaded from; empty allows all
        public hosts
    """

    def __init__(
        self,
        api_key: str | Secret,
        base_url: str,
        *,
        timeout: float,
        max_retries: int,
        label: str | None = None,
        url_label: str | None = None,
        storage_hosts: Collection[str] = (),
    ) -> None:
        api_key = Secret(api_key)
        self._api_key = checked_key(api_key)
        # A short key, as local servers use it, is not a secret, and may be a word of any text.
        self._is_key_secret = len(self._api_key.reveal()) >= SHORTEST_SECRET
        self._secrets = KnownSecrets([self._api_key.reveal()])
        self.base_url = checked_base_url(base_url)
        if not timeout > 0:
            raise InvalidRequestError(f"timeout is {timeout}: give a positive number of seconds")
        self._exchange_seconds = TIMEOUTS_OF_EXCHANGE * timeout
        self._timeout = (min(timeout, LONGEST_CONNECT_TIMEOUT), timeout)
        self._max_retries = max_retries
        url_label = url_label or label
        self._remedies = api_remedies(self.base_url, label, url_label)
        self._place = f"the base URL of {url_label}" if url_label else "the base URL"
        self._session = Session(BearerAuth(self._api_key, self.base_url), ResultHosts(self.base_url, storage_hosts))

    def now(self) -> pendulum.DateTime:
        """Return the service's current time in UTC."""
        return self._session.service_clock.now()

    def without_secrets(self, text: str) -> str:
        """Return a text without the key and without the queries of URLs."""
        return without_queries(self._secrets.hidden(text))

    def retry(self, action: Callable[[], T], *, idempotent: bool, progressed: Callable[[], bool] = lambda: False) -> T:
        """Run an action. Retry it after a pause if its error may be retried.

        :param idempotent: True if executing the action twice does no harm
        :param progressed: called after each failure; True resets the count of failures
        """
        failures = 0
        while True:
            try:
                return action()
            except SiliconFlowError as error:
                failures = 1 if progressed() else failures + 1
                if failures > self._max_retries or not should_retry(error, idempotent=idempotent):
                    raise
                jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
                pause = pause_before_retry(failures, error.retry_after, jitter)
                attempts = f"attempt {failures:,} of {self._max_retries + 1:,}"
                log.warning("%s; %s failed, retrying in %.1f s", error, attempts, pause)
            clock.sleep(pause)

    def decoded(self, text: bytes) -> Any:
        """Return the value of a JSON text with the key replaced by `***`, however the text escapes it.

        :raises msgspec.DecodeError: if it is not JSON, or nested too deeply
        """
        return self._secrets.hidden_in_value(decode_any(text), text)

    def call(self, method: str, path: str, *, is_list: bool = False, **arguments: Any) -> Any:
        """Send one request to the API and return its decoded JSON response.

        :param is_list: True for a response that may be large; the items of its list stay undecoded, as `msgspec.Raw`
        :raises SiliconFlowError: if the request fails
        """
        request_name = f"{method} {path} at {address(self.base_url)}"
        return self.exchange(
            method,
            f"{self.base_url}{path}",
            request_name,
            lambda response: self._read(response, request_name, is_list),
            **arguments,
        )

    def exchange(
        self,
        method: str,
        url: str,
        request_name: str,
        read: Callable[[requests.Response], T],
        *,
        with_key: bool = True,
        has_file: bool = False,
        **arguments: Any,
    ) -> T:
        """Send one request and return the result of `read`, called with its successful response (streaming).

        :param request_name: the request and its host in messages, without a query
        :param with_key: False for a URL that has its own signature
        :param has_file: True if a file is uploaded or downloaded, which may take longer
        :raises SiliconFlowError: if the request could not be sent, was refused, or its response broke off
        """
        url, place = SignedUrl(url), self._place if with_key else "the link"
        redirects: list[SignedUrl] = []

        def note(response: requests.Response, **_: Any) -> None:
            redirects.extend(filter(None, [redirect_target(response)]))

        def hide(text: str) -> str:
            return without_queries(self._secrets_of(url, *redirects).hidden(text))

        arguments |= {"stream": True, "timeout": self._timeout, "allow_redirects": method == "GET"}
        arguments["hooks"] = {"response": [*self._session.hooks["response"], note]}
        if not with_key:
            arguments["auth"] = NoAuth()
        exchange = Exchange(self._exchange_seconds, 1 / SLOWEST_BYTES_PER_SECOND if has_file else 0.0)
        try:
            with (
                quiet_urls(),
                exchange.active(),
                self._sent(exchange, method, url, request_name, place, arguments, hide) as response,
            ):
                if 200 <= response.status_code < 300:
                    return read(response)
                is_link = not with_key or (has_file and any(map(self._is_elsewhere, redirects)))
                failure = from_response(response, request_name, LINK_REMEDIES if is_link else self._remedies, hide)
        except (requests.exceptions.RequestException, HTTPError) as error:
            failure = from_exception(error, request_name, place, was_sent=True, hide=hide)
        except SiliconFlowError as error:
            failure = error
        # Raised outside of the handlers and without the frames below: they could show a signed URL.
        raise _without(self._secrets_of(url, *redirects), failure).with_traceback(None)

    def _sent(
        self,
        exchange: Exchange,
        method: str,
        url: str,
        request_name: str,
        place: str,
        arguments: dict[str, Any],
        hide: Hide,
    ) -> requests.Response:
        """Send a request and return its response. Only the headers are read."""
        try:
            return self._session.request(method, url, **arguments)
        except SiliconFlowError as error:
            failure = error
        except Exception as error:
            # requests also raises errors of other libraries, for example if a proxy is not usable.
            failure = from_exception(error, request_name, place, was_sent=exchange.has_begun, hide=hide)
        except BaseException as error:
            # For example Airflow's timeout of a task.
            error.__context__ = None
            raise error.with_traceback(None)  # noqa: B904 - it is the same exception
        raise failure

    def _read(self, response: requests.Response, request_name: str, is_list: bool) -> Any:
        def decode(text: bytes) -> Any:
            if is_list:
                return decode_page(text, self.decoded, lambda part: check_object(part, request_name))
            return self.decoded(text)

        body = whole_body(response, request_name, is_list=is_list)
        # A response may repeat the key, for example in the errors of a batch, which go to logs and events.
        if self._is_key_secret:
            body = body.replace(self._api_key.reveal().encode(), MASK.encode())
        return _decoded(response, body, request_name, decode, self.without_secrets)

    def _is_elsewhere(self, url: str) -> bool:
        """Return True if a redirect leads away from the API."""
        is_below = urlsplit(url).path.startswith(f"{urlsplit(self.base_url).path}/")
        return origin(url) != origin(self.base_url) or not is_below

    def _secrets_of(self, *urls: str) -> KnownSecrets:
        return self._secrets.with_more(secret for url in urls for secret in query_secrets(url))


def _without(secrets: KnownSecrets, error: SiliconFlowError) -> SiliconFlowError:
    """Return the error with the secrets in its texts hidden."""
    error.code = secrets.hidden(error.code) if isinstance(error.code, str) else error.code
    error.request_id = secrets.hidden(error.request_id) if error.request_id else error.request_id
    return error.reworded(secrets.hidden(error.message))


def _decoded(
    response: requests.Response, body: bytes, request_name: str, decode: Callable[[bytes], Any], hide: Hide
) -> Any:
    try:
        answer = decode(body)
    except msgspec.DecodeError:
        answer = None
    if answer is None:
        raise UnreadableAnswerError(
            f"{request_name} was answered with {len(body):,} bytes that are not JSON: check the base URL",
            status=response.status_code,
            request_id=request_id(response, hide),
        )
    if isinstance(answer, dict) and answer.get("code") not in SUCCESS_CODES:
        raise refusal(response, request_name, answer, BadRequestError, hide=hide)
    return answer
