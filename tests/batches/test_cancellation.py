from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import BadRequestError, NotFoundError
from siliconflow_provider.batches.cancellation import cancel_unless_over


@pytest.fixture
def batch_id(client: SiliconFlowClient, sums: Callable[[int], bytes]) -> str:
    return client.create_batch(client.upload_file(io.BytesIO(sums(2))).id).id


def test_a_running_batch_is_cancelled(client: SiliconFlowClient, batch_id: str) -> None:
    assert cancel_unless_over(client, batch_id).status == "cancelling"
    assert client.get_batch(batch_id).status == "cancelling"


@pytest.mark.parametrize("seconds", [5, 30, 300])
def test_cancelling_again_changes_nothing(client: SiliconFlowClient, batch_id: str, clock: Any, seconds: int) -> None:
    cancel_unless_over(client, batch_id)
    clock.advance(seconds)
    assert cancel_unless_over(client, batch_id) == client.get_batch(batch_id)


def test_an_ended_batch_is_not_cancelled(client: SiliconFlowClient, batch_id: str, clock: Any) -> None:
    clock.advance(300)
    assert cancel_unless_over(client, batch_id).status == "completed"


def test_a_batch_ending_during_cancellation_is_no_error(
    client: SiliconFlowClient, batch_id: str, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = client.cancel_batch
    monkeypatch.setattr(client, "cancel_batch", lambda value: (clock.advance(300), cancel(value))[1])
    assert cancel_unless_over(client, batch_id).status == "completed"


def test_a_rejected_cancel_of_a_running_batch_raises(
    client: SiliconFlowClient, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise BadRequestError("not now")

    monkeypatch.setattr(client, "cancel_batch", refuse)
    with pytest.raises(BadRequestError, match="not now"):
        cancel_unless_over(client, batch_id)


def test_an_unknown_batch_is_an_error(client: SiliconFlowClient) -> None:
    with pytest.raises(NotFoundError):
        cancel_unless_over(client, "batch_unknown")
