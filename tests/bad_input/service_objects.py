"""Batches and files as a service may show them."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.bad_input.json_values import NUMBERS, TEXTS, fields, one_of

MOMENTS = ("created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at")
BATCHES = fields(
    id=st.sampled_from(["batch_1", "batch_2", 7]) | TEXTS,
    status=st.sampled_from(["in_queue", "in_progress", "completed", "failed", "pondering"]),
    completion_window=one_of("24h", "336h", "9" * 5000 + "h"),
    output_file_id=st.sampled_from(["file-1", 7, "https://127.0.0.1:1/a?Signature=s"]),
    errors=st.none() | st.lists(fields(code=st.just("c"), message=TEXTS, line=NUMBERS), max_size=2),
    request_counts=fields(total=NUMBERS, completed=NUMBERS, failed=NUMBERS),
    metadata=st.dictionaries(TEXTS, TEXTS, max_size=2),
    **{name: st.integers(1_741_685_413, 1_741_785_413) | NUMBERS for name in MOMENTS},
)
FILES = fields(id=st.just("file-1"), filename=st.just("a"), bytes=NUMBERS, purpose=TEXTS, createdAt=NUMBERS)
