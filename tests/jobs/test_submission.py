from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import InvalidRequestError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.submission import (
    Submission,
    digest,
    find_batch,
    running_batches_of_run,
    submit,
)

Sums = Callable[[int], bytes]
DAY = 24 * 3600
CREATED = 1_800_000_000
WANTED = Submission(key="key-1", run="run-1", input_file_id="file-1", label="dag/task/run/-1", max_tries=2)
OURS = ["airflow_key", "airflow_run", "airflow_input", "airflow_max_tries", "airflow_task"]


@pytest.fixture
def file_id(client: SiliconFlowClient, sums: Sums) -> str:
    return client.upload_file(io.BytesIO(sums(2))).id


def submitted(client: SiliconFlowClient, submission: Submission) -> Batch:
    """Submit, and hold that what was announced last is what is returned."""
    announced: list[Batch] = []
    batch = submit(client, submission, announced.append)
    assert announced[-1].id == batch.id
    return batch


def creates(emulator: Any) -> int:
    log = (emulator.data_dir / "requests.log").read_text().splitlines()
    received = [each for each in map(json.loads, log) if each["event"] == "received"]
    return [(each["method"], each["path"]) for each in received].count(("POST", "/v1/batches"))


# --- what a batch says of itself


def test_a_digest_is_that_of_the_texts_joined_by_nul() -> None:
    assert digest("a", "b") == hashlib.sha256(b"a\0b").hexdigest()
    assert len({digest("a", "b"), digest("ab"), digest("a", "", "b"), digest("b", "a")}) == 4


def test_a_batch_says_whose_it_is_and_what_is_in_it() -> None:
    submission = Submission(
        key="key-1", run="run-1", input_file_id="file-1", metadata={"team": "nlp"}, label="d/t/r/-1", max_tries=3
    )
    assert submission.batch_metadata() == {
        "team": "nlp",
        "airflow_key": "key-1",
        "airflow_run": "run-1",
        "airflow_input": submission.input_key,
        "airflow_max_tries": "3",
        "airflow_task": "d/t/r/-1",
    }


@pytest.mark.parametrize(
    "other",
    [{"input_file_id": "file-2"}, {"model": "m"}, {"completion_window": "48h"}, {"endpoint": "/v1/embeddings"}],
)
def test_another_input_has_another_key(other: dict[str, Any]) -> None:
    assert Submission(**{"key": "k", "input_file_id": "file-1"} | other).input_key != WANTED.input_key


@pytest.mark.parametrize("window", ["24h", timedelta(days=1), pendulum.duration(hours=24)])
def test_the_same_input_has_the_same_key_however_it_is_written(window: Any) -> None:
    same = Submission(
        key="other", input_file_id="file-1", completion_window=window, metadata={"a": "b"}, label="l", max_tries=9
    )
    assert same.input_key == WANTED.input_key


@pytest.mark.parametrize("label", ["d" * 600, "é" * 600, "任务" * 300, "🙂" * 200, "a" + "🙂" * 200])
def test_a_long_label_is_cut_to_the_services_limit(label: str) -> None:
    cut = Submission(key="k", input_file_id="f", label=label).batch_metadata()["airflow_task"]
    assert label.startswith(cut)
    assert "\ufffd" not in cut
    assert 500 <= len(cut.encode()) <= 512


def test_the_service_takes_a_long_label(client: SiliconFlowClient, file_id: str) -> None:
    submission = Submission(key="k" * 64, input_file_id=file_id, label="任务" * 300)
    assert submitted(client, submission).metadata == submission.batch_metadata()


@pytest.mark.parametrize("key", [*OURS, "airflow_", "airflow_anything"])
def test_our_keys_are_ours(key: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Submission(key="k", input_file_id="f", metadata={"mine": "", key: ""}).batch_metadata()
    assert str(caught.value) == (
        f"metadata has '{key}': keys that begin with 'airflow_' are kept for finding batches again, choose others"
    )


def test_a_users_own_metadata_has_room_for_eleven_pairs() -> None:
    pairs = {f"k{number}": "v" for number in range(11)}
    assert len(Submission(key="k", input_file_id="f", metadata=pairs).batch_metadata()) == 16
    with pytest.raises(InvalidRequestError) as caught:
        Submission(key="k", input_file_id="f", metadata={**pairs, "k11": "v"}).batch_metadata()
    assert str(caught.value) == (
        "metadata has 12 pairs: of the service's 16, 5 are used for finding batches again, so give at most 11"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {f"k{number}": "" for number in range(12)}},
        {"metadata": {"airflow_key": "mine"}},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {"k": 7}},
        {"completion_window": "12h"},
        {"endpoint": "/v1/embeddings"},
        {"input_file_id": ""},
        {"model": ""},
    ],
    ids=repr,
)
def test_what_the_service_would_refuse_is_refused_before_anything_is_sent(
    service: Any, account: SiliconFlowClient, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError):
        submitted(account, Submission(**{"key": "k", "input_file_id": "file-1", **fields}))
    assert service.requests == []


# --- found again


def test_a_second_attempt_takes_the_batch_over(
    client: SiliconFlowClient, emulator: Any, clock: Any, file_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = submitted(client, Submission(key="key-1", input_file_id=file_id, max_tries=1))
    clock.advance(60)
    second = submitted(client, Submission(key="key-1", input_file_id=file_id, max_tries=1))
    assert (second.id, second.status, creates(emulator)) == (first.id, "in_progress", 1)
    assert caplog.messages == [
        f"created batch {first.id} of file {file_id} (in_queue)",
        f"found batch {first.id} (in_progress), which an earlier attempt created",
    ]


def test_own_metadata_label_and_tries_make_no_other_submission(
    client: SiliconFlowClient, emulator: Any, file_id: str
) -> None:
    first = submitted(client, Submission(key="key-1", input_file_id=file_id))
    again = Submission(key="key-1", input_file_id=file_id, metadata={"new": "pair"}, label="renamed", max_tries=5)
    assert submitted(client, again).id == first.id


def test_a_completed_batch_is_taken_over(client: SiliconFlowClient, clock: Any, file_id: str) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    first = submitted(client, submission)
    clock.advance(200)
    assert (submitted(client, submission).id, client.get_batch(first.id).status) == (first.id, "completed")


@pytest.mark.parametrize("other", [{"key": "key-2"}, {"model": "m"}, {"completion_window": "48h"}])
def test_a_batch_of_another_key_or_input_is_not_taken_over(
    client: SiliconFlowClient, emulator: Any, file_id: str, other: dict[str, Any]
) -> None:
    first = submitted(client, Submission(key="key-1", input_file_id=file_id))
    second = submitted(client, Submission(**{"key": "key-1", "input_file_id": file_id, **other}))
    assert (first.id == second.id, creates(emulator)) == (False, 2)


def test_a_batch_that_is_being_or_was_cancelled_is_not_bought_again_until_a_person_says_so(
    client: SiliconFlowClient, clock: Any, file_id: str
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id, max_tries=3)
    first = submitted(client, submission)
    client.cancel_batch(first.id)
    assert submitted(client, submission).status == "cancelling"
    clock.advance(30)
    assert submitted(client, submission).status == "cancelled"
    assert submitted(client, replace(submission, max_tries=6)).id != first.id


def test_a_failed_batch_is_not_bought_again_until_a_person_says_so(client: SiliconFlowClient, clock: Any) -> None:
    submission = Submission(key="key-1", input_file_id=client.upload_file(io.BytesIO(b"not json\n")).id)
    first = submitted(client, submission)
    clock.advance(30)
    found = submitted(client, submission)
    assert (found.id, found.status) == (first.id, "failed")
    assert submitted(client, replace(submission, max_tries=1)).id != first.id


def test_of_several_verdicts_the_oldest_is_repeated(service: Any, account: SiliconFlowClient) -> None:
    """The younger one was created by another attempt at the same time, and cancelled for the older one."""
    mine = WANTED.batch_metadata()
    service.has(id="batch_b", created_at=CREATED - 10, metadata=mine, status="cancelled")
    service.has(id="batch_a", created_at=CREATED - 20, metadata=mine, status="expired")
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_a"


@pytest.mark.parametrize("tries", [None, "", "-1", "1", "many", 2])
def test_a_verdict_of_fewer_or_unknown_tries_is_not_repeated(
    service: Any, account: SiliconFlowClient, tries: Any
) -> None:
    metadata = {**WANTED.batch_metadata(), "airflow_max_tries": tries}
    service.has(id="batch_1", metadata=metadata, status="expired")
    assert (find_batch(account, WANTED) is None) == (tries != 2)


@pytest.mark.parametrize(
    ("fields", "is_found"),
    [
        ({"status": "in_queue"}, True),
        ({"status": "validating"}, True),
        ({"status": "pondering"}, True),
        ({"status": "finalizing"}, True),
        ({"status": "completed"}, True),
        ({"status": "pondering", "completed_at": CREATED}, True),
        ({"status": "cancelling"}, False),
        ({"status": "failed"}, False),
        ({"status": "expired"}, False),
        ({"status": "cancelled"}, False),
        ({"status": "pondering", "expired_at": CREATED}, False),
    ],
)
def test_what_runs_or_has_completed_is_taken_over_even_when_cleared(
    service: Any, account: SiliconFlowClient, fields: dict[str, Any], is_found: bool
) -> None:
    service.has(id="batch_1", metadata=WANTED.batch_metadata(), **fields)
    cleared = replace(WANTED, max_tries=WANTED.max_tries + 1)
    assert find_batch(account, WANTED) is not None
    assert (find_batch(account, cleared) is not None) == is_found


def test_of_several_the_oldest_by_creation_and_id_is_taken_over(service: Any, account: SiliconFlowClient) -> None:
    mine = WANTED.batch_metadata()
    service.has(id="batch_a", created_at=CREATED - 10, metadata=mine)
    service.has(id="batch_c", created_at=CREATED - 20, metadata=mine)
    service.has(id="batch_b", created_at=CREATED - 20, metadata=mine)
    service.has(id="batch_0", created_at=CREATED - 30, metadata=mine, status="failed")
    service.has(id="batch_9", created_at=CREATED - 40, metadata={**mine, "airflow_key": "other"})
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_b"
    assert service.requests == ["GET /batches"]


def test_items_without_metadata_are_asked_for_singly(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    service.has(id="batch_1", input_file_id="file-1", metadata=WANTED.batch_metadata())
    service.has(id="batch_2", input_file_id="file-2", metadata={"airflow_key": "other"}, created_at=CREATED - 1)
    service.has(id="batch_3", input_file_id="file-1", metadata=None, created_at=CREATED - 2)
    found = find_batch(account, WANTED)
    assert found is not None
    assert (found.id, found.metadata) == ("batch_1", WANTED.batch_metadata())
    assert service.requests == ["GET /batches", "GET /batches/batch_1", "GET /batches/batch_3"]


def test_items_without_metadata_and_input_are_asked_for_singly_too(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata", "input_file_id", "created_at")
    service.has(id="batch_1", input_file_id="file-1", metadata=WANTED.batch_metadata())
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_1"


def test_items_without_times_are_asked_for_before_one_is_called_the_oldest(
    service: Any, account: SiliconFlowClient
) -> None:
    service.hidden = ("created_at",)
    service.has(id="batch_a", created_at=CREATED - 10, metadata=WANTED.batch_metadata())
    service.has(id="batch_b", created_at=CREATED - 20, metadata=WANTED.batch_metadata())
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_b"


def test_nothing_older_than_thirty_days_is_looked_at(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    for number, days in enumerate((29, 31, 40)):
        service.has(id=f"batch_{number}", created_at=CREATED - days * DAY, metadata={}, input_file_id="file-1")
    assert find_batch(account, WANTED) is None
    assert service.requests == ["GET /batches", "GET /batches/batch_0"]


def test_a_create_carries_all_that_was_asked_for(client: SiliconFlowClient, clock: Any, file_id: str) -> None:
    submission = Submission(
        key="key-1",
        input_file_id=file_id,
        completion_window=timedelta(hours=48),
        model="Qwen/QwQ-32B",
        metadata={"team": "nlp"},
    )
    batch = submitted(client, submission)
    assert (batch.completion_window, batch.endpoint) == ("48h", "/v1/chat/completions")
    assert batch.metadata == submission.batch_metadata()
    clock.advance(200)
    target = io.BytesIO()
    client.download(client.get_batch(batch.id).output_file_id or "", target)
    assert b"Qwen/QwQ-32B" in target.getvalue()


# --- all of a run


def test_what_runs_of_a_run_is_found_whichever_task_submitted_it(
    client: SiliconFlowClient, clock: Any, sums: Callable[[int], bytes]
) -> None:
    file_id = client.upload_file(io.BytesIO(sums(2))).id

    def create(key: str, run: str) -> str:
        return submitted(client, Submission(key=key, run=run, input_file_id=file_id)).id

    create("over", "run-1")
    clock.advance(300)
    ours = {create("a", "run-1"), create("b", "run-1")}
    client.cancel_batch(create("cancelled", "run-1"))
    create("c", "run-2")
    client.create_batch(file_id)
    assert {each.id for each in running_batches_of_run(client, "run-1")} == ours


def test_items_without_metadata_are_asked_for_singly_here_too(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    service.has(id="batch_1", metadata={"airflow_run": "run-1"}, created_at=CREATED)
    service.has(id="batch_2", metadata={"airflow_run": "run-1"}, status="completed", created_at=CREATED - 1)
    service.has(id="batch_3", metadata={"airflow_run": "run-2"}, created_at=CREATED - 2)
    assert [each.id for each in running_batches_of_run(account, "run-1")] == ["batch_1"]
    assert service.requests == ["GET /batches", "GET /batches/batch_1", "GET /batches/batch_3"]
