"""The batches of a job's rounds: those that the service has, and those that are submitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.files import FilePart
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.parts import Part
from siliconflow_provider.jobs.submission import (
    SETTLING_SECONDS,
    Submission,
    batches_of_key,
    best_batch,
    cancel_younger,
    create,
    settle,
)

SUBMITTED_AT_ONCE = 4


class JobBatches:
    """What the service has of a job, by round and part.

    :param submission: of any part; file, content and round are the part's
    :param ended: batches that are known to be over, also where the service's list still shows them running
    """

    def __init__(self, client: SiliconFlowClient, submission: Submission, ended: Iterable[Batch] = ()) -> None:
        self._client = client
        self._submission = submission
        self._ended = {each.id: each for each in ended}
        self._found: dict[tuple[int, str], Batch] = {}
        self._others: list[Batch] = []

    def look_until_settled(self, rounds: Sequence[Round]) -> None:
        """List them, and again where an attempt at the same time may have created older ones than those found."""
        self.look(rounds)
        # Batches of one second are told apart by their ids.
        newest = clock.now() - timedelta(seconds=SETTLING_SECONDS + 1)
        if any(not each.is_terminal and (each.timing.created_at or newest) > newest for each in self._found.values()):
            settle()
            self.look(rounds)

    def look(self, rounds: Sequence[Round]) -> None:
        """List them anew; what two attempts at once have created twice is cancelled."""
        groups: dict[tuple[str | None, str | None], list[Batch]] = {}
        for batch in batches_of_key(self._client, self._submission):
            name = batch.metadata.get("airflow_round"), batch.metadata.get("airflow_input")
            groups.setdefault(name, []).append(self._ended.get(batch.id, batch))
        for each in rounds:
            for part in each.parts:
                submission = self._submission_of(each, part)
                group = groups.pop((str(each.number), submission.input_key), [])
                own = self.of_part(each, part)
                # A list that lags must not hide what this attempt has created.
                if own is not None and all(batch.id != own.id for batch in group):
                    group.append(own)
                cancel_younger(self._client, group, submission)
                best = best_batch(group, submission)
                if best is not None:
                    self._found[each.number, part.sha256] = best
        rest = [batch for group in groups.values() for batch in group if self._submission.is_same_grant(batch)]
        self._others = [each for each in rest if runs_or_has_answered(each)]

    @property
    def rivals(self) -> list[Batch]:
        """What another attempt at the same time has submitted for a job of its own, where this one has no batch."""
        return [] if self._found else self._others

    def submit(self, round_: Round, parts: Sequence[Part], path: Path) -> None:
        """Upload parts of a round's file and create their batches, a few at a time."""
        uploaded = {each.filename: each.id for each in self._client.list_files()}

        def submit_one(part: Part) -> None:
            name = f"{part.sha256}.jsonl"
            with FilePart(path, part) as content:
                file_id = uploaded.get(name) or self._client.upload_file(content, filename=name).id
            submission = replace(self._submission_of(round_, part), input_file_id=file_id)
            self._found[round_.number, part.sha256] = create(self._client, submission)

        with ThreadPoolExecutor(SUBMITTED_AT_ONCE) as pool:
            list(pool.map(submit_one, parts))
        settle()

    def of_part(self, round_: Round, part: Part) -> Batch | None:
        """Return the batch of a part, None when there is none."""
        return self._found.get((round_.number, part.sha256))

    def of_round(self, round_: Round) -> dict[str, Batch]:
        """Return the batches of a round by the SHA-256 of their part."""
        found = {part.sha256: self.of_part(round_, part) for part in round_.parts}
        return {sha256: batch for sha256, batch in found.items() if batch is not None}

    def refresh(self, round_: Round, part: Part) -> Batch:
        """Ask for the batch of a part anew: some lists show no results, and signed URLs expire."""
        batch = self._found[round_.number, part.sha256] = self._client.get_batch(
            self._found[round_.number, part.sha256].id
        )
        return batch

    @property
    def created_at(self) -> list[pendulum.DateTime]:
        """When the batches were created that there are."""
        return [each.timing.created_at for each in self._found.values() if each.timing.created_at is not None]

    @property
    def started_at(self) -> pendulum.DateTime | None:
        """When the first of those was created that run, or that were created since a person last cleared the task."""
        counted = [
            each for each in self._found.values() if self._submission.is_same_grant(each) or not each.is_terminal
        ]
        return min((each.timing.created_at for each in counted if each.timing.created_at is not None), default=None)

    def _submission_of(self, round_: Round, part: Part) -> Submission:
        return replace(self._submission, content=part.sha256, round=round_.number)


def runs_or_has_answered(batch: Batch) -> bool:
    """Whether a batch has cost something, or may."""
    if not batch.is_terminal:
        return True
    counts = batch.request_counts
    return bool(counts.completed) if counts is not None else batch.final_status == "completed"
