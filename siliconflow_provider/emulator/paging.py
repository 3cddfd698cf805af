"""Pages of the list of batches, in the chosen forms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.state import Batch

PAGE_OF_TWENTY = 20

# Returns batches, newest first: those older than a batch, up to a number. A negative number means all.
Newest = Callable[[str | None, int], list[Batch]]


def page_of(newest: Newest, after: str | None, limit: int | None, forms: Forms) -> tuple[list[Batch], bool]:
    """Return the page after a batch, and True if there are more."""
    if forms.pages_of_twenty:
        limit = min(limit or PAGE_OF_TWENTY, PAGE_OF_TWENTY)
    if forms.after_ignored:
        after = None
    if not (forms.list_oldest_first or forms.list_unordered or forms.second_page_missing):
        batches = newest(after, -1 if limit is None else limit + 1)
        return batches[:limit], len(batches) > len(batches[:limit])
    batches = newest(None, -1)
    if forms.list_oldest_first:
        batches.reverse()
    if forms.list_unordered:
        batches.sort(key=lambda batch: hashlib.sha256(batch.id.encode()).digest())
    if forms.second_page_missing and limit is not None:
        batches = batches[:limit] + batches[2 * limit :]
    start = next((number for number, batch in enumerate(batches, 1) if batch.id == after), 0)
    page = batches[start : None if limit is None else start + limit]
    return page, start + len(page) < len(batches)
