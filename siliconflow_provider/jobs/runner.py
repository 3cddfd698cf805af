"""A job on its way: its parts submitted, its answers collected, its further rounds planned, its results written."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.answers import AnswerError, ResultRow
from siliconflow_provider.jobs.collection import Answers, Validate
from siliconflow_provider.jobs.job import Job, PlannedRound, Round
from siliconflow_provider.jobs.manifest import build_job_manifest
from siliconflow_provider.jobs.parts import Part, PartWriter
from siliconflow_provider.jobs.request_lines import read_request
from siliconflow_provider.jobs.submission import (
    RETENTION,
    SETTLING_SECONDS,
    Submission,
    batches_of_key,
    best_batch,
    cancel_younger,
    create,
)

log = logging.getLogger(__name__)

JOB, REQUESTS, ROWS = "job.json", "requests.jsonl", "rows.jsonl"
RESULTS, MANIFEST = "results.jsonl", "manifest.json"
SUBMITTED_AT_ONCE = 4
T = TypeVar("T")


class Files(Protocol):
    """The job's files, as `siliconflow_provider.workspace.Workspace` has them."""

    def url(self, name: str) -> str: ...
    def create(self, name: str) -> IO[bytes]: ...
    def fetch(self, name: str) -> Path | None: ...
    def publish(self, name: str) -> None: ...
    def publish_json(self, name: str, value: Any) -> None: ...
    def read_json(self, name: str, kind: type[T]) -> T | None: ...


@dataclass(frozen=True)
class Settings:
    """How the parts of a job are submitted and read.

    :param submission: of any part; file, content and round are the part's
    :param max_rounds: that a task may send before a person clears it
    :param validate: may turn a row that succeeded into an invalid one
    """

    submission: Submission
    max_rounds: int
    validate: Validate | None = None
    part_limits: dict[str, int] | None = None


class JobFilesError(ValueError):
    """The files of a job do not fit together."""


class JobRunner:
    """One attempt at a job. What has been submitted it learns from the service, everything else from the files."""

    def __init__(self, client: SiliconFlowClient, files: Files, job: Job, settings: Settings) -> None:
        self._client = client
        self._files = files
        self._job = job
        self._settings = settings
        self.rounds = list(self._planned_rounds())
        self._landed = self._landed_manifest()
        self._answers: Answers | None = None
        self._collected: IO[bytes] | None = None
        self._found = self._look()

    def close(self) -> None:
        """Close what was opened."""
        if self._collected is not None:
            self._collected.close()

    @property
    def parts(self) -> list[Part]:
        """The parts of the newest round, but for those that the service has run and forgotten."""
        return [each for each in self.rounds[-1].parts if not self._is_forgotten(self.rounds[-1], each)]

    @property
    def batches(self) -> dict[str, Batch]:
        """The batches of the newest round, by the SHA-256 of their part."""
        return self._batches_of(self.rounds[-1])

    @property
    def is_cleared(self) -> bool:
        """Whether a person has let the task start over since the newest round was planned."""
        return self._settings.submission.max_tries > self.rounds[-1].max_tries

    @property
    def rounds_left(self) -> int:
        """How many rounds may still be planned."""
        used = sum(each.max_tries >= self._settings.submission.max_tries for each in self.rounds)
        return self._settings.max_rounds - used

    @property
    def started_at(self) -> Any:
        """When the first batch since the last clearing was created, None before that."""
        current = max(each.max_tries for each in self.rounds)
        found = [
            batch.timing.created_at
            for each in self.rounds
            if each.max_tries == current
            for batch in self._batches_of(each).values()
        ]
        return min((each for each in found if each is not None), default=None)

    @property
    def to_repeat(self) -> list[int] | None:
        """The positions of requests for a further round; None until the answers have been collected."""
        return None if self._answers is None else self._answers.to_repeat(is_cleared=self.is_cleared)

    def submit(self, parts: Sequence[Part]) -> None:
        """Upload these parts of the newest round and create their batches, a few at a time."""
        self._check_age()
        newest = self.rounds[-1]
        path = self._requests_file(newest)
        uploaded = {each.filename: each.id for each in self._client.list_files()}

        def submit_one(part: Part) -> None:
            submission = self._submission(newest, part)
            name = f"{part.sha256}.jsonl"
            with _Slice(path, part) as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != part.sha256:
                    raise JobFilesError(f"{path.name} of this job was changed: put back what it was")
                content.seek(0)
                file_id = uploaded.get(name) or self._client.upload_file(content, filename=name).id
            create(self._client, replace(submission, input_file_id=file_id))

        with ThreadPoolExecutor(SUBMITTED_AT_ONCE) as pool:
            list(pool.map(submit_one, parts))
        clock.sleep(SETTLING_SECONDS)
        self._found = self._look()

    def collect(self) -> Answers:
        """Fetch what all batches that are over have answered."""
        self.close()
        self._collected = self._files.create("collected")
        answers = self._answers = Answers(self._job.requests, self._collected, self._settings.validate)
        for each in self.rounds:
            for part, batch in self._pairs(each):
                if batch.is_terminal:
                    self._collect_part(answers, each, part)
        self._take_landed(answers)
        for part in self.rounds[-1].parts:
            self._assume_rest(answers, self.rounds[-1], part)
        return answers

    def plan_round(self, indexes: Sequence[int]) -> None:
        """Write the file of a further round, with these requests of the job."""
        number = self.rounds[-1].number + 1
        wanted = iter(indexes)
        following = next(wanted, None)
        with self._files.create(f"round-{number}.jsonl") as file:
            writer = PartWriter(file, **(self._settings.part_limits or {}))
            with self._requests_file(self.rounds[0]).open("rb") as lines:
                for index, line in enumerate(lines):
                    if index == following:
                        writer.write(line)
                        following = next(wanted, None)
            parts = writer.finish()
        planned = Round(number, parts, self._settings.submission.max_tries, list(indexes))
        self._files.publish(f"round-{number}.jsonl")
        self._files.publish_json(f"round-{number}.json", PlannedRound(self._job.id, planned))
        log.info("round %d: %d requests are sent again, in %d batches", number, len(indexes), len(parts))
        self.rounds.append(planned)
        self._answers = None

    def finish(self, *, complete: bool) -> dict[str, Any]:
        """Write one row a request and the manifest, publish both, and return the manifest."""
        answers = self._answers or self.collect()
        rows = self._files.fetch(ROWS) if self._job.has_rows else None
        with self._files.create(RESULTS) as results:
            if rows is None:
                answers.write(results, None)
            else:
                with rows.open("rb") as inputs:
                    answers.write(results, inputs)
        manifest = build_job_manifest(
            self._job,
            answers,
            [(each, part, batch) for each in self.rounds for part, batch in self._pairs(each)],
            paths={"results": self._files.url(RESULTS), "manifest": self._files.url(MANIFEST)},
            custom_ids=self._custom_ids,
            complete=complete,
        )
        # The manifest comes last: where it is, the results are.
        self._files.publish(RESULTS)
        self._files.publish_json(MANIFEST, manifest)
        return manifest

    def _check_age(self) -> None:
        """Raise when the service may have run and forgotten what it does not show."""
        age = clock.now() - pendulum.from_timestamp(self._job.created_at)
        if age > RETENTION and self._settings.submission.max_tries <= self._job.first_round.max_tries:
            raise JobFilesError(
                f"{self._files.url(JOB)} is {age.days} days old, and the service forgets after {RETENTION.days}: "
                "whether its batches were paid for is not known. Clear the task to submit what has no answer"
            )

    def _planned_rounds(self) -> Iterator[Round]:
        yield self._job.first_round
        number = 2
        while True:
            planned = self._files.read_json(f"round-{number}.json", PlannedRound)
            if planned is None or planned.job_id != self._job.id:
                return
            yield planned.round
            number += 1

    def _look(self) -> dict[tuple[int, str], Batch]:
        """List the job's batches, by round and part; what two attempts at once have created twice is cancelled."""
        groups: dict[tuple[str | None, str | None], list[Batch]] = {}
        for batch in batches_of_key(self._client, self._settings.submission):
            name = batch.metadata.get("airflow_round"), batch.metadata.get("airflow_input")
            groups.setdefault(name, []).append(batch)
        found = {}
        for each in self.rounds:
            for part in each.parts:
                submission = self._submission(each, part)
                group = groups.get((str(each.number), submission.input_key), [])
                cancel_younger(self._client, group, submission)
                best = best_batch(group, submission)
                if best is not None:
                    found[each.number, part.sha256] = best
        return found

    def _submission(self, round_: Round, part: Part) -> Submission:
        return replace(self._settings.submission, content=part.sha256, round=round_.number)

    def _batches_of(self, round_: Round) -> dict[str, Batch]:
        return {part.sha256: batch for part, batch in self._pairs(round_)}

    def _pairs(self, round_: Round) -> list[tuple[Part, Batch]]:
        found = ((part, self._found.get((round_.number, part.sha256))) for part in round_.parts)
        return [(part, batch) for part, batch in found if batch is not None]

    def _requests_file(self, round_: Round) -> Path:
        name = REQUESTS if round_.number == 1 else f"round-{round_.number}.jsonl"
        path = self._files.fetch(name)
        if path is None:
            raise JobFilesError(f"{self._files.url(name)} is gone: put it back, or start a new job elsewhere")
        return path

    def _custom_ids(self, positions: set[int]) -> dict[int, str]:
        if not positions:
            return {}
        with self._requests_file(self.rounds[0]).open("rb") as lines:
            return {index: read_request(line).custom_id for index, line in enumerate(lines) if index in positions}

    def _indexes_by_id(self, round_: Round, part: Part) -> dict[str, int]:
        with _Slice(self._requests_file(round_), part) as lines:
            ids = [read_request(line).custom_id for line in lines.read().splitlines()]
        return dict(zip(ids, round_.indexes_of(part), strict=True))

    def _collect_part(self, answers: Answers, round_: Round, part: Part) -> None:
        # Some lists show no results, and signed URLs expire.
        batch = self._client.get_batch(self._found[round_.number, part.sha256].id)
        self._found[round_.number, part.sha256] = batch
        if batch.request_counts is not None and batch.request_counts.completed and batch.output_file_id is None:
            raise UnreadableAnswerError(
                f"batch {batch.id} {batch.final_status} with {batch.request_counts.completed:,} answers, but the "
                "service shows no output file: a retry asks again"
            )
        indexes = self._indexes_by_id(round_, part)
        is_mentioned = answers.since_now()
        for name, file_ref in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            if file_ref is None:
                continue
            with self._files.create("fetched") as fetched:
                self._client.download(file_ref, fetched)
                fetched.seek(0)
                answers.take_file(fetched, indexes, batch.id, round_.number, name)
        for custom_id, index in indexes.items():
            if not is_mentioned(index):
                status, error = _without_line(batch)
                answers.assume(
                    index,
                    ResultRow(custom_id=custom_id, status=status, error=error, batch_id=batch.id, round=round_.number),
                )

    def _assume_rest(self, answers: Answers, round_: Round, part: Part) -> None:
        """Say of the requests of a part that is not over that they are unfinished."""
        batch = self._batches_of(round_).get(part.sha256)
        if batch is not None and batch.is_terminal:
            return
        for custom_id, index in self._indexes_by_id(round_, part).items():
            if batch is None and answers.has_row(index):
                continue
            error = AnswerError("unfinished", "its batch was not over when the job's time was")
            answers.assume(
                index,
                ResultRow(
                    custom_id=custom_id,
                    status="unfinished" if batch is not None or not self._is_forgotten(round_, part) else "missing",
                    error=error,
                    batch_id=batch.id if batch is not None else None,
                    round=round_.number,
                ),
            )

    def _landed_manifest(self) -> dict[str, Any] | None:
        landed = self._files.read_json(MANIFEST, dict)
        return landed if landed is not None and landed.get("job_id") == self._job.id else None

    def _is_forgotten(self, round_: Round, part: Part) -> bool:
        """Whether results have landed for a part of which the service knows nothing any more."""
        if self._landed is None or (round_.number, part.sha256) in self._found:
            return False
        return any((each["round"], each["part"]) == (round_.number, part.sha256) for each in self._landed["batches"])

    def _take_landed(self, answers: Answers) -> None:
        """Take over the rows of batches that the service has forgotten."""
        import msgspec

        if not any(self._is_forgotten(each, part) for each in self.rounds for part in each.parts):
            return
        path = self._files.fetch(RESULTS)
        if path is None:
            return
        decode = msgspec.json.Decoder(ResultRow).decode
        with path.open("rb") as lines:
            for line in lines:
                answers.take_row(decode(line))


def _without_line(batch: Batch) -> tuple[str, AnswerError]:
    """Return what became of a request that none of its batch's files mentions."""
    if batch.final_status == "completed":
        return "missing", AnswerError("missing", "the batch completed, and neither of its files has this request")
    status = batch.final_status or "unfinished"
    said = "; ".join(batch.errors[:3]) or f"the batch {status} before this request was run"
    return status, AnswerError(f"batch_{status}", said)


class _Slice:
    """A part of a file as a file object of its own, for reading and uploading."""

    def __init__(self, path: Path, part: Part) -> None:
        self._file = path.open("rb")
        self._start = part.offset
        self._size = part.bytes
        self._position = 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def read(self, size: int = -1) -> bytes:
        left = self._size - self._position
        self._file.seek(self._start + self._position)
        block = self._file.read(left if size < 0 else min(size, left))
        self._position += len(block)
        return block
