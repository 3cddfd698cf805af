"""The lines of a batch's files, brought together as rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from siliconflow_provider.outputs.answer_files import rows_of_file
from siliconflow_provider.outputs.answers import ResultRow
from siliconflow_provider.outputs.manifest import Tally
from siliconflow_provider.outputs.row_errors import RowErrors

log = logging.getLogger(__name__)


def rows_of_batch(
    batch_id: str,
    output: Iterable[bytes],
    errors: Iterable[bytes],
    tally: Tally,
    row_errors: RowErrors | None = None,
) -> Iterator[ResultRow]:
    """Yield one row for each request that a batch's files mention: answers first, each request once.

    Lines that name no request are counted and logged, and so are further lines of one request.

    :param output: the lines of the file, one or several at a time; so is `errors`
    :param tally: counts the rows and what was left out
    :param row_errors: makes the errors of rows fit to be kept
    """
    row_errors = row_errors or RowErrors()
    seen: set[str] = set()
    duplicates_before = tally.duplicates
    for name, blocks in (("output", output), ("error", errors)):
        for row in rows_of_file(blocks, batch_id, name, tally):
            if row.custom_id in seen:
                tally.duplicates += 1
                continue
            seen.add(row.custom_id)
            row_errors.settle(row)
            tally.add(row)
            yield row
    duplicates = tally.duplicates - duplicates_before
    if duplicates:
        log.warning("batch %s: %d lines repeat a request and were left out", batch_id, duplicates)
