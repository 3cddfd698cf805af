"""What a job has written: its results and its manifest, which outlive what the service remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.answers import ResultRow
from siliconflow_provider.jobs.collection import Answers
from siliconflow_provider.jobs.files import MANIFEST, RESULTS, ROWS, Files, RequestsLostError
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.manifest import build_job_manifest
from siliconflow_provider.jobs.parts import Part

BatchOfPart = tuple[Round, Part, Batch]


@dataclass(frozen=True)
class Landed:
    """What an earlier attempt at this job has written, if any has.

    :param reports: of its batches, by round and part
    """

    reports: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, files: Files, job: Job) -> Landed:
        """Read the manifest, unless it is another job's."""
        manifest = files.read_json(MANIFEST, dict)
        if manifest is None or manifest.get("job_id") != job.id:
            return cls()
        return cls({(each["round"], each["part"]): each for each in manifest["batches"]})

    def has(self, round_: Round, part: Part) -> bool:
        """Whether a batch of this part is in the manifest."""
        return (round_.number, part.sha256) in self.reports

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
        if path is None:
            return
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

    :param batches: that the service shows, each with its round and part
    :param landed: what was written before: the manifest keeps the batches that the service has forgotten
    :raises RequestsLostError: when the rows that the requests were made of are gone
    """
    inputs = _inputs(files) if job.has_rows else None
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
    # The manifest comes last: where it is, the results are.
    files.publish(RESULTS)
    files.publish_json(MANIFEST, manifest)
    return manifest


def _inputs(files: Files) -> Iterator[bytes]:
    """Yield the rows that the requests were made of.

    :raises RequestsLostError: where they end too early
    """
    path = files.fetch(ROWS)
    if path is not None:
        with path.open("rb") as lines:
            yield from lines
    raise RequestsLostError(
        f"{files.url(ROWS)} is gone, or not whole: put it back, or results would lack what was asked"
    )
