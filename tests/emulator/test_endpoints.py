from __future__ import annotations

import pytest

from siliconflow_provider.emulator.endpoints import ENDPOINTS, endpoint_of, is_of


@pytest.mark.parametrize(
    ("request_line", "endpoint"),
    [
        ("POST /batches", "POST /batches"),
        ("GET /batches", "GET /batches"),
        ("GET /batches/batch_x", "GET /batches/{id}"),
        ("POST /batches/batch_x/cancel", "POST /batches/{id}/cancel"),
        ("GET /files/file-x/content", "GET /files/{id}/content"),
        ("GET /results/file-x", "GET /results/{id}"),
        ("GET /batches/", None),
        ("GET /batches/a/b", None),
        ("DELETE /files", None),
        ("GET /control/rules", None),
    ],
)
def test_request_belongs_to_one_endpoint(request_line: str, endpoint: str | None) -> None:
    assert endpoint_of(request_line) == endpoint
    assert [candidate for candidate in ENDPOINTS if is_of(request_line, candidate)] == ([endpoint] if endpoint else [])


def test_pattern_may_match_one_object_or_any() -> None:
    assert is_of("GET /batches/a", "GET /batches/a")
    assert is_of("GET /batches/a", "GET /batches/{batch_id}")
    assert not is_of("GET /batches/b", "GET /batches/a")
    assert not is_of("GET /batchesXa", "GET /batches.a")
