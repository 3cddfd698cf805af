"""One exchange with the service, and the same exchange again while it fails in a way that may heal."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pendulum
import requests

from siliconflow_provider.api import clock
from siliconflow_provider.api.errors import (
    BadRequestError,
    InvalidRequestError,
    SiliconFlowError,
    UnreadableAnswerError,
)
from siliconflow_provider.api.lenient_json import decode_any
from siliconflow_provider.api.redaction import SHORTEST_SECRET, query_secrets, quiet_urls
from siliconflow_provider.api.remedies import LINK_REMEDIES, api_remedies
from siliconflow_provider.api.retry import pause_before_retry, should_retry
from siliconflow_provider.api.session import BearerAuth, NoAuth, Session, address, checked_base_url, checked_key
from siliconflow_provider.api.translation import from_exception, from_response, refusal, request_id

log = logging.getLogger(__name__)

SUCCESS_CODES = (20000, "20000", None)
LONGEST_CONNECT_TIMEOUT = 10.0

T = TypeVar("T")


class Transport:
    """Sends requests to one service with one key; may be shared between threads.

    :param timeout: seconds without a byte after which a request is given up; at most 10 to connect
    :param max_retries: how often a request is sent again
    :param label: names where key and base URL are set, for messages
    """

    def __init__(
        self, api_key: str, base_url: str, *, timeout: float, max_retries: int, label: str | None = None
    ) -> None:
        self._api_key = checked_key(api_key)
        self.base_url = checked_base_url(base_url)
        if not timeout > 0:
            raise InvalidRequestError(f"timeout is {timeout}: give a positive number of seconds")
        self._timeout = (min(timeout, LONGEST_CONNECT_TIMEOUT), timeout)
        self._max_retries = max_retries
        self._remedies = api_remedies(self.base_url, label)
        self._place = f"the base URL of {label}" if label else "the base URL"
        self._session = Session(BearerAuth(self._api_key, self.base_url))

    def now(self) -> pendulum.DateTime:
        """Return the present moment (UTC) by the service's clock."""
        return self._session.service_clock.now()

    def retry(self, action: Callable[[], T], *, repeatable: bool, progressed: Callable[[], bool] = lambda: False) -> T:
        """Run an action, and again after a pause while it fails in a way that may heal.

        :param repeatable: whether carrying it out twice does no harm
        :param progressed: asked after each failure whether those before it no longer count
        """
        failures = 0
        while True:
            try:
                return action()
            except SiliconFlowError as error:
                failures = 1 if progressed() else failures + 1
                if failures > self._max_retries or not should_retry(error, repeatable=repeatable):
                    raise
                jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
                pause = pause_before_retry(failures, error.retry_after, jitter)
                attempts = f"attempt {failures} of {self._max_retries + 1}"
                log.warning("%s; %s, next in %.1f s", error, attempts, pause)
            clock.sleep(pause)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Make one request to the API and return the decoded JSON answer.

        :raises SiliconFlowError: for everything but a success
        """
        what = f"{method} {path} at {address(self.base_url)}"
        return self.exchange(method, f"{self.base_url}{path}", what, lambda each: self._read(each, what), **arguments)

    def exchange(
        self,
        method: str,
        url: str,
        what: str,
        read: Callable[[requests.Response], T],
        *,
        with_key: bool = True,
        **arguments: Any,
    ) -> T:
        """Send one request and return what `read` makes of its successful response, whose body streams.

        :param what: the request and its host in messages, without a query
        :param with_key: False for a URL that carries its own signature
        :raises SiliconFlowError: when it could not be sent, was refused, or broke off while it was read
        """
        arguments |= {"stream": True, "timeout": self._timeout, "allow_redirects": method == "GET"}
        if not with_key:
            arguments["auth"] = NoAuth()
        try:
            with quiet_urls(), self._session.request(method, url, **arguments) as response:
                if 200 <= response.status_code < 300:
                    return read(response)
                failure = from_response(response, what, self._remedies if with_key else LINK_REMEDIES)
        except requests.exceptions.RequestException as error:
            failure = from_exception(error, what, self._place if with_key else "the link")
        except SiliconFlowError as error:
            failure = error
        # Raised outside of the handlers: as context, a foreign error could show a signed URL.
        raise self._hiding_secrets(failure, url)

    def _read(self, response: requests.Response, what: str) -> Any:
        body = response.content
        # What an answer repeats, such as in the errors of a batch, ends in logs and events. A word for a key, as
        # local servers take it, is no secret, and may be part of any answer.
        if len(self._api_key) >= SHORTEST_SECRET:
            body = body.replace(self._api_key.encode(), b"***")
        return _decoded(response, body, what)

    def _hiding_secrets(self, error: SiliconFlowError, url: str) -> SiliconFlowError:
        def hidden(value: Any) -> Any:
            for secret in (self._api_key, *query_secrets(url)):
                value = value.replace(secret, "***") if isinstance(value, str) else value
            return value

        error.code, error.request_id = hidden(error.code), hidden(error.request_id)
        return error.reworded(hidden(error.message))


def _decoded(response: requests.Response, body: bytes, what: str) -> Any:
    try:
        answer = decode_any(body)
    except msgspec.DecodeError:
        answer = None
    if answer is None:
        raise UnreadableAnswerError(
            f"{what} was answered with {len(body)} bytes that are not JSON: check the base URL",
            status=response.status_code,
            request_id=request_id(response),
        )
    if isinstance(answer, dict) and answer.get("code") not in SUCCESS_CODES:
        raise refusal(response, what, answer, BadRequestError)
    return answer
