"""Search the account's list for batches of a submitter, with single requests for items that lack metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pendulum

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import NotFoundError, SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.metadata import AIRFLOW_KEY

RETENTION = timedelta(days=30)
# The worker's clock may be hours off.
MARGIN = timedelta(days=1)
ITEMS_BEYOND = 300


@dataclass(frozen=True)
class Listing:
    """The result of one search in the account's list.

    :param batches: batches that were searched for
    :param unidentified: batches that may belong to the search, but show no metadata even in a single request
    :param error: why batches may be missing; None if the list is complete
    """

    batches: list[Batch] = field(default_factory=list)
    unidentified: list[Batch] = field(default_factory=list)
    error: SiliconFlowError | None = None

    def raise_if_incomplete(self) -> None:
        """Raise the error that made the list incomplete, if any."""
        if self.error is not None:
            raise self.error


class BatchLister:
    """Search an account's batches, any number of times. Each foreign batch is requested singly only once."""

    def __init__(self, client: SiliconFlowClient) -> None:
        self._client = client
        # By id: None for foreign batches, the batch itself if it shows no metadata.
        self._asked: dict[str, Batch | None] = {}

    def search(
        self,
        is_ours: Callable[[Batch], bool],
        may_be_ours: Callable[[Batch], bool] = lambda item: True,
        since: pendulum.DateTime | None = None,
        *,
        may_be_empty: bool = False,
    ) -> Listing:
        """Search the list. Errors of the service are returned in the result, not raised.

        :param is_ours: returns True if a batch with metadata is one of those searched for
        :param may_be_ours: returns True if a batch without metadata may be one of them
        :param since: ignore older batches that show no metadata; by default those older than 30 days, the time for
            which the service keeps batches
        :param may_be_empty: accept `null` instead of a list, which the service returns for an account without batches
        """
        found: list[Batch] = []
        candidates: list[Batch] = []
        error: SiliconFlowError | None = None
        try:
            for item in self._recent_or_ours(is_ours, since, may_be_empty):
                if is_ours(item):
                    found.append(self._with_times(item, since))
                # Even if other items show metadata: the list may get it later than the batch itself.
                elif AIRFLOW_KEY not in item.metadata and may_be_ours(item):
                    candidates.append(item)
            found += self._ask_for(candidates, is_ours)
        except SiliconFlowError as failure:
            error = failure
        asked = (self._asked.get(item.id) for item in candidates)
        return Listing(found, [batch for batch in asked if batch is not None], error)

    def oldest(self, since: pendulum.DateTime | None = None) -> pendulum.DateTime:
        """Return the creation time, by the service's clock, before which `search` ignores batches without metadata."""
        oldest = self._client.now() - RETENTION
        return oldest if since is None else max(oldest, since - MARGIN)

    def _with_times(self, item: Batch, since: pendulum.DateTime | None) -> Batch:
        # The oldest batch wins, so its time must be right. Some list items have no time, or an impossible one.
        created_at = item.timing.created_at
        if created_at is not None and created_at >= self.oldest(since):
            return item
        try:
            return self._client.get_batch(item.id)
        except NotFoundError:
            return item

    def _ask_for(self, candidates: Iterable[Batch], is_ours: Callable[[Batch], bool]) -> Iterator[Batch]:
        for item in candidates:
            if item.id in self._asked:
                continue
            batch = self._client.get_batch(item.id)
            if is_ours(batch):
                yield batch
            else:
                shown = replace(batch, file_name=item.file_name or batch.file_name)
                self._asked[item.id] = None if AIRFLOW_KEY in batch.metadata else shown

    def _recent_or_ours(
        self, is_ours: Callable[[Batch], bool], since: pendulum.DateTime | None, may_be_empty: bool
    ) -> Iterator[Batch]:
        """Yield the recent batches, in any order of the list, and the submitter's batches of any age.

        The times in the list or the worker's clock may be wrong.
        """
        oldest: pendulum.DateTime | None = None
        previous: pendulum.DateTime | None = None
        is_newest_first, has_gone_back, old_in_a_row = True, False, 0
        for item in self._client.list_batches(may_be_empty=may_be_empty):
            # Computed here, since only a response shows the service's clock.
            oldest = oldest or self.oldest(since)
            created_at = item.timing.created_at
            is_recent = created_at is None or created_at >= oldest
            old_in_a_row = 0 if is_recent else old_in_a_row + 1
            if is_recent or is_ours(item):
                yield item
            if created_at is None:
                is_newest_first = False
            elif previous is not None:
                is_newest_first &= created_at <= previous
                has_gone_back |= created_at < previous
            previous = created_at
            # In a list that is sorted so far, after so many old items no recent one will follow.
            if is_newest_first and has_gone_back and old_in_a_row >= ITEMS_BEYOND:
                return
