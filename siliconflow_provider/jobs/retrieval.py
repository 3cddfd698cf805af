"""The answers of a job's batches, fetched, and what became of the requests that none of them mentions."""

from __future__ import annotations

from dataclasses import dataclass

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.answers import AnswerError, ResultRow
from siliconflow_provider.jobs.batches import JobBatches
from siliconflow_provider.jobs.blocks import blocks_of, pieces_of
from siliconflow_provider.jobs.collection import Answers
from siliconflow_provider.jobs.delivery import download_answers
from siliconflow_provider.jobs.files import Files, JobFilesError, RequestFiles, ids_of_part
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.landing import Landed
from siliconflow_provider.jobs.parts import Part


@dataclass(frozen=True)
class Retrieval:
    """Fetches what all batches of a job that are over have answered.

    :param landed: what an earlier attempt has written
    :param is_cleared: whether a person lets the job buy again what the service has forgotten
    """

    client: SiliconFlowClient
    files: Files
    requests: RequestFiles
    batches: JobBatches
    landed: Landed
    is_cleared: bool

    def fill(self, answers: Answers, rounds: list[Round]) -> None:
        """Give each request a row.

        :raises JobFilesError: when the service has forgotten an answer that was not written down
        """
        for each in rounds:
            for part in each.parts:
                batch = self.batches.of_part(each, part)
                if batch is not None and batch.is_terminal:
                    self._fetch_part(answers, each, part)
        self._take_landed(answers, rounds)
        # What the newest round knows of a request goes before what an older one does not.
        for each in reversed(rounds):
            for part in each.parts:
                self._assume_rest(answers, each, part, is_newest=each is rounds[-1])

    def _fetch_part(self, answers: Answers, round_: Round, part: Part) -> None:
        batch = self.batches.refresh(round_, part)
        if batch.request_counts is not None and batch.request_counts.completed and batch.output_file_id is None:
            raise UnreadableAnswerError(
                f"batch {batch.id} {batch.final_status} with {batch.request_counts.completed:,} answers, but the "
                "service shows no output file: a retry asks again"
            )
        indexes = self._indexes_by_id(round_, part)
        answers.begin_batch()
        for name, file_ref in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            if file_ref is None:
                continue
            with self.files.create("fetched") as fetched:
                download_answers(self.client, file_ref, fetched, f"the {name} file of {batch.id}")
                answers.take_file(blocks_of(pieces_of(fetched)), indexes, batch.id, round_.number, name)
        status, error = _without_line(batch)
        for custom_id, index in indexes.items():
            if not answers.is_mentioned(index):
                answers.assume(index, _row(custom_id, status, error, round_, batch))

    def _take_landed(self, answers: Answers, rounds: list[Round]) -> None:
        """Take over the rows of batches that the service has forgotten."""
        if any(self.is_forgotten(each, part) for each in rounds for part in each.parts):
            for row in self.landed.rows(self.files):
                answers.take_row(row)

    def _assume_rest(self, answers: Answers, round_: Round, part: Part, *, is_newest: bool) -> None:
        """Say what became of the requests of a part that has no batch which is over."""
        batch = self.batches.of_part(round_, part)
        if batch is not None and batch.is_terminal:
            return
        is_lost = batch is None and (not is_newest or self.is_forgotten(round_, part))
        for custom_id, index in self._indexes_by_id(round_, part).items():
            if batch is None and answers.has_row(index):
                continue
            if is_lost and not self.is_cleared:
                raise JobFilesError(
                    f"the service has forgotten a batch of round {round_.number}, after 30 days, before its answers "
                    f"were written ({custom_id!r} and others): clear the task to submit what has no answer"
                )
            status, error = _LOST if is_lost else _NOT_OVER if batch is not None else _NOT_SENT
            answers.assume(index, _row(custom_id, status, error, round_, batch))

    def is_forgotten(self, round_: Round, part: Part) -> bool:
        """Whether results have landed for a part of which the service knows nothing any more."""
        return self.batches.of_part(round_, part) is None and self.landed.has(round_, part)

    def _indexes_by_id(self, round_: Round, part: Part) -> dict[str, int]:
        ids = ids_of_part(self.requests.path(round_), part)
        return dict(zip(ids, round_.indexes_of(part), strict=True))


_NOT_OVER = "unfinished", AnswerError("unfinished", "its batch was not over when the job's time was")
_NOT_SENT = "unfinished", AnswerError("not_sent", "it was not sent before the job's time was over")
_LOST = "missing", AnswerError("forgotten", "the service keeps answers for 30 days, and this one was not written")


def _row(custom_id: str, status: str, error: AnswerError, round_: Round, batch: Batch | None) -> ResultRow:
    batch_id = None if batch is None else batch.id
    return ResultRow(custom_id=custom_id, status=status, error=error, batch_id=batch_id, round=round_.number)


def _without_line(batch: Batch) -> tuple[str, AnswerError]:
    """Return what became of a request that none of its batch's files mentions."""
    if batch.final_status == "completed":
        return "missing", AnswerError("missing", "the batch completed, and neither of its files has this request")
    status = batch.final_status or "unfinished"
    said = "; ".join(batch.errors[:3]) or f"the batch {status} before this request was run"
    return status, AnswerError(f"batch_{status}", said)
