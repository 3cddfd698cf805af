from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.api.errors import InvalidRequestError
from siliconflow_provider.api.limits import check_endpoint, check_file_size, check_id, check_metadata

GB = 10**9


def message_of(check: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        check(*arguments)
    return str(caught.value)


def test_only_the_batch_endpoint_is_accepted() -> None:
    check_endpoint("/v1/chat/completions")
    assert message_of(check_endpoint, "/v1/embeddings") == (
        "the service has no batches for endpoint '/v1/embeddings': use '/v1/chat/completions'"
    )


@pytest.mark.parametrize(
    "metadata",
    [{}, {"k" * 64: "v" * 512}, {f"k{number}": "" for number in range(16)}, {"ключ" * 16: "é" * 512}],
)
def test_metadata_at_its_limits_is_accepted(metadata: dict[str, str]) -> None:
    check_metadata(metadata)


def test_seventeenth_pair_is_refused() -> None:
    message = message_of(check_metadata, {f"k{number}": "" for number in range(17)})
    assert message.startswith("metadata has 17 pairs, the service accepts at most 16: drop 1 of 'k0', 'k1', ")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"k" * 65: "v"},
            f"metadata key '{'k' * 36}... has 65 characters, the service accepts at most 64: shorten it",
        ),
        (
            {"note": "v" * 513},
            f"metadata['note'] = '{'v' * 36}... has 513 characters, the service accepts at most 512: shorten it",
        ),
        ({"shard": 7}, "metadata['shard'] = 7 is of type int, the service accepts strings: pass str(...)"),
        ({"note": None}, "metadata['note'] = None is of type NoneType, the service accepts strings: pass str(...)"),
        ({7: "shard"}, "metadata key 7 is of type int, the service accepts strings: pass str(...)"),
    ],
)
def test_too_long_pair_is_named_with_its_limit(metadata: Any, message: str) -> None:
    assert message_of(check_metadata, metadata) == message


def test_smallest_and_largest_file_are_accepted() -> None:
    check_file_size("a.jsonl", 1)
    check_file_size("a.jsonl", GB)


@pytest.mark.parametrize(
    ("size", "shown", "remedy"),
    [(0, "0", "write requests to it first"), (GB + 1, "1,000,000,001", "cut it into parts")],
)
def test_file_of_another_size_is_refused(size: int, shown: str, remedy: str) -> None:
    assert message_of(check_file_size, "a.jsonl", size) == (
        f"file a.jsonl has {shown} bytes, the service accepts 1 to 1,000,000,000: {remedy}"
    )


@pytest.mark.parametrize("value", ["", "  ", None, 7, b"file-1", "half \ud83d"])
def test_invalid_id_is_refused_with_its_name(value: Any) -> None:
    assert message_of(check_id, "batch_id", value) == f"batch_id is {value!r}: give the id that the service returned"


@pytest.mark.parametrize("value", [["https://a/b?Signature=s3cret"], {"url": "https://a/b?Signature=s3cret"}])
def test_collection_as_an_id_is_not_shown(value: Any) -> None:
    assert message_of(check_id, "file_ref", value).startswith(f"file_ref is of type {type(value).__name__}: give")
