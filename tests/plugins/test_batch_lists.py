from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from threading import Event

import pytest

from siliconflow_provider.api.errors import AuthenticationError, InvalidRequestError, PermissionDeniedError, ServerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.exceptions import UnknownConnectionError
from siliconflow_provider.plugins import batch_lists
from siliconflow_provider.plugins.batch_lists import BatchList, BatchLists, read_list, small
from siliconflow_provider.plugins.threads import Threads
from tests.listing_service import ListingService

GOOD = BatchList((Batch("b1", "in_progress"),))


class ManualClock:
    """A clock that a test moves."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """A service whose list can be slow or fail."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.takes = 0.0
        self.calls: list[str] = []
        self.answers = Event()
        self.answers.set()
        self.error: Exception | None = None

    def __call__(self, conn_id: str) -> BatchList:
        self.calls.append(conn_id)
        self.answers.wait(10)
        self.clock.now += self.takes
        if self.error is not None:
            raise self.error
        return GOOD


@pytest.fixture
def source(hands: ManualClock) -> Iterator[Service]:
    found = Service(hands)
    yield found
    found.answers.set()


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr(batch_lists, "monotonic", clock)
    return clock


@pytest.fixture
def lists(source: Service, hands: ManualClock) -> BatchLists:
    return BatchLists(source, Threads(2))


def get(lists: BatchLists, conn_id: str = "conn") -> BatchList:
    return asyncio.run(lists.get(conn_id))


def test_many_viewers_share_one_list(lists: BatchLists, source: Service) -> None:
    async def view() -> list[BatchList]:
        return await asyncio.gather(*(lists.get("conn") for _ in range(50)))

    assert asyncio.run(view()) == [GOOD] * 50
    assert get(lists) == GOOD
    assert source.calls == ["conn"]


def test_a_list_is_read_again_after_some_seconds(lists: BatchLists, source: Service, hands: ManualClock) -> None:
    get(lists)
    hands.now += batch_lists.FRESH_SECONDS
    get(lists)
    assert len(source.calls) == 2


def test_a_slow_list_is_read_less_often(lists: BatchLists, source: Service, hands: ManualClock) -> None:
    source.takes = 20
    get(lists)
    hands.now += 99
    get(lists)
    assert len(source.calls) == 1
    hands.now += 1
    get(lists)
    assert len(source.calls) == 2


def test_a_slow_service_blocks_no_page(
    lists: BatchLists, source: Service, hands: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_lists, "PATIENCE_SECONDS", 0.01)
    get(lists)
    hands.now += 100
    source.answers.clear()
    for _ in range(3):
        shown = get(lists)
        assert shown.batches == GOOD.batches
        assert shown.problem == "The service has not answered yet."
    assert len(source.calls) == 2


def test_stuck_lists_take_only_their_threads(
    lists: BatchLists, source: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_lists, "PATIENCE_SECONDS", 0.01)
    source.answers.clear()
    problems = [get(lists, conn_id).problem for conn_id in "abc"]
    assert problems[:2] == ["The service has not answered yet."] * 2
    assert problems[2].startswith("The API server is reading too many lists")


def test_a_failed_list_shows_the_last_one(lists: BatchLists, source: Service, hands: ManualClock) -> None:
    get(lists)
    hands.now += 100
    source.error = ServerError("the service failed", status=500)
    assert get(lists) == BatchList(GOOD.batches, problem="the service failed (status 500)")
    get(lists)
    assert len(source.calls) == 2


@pytest.mark.parametrize(
    "error",
    [
        UnknownConnectionError("connection 'conn' does not exist"),
        InvalidRequestError("connection 'conn' has no password"),
        AuthenticationError("invalid key", status=401),
        PermissionDeniedError("not allowed", status=403),
    ],
)
def test_a_changed_connection_shows_nothing_old(
    lists: BatchLists, source: Service, hands: ManualClock, error: Exception
) -> None:
    """It may belong to another account now."""
    get(lists)
    hands.now += 100
    source.error = error
    assert get(lists) == BatchList(problem=str(error))


def test_a_cancelled_batch_is_shown_at_once(lists: BatchLists, source: Service) -> None:
    get(lists)
    lists.show_cancelled("conn", Batch("b1", "cancelling"))
    source.answers.clear()
    assert lists._entries["conn"].shown is not None
    assert lists._entries["conn"].shown.batches[0].status == "cancelling"


def test_few_connections_are_kept(lists: BatchLists) -> None:
    for number in range(batch_lists.MOST_CONNECTIONS + 5):
        get(lists, f"conn-{number}")
    assert len(lists._entries) == batch_lists.MOST_CONNECTIONS


def test_unknown_connections_displace_no_list(lists: BatchLists, source: Service) -> None:
    get(lists)
    source.error = UnknownConnectionError("unknown")
    for number in range(batch_lists.MOST_CONNECTIONS + 5):
        assert get(lists, f"invented-{number}").problem == "unknown"
    assert get(lists) == GOOD
    assert source.calls.count("conn") == 1


def test_a_batch_is_kept_without_signed_urls_and_long_texts() -> None:
    batch = Batch(
        "b1",
        "failed",
        output_file_id="https://storage.test/x?signature=1",
        errors=["e" * 100_000] * 5_000,
        metadata={f"{number}": "v" * 100_000 for number in range(1_000)},
    )
    kept = small(batch)
    assert kept.output_file_id is None
    assert sum(map(len, kept.errors)) < 10_000
    assert sum(map(len, kept.metadata.values())) < 20_000
    assert len(kept.metadata) <= 20


def test_a_long_list_is_cut(service: ListingService, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "siliconflow", "host": service.base_url, "password": "sk-test"}
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(connection))
    monkeypatch.setattr(batch_lists, "MOST_BATCHES", 150)
    service.page_size = 100
    for number in range(400):
        service.has(id=f"batch_{number}")
    found = read_list("siliconflow_default")
    assert len(found.batches) == 150
    assert found.is_cut
    assert service.requests == ["GET /batches"] * 2
