"""Choose the rows that a report shows, and shorten them. Memory does not grow with the size of the job."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.drawing.texts import shortened
from siliconflow_provider.outputs import STATUSES, ResultRow, ResultStore, text_of

SUCCEEDED_ROWS, OTHER_ROWS = 10, 20
LONGEST_TEXT, LONGEST_ERROR, LONGEST_ID = 500, 300, 80
# Of each text of an input row, so that a long one leaves room for the others.
LONGEST_COLUMN = 200
# Secrets are searched for in the beginning of a text only.
_SEARCHED = 20_000
_CODE = b"\\x%02x" % STATUSES.index("succeeded")
_SUCCEEDED, _OTHERS = re.compile(_CODE), re.compile(b"[^%s]" % _CODE)


@dataclass(frozen=True)
class ShownRow:
    """One result row, its texts without secrets and shortened."""

    index: int | None
    custom_id: str
    status: str
    answer: str
    error: str
    finish_reason: str
    input: str


class ReportRows:
    """The first rows that succeeded, and the first that did not.

    :param results: the results of the job, all of them collected
    :param without_secrets: removes the key and the queries of URLs from a text
    """

    def __init__(self, results: ResultStore, without_secrets: Callable[[str], str] = without_queries) -> None:
        self._results = results
        self._without_secrets = without_secrets
        self._succeeded = _first(_SUCCEEDED, results.status_codes, SUCCEEDED_ROWS)
        self._others = _first(_OTHERS, results.status_codes, OTHER_ROWS)
        self._inputs: dict[int, str] = {}

    def note_inputs(self, inputs: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the input rows of all requests, as they are, and remember the shown ones.

        :param inputs: the input row of each request, as JSON
        """
        position = 0
        for index in sorted([*self._succeeded, *self._others]):
            yield from islice(inputs, index - position)
            for line in islice(inputs, 1):
                self._inputs[index] = self._shown_input(line)
                yield line
            position = index + 1
        yield from inputs

    def succeeded(self) -> list[ShownRow]:
        """Return the first rows that succeeded."""
        return list(map(self._shown, self._succeeded))

    def others(self) -> list[ShownRow]:
        """Return the first rows that did not succeed."""
        return list(map(self._shown, self._others))

    def _shown(self, index: int) -> ShownRow:
        row = self._results.row(index)
        error = row.error
        return ShownRow(
            index=row.index,
            custom_id=self._short(row.custom_id, LONGEST_ID),
            status=row.status,
            answer=self._short(_answer_of(row), LONGEST_TEXT),
            error=""
            if error is None
            else self._short(": ".join(filter(None, (error.code, error.message))), LONGEST_ERROR),
            finish_reason=self._short(row.finish_reason or "", LONGEST_ID),
            input=self._inputs.get(index, ""),
        )

    def _shown_input(self, line: bytes) -> str:
        """Return an input row with each of its texts shortened."""
        text = line.decode(errors="replace")
        # Escapes may hide a URL, and a long text would leave no room for the others.
        if b"\\" in line or len(line) > LONGEST_TEXT:
            try:
                value = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                value = text
            if isinstance(value, dict):
                value = {name: self._short_text(inner) for name, inner in value.items()}
            text = text_of(value) or ""
        return self._short(text.strip(), LONGEST_TEXT)

    def _short_text(self, value: Any) -> Any:
        return self._short(value, LONGEST_COLUMN) if isinstance(value, str) else value

    def _short(self, text: str, characters: int) -> str:
        return clean(text, characters, self._without_secrets)


def clean(text: str, characters: int, without_secrets: Callable[[str], str]) -> str:
    """Return the first characters of a text, without secrets."""
    hidden, more = without_secrets(text[:_SEARCHED]), max(len(text) - _SEARCHED, 0)
    # A secret that is cut at the end of the searched text may be unknown, and is not to come into sight.
    return shortened("" if more and len(hidden) <= characters else hidden, characters, more)


def _first(pattern: re.Pattern[bytes], status_codes: bytearray, count: int) -> list[int]:
    return [found.start() for found in islice(pattern.finditer(status_codes), count)]


def _answer_of(row: ResultRow) -> str:
    """Return the content of an answer; else its refusal, tool calls or reasoning."""
    values: list[Any] = [row.content, row.refusal, row.tool_calls, row.reasoning_content]
    return next((text_of(value) or "" for value in values if value not in (None, "", msgspec.UNSET)), "")
