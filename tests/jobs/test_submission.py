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
from siliconflow_provider.api.errors import (
    CreateUncertainError,
    InvalidRequestError,
    PermissionDeniedError,
    ServerError,
    SiliconFlowError,
)
from siliconflow_provider.api.models import Batch
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.jobs.submission import (
    LOOK_PAUSES,
    SETTLING_SECONDS,
    Submission,
    digest,
    find_batch,
    keep_oldest,
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


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


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


def test_every_page_is_looked_at(client: SiliconFlowClient, emulator: Any, file_id: str, forms: Forms) -> None:
    first = submitted(client, Submission(key="key-1", input_file_id=file_id))
    for _ in range(230):
        client.create_batch(file_id, metadata={"airflow_key": "somebody else's"})
    before = emulator.control.answers()["GET /batches"][200]
    found = find_batch(client, Submission(key="key-1", input_file_id=file_id))
    assert found is not None
    assert found.id == first.id
    assert emulator.control.answers()["GET /batches"][200] - before == 3


@pytest.mark.parametrize(
    "forms", [Forms(unpaged=True), Forms(list_without_metadata=True), Forms(list_without_times=True)]
)
def test_whatever_the_list_shows_the_batch_is_found(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    first = submitted(client, submission)
    for _ in range(3):
        client.create_batch(file_id)
    assert (submitted(client, submission).id, emulator.control.batches_created()) == (first.id, 4)


@pytest.mark.parametrize("hidden", [(), ("metadata",)])
def test_three_thousand_batches_of_others_cost_one_look(service: Any, account: Any, hidden: tuple[str, ...]) -> None:
    service.hidden = hidden
    others = {"airflow_key": "other", "airflow_input": WANTED.input_key}
    for number in range(3000):
        service.has(
            id=f"batch_{number}", input_file_id=f"file-of-{number}", metadata=others, created_at=CREATED - number
        )
    service.has(id="batch_mine", input_file_id="file-1", metadata=WANTED.batch_metadata(), created_at=CREATED - 9000)
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_mine"
    assert service.requests == ["GET /batches", *(["GET /batches/batch_mine"] if hidden else [])]


# --- answers that are lost

AFTER_THE_WORK = [
    {"kind": "lost_answer"},
    *({"status": status, "after_work": True} for status in (500, 502, 503, 504)),
    {"kind": "garbage", "after_work": True},
    {"kind": "cut", "after_bytes": 30},
]
NOT_CARRIED_OUT = [{"kind": "reset"}, *({"status": status} for status in (500, 502, 503, 504)), {"kind": "garbage"}]
LAGS = [Forms(), Forms(list_lag_seconds=3)]


@pytest.mark.parametrize("forms", LAGS, ids=lambda forms: f"lag {forms.list_lag_seconds:g}")
@pytest.mark.parametrize("fault", AFTER_THE_WORK, ids=str)
def test_a_create_whose_answer_was_lost_is_found(
    client: SiliconFlowClient, emulator: Any, file_id: str, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    emulator.control.fault("POST /batches", **fault)
    batch = submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 1)
    assert "whether a batch of file" in warnings(caplog)[0]
    assert warnings(caplog)[1:] == [f"the create was carried out: batch {batch.id} (in_queue) is there"]


@pytest.mark.parametrize("forms", LAGS, ids=lambda forms: f"lag {forms.list_lag_seconds:g}")
@pytest.mark.parametrize("fault", NOT_CARRIED_OUT, ids=str)
def test_a_create_that_was_not_carried_out_is_sent_again_once_that_is_known(
    client: SiliconFlowClient, emulator: Any, file_id: str, fault: dict[str, Any], caplog: Any, clock: Any
) -> None:
    started = clock.now
    emulator.control.fault("POST /batches", **fault)
    submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 2)
    assert clock.now - started == sum(LOOK_PAUSES) + SETTLING_SECONDS
    assert warnings(caplog)[1:] == ["the create was not carried out: no such batch in the list after 14 s"]


def test_three_lost_creates_are_an_error_and_a_retry_creates_one(
    client: SiliconFlowClient, emulator: Any, file_id: str
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    emulator.control.fault("POST /batches", status=504, times=3)
    with pytest.raises(
        CreateUncertainError, match=r"the answers to 3 creates were lost.* looks again before it creates"
    ):
        submitted(client, submission)
    assert (creates(emulator), emulator.control.batches_created()) == (3, 0)
    submitted(client, submission)
    assert emulator.control.batches_created() == 1


@pytest.mark.parametrize("forms", [Forms(list_lag_seconds=60)])
def test_of_lost_creates_that_the_list_hid_a_retry_keeps_the_oldest_and_cancels_the_others(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    emulator.control.fault("POST /batches", kind="lost_answer", times=3)
    with pytest.raises(CreateUncertainError):
        submitted(client, submission)
    clock.advance(60)
    kept = submitted(client, submission)
    clock.advance(60)
    states = {each.id: each.status for each in client.list_batches()}
    assert states.pop(kept.id) == "completed"
    assert list(states.values()) == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("fault", "error"), [({"status": 503, "times": 6}, ServerError), ({"status": 403}, PermissionDeniedError)]
)
def test_while_the_list_fails_a_lost_create_is_not_repeated_and_a_retry_finds_it(
    client: SiliconFlowClient, emulator: Any, file_id: str, fault: dict[str, Any], error: type[SiliconFlowError]
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    emulator.control.fault("POST /batches", kind="lost_answer")
    emulator.control.fault("GET /batches", nth=2, **fault)
    with pytest.raises(error):
        submitted(client, submission)
    submitted(client, submission)
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 1)


# --- attempts at once


def test_an_older_batch_that_appears_while_an_attempt_settles_is_taken(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt that created it was slower to be answered, and its batch has the same second and a smaller id."""
    submission = Submission(key="key-1", input_file_id=file_id)
    announced: list[str] = []

    def other_attempt(batch: Batch) -> None:
        announced.append(batch.id)
        while len(announced) == 1 and min(each.id for each in client.list_batches()) == batch.id:
            client.create_batch(file_id, metadata=submission.batch_metadata())

    batch = submit(client, submission, other_attempt)
    by_id = {each.id: each.status for each in client.list_batches()}
    assert announced == [announced[0], batch.id]
    assert batch.id == min(by_id)
    assert by_id.pop(batch.id) == "in_queue"
    assert set(by_id.values()) == {"cancelling"}
    assert f"{batch.id} is older and is kept, {announced[0]} is cancelling" in caplog.text


def test_a_younger_batch_whose_attempt_has_died_is_cancelled(
    client: SiliconFlowClient, file_id: str, clock: Any
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    older = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    clock.advance(1)
    younger = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    assert submitted(client, submission).id == older
    assert client.get_batch(younger).status == "cancelling"


def test_a_batch_that_was_found_is_left_for_an_older_one_that_appears(
    service: Any, account: SiliconFlowClient, clock: Any
) -> None:
    """Its own attempt leaves it too: who found it in the meantime must not wait for what is cancelled."""
    mine = WANTED.batch_metadata()
    service.has(id="batch_b", metadata=mine)
    clock.after(SETTLING_SECONDS - 1, lambda: service.has(id="batch_a", metadata=mine))
    announced: list[str] = []
    assert submit(account, WANTED, lambda each: announced.append(each.id)).id == "batch_a"
    assert announced == ["batch_b", "batch_a"]
    assert service.batches["batch_b"]["status"] == "cancelling"


def test_a_cancelled_batch_that_was_found_is_left_for_the_older_one_that_appears(
    service: Any, account: SiliconFlowClient, clock: Any
) -> None:
    """It was cancelled in favour of that one, which is no verdict."""
    mine = WANTED.batch_metadata()
    service.has(id="batch_b", metadata=mine, status="cancelled")
    clock.after(SETTLING_SECONDS - 1, lambda: service.has(id="batch_a", metadata=mine))
    assert submitted(account, WANTED).id == "batch_a"


def test_an_own_batch_that_is_not_listed_yet_is_not_given_up_for_a_younger_one(
    service: Any, account: SiliconFlowClient
) -> None:
    """Two attempts that each see only the other's batch would cancel both."""
    service.has(id="batch_a", metadata=WANTED.batch_metadata(), created_at=CREATED - 1)
    service.has(id="batch_b", metadata=WANTED.batch_metadata(), created_at=CREATED)
    service.unlisted = {"batch_a"}
    assert keep_oldest(account, WANTED, "batch_a") is None
    assert (service.batches["batch_a"]["status"], service.batches["batch_b"]["status"]) == ("in_progress", "cancelling")


def test_an_own_batch_that_nothing_shows_yet_is_kept(service: Any, account: SiliconFlowClient) -> None:
    """A list that lags is no error while there is no other batch to compare with."""
    assert keep_oldest(account, WANTED, "batch_unknown") is None
    assert service.requests == ["GET /batches"]


def test_what_completed_meanwhile_is_not_cancelled_and_the_log_says_so(
    service: Any, account: SiliconFlowClient, caplog: pytest.LogCaptureFixture
) -> None:
    mine = WANTED.batch_metadata()
    service.has(id="batch_a", metadata=mine, created_at=CREATED - 1)
    service.has(id="batch_b", metadata=mine, status="completed")
    older = keep_oldest(account, WANTED, "batch_b")
    assert older is not None
    assert (older.id, service.requests) == ("batch_a", ["GET /batches", "GET /batches/batch_b"])
    assert "batch_a is older and is kept, batch_b is completed" in caplog.text


def test_a_batch_with_another_input_is_named_and_runs_on(
    client: SiliconFlowClient, file_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = submitted(client, Submission(key="key-1", input_file_id=file_id, model="m"))
    over = submitted(client, Submission(key="key-1", input_file_id=file_id, model="n"))
    client.cancel_batch(over.id)
    caplog.clear()
    submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert warnings(caplog) == [
        f"batch {other.id} (in_progress) of the same task runs on with another file, model or window, and is billed; "
        f"to cancel it: client.cancel_batch('{other.id}')"
    ]
    assert client.get_batch(other.id).status == "in_progress"


def test_a_cancel_that_fails_is_made_up_for_by_a_retry(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    older = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    clock.advance(1)
    younger = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    emulator.control.fault("POST /batches/{id}/cancel", status=403)
    with pytest.raises(PermissionDeniedError):
        submitted(client, submission)
    assert submitted(client, submission).id == older
    assert client.get_batch(younger).status == "cancelling"


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
