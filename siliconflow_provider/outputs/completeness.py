"""Whether a batch that is over has delivered its results: pure functions of the batch and of its files' lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from siliconflow_provider.api.limits import shortened
from siliconflow_provider.api.models import Batch, RequestCounts
from siliconflow_provider.jsonl import LongLine, decode_lines, split_lines
from siliconflow_provider.outputs.answers import custom_id_of

SHOWN_EXAMPLES = 3
# Of so few requests, more than half says little: there the counts decide.
SMALL_BATCH = 2


class _Identity(msgspec.Struct, gc=False):
    custom_id: str


_decoder = msgspec.json.Decoder(_Identity)


@dataclass(frozen=True)
class FileContents:
    """What the lines of a result file are about.

    :param ids: how many lines there are with each custom id
    :param unreadable: lines that name no request; a last one that was cut off does not count
    """

    ids: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0

    def __add__(self, other: FileContents) -> FileContents:
        return FileContents(self.ids + other.ids, self.unreadable + other.unreadable)

    def requests(self, sent: Collection[str] | None) -> int:
        """Return how many requests the lines may be about: further lines of a request that was sent do not count.

        :param sent: the custom ids of the batch's requests; None where they are not at hand
        """
        repeated = (
            0 if sent is None else sum(count - 1 for each, count in self.ids.items() if count > 1 and each in sent)
        )
        return self.ids.total() + self.unreadable - repeated


@dataclass(frozen=True)
class ResultContents:
    """What the result files of a batch have; one that is not there is like an empty one."""

    output: FileContents = field(default_factory=FileContents)
    errors: FileContents = field(default_factory=FileContents)

    @cached_property
    def ids(self) -> AbstractSet[str]:
        """The custom ids that are mentioned."""
        return self.output.ids.keys() | self.errors.ids.keys()


@dataclass(frozen=True)
class Problem:
    """Why a batch's results cannot be taken yet.

    :param is_error: whether they cannot be taken either when asking again for a while has not helped
    """

    message: str
    is_error: bool = True


def contents_of(blocks: Iterable[bytes]) -> FileContents:
    """Read what the lines of a file are about.

    :param blocks: the file's lines, one or several at a time
    """
    ids: Counter[str] = Counter()
    unreadable = 0
    for block in blocks:
        found = decode_lines(_decoder, block)
        if found is not None:
            ids.update([each.custom_id for each in found])
            continue
        for line in filter(bytes.strip, split_lines(block)):
            try:
                ids[custom_id_of(line)] += 1
            except msgspec.DecodeError:
                unreadable += line.endswith(b"\n") or isinstance(line, LongLine)
    return FileContents(ids, unreadable)


def delivery_problem(batch: Batch, contents: ResultContents, sent: Collection[str] | None = None) -> Problem | None:
    """Return why the results of a batch that is over cannot be taken yet; None when they can.

    They can when the batch has delivered (`incomplete_reason`), and its answers are those of its requests
    (`mismatch_reason`).
    Without counts, a completed batch must mention all of them, or not have done so for a while.

    :param sent: the custom ids of the batch's requests; None where they are not at hand
    """
    reason = incomplete_reason(batch, contents, sent)
    if reason is None and sent is not None:
        reason = mismatch_reason(batch, contents, sent)
    if reason is not None:
        return Problem(reason)
    is_told = batch.final_status != "completed" or _counts(batch) is not None
    is_whole = sent is None or is_told or contents.ids >= set(sent)
    return None if is_whole else Problem(f"batch {batch.id} completed, but shows no request counts", is_error=False)


def incomplete_reason(batch: Batch, contents: ResultContents, sent: Collection[str] | None = None) -> str | None:
    """Return what a batch that is over lacks of what its counts say; None when it has delivered.

    It has delivered when its output file is about as many requests as `completed`, and, unless the batch ended
    otherwise than completed, both its files are about as many as `completed` and `failed`. Where the counts are null,
    `{}` or all zero, a completed batch has delivered as soon as a line is there.
    """
    counts = _counts(batch)
    answered, told = contents.output.requests(sent), (contents.output + contents.errors).requests(sent)
    is_completed = batch.final_status == "completed"
    if counts is None:
        is_empty = is_completed and not told
        return f"batch {batch.id} completed, but shows neither request counts nor results" if is_empty else None
    if answered < counts.completed:
        is_shown = batch.output_file_id is not None
        has = f"its output file has {answered:,}" if is_shown else "the service shows no output file"
    elif is_completed and told < counts.completed + counts.failed:
        has = f"its files have {told:,} of these"
    else:
        return None
    said = f"{counts.completed:,} completed and {counts.failed:,} failed"
    return f"batch {batch.id} {batch.final_status}, its request counts are {said}, but {has}"


def mismatch_reason(batch: Batch, contents: ResultContents, sent: Collection[str]) -> str | None:
    """Return why a batch's answers cannot be those of its requests; None when they can.

    They cannot when requests have no answer, and more than half of the lines name requests that nobody sent. Nor can
    they when a batch completed, and its files do not mention more than half of its requests. In a batch of one or two
    requests, one unknown line is enough, and requests that are not mentioned are taken for missing where the counts
    say that so many are.

    :param sent: the custom ids of the batch's requests
    """
    missing = [each for each in sent if each not in contents.ids]
    if not missing:
        return None
    lines = (contents.output + contents.errors).ids
    unknown = {each: count for each, count in lines.items() if each not in sent}
    is_small, unknown_lines = len(sent) <= SMALL_BATCH, sum(unknown.values())
    if 2 * unknown_lines > lines.total() or (is_small and unknown):
        return (
            f"the results of batch {batch.id} name requests that were not sent, in {unknown_lines:,} of "
            f"{lines.total():,} lines: {_examples(missing, unknown)}"
        )
    counts = _counts(batch)
    is_counted = counts is not None and counts.completed + counts.failed == len(sent) - len(missing)
    if batch.final_status == "completed" and 2 * len(missing) > len(sent) and not (is_small and is_counted):
        return (
            f"batch {batch.id} completed, but neither of its files has {len(missing):,} of its {len(sent):,} requests, "
            f"such as {', '.join(map(_shown, missing[:SHOWN_EXAMPLES]))}"
        )
    return None


def _counts(batch: Batch) -> RequestCounts | None:
    """Return the counts; None where they are not there yet, which may show as zeros."""
    return None if batch.request_counts == RequestCounts(0, 0, 0) else batch.request_counts


def _examples(missing: list[str], unknown: Mapping[str, int]) -> str:
    """Show ids that came back, each beside one that was sent and resembles it, where there is one."""

    def resembling(received: str) -> str:
        start = received.strip().casefold()
        return min(missing, key=lambda sent: not sent.strip().casefold().startswith(start))

    shown = list(unknown)[:SHOWN_EXAMPLES]
    return ", ".join(f"sent {_shown(resembling(each))}, received {_shown(each)}" for each in shown)


def _shown(custom_id: str) -> str:
    return shortened(repr(custom_id))
