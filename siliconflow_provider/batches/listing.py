"""The account's batches that may be a submitter's, as the list shows them and as single requests complete them."""

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
# A clock of the worker may be hours off.
MARGIN = timedelta(days=1)
ITEMS_BEYOND = 300


@dataclass(frozen=True)
class Listing:
    """The result of one search in the account's list.

    :param batches: those that were looked for
    :param unidentified: those that may be, and show no metadata even when they are asked for singly
    :param error: why others may be missing; None when the list is whole
    """

    batches: list[Batch] = field(default_factory=list)
    unidentified: list[Batch] = field(default_factory=list)
    error: SiliconFlowError | None = None

    def raise_if_incomplete(self) -> None:
        """Raise what kept the list from being whole."""
        if self.error is not None:
            raise self.error


class BatchLister:
    """Lists an account's batches for one attempt, which asks for none of them singly more than once."""

    def __init__(self, client: SiliconFlowClient) -> None:
        self._client = client
        # Ids of others' batches, and our own that show no metadata, as they were when they were asked for.
        self._asked: dict[str, Batch | None] = {}

    def search(
        self,
        is_ours: Callable[[Batch], bool],
        may_be_ours: Callable[[Batch], bool] = lambda item: True,
        since: pendulum.DateTime | None = None,
        *,
        may_be_empty: bool = False,
    ) -> Listing:
        """Look through the list, which fails by no exception.

        :param is_ours: whether a batch with its metadata is one of those looked for
        :param may_be_ours: whether a batch without its metadata may be
        :param since: nothing older is looked for that shows no metadata; by default the time for which the service
            keeps batches
        :param may_be_empty: take `null` in place of the list for an account without batches
        """
        found: list[Batch] = []
        candidates: list[Batch] = []
        error: SiliconFlowError | None = None
        try:
            for item in self._counted(is_ours, since, may_be_empty):
                if is_ours(item):
                    found.append(self._with_times(item, since))
                # Also where others show metadata: the list may come to it later than to the batch.
                elif AIRFLOW_KEY not in item.metadata and may_be_ours(item):
                    candidates.append(item)
            found += self._ask_for(candidates, is_ours)
        except SiliconFlowError as failure:
            error = failure
        asked = (self._asked.get(each.id) for each in candidates)
        return Listing(found, [each for each in asked if each is not None], error)

    def oldest(self, since: pendulum.DateTime | None = None) -> pendulum.DateTime:
        """Return from which moment on `search` finds a batch that shows no metadata, by the service's clock."""
        oldest = self._client.now() - RETENTION
        return oldest if since is None else max(oldest, since - MARGIN)

    def _with_times(self, item: Batch, since: pendulum.DateTime | None) -> Batch:
        # Which one is the oldest is told by its time. Some list items come without, or with one that cannot be.
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

    def _counted(
        self, is_ours: Callable[[Batch], bool], since: pendulum.DateTime | None, may_be_empty: bool
    ) -> Iterator[Batch]:
        """Yield the batches since a moment, whatever the order of the list, and those of ours whatever their time.

        The list's times may be wrong, or the worker's clock.
        """
        oldest: pendulum.DateTime | None = None
        previous: pendulum.DateTime | None = None
        is_newest_first, has_gone_back, beyond = True, False, 0
        for item in self._client.list_batches(may_be_empty=may_be_empty):
            # Only an answer tells the service's clock.
            oldest = oldest or self.oldest(since)
            created_at = item.timing.created_at
            is_recent = created_at is None or created_at >= oldest
            beyond = 0 if is_recent else beyond + 1
            if is_recent or is_ours(item):
                yield item
            if created_at is None:
                is_newest_first = False
            elif previous is not None:
                is_newest_first &= created_at <= previous
                has_gone_back |= created_at < previous
            previous = created_at
            # So many in a row that are older, in a list that has been in order so far, are the end of what is recent.
            if is_newest_first and has_gone_back and beyond >= ITEMS_BEYOND:
                return
