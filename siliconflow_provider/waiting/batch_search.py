"""Search the account's list, again and again, for batches that have ended. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import floor, inf
from typing import Any

from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.waiting.batch_wait import LONGEST_PAUSE

# The list may show a new batch, or the end of a batch, so many seconds late.
LIST_DELAY = 3600.0
# A batch ends within its window of 14 days, and a cancelled one some time after.
LONGEST_LIFE = 15 * 24 * 3600.0
# Long lists are read less often: one page in so many seconds on average.
SECONDS_A_PAGE = 6.0


@dataclass(eq=False)
class BatchSearch:
    """State of one search, which lists again and again. Each batch that ends is found once.

    All times are Unix times of the service's clock, but those called ours.

    :param metadata: pairs that the batches have; all batches are searched for without any
    :param statuses: final statuses that are wanted
    :param interval: seconds between two listings, at least
    :param lookback: a new search also finds batches that ended this many seconds before it
    :param started_at: our time at which this search begins
    :param ended: batches that have been found; take them with `pop_ended`
    :param unidentified: ids of batches whose metadata the list does not show
    :param error: of the last listing, if it failed
    :param state: what a later search needs to find all that `pop_ended` has not returned by its last call; None before
        the first page
    """

    metadata: Mapping[str, str]
    statuses: Collection[str]
    interval: float
    lookback: float = 0.0
    started_at: float = 0.0
    ended: list[Batch] = field(default_factory=list)
    unidentified: list[str] = field(default_factory=list)
    error: SiliconFlowError | None = None
    state: dict[str, Any] | None = None
    _asked_at: float = 0.0
    _due_at: float = 0.0
    _since: float | None = None
    _found: dict[str, float] = field(default_factory=dict)
    _running: dict[str, float] = field(default_factory=dict)
    _matches: dict[str, bool] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _listing_at: float | None = None
    _listed_at: float | None = None
    _failing_since: float | None = None
    _pages: int = 0
    _page_times: list[float] = field(default_factory=list)

    def restore(self, state: Any) -> bool:
        """Go on from the state that an earlier search has returned. Return False if it is not valid."""
        try:
            since, found = float(state["since"]), {str(key): float(at) for key, at in state["found"].items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        self._since, self._found = since, found
        return True

    def pop_ended(self) -> list[Batch]:
        """Return the batches that were found since the last call, the first to end first."""
        found, self.ended = self.ended, []
        if self._since is not None:
            # A copy, because the next listing may already find batches that only the next call returns.
            self.state = {"since": self._since, "found": dict(self._found)}
        return sorted(found, key=lambda batch: (self._found.get(batch.id, 0.0), batch.id))

    def seconds_until_due(self, now: float) -> float:
        """Return the seconds until the next listing; 0 if it is due.

        :param now: our time
        """
        # A clock that was set back must not delay the next listing.
        return 0.0 if now < self._asked_at else max(0.0, self._due_at - now)

    def record_items(self, items: Sequence[Batch], now: float, asked_at: float) -> None:
        """Record some or all batches of a page of the list; call `end_page` after the last ones.

        :param items: empty only for an empty page
        :param now: the current time
        :param asked_at: our time at which this listing began
        """
        if self._listing_at is None:
            self._listing_at = now
        if self._since is None:
            # The service may have been unreachable since the search began.
            self._since = floor(now - max(asked_at - self.started_at, 0.0)) - self.lookback
        for batch in items:
            self._seen.add(batch.id)
            self._page_times.append(_time_of(batch.timing.created_at, inf))
            self.record_batch(batch)

    def end_page(self) -> bool:
        """Record the end of a page, and return True if a later page may show more."""
        times, self._page_times = self._page_times, []
        self._pages += 1
        if self._listed_at is None:
            oldest = (self._since or 0.0) - LONGEST_LIFE
        else:
            oldest = min(self._listed_at - LIST_DELAY, *self._running.values(), inf)
        # In a list that is not sorted, any page may show more.
        is_newest_first = all(one >= other for one, other in pairwise(times))
        return bool(times) and not (is_newest_first and times[-1] < oldest)

    def record_batch(self, batch: Batch, *, is_single: bool = False) -> None:
        """Record a batch.

        :param is_single: True if it is the response to a request for this batch, which shows its metadata
        """
        if not self._is_relevant(batch):
            return
        matches = self._is_match(batch, is_single=is_single)
        if matches is None:
            self.unidentified.append(batch.id)
        elif matches and not batch.is_terminal:
            self._running[batch.id] = _time_of(batch.timing.created_at, -inf)
        elif matches:
            self._running.pop(batch.id, None)
            self._found[batch.id] = _time_of(batch.timing.ended_at, self._listing_at or 0.0)
            if batch.final_status in self.statuses:
                self.ended.append(batch)

    def finish(self, asked_at: float, error: SiliconFlowError | None = None) -> None:
        """Record the end of a listing, and set the time of the next one.

        :param asked_at: our time at which it began
        :param error: that ended it early
        """
        self.error = error
        pause = max(self.interval, self._pages * SECONDS_A_PAGE)
        if error is not None:
            self._failing_since = asked_at if self._failing_since is None else self._failing_since
            pause = max(pause, min(asked_at - self._failing_since, LONGEST_PAUSE))
        elif self._listing_at is not None:
            self._failing_since, self._listed_at = None, self._listing_at
            # A batch that the service has deleted does not end any more.
            self._running = {key: at for key, at in self._running.items() if key in self._seen}
            self._matches = {key: is_match for key, is_match in self._matches.items() if key in self._seen}
            self._since = max(self._since or 0.0, self._listing_at - LIST_DELAY)
            self._found = {key: at for key, at in self._found.items() if at >= self._since}
        self._asked_at, self._due_at = asked_at, asked_at + pause
        self._listing_at, self._pages, self._page_times, self._seen, self.unidentified = None, 0, [], set(), []

    def _is_relevant(self, batch: Batch) -> bool:
        if batch.id in self._found:
            return False
        ended_at = _time_of(batch.timing.ended_at or batch.timing.created_at, -inf)
        return not batch.is_terminal or batch.id in self._running or ended_at >= (self._since or 0.0)

    def _is_match(self, batch: Batch, *, is_single: bool) -> bool | None:
        """Return whether the batch has the wanted metadata; None if that is not known yet."""
        if not self.metadata:
            return True
        if is_single:
            self._matches[batch.id] = self.metadata.items() <= batch.metadata.items()
        elif batch.metadata:
            return self.metadata.items() <= batch.metadata.items()
        return self._matches.get(batch.id)


def _time_of(moment: Any, otherwise: float) -> float:
    return otherwise if moment is None else float(moment.timestamp())
