from __future__ import annotations

import pytest

from siliconflow_provider.plugins.summaries import Summary
from siliconflow_provider.plugins.task_page import JobView, task_parts
from tests.documents import Parsed


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("s3://bucket/results.jsonl?X-Amz-Signature=0123456789abcdef", "s3://bucket/results.jsonl?..."),
        ("s3://user:pass/word@bucket/results.jsonl", "s3://***@bucket/results.jsonl"),
        ("s3://conn@bucket/results.jsonl", "s3://conn@bucket/results.jsonl"),
        ("/out/a:b@c/results.jsonl", "/out/a:b@c/results.jsonl"),
        ("x" * 1_000_000, "x" * 1_000 + "... (999,000 more characters)"),
    ],
    ids=lambda text: text[:30],
)
def test_paths_are_shown_without_secrets(path: str, shown: str) -> None:
    view = JobView("conn", summary=Summary({"results_path": path}))
    (part,) = task_parts(view, "/siliconflow", is_over=True)
    assert Parsed(str(part)).text.endswith(f"Results: {shown}")
