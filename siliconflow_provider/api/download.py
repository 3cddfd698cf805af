"""Download one file into a file object, with as many requests as needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import IO, Self
from urllib.parse import quote

import requests

from siliconflow_provider.api.bodies import pieces_of_body
from siliconflow_provider.api.errors import AnswerTooLargeError, IncompleteBodyError, InvalidRequestError, ServiceError
from siliconflow_provider.api.hidden import SignedUrl
from siliconflow_provider.api.limits import MAXIMUM_FILE_BYTES
from siliconflow_provider.api.session import LONGEST_URL, address
from siliconflow_provider.api.transport import Transport

# A broken connection loses up to this many received bytes.
CHUNK_BYTES = 64 * 1024
PROGRESS_BYTES = 1024 * 1024
# Ten times the limit of a request file. The service documents no limit for result files.
LARGEST_FILE = 10 * MAXIMUM_FILE_BYTES
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)")
_LENGTH = re.compile(r"\d{1,18}")
_VERSION_HEADERS = ("ETag", "Last-Modified")


class Download:
    """Download one file. After an interruption, request only the rest.

    The download starts again from zero if the server cannot resume it or has another version of the file. Each
    received MiB resets the count of failures, so that a large file arrives over a bad network, and a stuck download
    fails.

    :param request_name: the request in messages
    :param fileobj: written from its position; if it can seek, it is truncated at the file's end
    :param with_key: False for a URL that has its own signature
    """

    def __init__(
        self, transport: Transport, url: str, request_name: str, fileobj: IO[bytes], *, with_key: bool
    ) -> None:
        self._transport = transport
        self._url = url
        self._request_name = request_name
        self._fileobj = fileobj
        self._with_key = with_key
        self._start = fileobj.tell() if fileobj.seekable() else None
        self._arrived = 0
        self._rewarded = 0
        self._total: int | None = None
        self._version: dict[str, str] = {}
        self._can_resume = False

    @classmethod
    def of(cls, transport: Transport, file_ref: SignedUrl, fileobj: IO[bytes]) -> Self:
        """Return the download of a file.

        :param file_ref: a file id, or a URL. The key is not sent to a URL
        :raises InvalidRequestError: if it is too long for a URL
        """
        if len(file_ref) > LONGEST_URL:
            raise InvalidRequestError(
                f"file_ref has {len(file_ref):,} characters: give the id or URL that the service returned"
            )
        is_url = file_ref.lower().startswith(("http://", "https://"))
        if is_url:
            url, named = file_ref, "of a signed URL"
        else:
            named = f"/files/{quote(file_ref, safe='')}/content"
            url = SignedUrl(f"{transport.base_url}{named}")
        return cls(transport, url, f"GET {named} at {address(url)}", fileobj, with_key=not is_url)

    def run(self) -> int:
        """Download the file and return its length.

        :raises IncompleteBodyError: if the file stays incomplete, or if it would have to start again in a file object
            that cannot seek
        :raises AnswerTooLargeError: if the file is larger than 10 GB
        """
        if not self._transport.retry(self._fetch, idempotent=True, progressed=self._progressed):
            raise IncompleteBodyError(
                f"{self._request_name} broke off after {self._arrived:,} bytes and cannot be resumed: "
                "download it again from the beginning"
            )
        return self._arrived

    def _fetch(self) -> bool:
        """Request the missing bytes. Return False if the download can neither be resumed nor started again."""
        if self._arrived and self._can_resume and self._request(self._arrived):
            return True
        return not self._is_stuck() and self._request(0)

    def _request(self, offset: int) -> bool:
        """Request all bytes from `offset` on. Return False if the response cannot be appended."""
        # The length of a compressed body cannot be compared with Content-Length.
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            validator = next((value for value in self._version.values() if not value.startswith("W/")), None)
            if validator:
                headers["If-Range"] = validator
        try:
            return self._transport.exchange(
                "GET",
                self._url,
                self._request_name,
                lambda response: self._receive(response, offset),
                with_key=self._with_key,
                has_file=True,
                headers=headers,
            )
        except ServiceError as error:
            if offset and error.status == requests.codes.requested_range_not_satisfiable:
                return False
            raise

    def _receive(self, response: requests.Response, offset: int) -> bool:
        if response.status_code == requests.codes.partial_content:
            if not offset or not self._continues(response.headers, offset):
                return False
        elif self._is_stuck():
            return False
        else:
            self._begin(response.headers)
        self._copy(response)
        return True

    def _is_stuck(self) -> bool:
        return self._start is None and self._arrived > 0

    def _begin(self, headers: Mapping[str, str]) -> None:
        if self._start is not None:
            self._fileobj.seek(self._start)
            self._fileobj.truncate()
        self._arrived = 0
        self._version = {name: headers[name] for name in _VERSION_HEADERS if name in headers}
        # A byte range of a compressed body is not a byte range of the file.
        self._can_resume = "Content-Encoding" not in headers
        self._total = _content_length(headers) if self._can_resume else None

    def _continues(self, headers: Mapping[str, str], offset: int) -> bool:
        """Return True if a partial response is the rest of the same file."""
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None or int(found[1]) != offset or "Content-Encoding" in headers:
            return False
        total = self._total if found[2] == "*" else int(found[2])
        if self._total not in (None, total):
            return False
        self._total = total
        return all(headers.get(name, value) == value for name, value in self._version.items())

    def _copy(self, response: requests.Response) -> None:
        if (_content_length(response.headers) or 0) > LARGEST_FILE - self._arrived:
            raise self._too_large()
        for chunk in pieces_of_body(response, CHUNK_BYTES):
            if len(chunk) > LARGEST_FILE - self._arrived:
                raise self._too_large()
            written = self._fileobj.write(chunk)
            if written != len(chunk):
                raise OSError(f"{self._request_name}: only {written:,} of {len(chunk):,} bytes could be written")
            self._arrived += len(chunk)
        if self._is_incomplete(response):
            self._can_resume = self._can_resume and (self._total is None or self._arrived < self._total)
            total = "an unknown number of" if self._total is None else f"{self._total:,}"
            raise IncompleteBodyError(f"{self._request_name} broke off after {self._arrived:,} of {total} bytes")

    def _too_large(self) -> AnswerTooLargeError:
        return AnswerTooLargeError(
            f"{self._request_name} has more than {LARGEST_FILE:,} bytes: too large for a result file"
        )

    def _is_incomplete(self, response: requests.Response) -> bool:
        expected = _content_length(response.headers)
        if expected is not None:
            is_incomplete = response.raw.tell() != expected
        else:
            # A response that broke off in its headers looks like an empty body of unknown length.
            is_incomplete = not response.raw.chunked and response.raw.tell() == 0
        return is_incomplete or self._total not in (None, self._arrived)

    def _progressed(self) -> bool:
        if self._arrived < self._rewarded + PROGRESS_BYTES:
            return False
        self._rewarded = self._arrived
        return True


def _content_length(headers: Mapping[str, str]) -> int | None:
    found = _LENGTH.fullmatch(headers.get("Content-Length", ""))
    return None if found is None else int(found[0])
