"""Check that a batch that is over has delivered its results, from the batch and the lines of its files."""

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
from siliconflow_provider.outputs.answer_lines import custom_id_at_beginning, custom_id_of
from siliconflow_provider.wording import counted

SHOWN_EXAMPLES = 3
# In such a small batch, "more than half" means little, so the counts decide.
SMALL_BATCH = 2


class _Identity(msgspec.Struct, gc=False):
    custom_id: str


_decoder = msgspec.json.Decoder(_Identity)


@dataclass(frozen=True)
class FileContents:
    """The custom ids in the lines of a result file.

    :param ids: the number of lines with each custom id
    :param unreadable: the number of lines without a custom id, except a last one that is truncated
    :param damaged: the number of all lines that are no whole JSON
    :param damaged_ids: the number of these with each custom id
    """

    ids: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    damaged: int = 0
    damaged_ids: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: FileContents) -> FileContents:
        return FileContents(
            self.ids + other.ids,
            self.unreadable + other.unreadable,
            self.damaged + other.damaged,
            self.damaged_ids + other.damaged_ids,
        )

    def requests(self, sent: Collection[str] | None) -> int:
        """Return how many requests the lines may belong to. Duplicate lines of a sent request do not count.

        :param sent: the custom ids of the batch's requests; None if they are unknown
        """
        repeated = (
            0
            if sent is None
            else sum(count - 1 for custom_id, count in self.ids.items() if count > 1 and custom_id in sent)
        )
        return self.ids.total() + self.unreadable - repeated


@dataclass(frozen=True)
class ResultContents:
    """The contents of a batch's result files; a missing file is like an empty one."""

    output: FileContents = field(default_factory=FileContents)
    errors: FileContents = field(default_factory=FileContents)

    @cached_property
    def ids(self) -> AbstractSet[str]:
        """The custom ids in both files."""
        return self.output.ids.keys() | self.errors.ids.keys()

    @cached_property
    def lines(self) -> FileContents:
        """The lines of both files."""
        return self.output + self.errors

    @cached_property
    def whole_ids(self) -> AbstractSet[str]:
        """The custom ids that have a line which is not damaged."""
        return (self.lines.ids - self.lines.damaged_ids).keys()


@dataclass(frozen=True)
class Problem:
    """The reason why a batch's results cannot be accepted yet.

    :param is_error: True if they cannot be accepted after retries either
    :param is_lost: True if a request that no line mentions may have been answered
    """

    message: str
    is_error: bool = True
    is_lost: bool = True


def contents_of(blocks: Iterable[bytes]) -> FileContents:
    """Return the custom ids in the lines of a file.

    :param blocks: the file's lines, in blocks
    """
    ids: Counter[str] = Counter()
    damaged_ids: Counter[str] = Counter()
    unreadable = damaged = 0
    for block in blocks:
        found = decode_lines(_decoder, block)
        if found is not None:
            ids.update([line.custom_id for line in found])
            continue
        for line in filter(bytes.strip, split_lines(block)):
            try:
                ids[custom_id_of(line)] += 1
            except msgspec.DecodeError:
                damaged += 1
                if line.endswith(b"\n") or isinstance(line, LongLine):
                    custom_id = custom_id_at_beginning(line)
                    if custom_id is None:
                        unreadable += 1
                    else:
                        damaged_ids[custom_id] += 1
    return FileContents(ids + damaged_ids, unreadable, damaged, damaged_ids)


def delivery_problem(batch: Batch, contents: ResultContents, sent: Collection[str] | None = None) -> Problem | None:
    """Return the reason why the results of a batch that is over cannot be accepted yet; None if they can.

    Results are accepted if they are complete (`incomplete_reason`), match the requests (`mismatch_reason`), have no
    damaged lines, and no more can come (`late_reason`). The last two are no errors if they last.

    :param sent: the custom ids of the batch's requests; None if they are unknown
    """
    reason = incomplete_reason(batch, contents, sent)
    if reason is None and sent is not None:
        reason = mismatch_reason(batch, contents, sent)
    if reason is not None:
        return Problem(reason)
    damaged = contents.lines.damaged
    if damaged:
        return Problem(f"the result files of batch {batch.id} have {counted(damaged, 'damaged line')}", is_error=False)
    late = late_reason(batch, contents, sent)
    return None if late is None else Problem(late, is_error=False, is_lost=False)


def incomplete_reason(batch: Batch, contents: ResultContents, sent: Collection[str] | None = None) -> str | None:
    """Return the reason why the files of a batch that is over are incomplete by its counts; None if they are complete.

    The output file must have as many requests as `completed`. If the batch completed, both files together must have as
    many as `completed` and `failed`. If the counts are null, `{}` or all zero, a batch that may have answers must have
    a line, and an output file must not be empty.
    """
    counts = _counts(batch)
    answered, mentioned = contents.output.requests(sent), contents.lines.requests(sent)
    is_completed = batch.final_status == "completed"
    if counts is None:
        is_expected = is_completed or _has_file(batch) or batch.timing.in_progress_at is not None
        if not mentioned and is_expected:
            return f"batch {batch.id} {batch.final_status}, but has neither request counts nor results"
        if batch.output_file_id is not None and not answered and not _are_all_mentioned(contents, sent):
            return f"batch {batch.id} {batch.final_status}, but has no request counts, and its output file is empty"
        return None
    if answered < counts.completed:
        has_file = batch.output_file_id is not None
        actual = f"its output file has {answered:,}" if has_file else "the service shows no output file"
    elif is_completed and mentioned < counts.completed + counts.failed:
        actual = f"its files have {mentioned:,} of these"
    else:
        return None
    return _below_counts(batch, counts, actual)


def late_reason(batch: Batch, contents: ResultContents, sent: Collection[str] | None = None) -> str | None:
    """Return the reason why more lines may come for a batch whose files may be complete; None if none can come.

    None can come if the files mention all requests, if the counts are shown and the files have as many lines, or if the
    batch was never started.
    """
    counts = _counts(batch)
    if _are_all_mentioned(contents, sent) or (counts is None and _was_never_started(batch)):
        return None
    if counts is None:
        return f"batch {batch.id} {batch.final_status}, but has no request counts"
    mentioned = contents.lines.requests(sent)
    if mentioned < counts.completed + counts.failed:
        return _below_counts(batch, counts, f"its files have {mentioned:,} of these")
    is_empty = not mentioned and _has_file(batch)
    return f"batch {batch.id} {batch.final_status}, but its files are empty" if is_empty else None


def mismatch_reason(batch: Batch, contents: ResultContents, sent: Collection[str]) -> str | None:
    """Return the reason why a batch's answers cannot belong to its requests; None if they can.

    Answers are rejected if requests have no answer and more than half of the lines have unknown custom ids. They are
    also rejected if a batch completed, and its files lack more than half of its requests. In a batch of one or two
    requests, one unknown line is enough to reject; unmentioned requests are accepted as missing if the counts agree.

    :param sent: the custom ids of the batch's requests
    """
    missing = [custom_id for custom_id in sent if custom_id not in contents.ids]
    if not missing:
        return None
    lines = contents.lines.ids
    unknown = {custom_id: count for custom_id, count in lines.items() if custom_id not in sent}
    is_small, unknown_lines = len(sent) <= SMALL_BATCH, sum(unknown.values())
    if 2 * unknown_lines > lines.total() or (is_small and unknown):
        return (
            f"the results of batch {batch.id} have unknown custom_ids in {unknown_lines:,} of "
            f"{counted(lines.total(), 'line')}: {_examples(missing, unknown)}"
        )
    counts = _counts(batch)
    is_counted = counts is not None and counts.completed + counts.failed == len(sent) - len(missing)
    if batch.final_status == "completed" and 2 * len(missing) > len(sent) and not (is_small and is_counted):
        return (
            f"batch {batch.id} completed, but its files lack {len(missing):,} of its {counted(len(sent), 'request')}, "
            f"such as {', '.join(map(_shown, missing[:SHOWN_EXAMPLES]))}"
        )
    return None


def _counts(batch: Batch) -> RequestCounts | None:
    """Return the counts; None if the service has not set them yet, which may show as zeros."""
    return None if batch.request_counts == RequestCounts(0, 0, 0) else batch.request_counts


def _below_counts(batch: Batch, counts: RequestCounts, actual: str) -> str:
    expected = f"{counts.completed:,} completed and {counts.failed:,} failed"
    return f"batch {batch.id} {batch.final_status}, its request counts are {expected}, but {actual}"


def _are_all_mentioned(contents: ResultContents, sent: Collection[str] | None) -> bool:
    return bool(sent) and contents.ids >= set(sent or ())


def _has_file(batch: Batch) -> bool:
    return batch.output_file_id is not None or batch.error_file_id is not None


def _was_never_started(batch: Batch) -> bool:
    """Return True if the batch shows its times, and ended before a request of it was run."""
    timing = batch.timing
    return not _has_file(batch) and timing.ended_at is not None and timing.in_progress_at is None


def _examples(missing: list[str], unknown: Mapping[str, int]) -> str:
    """Return examples of received ids, each with a sent id that resembles it if there is one."""

    def resembling(received: str) -> str:
        start = received.strip().casefold()
        return min(missing, key=lambda sent: not sent.strip().casefold().startswith(start))

    shown = list(unknown)[:SHOWN_EXAMPLES]
    return ", ".join(f"sent {_shown(resembling(custom_id))}, received {_shown(custom_id)}" for custom_id in shown)


def _shown(custom_id: str) -> str:
    return shortened(repr(custom_id))
