from __future__ import annotations

import io
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import IncompleteListError, PermissionDeniedError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.listing import ITEMS_BEYOND, BatchLister
from siliconflow_provider.emulator.forms import Forms

DAY = 24 * 3600
CREATED = 1_800_000_000


def is_ours(batch: Batch) -> bool:
    return batch.metadata.get("airflow_key") == "ours"


def others(service: Any, count: int, **fields: Any) -> None:
    """Add foreign batches to the account, one per minute, the youngest first."""
    for number in range(count):
        service.has(id=f"batch_{number}", created_at=CREATED - 60 * number, **fields)


class TestOrder:
    def test_a_sorted_list_is_read_to_old_items(self, service: Any, account: SiliconFlowClient) -> None:
        """Of twenty thousand batches, only the recent ones cost requests."""
        service.page_size = 100
        others(service, 20_000, metadata={"airflow_key": "other"})
        since = pendulum.from_timestamp(CREATED)
        assert BatchLister(account).search(is_ours, since=since).batches == []
        assert len(service.requests) == (DAY // 60 + ITEMS_BEYOND) // 100 + 1

    @pytest.mark.parametrize("forms", [Forms(list_oldest_first=True), Forms(list_unordered=True)], ids=repr)
    def test_an_unsorted_list_is_read_to_its_end(
        self, client: SiliconFlowClient, sums: Any, clock: Any, forms: Forms
    ) -> None:
        file_id = client.upload_file(io.BytesIO(sums(1))).id
        for _ in range(330):
            client.create_batch(file_id, metadata={"airflow_key": "other"})
        clock.advance(40 * DAY)
        file_id = client.upload_file(io.BytesIO(sums(1))).id
        ours = client.create_batch(file_id, metadata={"airflow_key": "ours"})
        listing = BatchLister(client).search(is_ours)
        assert ([batch.id for batch in listing.batches], listing.error) == ([ours.id], None)

    def test_items_without_times_are_read_to_the_end(self, service: Any, account: SiliconFlowClient) -> None:
        service.hidden, service.page_size = ("created_at",), 100
        others(service, 500, metadata={"airflow_key": "other"})
        service.has(id="batch_ours", created_at=CREATED - 10 * DAY, metadata={"airflow_key": "ours"})
        listing = BatchLister(account).search(is_ours)
        assert [batch.timing.created_at.int_timestamp for batch in listing.batches] == [CREATED - 10 * DAY]


class TestMetadata:
    def test_repeated_searches_request_each_item_once(self, service: Any, account: SiliconFlowClient) -> None:
        service.hidden = ("metadata",)
        others(service, 50, metadata={"airflow_key": "other"})
        lister = BatchLister(account)
        for _ in range(3):
            assert lister.search(is_ours).batches == []
        assert len(service.requests) == 2 * 3 + 50

    def test_foreign_items_are_not_requested_singly(self, service: Any, account: SiliconFlowClient) -> None:
        others(service, 5, file_name="other")
        service.has(id="batch_other", metadata={"airflow_key": "other"}, file_name="mine")
        service.has(id="batch_ours", created_at=CREATED - 5 * DAY, metadata={"airflow_key": "ours"})
        listing = BatchLister(account).search(is_ours, lambda item: item.file_name == "mine")
        assert [batch.id for batch in listing.batches] == ["batch_ours"]
        assert service.requests == ["GET /batches"]

    def test_items_without_metadata_are_requested_among_others(self, service: Any, account: SiliconFlowClient) -> None:
        """A list may show a new batch before it shows the batch's metadata."""
        service.has(id="batch_new", metadata={"airflow_key": "ours"}, file_name="mine")
        service.has(id="batch_bare", created_at=CREATED - 1, file_name="mine")
        service.has(id="batch_other", created_at=CREATED - 2, metadata={"airflow_key": "other"})
        service.hidden_of = {"batch_new": ("metadata",)}
        lister = BatchLister(account)
        for _ in range(2):
            listing = lister.search(is_ours, lambda item: item.file_name == "mine")
            assert [batch.id for batch in listing.batches] == ["batch_new"]
            assert [entry.id for entry in listing.unidentified] == ["batch_bare"]
        assert service.requests.count("GET /batches/batch_bare") == 1
        assert "GET /batches/batch_other" not in service.requests

    @pytest.mark.parametrize("shown", [1, 1_000_000_000])
    def test_own_batches_count_whatever_their_listed_age(self, service: Any, account: Any, shown: int) -> None:
        service.has(id="batch_ours", metadata={"airflow_key": "ours"})
        service.shown_of = {"batch_ours": {"created_at": shown}}
        listing = BatchLister(account).search(is_ours)
        assert [batch.timing.created_at.int_timestamp for batch in listing.batches] == [CREATED]

    def test_own_batches_count_despite_a_fast_clock(self, service: Any, account: Any, clock: Any) -> None:
        service.has(id="batch_ours", metadata={"airflow_key": "ours"})
        clock.advance(31 * DAY)
        assert [batch.id for batch in BatchLister(account).search(is_ours).batches] == ["batch_ours"]

    def test_batches_without_any_metadata_are_unidentified(self, service: Any, account: SiliconFlowClient) -> None:
        service.has(id="batch_1", file_name="mine")
        service.has(id="batch_2", file_name="other")
        lister = BatchLister(account)
        for _ in range(2):
            listing = lister.search(is_ours, lambda item: item.file_name == "mine")
            assert [(entry.id, entry.file_name) for entry in listing.unidentified] == [("batch_1", "mine")]
        assert service.requests == ["GET /batches", "GET /batches/batch_1", "GET /batches"]


class TestFailures:
    def test_items_listed_before_a_failure_are_kept(self, client: SiliconFlowClient, sums: Any, control: Any) -> None:
        file_id = client.upload_file(io.BytesIO(sums(1))).id
        for number in range(101):
            client.create_batch(file_id, metadata={"airflow_key": "ours" if number == 100 else "other"})
        control.fault("GET /batches", status=403, nth=2)
        listing = BatchLister(client).search(is_ours)
        assert len(listing.batches) == 1
        assert isinstance(listing.error, PermissionDeniedError)
        with pytest.raises(PermissionDeniedError):
            listing.raise_if_incomplete()

    @pytest.mark.parametrize("forms", [Forms(pages_of_twenty=True, after_ignored=True)])
    def test_an_incomplete_list_has_an_error(self, client: SiliconFlowClient, sums: Any, forms: Forms) -> None:
        file_id = client.upload_file(io.BytesIO(sums(1))).id
        for _ in range(21):
            client.create_batch(file_id)
        assert isinstance(BatchLister(client).search(is_ours).error, IncompleteListError)
