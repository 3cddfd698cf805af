from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.batches.finder import UnsafeSubmitError
from siliconflow_provider.batches.submission import Submission
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.job_directory import JobFilesError
from siliconflow_provider.jobs.job import Job
from siliconflow_provider.jobs.opening import Source, load_or_create_job
from siliconflow_provider.outputs.ownership import OutputConflictError
from siliconflow_provider.storage.workspace import Workspace

Open = Callable[..., Job]
Files = Callable[[], Workspace]
DEFINITION = {"model": "1", "prompt": "2"}
DAY = 24 * 3600
CREATED = 1_800_000_000
SOME_COMPLETED = {"total": 3, "completed": 1, "failed": 2}
NONE_COMPLETED = {"total": 3, "completed": 0, "failed": 3}


def texts(count: int = 3) -> Source:
    return Source("requests", [f"What is {i} + 1?" for i in range(count)], RequestBuilder(model="m"))


def rows() -> Source:
    return Source("rows.jsonl", [{"q": "1 + 1"}], RequestBuilder(model="m", prompt="{q}"))


def nothing() -> Any:
    raise AssertionError("the source is read")


@pytest.fixture
def opened(client: SiliconFlowClient, workspace: Files, wanted: Submission) -> Open:
    """Return a function that opens the job like another attempt."""

    def open_(make: Any = texts, *, definition: dict[str, str] = DEFINITION, **whose: Any) -> Job:
        return load_or_create_job(client, workspace(), replace(wanted, **whose), definition, make)

    return open_


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out" / "_siliconflow").iterdir() if path.name != "owner.json")


def test_a_new_job_is_published_before_submitting(opened: Open, client: SiliconFlowClient, tmp_path: Path) -> None:
    job = opened()
    assert (job.key, job.task, job.definition) == ("key-1", "dag/task/run/-1", DEFINITION)
    assert (job.requests, job.has_rows, job.first_round.max_tries) == (3, False, 2)
    assert job.first_round.planned_at == CREATED
    assert names(tmp_path) == ["job.json", "requests.jsonl"]
    assert (client.list_files(), list(client.list_batches())) == ([], [])


def test_input_rows_are_stored_beside_requests(opened: Open, tmp_path: Path) -> None:
    assert opened(rows).has_rows
    assert names(tmp_path) == ["job.json", "requests.jsonl", "rows.jsonl"]
    assert (tmp_path / "out" / "_siliconflow" / "rows.jsonl").read_text() == '{"q":"1 + 1"}\n'


@pytest.mark.parametrize("name", ["requests.jsonl", "rows.jsonl"])
def test_the_job_file_is_published_last(opened: Open, tmp_path: Path, name: str) -> None:
    """Once it exists, its requests and their rows exist too."""
    (tmp_path / "out" / "_siliconflow" / name).mkdir(parents=True)
    with pytest.raises(OSError, match=name):
        opened(rows)
    assert not (tmp_path / "out" / "_siliconflow" / "job.json").exists()


@pytest.mark.parametrize("max_tries", [0, 2, 9])
def test_an_existing_job_resumes_without_reading_its_source(opened: Open, clock: Any, max_tries: int) -> None:
    """This holds if a person has cleared the task, and if not."""
    job = opened()
    clock.advance(40 * DAY)
    assert opened(nothing, max_tries=max_tries) == job


@pytest.mark.parametrize("is_cleared", [False, True])
def test_a_job_created_without_deployment_is_resumed(opened: Open, is_cleared: bool) -> None:
    job = opened()
    named = {"key": "key-named", "key_without_deployment": "key-1"}
    assert opened(nothing, **named, max_tries=3, is_cleared_try=is_cleared) == job


@pytest.mark.parametrize("content", ["", "<html>", "[]", "{}", '{"schema_version": 2}', '{"key": 7}'])
def test_an_unreadable_job_is_named_and_kept(opened: Open, tmp_path: Path, content: str) -> None:
    (tmp_path / "out" / "_siliconflow").mkdir(parents=True)
    (tmp_path / "out" / "_siliconflow" / "job.json").write_text(content)
    with pytest.raises(ValueError, match=r"out/_siliconflow/job\.json cannot be read as Job"):
        opened(nothing, max_tries=9)
    assert (tmp_path / "out" / "_siliconflow" / "job.json").read_text() == content


def test_a_job_of_a_later_schema_is_kept(opened: Open, tmp_path: Path) -> None:
    opened()
    path = tmp_path / "out" / "_siliconflow" / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    with pytest.raises(ValueError, match="schema_version"):
        opened(nothing)


@pytest.mark.parametrize(
    "change",
    [
        {"definition": {"model": "0", "prompt": "0"}},
        {"definition": {**DEFINITION, "new": "3"}},
        {"key": "key-2"},
        {"key": "key-2", "definition": {**DEFINITION, "model": "0"}},
    ],
)
@pytest.mark.parametrize("max_tries", [1, 2])
def test_a_retry_with_changes_gets_the_existing_job(opened: Open, change: dict[str, Any], max_tries: int) -> None:
    assert opened() == opened(nothing, max_tries=max_tries, **change) == opened(nothing)


@pytest.mark.parametrize("change", [{"definition": {"model": "0", "prompt": "0"}}, {"key": "key-2"}])
def test_a_cleared_task_with_changes_starts_a_job(opened: Open, change: dict[str, Any]) -> None:
    before = opened(rows)
    job = opened(max_tries=3, is_cleared_try=True, **change)
    assert (job.requests, job.has_rows, job.first_round.max_tries) == (3, False, 3)
    assert job.id != before.id
    assert opened(nothing, max_tries=3, **change) == job


def test_a_bad_source_leaves_the_existing_job(opened: Open, tmp_path: Path) -> None:
    job = opened(rows)
    with pytest.raises(InvalidRequestFileError):
        opened(
            lambda: Source("requests", [7], RequestBuilder(model="m")),
            max_tries=3,
            is_cleared_try=True,
            definition={"model": "0"},
        )
    assert opened(nothing) == job
    assert (tmp_path / "out" / "_siliconflow" / "rows.jsonl").read_text() == '{"q":"1 + 1"}\n'


@pytest.mark.parametrize("max_tries", [2, 9])
def test_another_tasks_job_is_never_replaced(opened: Open, max_tries: int) -> None:
    job = opened()
    with pytest.raises(
        JobFilesError, match=r"another task instance \(dag/task/run/-1\): give each its own output_path"
    ):
        opened(nothing, key="key-2", label="dag/task/run/0", max_tries=max_tries)
    assert opened(nothing) == job


class TestAtTheSameTime:
    """Another attempt or task publishes its job while this one still reads its source."""

    @staticmethod
    def slowly(meanwhile: Callable[[], Any], made: Any = texts) -> Any:
        name, items, builder, _ = made()

        def source() -> Any:
            yield from items
            meanwhile()

        return lambda: Source(name, source(), builder)

    def test_the_first_published_job_is_resumed(
        self, opened: Open, client: SiliconFlowClient, workspace: Files, wanted: Submission
    ) -> None:
        others: list[Job] = []
        files = workspace()
        make = self.slowly(lambda: others.append(opened(lambda: texts(5))), rows)
        assert load_or_create_job(client, files, wanted, DEFINITION, make) == others[0]
        requests, kept = files.fetch("_siliconflow/requests.jsonl"), files.fetch("_siliconflow/rows.jsonl")
        assert requests is not None
        assert (len(requests.read_text().splitlines()), kept) == (5, None)

    @pytest.mark.parametrize("max_tries", [2, 9])
    def test_two_tasks_never_share_a_job(self, opened: Open, max_tries: int) -> None:
        """Mapped tasks may share a path without the map index: both would submit the requests."""

        def meanwhile() -> None:
            opened(key="key-2", label="dag/task/run/0")

        with pytest.raises(OutputConflictError, match=r"another task instance \(dag/task/run/0\).*map_index"):
            opened(self.slowly(meanwhile), max_tries=max_tries)

    @pytest.mark.parametrize(
        ("change", "named"), [({"definition": {"model": "0"}}, "prompt"), ({"key": "key-2"}, "submission_key")]
    )
    def test_a_concurrent_job_with_changes_is_an_error(self, opened: Open, change: dict[str, Any], named: str) -> None:
        others: list[Job] = []
        with pytest.raises(JobFilesError, match=rf"{named}.* changed since .*job\.json was created"):
            opened(
                self.slowly(lambda: others.append(opened(max_tries=9, is_cleared_try=True, **change))),
                max_tries=9,
                is_cleared_try=True,
            )
        assert opened(nothing, **change) == others[0]

    def test_of_two_concurrent_jobs_the_last_written_counts(
        self, opened: Open, client: SiliconFlowClient, workspace: Files, wanted: Submission, clock: Any
    ) -> None:
        """Both read the job again before they submit."""
        others: list[Job] = []

        def meanwhile() -> None:
            (Path(files.directory.path) / "_siliconflow" / "job.json").unlink()
            others.append(opened(lambda: texts(5)))

        files = workspace()
        clock.after(2, meanwhile)
        assert load_or_create_job(client, files, wanted, DEFINITION, rows) == others[0]
        requests = files.fetch("_siliconflow/requests.jsonl")
        assert requests is not None
        assert (len(requests.read_text().splitlines()), others[0].has_rows) == (5, False)

    def test_of_two_concurrent_tasks_the_first_stops(self, opened: Open, tmp_path: Path, clock: Any) -> None:
        """Some storages cannot refuse the second of two tasks that claim the directory."""

        def meanwhile() -> None:
            for name in ("job.json", "owner.json"):
                (tmp_path / "out" / "_siliconflow" / name).unlink()
            opened(key="key-2", label="dag/task/run/0")

        clock.after(2, meanwhile)
        with pytest.raises(JobFilesError, match=r"the job of another task instance \(dag/task/run/0\)"):
            opened()

    def test_one_of_two_cleared_attempts_replaces_the_job(self, opened: Open) -> None:
        opened()
        again: dict[str, Any] = {"definition": {"model": "0"}, "max_tries": 3, "is_cleared_try": True}
        others: list[Job] = []
        job = opened(self.slowly(lambda: others.append(opened(lambda: texts(5), **again))), **again)
        assert [job] == others


class TestLostFiles:
    """The service has batches of a task whose job file is missing."""

    @pytest.fixture
    def taken_up(self, service: Any, account: SiliconFlowClient, workspace: Files, wanted: Submission) -> Any:
        return lambda: load_or_create_job(account, workspace(), wanted, DEFINITION, texts)

    @pytest.mark.parametrize(
        ("status", "counts", "stops"),
        [
            ("in_queue", None, True),
            ("cancelling", NONE_COMPLETED, True),
            ("a new word", None, True),
            ("completed", None, True),
            ("completed", {}, True),
            ("completed", SOME_COMPLETED, True),
            ("completed", NONE_COMPLETED, False),
            ("expired", SOME_COMPLETED, True),
            ("expired", NONE_COMPLETED, False),
            ("cancelled", SOME_COMPLETED, True),
            ("failed", None, False),
        ],
    )
    def test_active_or_completed_batches_stop_a_new_job(
        self, service: Any, taken_up: Any, status: str, counts: Any, stops: bool
    ) -> None:
        """Batches of any part and round count: they are billed."""
        metadata = {"airflow_key": "key-1", "airflow_input": "of a part", "airflow_round": "2"}
        service.has(id="batch_1", status=status, request_counts=counts, metadata=metadata)
        if stops:
            with pytest.raises(
                JobFilesError,
                match=r"is missing, but .* 1 active or completed batch \(batch_1\)\.\nRestore the job's files",
            ):
                taken_up()
        else:
            assert taken_up().requests == 3

    def test_batches_of_other_tasks_do_not_matter(self, service: Any, taken_up: Any) -> None:
        service.has(id="batch_1", metadata={"airflow_key": "key-2"})
        assert taken_up().requests == 3

    def test_a_batch_without_metadata_stops_a_retry(
        self,
        service: Any,
        account: SiliconFlowClient,
        workspace: Files,
        wanted: Submission,
        taken_up: Any,
        tmp_path: Any,
    ) -> None:
        """Its age does not matter: the new job's time says nothing about it."""
        file_name = f"{taken_up().first_round.parts[0].sha256}.jsonl"
        shutil.rmtree(tmp_path / "out")
        service.has(id="batch_1", file_name=file_name, created_at=CREATED - 5 * DAY)
        service.has(id="batch_2", metadata={"airflow_key": "key-2"})
        for _ in range(2):
            with pytest.raises(UnsafeSubmitError, match=r"same file, .*: batch_1\.\n.*clear the task"):
                taken_up()
        cleared = replace(wanted, max_tries=3, is_cleared_try=True)
        assert load_or_create_job(account, workspace(), cleared, DEFINITION, texts).requests == 3

    def test_a_first_try_ignores_batches_without_metadata(
        self,
        service: Any,
        account: SiliconFlowClient,
        workspace: Files,
        wanted: Submission,
        taken_up: Any,
        tmp_path: Any,
    ) -> None:
        service.has(id="batch_1", file_name=f"{taken_up().first_round.parts[0].sha256}.jsonl")
        shutil.rmtree(tmp_path / "out")
        first = replace(wanted, is_first_try=True)
        assert load_or_create_job(account, workspace(), first, DEFINITION, texts).requests == 3

    def test_deleted_batches_do_not_stop_a_cleared_task(self, service: Any, taken_up: Any) -> None:
        metadata = {"airflow_key": "key-1", "airflow_max_tries": "1"}
        service.has(id="batch_1", metadata=metadata, created_at=CREATED - 31 * DAY, status="completed")
        assert taken_up().requests == 3

    @pytest.mark.parametrize(
        ("count", "named"), [(3, "(batch_0, batch_1, batch_2)"), (4, "batch_1, batch_2, and 1 more)")]
    )
    def test_the_first_three_are_named(self, service: Any, taken_up: Any, count: int, named: str) -> None:
        for number in range(count):
            service.has(id=f"batch_{number}", metadata={"airflow_key": "key-1"}, created_at=CREATED - number)
        with pytest.raises(JobFilesError) as caught:
            taken_up()
        assert f"{count} active or completed batches" in str(caught.value)
        assert named in str(caught.value)

    def test_listed_batches_without_metadata_are_fetched(self, service: Any, taken_up: Any) -> None:
        service.hidden = ("metadata", "created_at")
        service.has(id="batch_1", metadata={"airflow_key": "key-1"})
        with pytest.raises(JobFilesError, match=r"1 active or completed batch \(batch_1\)"):
            taken_up()


@pytest.mark.parametrize("change", [{"definition": {"model": "0"}}, {"key": "key-2"}])
def test_only_running_previous_batches_are_warned_of(
    service: Any, account: SiliconFlowClient, workspace: Files, wanted: Submission, caplog: Any, change: dict[str, Any]
) -> None:
    load_or_create_job(account, workspace(), wanted, DEFINITION, texts)
    for status in ("in_progress", "cancelling", "completed", "failed"):
        service.has(id=f"batch_{status}", status=status, metadata={"airflow_key": "key-1"})
    service.has(id="batch_other", metadata={"airflow_key": "key-3"})
    definition = change.pop("definition", DEFINITION)
    load_or_create_job(
        account, workspace(), replace(wanted, max_tries=3, is_cleared_try=True, **change), definition, texts
    )
    said = [record.getMessage() for record in caplog.records if "is still running and billed" in record.getMessage()]
    assert [message.split()[4] for message in said] == ["batch_in_progress", "batch_cancelling"]
    assert said[0].endswith("To cancel: python -m siliconflow_provider cancel batch_in_progress")


def test_a_job_submitted_during_publishing_is_resumed(
    opened: Open, attempt: Callable[..., Any], client: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    """Large files take minutes to publish, and a source may return different items each time."""
    publish, others = Workspace.publish, []

    def publish_slowly(self: Workspace, name: str) -> None:
        monkeypatch.setattr(Workspace, "publish", publish)
        runner = attempt(3)
        runner.submit(runner.parts)
        others.append(runner)
        clock.advance(60)
        publish(self, name)

    monkeypatch.setattr(Workspace, "publish", publish_slowly)
    job = opened(lambda: Source("requests", ["What is 1 + 1?"], RequestBuilder(model="m")), definition={})
    (batch,) = client.list_batches()
    assert [found.id for found in others[0].batches.values()] == [batch.id]
    assert job.requests == 3
    assert [found.id for found in attempt(3).batches.values()] == [batch.id]
