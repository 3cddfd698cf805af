"""Collect the problems of a source, so that one error names them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass

from siliconflow_provider.api.service_texts import cut, printable
from siliconflow_provider.wording import counted

SHOWN_PROBLEMS = 10
LONGEST_PROBLEM = 1_000


class InvalidRequestFileError(ValueError):
    """A source has requests that the service would refuse. The message names the first ones with their reasons."""


@dataclass(frozen=True)
class FileStart:
    """Announces that the next items of a source come from another file.

    :param name: of the file, for messages
    """

    name: str


@dataclass(frozen=True)
class UnreadableItem:
    """An item of a file that cannot be read, while those after it can.

    :param error: raised unless such items are skipped
    :param reason: why it is skipped
    """

    error: InvalidRequestFileError
    reason: str


class Problems:
    """The number of invalid items of a source, and texts for the first ones.

    :ivar noun: names an item in messages: "line" for lines of a file, else "item"
    """

    def __init__(self) -> None:
        self.noun = "item"
        self.count = 0
        self._file_names: list[str] = []
        self._items_before = array("q")
        self._first: list[tuple[int, str]] = []

    def add(self, number: int, reason: str, custom_id: str | None = None) -> None:
        """Add the problem of one item.

        :param number: of the item, from 1
        """
        self.count += 1
        if len(self._first) == SHOWN_PROBLEMS and number > self._first[-1][0]:
            return
        shown_id = f" ({custom_id})" if custom_id else ""
        text = cut(printable(f"{self.name_of(number)}{shown_id}: {reason}"), LONGEST_PROBLEM)
        insort(self._first, (number, text))
        del self._first[SHOWN_PROBLEMS:]

    def start_file(self, name: str, items_before: int) -> None:
        """Count the next items from 1 in messages, with the name of their file.

        :param items_before: number of the items of all files before
        """
        self._file_names.append(name)
        self._items_before.append(items_before)

    def name_of(self, number: int) -> str:
        """Return how messages name an item, such as `line 4,711`, or `line 3 of b.jsonl`."""
        file = bisect_left(self._items_before, number) - 1
        if file < 0:
            return f"{self.noun} {number:,}"
        return f"{self.noun} {number - self._items_before[file]:,} of {self._file_names[file]}"

    def summary(self, items: int, run_again: str = "rerun the task") -> tuple[str, str]:
        """Return two clauses for an error: the number of invalid items, and the remedy.

        :param items: number of all items
        :param run_again: what to do after a correction
        """
        verb, pronoun = ("is", "it") if self.count == 1 else ("are", "them")
        fault = f"{self.count:,} of {counted(items, self.noun)} {verb} invalid"
        return fault, f"fix {pronoun} and {run_again}"

    def texts(self) -> list[str]:
        """Return the texts of the first problems, and one that counts the others."""
        shown = [text for _, text in self._first]
        return [*shown, *([f"and {self.count - len(shown):,} more"] if self.count > len(shown) else [])]


class ItemNumbers:
    """Map the positions of requests to the numbers of their items.

    They differ by the blank and invalid items before a request. Memory grows with the gaps between requests.
    """

    def __init__(self) -> None:
        self._positions = array("q")
        self._shifts = array("q")

    def add(self, position: int, number: int) -> None:
        """Note the item number of a request. The requests after it are assumed to follow without a gap."""
        shift = number - position
        if not self._shifts or self._shifts[-1] != shift:
            self._positions.append(position)
            self._shifts.append(shift)

    def number_of(self, position: int) -> int:
        """Return the number of the item that became the request at a position."""
        return position + self._shifts[bisect_right(self._positions, position) - 1]
