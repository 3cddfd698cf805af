"""The client of the SiliconFlow batch API."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote

import msgspec
import pendulum

from siliconflow_provider.api.creates import create_body, may_have_succeeded, refused_create, uncertain_create
from siliconflow_provider.api.download import Download
from siliconflow_provider.api.envelopes import has_more, parsed, unwrapped
from siliconflow_provider.api.errors import (
    AnswerLostError,
    BadRequestError,
    IncompleteListError,
    ServerError,
    UnreadableAnswerError,
)
from siliconflow_provider.api.hidden import Secret, SignedUrl
from siliconflow_provider.api.limits import check_file_size, check_id
from siliconflow_provider.api.models import Account, Batch, File
from siliconflow_provider.api.session import DEFAULT_BASE_URL, address
from siliconflow_provider.api.transport import Transport
from siliconflow_provider.api.upload import default_name, upload_form

PAGE_SIZE = 100
# A page that has a next one shows at least this many items, the default of GET /files.
SHORTEST_PAGE = 10
# Stops at a list that never ends.
MOST_PAGES = 2_000

T = TypeVar("T")


class SiliconFlowClient:
    """Client of the batch API of one SiliconFlow account. It does not use Airflow.

    It retries failed requests with growing pauses if a retry is safe. It never retries a create that may have
    succeeded.

    :param api_key: the account's key; it is sent to the base URL's origin only
    :param base_url: URL of the API, with its version
    :param timeout: seconds without data after which a request times out. A request also times out if it takes three
        times as long in total, or, with a file, if it is slower than 10,000 bytes a second for that long
    :param max_retries: maximum number of retries of a request
    :param label: names the settings of key and base URL in messages, such as `connection 'siliconflow_default'`
    :param url_label: names that of the base URL, if it is another one
    :param storage_hosts: the only hosts, besides the API's, that result files may be downloaded from, such as
        `bucket.example.com` or `*.example.com`; by default any public host
    :raises InvalidRequestError: if the key, the URL or another argument is invalid
    """

    def __init__(
        self,
        api_key: str | Secret,
        base_url: str = DEFAULT_BASE_URL,
        *,
        timeout: float = 60.0,
        max_retries: int = 5,
        label: str | None = None,
        url_label: str | None = None,
        storage_hosts: Collection[str] = (),
    ) -> None:
        # Error reporters send local variables: none of them may hold the key.
        api_key = Secret(api_key)
        self._transport = Transport(
            api_key,
            base_url,
            timeout=timeout,
            max_retries=max_retries,
            label=label,
            url_label=url_label,
            storage_hosts=storage_hosts,
        )

    def __repr__(self) -> str:
        transport = getattr(self, "_transport", None)
        return f"{type(self).__name__}({transport and transport.base_url!r})"

    @property
    def base_url(self) -> str:
        """URL of the API, without a final slash."""
        return self._transport.base_url

    def now(self) -> pendulum.DateTime:
        """Return the current time (UTC) of the service, known from the `Date` header of its responses."""
        return self._transport.now()

    def without_secrets(self, text: str) -> str:
        """Return a text without this client's key and without the queries of URLs."""
        return self._transport.without_secrets(text)

    def get_account(self) -> Account:
        """Return the account that the key belongs to, with its balance."""
        return self._read(Account.from_json, self._get("/user/info"), "GET /user/info", "an account")

    def upload_file(self, path_or_fileobj: str | Path | IO[bytes], *, filename: str | None = None) -> File:
        """Upload a request file, streaming.

        :param path_or_fileobj: a JSONL file, or a binary file object that can seek
        :param filename: its name at the service; by default the name of the file
        :raises InvalidRequestError: if the file is empty or larger than 1 GB
        """
        with ExitStack() as stack:
            if isinstance(path_or_fileobj, (str, Path)):
                fileobj: IO[bytes] = stack.enter_context(Path(path_or_fileobj).open("rb"))
            else:
                fileobj = path_or_fileobj
            name = filename or default_name(fileobj)
            start = fileobj.tell()
            end = fileobj.seek(0, 2)
            check_file_size(name, end - start)

            def send() -> Any:
                fileobj.seek(start)
                form = upload_form(fileobj, end, name)
                headers = {"Content-Type": form.content_type}
                return self._transport.call("POST", "/files", has_file=True, data=form, headers=headers)

            return self._read(File.from_json, self._transport.retry(send, idempotent=True), "POST /files")

    def list_files(self) -> list[File]:
        """List files of the account. The list may be incomplete and has no documented order."""
        items = self._items(self._file_list(), "GET /files")
        # A file without an id is skipped: at worst it is uploaded again, which costs nothing.
        return [file for item in items if (file := self._listed(File.from_json, item)) is not None]

    def _file_list(self) -> Any:
        try:
            return self._get("/files", params={"purpose": "batch", "limit": PAGE_SIZE}, is_list=True)
        except BadRequestError:
            # Some services reject these parameters.
            return self._get("/files", is_list=True)

    def download(self, file_ref: str, fileobj: IO[bytes]) -> int:
        """Download a file into `fileobj`, streaming, and return the number of bytes.

        An interrupted download is resumed. If the server cannot resume, the download starts again, provided that
        the file object can seek. An incomplete download is an error.

        :param file_ref: a file id, or a URL such as a batch's result reference. The key is not sent to a URL
        :raises IncompleteBodyError: if the download stays incomplete after all retries
        """
        check_id("file_ref", file_ref)
        file_ref = SignedUrl(file_ref)
        return Download.of(self._transport, file_ref, fileobj).run()

    def create_batch(
        self,
        input_file_id: str,
        *,
        endpoint: str = "/v1/chat/completions",
        completion_window: str | timedelta = "24h",
        metadata: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> Batch:
        """Create a batch from an uploaded file. An accepted batch is billed.

        :param completion_window: `"24h"` to `"336h"`, or a `timedelta`
        :param metadata: up to 16 pairs, keys of up to 64 characters, values of up to 512
        :param model: replaces the model of every line
        :raises InvalidRequestError: if the service would refuse the request; nothing was sent
        :raises CreateUncertainError: if the response was lost or ambiguous. The create is not retried, because the
            batch may exist
        :raises RateLimitError: if there were too many requests. The create is not retried: list the batches first
        """
        body = create_body(input_file_id, endpoint, completion_window, metadata or {}, model)
        try:
            answer = self._transport.retry(
                lambda: self._transport.call("POST", "/batches", json=body), idempotent=False
            )
            return self._read(Batch.from_json, answer, "POST /batches")
        except (AnswerLostError, ServerError) as error:
            raise uncertain_create(error, input_file_id, "the response was lost") from error
        except BadRequestError as error:
            if may_have_succeeded(error):
                raise uncertain_create(error, input_file_id, "the response is ambiguous") from error
            raise refused_create(error, model) from None

    def get_batch(self, batch_id: str) -> Batch:
        """Return the current state of a batch."""
        path = _batch_path(batch_id)
        return self._read(Batch.from_json, self._get(path), f"GET {path}")

    def list_batches(self, *, may_be_empty: bool = False) -> Iterator[Batch]:
        """Yield the account's batches in the service's order. Ask for pages until one has no new batch.

        :param may_be_empty: accept `null` as an empty list
        :raises IncompleteListError: after all listed batches, if the service says that there are more
        """
        seen: set[str] = set()
        after: str | None = None
        longest = SHORTEST_PAGE
        for _ in range(MOST_PAGES):
            items, has_more = self._page(after, may_be_empty=may_be_empty)
            known = len(seen)
            for item in items:
                # Decoded one at a time: a service without paging lists all batches of the account at once.
                batch = self._listed(Batch.from_json, item)
                if batch is None:
                    item, items = None, []
                    raise self._no_id()
                after = batch.id
                if batch.id not in seen:
                    seen.add(batch.id)
                    yield batch
            is_new = len(seen) > known
            # A short page is the last one. After a long page there may be more, also if the service does not say so.
            if not has_more and (not is_new or len(items) < longest or len(items) > PAGE_SIZE):
                return
            if not is_new:
                break
            longest = max(longest, len(items))
        item, items = None, []
        raise IncompleteListError(
            f"GET /batches at {self._host} lists only {len(seen):,} batches and says that there are more: "
            "try again later, and report this to the service's support if it happens again"
        )

    def batch_page(self, after: str | None = None) -> tuple[list[Batch], str | None]:
        """Return one page of `list_batches`, and the `after` of the next page or None."""
        items, has_more = self._page(after)
        page = [batch for item in items if (batch := self._listed(Batch.from_json, item)) is not None]
        if len(page) < len(items):
            items.clear()
            raise self._no_id()
        may_have_next = len(page) >= PAGE_SIZE if has_more is None else has_more
        return page, page[-1].id if page and may_have_next else None

    def _page(self, after: str | None, *, may_be_empty: bool = False) -> tuple[list[Any], bool | None]:
        """Return the items of one page and its `has_more`, None if the service does not say."""
        query = {"limit": PAGE_SIZE, **({"after": after} if after else {})}

        def ask() -> tuple[list[Any], bool | None]:
            # The response is in no variable: error reporters send variables, and it holds signed URLs.
            return self._read_page(
                self._transport.call("GET", "/batches", params=query, is_list=True), may_be_empty=may_be_empty
            )

        return self._transport.retry(ask, idempotent=True)

    def _read_page(self, answer: Any, *, may_be_empty: bool) -> tuple[list[Any], bool | None]:
        more, answer = has_more(answer), unwrapped(answer)
        if isinstance(answer, list) or (answer is None and may_be_empty):
            return answer or [], more
        answer = None
        raise self._no_list("GET /batches")

    def cancel_batch(self, batch_id: str) -> Batch:
        """Ask the service to cancel a batch. Requests that are already answered are billed."""
        path = f"{_batch_path(batch_id)}/cancel"
        answer = self._transport.retry(lambda: self._transport.call("POST", path), idempotent=True)
        return self._read(Batch.from_json, answer, f"POST {path}")

    def _get(self, path: str, **arguments: Any) -> Any:
        return self._transport.retry(lambda: self._transport.call("GET", path, **arguments), idempotent=True)

    def _read(
        self, parse: Callable[[Mapping[str, Any]], T], answer: Any, request_name: str, expected: str = "an id"
    ) -> T:
        """Parse an object that may be wrapped as `{"code": 20000, "data": {...}}`."""
        if isinstance(answer, dict) and "id" not in answer and isinstance(answer.get("data"), dict):
            answer = answer["data"]
        found = parsed(parse, answer)
        # Error reporters send local variables, and the response holds signed URLs.
        answer = None
        if found is None:
            raise UnreadableAnswerError(
                f"{request_name} at {self._host} was answered without {expected}: check the base URL"
            )
        return found

    def _items(self, answer: Any, request_name: str) -> list[Any]:
        """Return the items of a list that may be wrapped in `data`; null counts as an empty list."""
        answer = unwrapped(answer)
        if answer is None or isinstance(answer, list):
            return answer or []
        answer = None
        raise self._no_list(request_name)

    def _no_list(self, request_name: str) -> UnreadableAnswerError:
        return UnreadableAnswerError(f"{request_name} at {self._host} was answered without a list: check the base URL")

    def _listed(self, parse: Callable[[Mapping[str, Any]], T], item: Any) -> T | None:
        return parsed(parse, self._transport.decoded(bytes(item)) if isinstance(item, msgspec.Raw) else item)

    def _no_id(self) -> UnreadableAnswerError:
        # It may be the batch that the caller is looking for: skipping it could pay for that batch again.
        return UnreadableAnswerError(
            f"GET /batches at {self._host} lists a batch without an id, so the list cannot be trusted: "
            "try again later, and report this to the service's support if it happens again"
        )

    @property
    def _host(self) -> str:
        return address(self.base_url)


def _batch_path(batch_id: str) -> str:
    check_id("batch_id", batch_id)
    return f"/batches/{quote(batch_id, safe='')}"
