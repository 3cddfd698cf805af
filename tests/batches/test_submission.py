from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import (
    InvalidRequestError,
)
from siliconflow_provider.batches.submission import Submission, digest
from tests.submissions import WANTED, submitted

Sums = Callable[[int], bytes]
DAY = 24 * 3600
OURS = ["airflow_key", "airflow_run", "airflow_input", "airflow_max_tries", "airflow_task"]


@pytest.fixture
def file_id(client: SiliconFlowClient, sums: Sums) -> str:
    return client.upload_file(io.BytesIO(sums(2))).id


# --- metadata of a batch


def test_a_digest_joins_texts_with_nul() -> None:
    assert digest("a", "b") == hashlib.sha256(b"a\0b").hexdigest()
    assert len({digest("a", "b"), digest("ab"), digest("a", "", "b"), digest("b", "a")}) == 4


def test_metadata_identifies_submitter_and_input() -> None:
    submission = Submission(
        key="key-1", run_key="run-1", input_file_id="file-1", metadata={"team": "nlp"}, label="d/t/r/-1", max_tries=3
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
def test_equal_inputs_have_equal_keys(window: Any) -> None:
    same = Submission(
        key="other", input_file_id="file-1", completion_window=window, metadata={"a": "b"}, label="l", max_tries=9
    )
    assert same.input_key == WANTED.input_key


@pytest.mark.parametrize("label", ["d" * 600, "é" * 600, "任务" * 300, "🙂" * 200, "a" + "🙂" * 200])
def test_a_long_label_is_shortened(label: str) -> None:
    cut = Submission(key="k", input_file_id="f", label=label).batch_metadata()["airflow_task"]
    assert label.startswith(cut)
    assert "\ufffd" not in cut
    assert 500 <= len(cut.encode()) <= 512


def test_the_service_accepts_a_long_label(client: SiliconFlowClient, file_id: str) -> None:
    submission = Submission(key="k" * 64, input_file_id=file_id, label="任务" * 300)
    assert submitted(client, submission).metadata == submission.batch_metadata()


@pytest.mark.parametrize("key", [*OURS, "airflow_", "airflow_anything"])
def test_our_keys_are_ours(key: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Submission(key="k", input_file_id="f", metadata={"mine": "", key: ""}).batch_metadata()
    assert str(caught.value) == (
        f"metadata has '{key}': keys that begin with 'airflow_' are reserved for this provider; choose other keys"
    )


def test_user_metadata_may_have_eleven_pairs() -> None:
    pairs = {f"k{number}": "v" for number in range(11)}
    assert len(Submission(key="k", input_file_id="f", metadata=pairs).batch_metadata()) == 16
    with pytest.raises(InvalidRequestError) as caught:
        Submission(key="k", input_file_id="f", metadata={**pairs, "k11": "v"}).batch_metadata()
    assert str(caught.value) == (
        "metadata has 12 pairs: the service allows 16, and this provider needs 5 of them; give at most 11"
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
def test_invalid_submissions_are_rejected_before_sending(
    service: Any, account: SiliconFlowClient, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError):
        submitted(account, Submission(**{"key": "k", "input_file_id": "file-1", **fields}))
    assert service.requests == []
