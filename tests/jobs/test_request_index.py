from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.jobs.request_index import Digest, RequestIndex, body_digest, decode_request

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "1 + 1"}], "max_tokens": 5}
SCHEMA = {"schema": {"reason": {}, "answer": {}}}


def line(body: Any, custom_id: str = "a", **options: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "body": body}, **options).encode() + b"\n"


def digest_of(line: bytes) -> Digest:
    return body_digest(decode_request(line))


@pytest.mark.parametrize(
    "other",
    [
        line(BODY, custom_id="b"),
        line(BODY, indent=1).replace(b"\n", b" "),
        line(dict(reversed(BODY.items()))),
        line({**BODY, "messages": [{"content": "1 + 1", "role": "user"}]}),
        line(BODY).replace(b"1 + 1", b"\\u0031 + 1"),
    ],
    ids=["custom_id", "spaces", "order of fields", "order of a message's fields", "escapes"],
)
def test_equal_bodies_have_one_digest(other: bytes) -> None:
    assert digest_of(other) == digest_of(line(BODY))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"model": "n"}),
        ({}, {"max_tokens": 5.0}),
        ({}, {"messages": [*BODY["messages"], *BODY["messages"]]}),
        ({}, {"messages": [{"role": "user", "content": "1 + 1 "}]}),
        ({"format": SCHEMA}, {"format": {"schema": {"answer": {}, "reason": {}}}}),
    ],
    ids=["model", "number", "messages", "text", "order of a schema"],
)
def test_different_bodies_have_different_digests(one: Any, other: Any) -> None:
    """A model may answer in the order of a schema."""
    assert digest_of(line({**BODY, **one})) != digest_of(line({**BODY, **other}))


@pytest.fixture
def index(tmp_path: Path) -> Any:
    """Return an index of these bodies."""

    def make(*texts: str) -> RequestIndex:
        path = tmp_path / "requests"
        path.write_bytes(b"".join(line({"text": text}, custom_id=f"r{i}") for i, text in enumerate(texts)))
        return RequestIndex(path, len(texts))

    return make


def test_equal_requests_are_answered_in_order(index: Any) -> None:
    a = digest_of(line({"text": "a"}))
    with index("a", "b", "a", "c", "a") as requests:
        found = []
        while (position := requests.next_unanswered(a)) is not None:
            found.append((position, requests.custom_id(position)))
            requests.set_answered(position)
        assert found == [(0, "r0"), (2, "r2"), (4, "r4")]
        assert list(requests.unanswered()) == [1, 3]
        assert requests.next_unanswered(digest_of(line({"text": "z"}))) is None


def test_a_representative_is_the_last_answered_request(index: Any) -> None:
    with index("a", "b", "a", "a") as requests:
        requests.set_answered(0)
        assert [requests.representative(position) for position in range(4)] == [0, 1, 0, 0]
        assert (requests.has_answers(0, 1), requests.has_answers(1, 3)) == (True, False)


def test_a_thousand_bodies_are_told_apart(index: Any) -> None:
    texts = [str(number % 700) for number in range(1_000)]
    with index(*texts) as requests:
        for number in range(700):
            digest = digest_of(line({"text": str(number)}))
            requests.set_answered(requests.next_unanswered(digest))
        assert list(requests.unanswered()) == list(range(700, 1_000))
        assert [requests.representative(position) for position in range(700, 1_000)] == list(range(300))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_small_jobs_have_an_index(index: Any, count: int) -> None:
    with index(*"abc"[:count]) as requests:
        assert list(requests.unanswered()) == list(range(count))
        assert requests.next_unanswered(digest_of(line({"text": "z"}))) is None
