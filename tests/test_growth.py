"""Processing time grows linearly with the length of any text, so that no response can freeze a worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import requests

from siliconflow_provider.api import clock
from siliconflow_provider.api.error_mapping import from_exception, refusal
from siliconflow_provider.api.errors import ServerError
from siliconflow_provider.api.known_secrets import KnownSecrets
from siliconflow_provider.api.lenient_json import decode_any
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.redaction import query_secrets, without_queries
from siliconflow_provider.api.retry import parse_retry_after
from siliconflow_provider.inputs.prompt import Prompt
from siliconflow_provider.outputs.answers import ResultRow, parse_answer
from siliconflow_provider.outputs.output_schema import OutputSchema
from siliconflow_provider.storage.errors import StorageError, storage_errors

# Linear growth is 2, quadratic 4, cubic 8; a busy machine adds to each.
MOST_GROWTH = 3.0
# Shorter times are noise; above some 10 kB, memory is the slow part.
SHORTEST_SECONDS, MOST_WORDS = 0.002, 8_000
SCHEMA = OutputSchema(list[int])
SECRETS = KnownSecrets(["a" * 40 + "b", "1" * 40, "{" * 40])


def refused(body: str, header: str = "") -> None:
    response = requests.Response()
    response.status_code = 500
    response.headers["Retry-After"] = header
    refusal(response, "GET /batches at host", body, ServerError)


def not_stored(path: str) -> None:
    with suppress(StorageError), storage_errors("read", "input_path", path):
        raise OSError


def read(content: Any) -> None:
    SCHEMA.validate(ResultRow(custom_id="a", status="succeeded", content=content))


def answer(text: str) -> None:
    with suppress(ValueError, msgspec.DecodeError):
        parse_answer(text.encode("utf-8", "replace"), "batch_1")


def decoded(text: str) -> None:
    with suppress(ValueError, msgspec.DecodeError):
        decode_any(text.encode("utf-8", "replace"))


READERS: dict[str, Callable[[str], Any]] = {
    "queries": without_queries,
    "errors of a batch": lambda text: Batch.from_json({"id": "b", "errors": [text, {"message": text, "line": text}]}),
    "secrets": lambda text: query_secrets(f"http://a/?{text}"),
    "known secrets": SECRETS.hidden,
    "known secrets in JSON": lambda text: SECRETS.hidden_in_value([text.replace("\ud800", "")], b"\\"),
    "a redirect's secrets": lambda text: KnownSecrets(query_secrets(f"http://a/?{text}")).hidden(text),
    "an error body": refused,
    "an error page": lambda text: refused(f"<{text}"),
    "an error's reason": lambda text: from_exception(ValueError(text), "GET", was_sent=False),
    "retry-after": lambda text: parse_retry_after(text, clock.now()),
    "a date": lambda text: clock.ServiceClock().note(text),
    "a block": lambda text: read(f"```{text}x"),
    "a whole block": lambda text: read(f"```json{text}```"),
    "prose": read,
    "a prompt": lambda text: Prompt(f"{text} {{a}}").fill({"a": text}),
    "a path": lambda text: not_stored(f"s3://{text}"),
    "a line": answer,
    "a line's texts": lambda text: answer(f'{{"custom_id": "{text}", "error": "{text}"}}'),
    "JSON": decoded,
    "JSON that is repaired": lambda text: decoded(f"[NaN,{text}"),
}
WORDS = (
    "http://", "http://a?", "http:\\/\\/", "?", "?a=", "a", "=", "&a=", "\n", " ", "\t\n", "`", "```", "```json", "{",
    "{a", "}", "[", "[0,", '"', "\\", "\\u", "<", "<title>", "<Message>x</", "//", "//:", ":", "@", "1", "1.", "-",
    "1,", "Mon, ", "(", "\ud800", "é", "//:@", "@:", "token", "token=", "sig%3D", "signature%2525", "%25",
    "&token=abcdefgh", ">",
)  # fmt: skip


def seconds(read: Callable[[str], Any], text: str) -> float:
    """Return the shortest of three CPU times."""

    def once() -> float:
        started = time.thread_time()
        read(text)
        return time.thread_time() - started

    return min(once() for _ in range(3))


def growth(read: Callable[[str], Any], word: str) -> float:
    """Return the growth of the time for a text of double length; 1.0 if it is too short to measure."""
    number = 500
    while (before := seconds(read, word * number)) < SHORTEST_SECONDS and number < MOST_WORDS:
        number *= 2
    if before < SHORTEST_SECONDS:
        return 1.0
    return min(seconds(read, word * 2 * number) / before for _ in range(2))


@pytest.mark.parametrize("name", READERS)
def test_reading_takes_linear_time(name: str) -> None:
    growths = {word: growth(READERS[name], word) for word in WORDS}
    slow = {word for word, found in growths.items() if found > MOST_GROWTH}
    # Measure again: another process may have run.
    assert {word for word in slow if growth(READERS[name], word) > MOST_GROWTH} == set()
