from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import PermissionDeniedError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import creation
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS
from siliconflow_provider.batches.finder import UnsafeSubmitError
from siliconflow_provider.batches.records import MemoryRecords
from siliconflow_provider.batches.submission import Submission
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.inputs.parts import PartWriter
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.job_batches import JobBatches

CREATED = 1_800_000_000
DAY = 24 * 3600


@pytest.fixture
def path(tmp_path: Path, sums: Callable[[int], bytes]) -> Path:
    found = tmp_path / "requests.jsonl"
    found.write_bytes(sums(10))
    return found


@pytest.fixture
def round_(path: Path, tmp_path: Path) -> Round:
    """Return a round of five parts with two requests each."""
    with (tmp_path / "copy").open("w+b") as copy:
        writer = PartWriter(copy, most_lines=2)
        for line in path.read_bytes().splitlines(keepends=True):
            writer.write(line)
        return Round(1, writer.finish(), 2, CREATED)


class TestSubmit:
    @pytest.mark.parametrize("shows", ["its name", "its id"])
    def test_a_batch_without_metadata_stops_its_part(
        self, account: SiliconFlowClient, service: Any, wanted: Submission, round_: Round, path: Path, shows: str
    ) -> None:
        """The task's records are lost, and the service does not show who created the batch."""
        name = f"{round_.parts[1].sha256}.jsonl"
        if shows == "its id":
            service.files = [{"id": "file-1", "filename": name}]
        service.has(id="batch_1", **({"file_name": name} if shows == "its name" else {"input_file_id": "file-1"}))
        batches = JobBatches(account, wanted, MemoryRecords())
        batches.find_and_cancel_duplicates([round_])
        with pytest.raises(UnsafeSubmitError, match=r"same file, .*: batch_1\.\n.*clear the task"):
            batches.submit([round_], round_.parts, path)
        batches.submit([round_], round_.parts[:1], path)
        assert service.requests.count("POST /batches") == 1

    def test_each_part_has_its_own_file_and_batch(
        self, client: SiliconFlowClient, wanted: Submission, round_: Round, path: Path
    ) -> None:
        batches = JobBatches(client, wanted, MemoryRecords())
        batches.submit([round_], round_.parts, path)
        assert sorted(batches.batches_of_round(round_)) == sorted(part.sha256 for part in round_.parts)
        files = {file.id: file.filename for file in client.list_files()}
        for part in round_.parts:
            batch = batches.batch_of_part(round_, part)
            assert batch is not None
            assert files[batch.input_file_id or ""] == f"{part.sha256}.jsonl"
            assert replace(wanted, content_sha256=part.sha256).matches(batch)
            assert batch.metadata["airflow_max_tries"] == "2"
            with (path.parent / "back").open("w+b") as back:
                client.download(batch.input_file_id or "", back)
            assert hashlib.sha256((path.parent / "back").read_bytes()).hexdigest() == part.sha256

    @pytest.mark.parametrize("is_lost", [False, True], ids=["", "its answer is lost"])
    def test_batches_of_rounds_are_kept_apart(
        self, client: SiliconFlowClient, wanted: Submission, round_: Round, path: Path, control: Control, is_lost: bool
    ) -> None:
        """Even if the requests are equal, so that the uploaded file is used again."""
        if is_lost:
            control.fault("POST /batches", "lost_answer", nth=2)
        again = Round(2, round_.parts, 2, CREATED, list(range(10)))
        batches = JobBatches(client, wanted, MemoryRecords())
        batches.submit([round_], round_.parts[:1], path)
        batches.submit([again], round_.parts[:1], path)
        first, second = (batches.batch_of_part(either, round_.parts[0]) for either in (round_, again))
        assert first is not None
        assert second is not None
        assert (first.metadata["airflow_round"], second.metadata["airflow_round"]) == ("1", "2")
        assert first.id != second.id
        assert control.answers()["POST /files"].total() == 1

    def test_an_uploaded_file_is_not_uploaded_again(
        self, client: SiliconFlowClient, wanted: Submission, round_: Round, path: Path, control: Control
    ) -> None:
        part = round_.parts[0]
        content = path.read_bytes()[: part.bytes]
        known = client.upload_file(io.BytesIO(content), filename=f"{part.sha256}.jsonl")
        batches = JobBatches(client, wanted, MemoryRecords())
        batches.submit([round_], [part], path)
        batch = batches.batch_of_part(round_, part)
        assert batch is not None
        assert batch.input_file_id == known.id
        assert control.answers()["POST /files"].total() == 1

    def test_a_failed_part_is_retried(
        self, client: SiliconFlowClient, wanted: Submission, round_: Round, path: Path, control: Control, clock: Any
    ) -> None:
        """The other parts are billed: an outage of less than an hour must not fail the task."""
        control.fault("POST /batches", status=403, nth=5, times=3)
        batches, started = JobBatches(client, wanted, MemoryRecords()), clock.now
        batches.submit([round_], round_.parts, path)
        assert len(batches.batches_of_round(round_)) == control.batches_created() == 5
        assert clock.now - started < 3600

    def test_a_part_failing_for_an_hour_fails(
        self, client: SiliconFlowClient, wanted: Submission, round_: Round, path: Path, control: Control, clock: Any
    ) -> None:
        control.fault("POST /batches", status=403, nth=5, every=1)
        batches, started = JobBatches(client, wanted, MemoryRecords()), clock.now
        with pytest.raises(PermissionDeniedError):
            batches.submit([round_], round_.parts, path)
        assert 3600 <= clock.now - started < 3600 + 600
        assert len(batches.batches_of_round(round_)) == control.batches_created() == 4

    def test_a_failing_first_part_fails_at_once(
        self, client: SiliconFlowClient, wanted: Submission, round_: Round, path: Path, control: Control, clock: Any
    ) -> None:
        control.fault("POST /batches", status=403, every=1)
        started = clock.now
        with pytest.raises(PermissionDeniedError):
            JobBatches(client, wanted, MemoryRecords()).submit([round_], round_.parts, path)
        assert clock.now == started

    @pytest.mark.parametrize("seconds", [LIST_LAG_SECONDS, 0.0])
    def test_concurrent_batches_are_awaited_once_for_all_parts(
        self,
        client: SiliconFlowClient,
        wanted: Submission,
        round_: Round,
        path: Path,
        clock: Any,
        monkeypatch: pytest.MonkeyPatch,
        seconds: float,
    ) -> None:
        """Set the usual waiting time: the fixture for users' tests sets it to zero."""
        monkeypatch.setattr(creation, "LIST_LAG_SECONDS", seconds)
        started = clock.now
        JobBatches(client, wanted, MemoryRecords()).submit([round_], round_.parts, path)
        assert clock.now - started == seconds


class TestLook:
    """Lists of an account that has batches of two parts, `a` and `b`."""

    @pytest.fixture
    def round_(self, round_: Round) -> Round:
        return msgspec.structs.replace(round_, parts=round_.parts[:2])

    @pytest.fixture
    def has(self, service: Any, wanted: Submission, round_: Round) -> Callable[..., None]:
        """Return a function that adds a batch of a part to the account."""

        def add(name: str, number: int = 0, round_number: int = 1, tries: int = 2, **fields: Any) -> None:
            part = round_.parts[number]
            submission = replace(wanted, content_sha256=part.sha256, round=round_number, max_tries=tries)
            service.has(id=name, metadata=submission.batch_metadata(), **fields)

        return add

    @pytest.fixture
    def looked(self, account: SiliconFlowClient, wanted: Submission, round_: Round) -> Callable[..., Any]:
        """Return a function that searches, and returns the batch id of each part."""

        def look(*rounds: Round, ended: Any = ()) -> list[str | None]:
            batches = JobBatches(account, wanted, MemoryRecords(), ended)
            batches.find_and_cancel_duplicates(rounds or [round_])
            found = [batches.batch_of_part(one, part) for one in rounds or [round_] for part in one.parts]
            return [None if batch is None else batch.id for batch in found]

        return look

    @pytest.mark.parametrize("hidden", [(), ("metadata",), ("metadata", "created_at"), ("created_at",)])
    def test_parts_find_their_batches_in_any_list(
        self, service: Any, has: Any, looked: Any, hidden: tuple[str, ...]
    ) -> None:
        service.hidden = hidden
        has("batch_a", 0)
        has("batch_b", 1)
        has("batch_c", 0, round_number=2)
        service.has(id="batch_d", metadata={"airflow_key": "key-2"})
        assert looked() == ["batch_a", "batch_b"]

    def test_rounds_with_equal_requests_have_separate_batches(self, has: Any, looked: Any, round_: Round) -> None:
        has("batch_a", round_number=1)
        has("batch_b", round_number=2)
        second = Round(2, round_.parts, 2, CREATED, [0, 1, 2, 3])
        assert looked(round_, second) == ["batch_a", None, "batch_b", None]

    @pytest.mark.parametrize(
        ("older", "younger", "kept", "cancels"),
        [
            ("in_progress", "in_progress", "older", ["a_younger"]),
            ("completed", "in_progress", "older", ["a_younger"]),
            ("completed", "completed", "older", []),
            ("cancelled", "in_progress", "a_younger", []),
            ("cancelling", "in_queue", "a_younger", []),
            ("failed", "completed", "a_younger", []),
            ("expired", "cancelled", "older", []),
        ],
    )
    @pytest.mark.parametrize("hidden", [(), ("created_at",), ("metadata",)])
    def test_the_oldest_active_or_completed_duplicate_is_kept(
        self,
        service: Any,
        has: Any,
        looked: Any,
        caplog: Any,
        hidden: Any,
        older: str,
        younger: str,
        kept: str,
        cancels: list[str],
    ) -> None:
        """No part is resubmitted, whatever its duplicates' status; running duplicates are cancelled and logged."""
        service.hidden = hidden
        has("a_younger", status=younger, created_at=CREATED + 1)
        has("older", status=older)
        assert looked() == [kept, None]
        sent = [request for request in service.requests if request.startswith("POST")]
        assert sent == [f"POST /batches/{batch_id}/cancel" for batch_id in cancels]
        assert caplog.text.count("two attempts of this task have created a batch") == len(cancels)

    def test_an_ended_batch_is_over_despite_stale_lists(
        self, account: SiliconFlowClient, wanted: Submission, round_: Round, service: Any, has: Any
    ) -> None:
        has("batch_a")
        ended = Batch.from_json({**service.batches["batch_a"], "status": "completed"})
        batches = JobBatches(account, wanted, MemoryRecords(), [ended])
        batches.find_and_cancel_duplicates([round_])
        assert batches.batches_of_round(round_) == {round_.parts[0].sha256: ended}

    def test_batches_missing_in_a_later_list_stay_known(
        self, account: SiliconFlowClient, wanted: Submission, round_: Round, service: Any, has: Any
    ) -> None:
        has("batch_a")
        batches = JobBatches(account, wanted, MemoryRecords())
        batches.find_and_cancel_duplicates([round_])
        service.unlisted = {"batch_a"}
        batches.find_and_cancel_duplicates([round_])
        assert list(batches.batches_of_round(round_)) == [round_.parts[0].sha256]

    def test_refresh_gets_the_batch_from_the_service(
        self, account: SiliconFlowClient, wanted: Submission, round_: Round, service: Any, has: Any
    ) -> None:
        """Its results may be signed URLs, and some lists omit them."""
        has("batch_a", status="completed", output_file_id="file-1")
        service.hidden = ("output_file_id",)
        batches = JobBatches(account, wanted, MemoryRecords())
        batches.find_and_cancel_duplicates([round_])
        assert batches.batches_of_round(round_)[round_.parts[0].sha256].output_file_id is None
        assert batches.refresh(round_, round_.parts[0]).output_file_id == "file-1"
        assert batches.batches_of_round(round_)[round_.parts[0].sha256].output_file_id == "file-1"

    def test_creation_times_cover_all_batches(
        self, account: SiliconFlowClient, wanted: Submission, round_: Round, has: Any
    ) -> None:
        for number, status in enumerate(("completed", "in_progress")):
            has(f"batch_{number}", number, status=status, created_at=CREATED + 100 * number)
        batches = JobBatches(account, wanted, MemoryRecords())
        batches.find_and_cancel_duplicates([round_])
        assert [created_at.int_timestamp - CREATED for created_at in batches.created_at] == [0, 100]

    def test_cancelling_a_younger_duplicate_is_logged(self, has: Any, looked: Any, caplog: Any) -> None:
        has("batch_a")
        has("batch_b", created_at=CREATED + 1)
        looked()
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert said == [
            "two attempts of this task have created a batch: keeping batch_a, which is older; batch_b is cancelling"
        ]
