"""The lines of a batch's files, brought together as rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import msgspec

from siliconflow_provider.jobs.answers import ResultRow, parse_answer
from siliconflow_provider.jobs.manifest import Tally

log = logging.getLogger(__name__)

SHOWN_LINES = 10


def rows_of_batch(
    batch_id: str, output_lines: Iterable[bytes], error_lines: Iterable[bytes], tally: Tally
) -> Iterator[ResultRow]:
    """Yield one row for each request that a batch's files mention: answers first, each request once.

    Lines that name no request are counted and logged, and so are further lines of one request.

    :param tally: counts the rows and what was left out
    """
    seen: set[str] = set()
    duplicates_before = tally.duplicates
    for name, lines in (("output", output_lines), ("error", error_lines)):
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = parse_answer(line, batch_id)
            except msgspec.DecodeError as error:
                tally.unreadable_lines += 1
                if tally.unreadable_lines <= SHOWN_LINES:
                    log.warning("line %d of the %s file of %s is unreadable: %s", number, name, batch_id, error)
                continue
            if row.custom_id in seen:
                tally.duplicates += 1
                continue
            seen.add(row.custom_id)
            tally.add(row)
            yield row
    duplicates = tally.duplicates - duplicates_before
    if duplicates:
        log.warning("batch %s: %d lines repeat a request and were left out", batch_id, duplicates)
