"""What a job has written: its results and its manifest, which outlive what the service remembers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.answers import ResultRow
from siliconflow_provider.jobs.collection import Answers
from siliconflow_provider.jobs.files import (
    MANIFEST,
    RESULTS,
    ROWS,
    Files,
    RequestsLostError,
    own_name,
    replaced_name,
)
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.manifest import build_job_manifest
from siliconflow_provider.jobs.parts import Part

log = logging.getLogger(__name__)

BatchOfPart = tuple[Round, Part, Batch]


@dataclass(frozen=True)
class Landed:
    """What an earlier attempt at this job has written, if any has.

    :param reports: of its batches, by round and part
    :param manifest: as it was written
    """

    reports: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, files: Files, job: Job) -> Landed:
        """Read the manifest, unless it is another job's."""
        manifest = files.read_json(MANIFEST, dict)
        if manifest is None or manifest.get("job_id") != job.id:
            return cls()
        return cls({(each["round"], each["part"]): each for each in manifest["batches"]}, manifest)

    def has(self, round_: Round, part: Part) -> bool:
        """Whether a batch of this part is in the manifest."""
        return (round_.number, part.sha256) in self.reports

    def has_all(self, batches: Iterable[BatchOfPart]) -> bool:
        """Whether the manifest is complete, and has what these batches have come to."""
        if not self.manifest.get("complete"):
            return False
        ends = ((self.reports.get((each.number, part.sha256), {}), batch) for each, part, batch in batches)
        return all((report.get("id"), report.get("status")) == (batch.id, batch.final_status) for report, batch in ends)

    def positions(self, files: Files, requests: int) -> bytearray:
        """Return which requests, by position, have a row that tells what became of them.

        :param requests: how many there are
        """
        known = bytearray(requests)
        for row in self.rows(files):
            if row.index is not None and row.index < requests:
                known[row.index] = row.status != "unfinished"
        return known

    def rows(self, files: Files) -> Iterator[ResultRow]:
        """Yield the rows of the results, unless those are another job's."""
        path = files.fetch(RESULTS) if self.reports else None
        if path is not None:
            yield from rows_in(path)


def rows_in(path: Path) -> Iterator[ResultRow]:
    """Yield the rows of a file of them."""
    decode = msgspec.json.Decoder(ResultRow).decode
    with path.open("rb") as lines:
        yield from map(decode, lines)


def land(
    files: Files,
    job: Job,
    answers: Answers,
    batches: Sequence[BatchOfPart],
    landed: Landed,
    *,
    custom_ids: Callable[[set[int]], dict[int, str]],
    complete: bool,
) -> dict[str, Any]:
    """Write one row a request and the manifest, publish both, and return the manifest.

    What another job has published under these names is kept under its id.

    :param batches: that the service shows, each with its round and part
    :param landed: what was written before: the manifest keeps the batches that the service has forgotten
    :raises RequestsLostError: when the rows that the requests were made of are gone
    """
    inputs = _inputs(files, own_name(ROWS, job.directory)) if job.has_rows else None
    with files.create(RESULTS) as results:
        answers.write(results, inputs)
    shown = {(each.number, part.sha256) for each, part, _ in batches}
    manifest = build_job_manifest(
        job,
        answers,
        batches,
        forgotten=[report for name, report in landed.reports.items() if name not in shown],
        paths={"results": files.url(RESULTS), "manifest": files.url(MANIFEST)},
        custom_ids=custom_ids,
        complete=complete,
    )
    _keep_replaced(files, job)
    # The manifest comes last: where it is, the results are.
    files.publish(RESULTS)
    files.publish_json(MANIFEST, manifest)
    return manifest


def _keep_replaced(files: Files, job: Job) -> None:
    """Keep what another job has published."""
    published = files.read_json(MANIFEST, dict) or {}
    job_id = published.get("job_id", job.id)
    # The manifest comes last here too: where it is kept, the results are, and those that stand may be newer.
    if job_id != job.id and files.fetch(replaced_name(MANIFEST, job_id)) is None:
        for name in (RESULTS, MANIFEST):
            files.keep(name, replaced_name(name, job_id))
        log.info("the results of the job before are kept as %s", files.url(replaced_name(RESULTS, job_id)))


def _inputs(files: Files, name: str) -> Iterator[bytes]:
    """Yield the rows that the requests were made of.

    :raises RequestsLostError: where they end too early
    """
    path = files.fetch(name)
    if path is not None:
        with path.open("rb") as lines:
            yield from lines
    raise RequestsLostError(
        f"{files.url(name)} is gone, or not whole: put it back, or results would lack what was asked"
    )
