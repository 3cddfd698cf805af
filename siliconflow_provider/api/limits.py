"""Check arguments against the service's limits, before a request is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping

from siliconflow_provider.api.errors import InvalidRequestError
from siliconflow_provider.api.service_texts import first_names

_SURROGATES = re.compile("[\ud800-\udfff]")
ENDPOINTS = ("/v1/chat/completions",)
MAXIMUM_FILE_LINES = 5_000
MAXIMUM_FILE_BYTES = 10**9
MAXIMUM_METADATA_PAIRS = 16
MAXIMUM_METADATA_KEY = 64
MAXIMUM_METADATA_VALUE = 512


def check_endpoint(endpoint: str) -> None:
    """Raise InvalidRequestError if the service has no batches for this endpoint."""
    if endpoint not in ENDPOINTS:
        raise InvalidRequestError(
            f"the service has no batches for endpoint {endpoint!r}: use {' or '.join(map(repr, ENDPOINTS))}"
        )


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise InvalidRequestError if the service would refuse this metadata."""
    if len(metadata) > MAXIMUM_METADATA_PAIRS:
        raise InvalidRequestError(
            f"metadata has {len(metadata):,} pairs, the service accepts at most {MAXIMUM_METADATA_PAIRS}: "
            f"drop {len(metadata) - MAXIMUM_METADATA_PAIRS:,} of {first_names(map(repr, metadata))}"
        )
    for key, value in metadata.items():
        _check_text(f"metadata key {_shown(key)}", key, MAXIMUM_METADATA_KEY)
        _check_text(f"metadata[{_shown(key)}] = {_shown(value)}", value, MAXIMUM_METADATA_VALUE)


def check_file_size(name: str, size: int) -> None:
    """Raise InvalidRequestError if the service would refuse a file of this size."""
    if not 0 < size <= MAXIMUM_FILE_BYTES:
        remedy = "write requests to it first" if size == 0 else "cut it into parts"
        raise InvalidRequestError(
            f"file {name} has {size:,} bytes, the service accepts 1 to {MAXIMUM_FILE_BYTES:,}: {remedy}"
        )


def check_id(name: str, value: str) -> None:
    """Raise InvalidRequestError if the value cannot be an object's id."""
    if not isinstance(value, str) or not value.strip() or _SURROGATES.search(value):
        # A collection may hold a signed URL.
        shown = f"of type {type(value).__name__}" if isinstance(value, (dict, list)) else repr(value)
        raise InvalidRequestError(f"{name} is {shown}: give the id that the service returned")


def _check_text(field: str, value: object, limit: int) -> None:
    if not isinstance(value, str):
        raise InvalidRequestError(
            f"{field} is of type {type(value).__name__}, the service accepts strings: pass str(...)"
        )
    if len(value) > limit:
        raise InvalidRequestError(
            f"{field} has {len(value):,} characters, the service accepts at most {limit}: shorten it"
        )


def shortened(text: str) -> str:
    """Return at most 40 characters of a text, for messages."""
    return text if len(text) <= 40 else f"{text[:37]}..."


def _shown(value: object) -> str:
    return shortened(repr(value))
