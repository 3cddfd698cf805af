"""Errors that a retry would only repeat end the task at once; those that it may heal do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException, BaseOperator

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import AuthenticationError, InvalidRequestError, PermissionDeniedError
from siliconflow_provider.api.remedies import EXPIRED_LINK
from siliconflow_provider.decorators.inference import BatchInferenceDecoratedOperator
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import (
    AccessRefusedError,
    BatchWaitError,
    InvalidArgumentError,
    KeyRefusedError,
    StorageError,
    UnknownConnectionError,
    UnreadablePricesError,
)
from siliconflow_provider.hooks import siliconflow as hook_module
from siliconflow_provider.operators import definition
from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.operators.final_errors import final_if_refused
from tests.inference_jobs import Infer, Run, assert_nothing_was_bought_twice, batches, sums

Make = Callable[[], BaseOperator]
ENDPOINTS = (
    "GET /batches",
    "GET /batches/{id}",
    "POST /batches",
    "GET /files",
    "POST /files",
    "GET /files/{id}/content",
)


@pytest.fixture
def refuse(control: Control) -> Callable[[int], None]:
    """Let the service refuse every request with a status."""

    def plan(status: int) -> None:
        for endpoint in ENDPOINTS:
            control.fault(endpoint, status=status, every=1)

    return plan


@pytest.fixture
def operators(infer: Infer, tmp_path: Path, context: dict[str, Any]) -> list[Make]:
    """Return functions that make each operator."""
    line = {"custom_id": "a", "body": {"model": "m", "messages": [{"role": "user", "content": "x"}]}}
    (tmp_path / "in.jsonl").write_text(json.dumps(line))
    return [
        lambda: infer(requests=sums(2)),
        lambda: UploadFileOperator(task_id="t", file_path=tmp_path / "in.jsonl"),
        lambda: CreateBatchOperator(task_id="t", input_file_id="file-1"),
        lambda: CancelBatchOperator(task_id="t", batch_id="batch_1"),
        lambda: DownloadResultsOperator(task_id="t", batch_id="batch_1", output_path=tmp_path / "results"),
    ]


@pytest.mark.parametrize(
    ("status", "kind", "parent", "remedy"),
    [
        (401, KeyRefusedError, AuthenticationError, "check the API key of connection 'siliconflow_default'"),
        (403, AccessRefusedError, PermissionDeniedError, "the charged balance is too low, or the API key"),
    ],
)
def test_a_refused_key_ends_every_operator(
    operators: list[Make], run: Run, refuse: Any, control: Control, status: int, kind: Any, parent: Any, remedy: str
) -> None:
    refuse(status)
    for make in operators:
        with pytest.raises(kind, match=rf"{remedy}.*\nAirflow does not retry this task.\nWhen this is") as caught:
            run(make)
        assert isinstance(caught.value, (AirflowFailException, parent))
        assert caught.value.status == status
    assert control.batches_created() == 0


def test_a_key_that_was_replaced_is_retried(
    infer: Infer, run: Run, connection: str, monkeypatch: pytest.MonkeyPatch, emulator: Any
) -> None:
    wrong = {**emulator.airflow_connection, "password": "sk-old"}
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(wrong))
    task = infer(requests=sums(2))
    assert task.hook.get_conn()
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(emulator.airflow_connection))
    with pytest.raises(AuthenticationError) as caught:
        run(lambda: task)
    assert not isinstance(caught.value, AirflowFailException)
    assert run(lambda: infer(requests=sums(2)))["counts"] == {"succeeded": 2}


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_key_refused_during_the_wait_loses_no_batch(
    infer: Infer, run: Run, refuse: Any, control: Control, clock: Any, clear: Any, retry: Any, deferrable: bool
) -> None:
    make = lambda: infer(requests=sums(2), deferrable=deferrable)  # noqa: E731
    clock.after(30, lambda: refuse(401))
    # Until then the key worked, so a retry reads the connection again.
    with pytest.raises(BatchWaitError, match=r"(?s)Invalid token.*It may still be running and billed"):
        run(make)
    retry()
    started = clock.now
    with pytest.raises(KeyRefusedError, match="clear it: it resumes the batches that it has submitted"):
        run(make)
    assert clock.now - started < 600
    control.reset()
    clear()
    assert run(make)["counts"] == {"succeeded": 2}
    assert_nothing_was_bought_twice(control, 2)


def test_an_expired_link_is_retried() -> None:
    class Task:
        hook = None

        @final_if_refused
        def execute(self) -> None:
            raise PermissionDeniedError(f"GET at storage was refused: Expired: {EXPIRED_LINK}", status=403)

    with pytest.raises(PermissionDeniedError) as caught:
        Task().execute()
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": "none of them"}, "limit is 'none of them'"),
        ({"request_params": "max_tokens"}, "request_params is str"),
        ({"request_params": {"max_tokens": "many"}}, "request_params has max_tokens='many'"),
        ({"completion_window": "1h"}, "completion_window '1h' is not accepted"),
        ({"metadata": {"airflow_key": "x"}}, "metadata has 'airflow_key'"),
        ({"metadata": "text"}, "metadata is str: give a dict"),
        ({"prompt": 7}, "prompt is int"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"messages_column": 7}, "messages_column is int"),
        ({"prices": "{"}, "prices are not JSON"),
        ({"prices": "file:///no/prices.json"}, "cannot be read"),
        ({"max_cost": "free"}, "max_cost is 'free'"),
        ({"max_cost": 1}, "max_cost is 1, but there are no prices"),
        ({"tokenizer": "/no/tokenizer.json"}, "tokenizer /no/tokenizer.json"),
        ({"output_type": object()}, "output_type is <object object at .*Pydantic makes no JSON schema"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_invalid_argument_ends_the_task(
    infer: Infer, run: Run, client: SiliconFlowClient, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        run(lambda: infer(requests=sums(2), **arguments))
    assert isinstance(caught.value, AirflowFailException)
    assert isinstance(caught.value, InvalidRequestError)
    assert batches(client) == []


def test_prices_of_a_failing_storage_are_retried(
    infer: Infer, run: Run, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    def refuse(url: str) -> bytes:
        raise StorageError("no answer")

    monkeypatch.setattr(definition, "content_of", refuse)
    with pytest.raises(UnreadablePricesError, match="no answer") as caught:
        run(lambda: infer(requests=sums(2), prices="s3://bucket/prices.json"))
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("value", [None, "a text", 7])
def test_a_function_without_requests_ends_the_task(run: Run, connection: str, tmp_path: Path, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="requests is"):
        run(
            lambda: BatchInferenceDecoratedOperator(
                task_id="t",
                python_callable=lambda: value,
                output_path=str(tmp_path / "out"),
                deferrable=False,
                model="m",
            )
        )


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_rounds": 0}, {"max_rounds": "2"}, {"min_success_rate": 2}, {"min_success_rate": "0.5"},
        {"poll_interval": 0.1}, {"poll_interval": "1"}, {"timeout": 0}, {"timeout": "1h"}, {"bad_items": "ignore"},
        {"input_path": "/both"}, {"output_format": "xlsx"}, {"prompt": "{q}", "messages_column": "q"},
        {"max_active_batches": "all"},
    ],
    ids=str,
)  # fmt: skip
def test_arguments_of_mapped_tasks_end_the_task(infer: Infer, arguments: dict[str, Any]) -> None:
    """The values that an expanded task gets from an XCom are checked when it runs."""
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        infer(requests=[], **arguments)


@pytest.mark.parametrize("batch_id", ["", None, " "])
def test_ids_that_are_none_end_the_task(run: Run, connection: str, tmp_path: Path, batch_id: Any) -> None:
    for make in (
        lambda: DownloadResultsOperator(task_id="t", batch_id=batch_id, output_path=tmp_path),
        lambda: CreateBatchOperator(task_id="t", input_file_id=batch_id),
    ):
        with pytest.raises(InvalidArgumentError, match="give the id that the service returned"):
            run(make)


def test_an_unknown_connection_ends_the_task(infer: Infer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_module, "is_any_failing", lambda conn_id: False)
    with pytest.raises(UnknownConnectionError, match="connection 'nowhere' does not exist") as caught:
        run(lambda: infer(requests=[], siliconflow_conn_id="nowhere"))
    assert isinstance(caught.value, AirflowFailException)


def test_a_connection_of_a_failing_backend_is_retried(infer: Infer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_module, "is_any_failing", lambda conn_id: True)
    with pytest.raises(AirflowNotFoundException) as caught:
        run(lambda: infer(requests=[], siliconflow_conn_id="nowhere"))
    assert not isinstance(caught.value, AirflowFailException)
