from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import BadRequestError, NotFoundError
from siliconflow_provider.jobs.cancellation import cancel_unless_over, running_batches_of_run
from siliconflow_provider.jobs.submission import Submission, find_or_create_batch

CREATED = 1_800_000_000


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


def test_a_batch_that_is_over_is_left_as_it_is(client: SiliconFlowClient, batch_id: str, clock: Any) -> None:
    clock.advance(300)
    assert cancel_unless_over(client, batch_id).status == "completed"


def test_a_batch_that_ends_in_between_is_no_error(
    client: SiliconFlowClient, batch_id: str, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = client.cancel_batch
    monkeypatch.setattr(client, "cancel_batch", lambda each: (clock.advance(300), cancel(each))[1])
    assert cancel_unless_over(client, batch_id).status == "completed"


def test_a_refusal_while_the_batch_runs_is_an_error(
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


def test_what_runs_of_a_run_is_found_whichever_task_submitted_it(
    client: SiliconFlowClient, clock: Any, sums: Callable[[int], bytes]
) -> None:
    file_id = client.upload_file(io.BytesIO(sums(2))).id

    def submit(key: str, run: str) -> str:
        return find_or_create_batch(client, Submission(key=key, run=run, input_file_id=file_id)).id

    submit("over", "run-1")
    clock.advance(300)
    ours = {submit("a", "run-1"), submit("b", "run-1")}
    client.cancel_batch(submit("cancelled", "run-1"))
    submit("c", "run-2")
    client.create_batch(file_id)
    assert {each.id for each in running_batches_of_run(client, "run-1")} == ours


def test_items_without_metadata_are_asked_for_singly(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    service.has(id="batch_1", metadata={"airflow_run": "run-1"}, created_at=CREATED)
    service.has(id="batch_2", metadata={"airflow_run": "run-1"}, status="completed", created_at=CREATED - 1)
    service.has(id="batch_3", metadata={"airflow_run": "run-2"}, created_at=CREATED - 2)
    assert [each.id for each in running_batches_of_run(account, "run-1")] == ["batch_1"]
    assert service.requests == ["GET /batches", "GET /batches/batch_1", "GET /batches/batch_3"]
