"""Errors and messages about the end of a wait, a kill and a job: what happened, what is billed, what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from siliconflow_provider.api.remedies import remedy_for_json_mode
from siliconflow_provider.api.service_texts import SHOWN_NAMES, are_whole, first_names
from siliconflow_provider.exceptions import VERDICTS, BatchCancelledError, BatchTimeoutError, BatchWaitError
from siliconflow_provider.wording import command_line, counted

if TYPE_CHECKING:
    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.waiting import WaitEnd


def raise_for_ends(ends: Sequence[WaitEnd], siliconflow_conn_id: str) -> None:
    """Raise an error unless every batch has completed.

    :raises BatchVerdictError: if a batch failed, expired or was cancelled (also by `cancel_on_timeout`)
    :raises BatchTimeoutError: if a batch was still running at the deadline
    :raises BatchWaitError: if a batch could not be polled, or not be cancelled at the deadline; a retry may succeed
    """
    from siliconflow_provider.waiting import describe_end

    for end in ends:
        if end.batch is not None and end.batch.final_status in VERDICTS:
            raise VERDICTS[end.batch.final_status](
                f"{describe_end(end.batch)}{_errors_hint(end.batch, siliconflow_conn_id)}.\n{_consequences(end.batch)}"
            )
        if end.state == "cancelled":
            raise BatchCancelledError(
                f"{describe_deadline(end)}; cancel_on_timeout cancelled it.\n{_answers_text(end.batch_id)}.\n"
                f"{_NOT_RETRIED}"
            )
    for end in ends:
        if end.state == "timeout" and end.error is not None:
            raise BatchWaitError(f"{describe_deadline(end)}.\n{describe_running([end.batch_id], siliconflow_conn_id)}")
        if end.state == "timeout":
            raise BatchTimeoutError(
                f"{describe_deadline(end)}.\nIt is still running, and answered requests are billed.\n"
                f"{_how_to_continue(end)}.\nTo cancel: {_how_to_cancel([end.batch_id], siliconflow_conn_id)}"
            )
        if end.state == "error":
            raise BatchWaitError(
                f"gave up polling batch {end.batch_id}: {end.error}.\nIt may still be running and billed"
            )


def describe_running(batch_ids: Sequence[str], siliconflow_conn_id: str, *, is_known: bool = True) -> str:
    """Return sentences that say which batches are still running, what is billed, and how to cancel them.

    :param is_known: False if the service was not asked whether they are running
    """
    is_single = len(batch_ids) == 1
    verb = ("is" if is_single else "are") if is_known else "may"
    running = "still running" if is_known else "still be running"
    return (
        f"{_capitalized(batches_text(batch_ids))} {verb} {running}; answered requests are billed.\n"
        f"The next attempt will resume {'it' if is_single else 'them'}.\n"
        f"To cancel: {_how_to_cancel(batch_ids, siliconflow_conn_id)}"
    )


def describe_kill(outcomes: Mapping[str, Batch | Exception], siliconflow_conn_id: str, *, cancel: bool) -> list[str]:
    """Return one log line for each kind of outcome of a killed task's batches.

    :param outcomes: by batch id, the batch as it is now, or the error that occurred
    :param cancel: True if running batches were to be cancelled
    """
    groups: dict[str, dict[str, Batch | Exception]] = {}
    for batch_id, outcome in outcomes.items():
        # Not grouped by message: each error names its own batch.
        kind = type(outcome).__name__ if isinstance(outcome, Exception) else outcome.status
        groups.setdefault(kind, {})[batch_id] = outcome
    lines = (_describe_outcome(group, siliconflow_conn_id, cancel=cancel) for group in groups.values())
    return [f"task was killed: {line}" for line in lines]


def _describe_outcome(group: Mapping[str, Batch | Exception], siliconflow_conn_id: str, *, cancel: bool) -> str:
    batch_ids, first = list(group), next(iter(group.values()))
    if isinstance(first, Exception):
        return (
            f"could not {'cancel' if cancel else 'get'} {batches_text(batch_ids)}: {first}.\nRunning batches are "
            f"billed.\nTo cancel: {_how_to_cancel(batch_ids, siliconflow_conn_id)}"
        )
    if cancel or first.is_terminal:
        verb = "is" if len(batch_ids) == 1 else "are"
        return f"{batches_text(batch_ids)} {verb} {first.status}; answered requests are billed"
    return describe_running(batch_ids, siliconflow_conn_id)


def batches_text(batch_ids: Sequence[str]) -> str:
    """Return the ids of batches as part of a sentence, shortened if there are many."""
    if len(batch_ids) <= SHOWN_NAMES:
        return f"batch{'' if len(batch_ids) == 1 else 'es'} {first_names(batch_ids)}"
    return f"{counted(len(batch_ids), 'batch')} {first_names(batch_ids)}"


def _capitalized(text: str) -> str:
    # `str.capitalize` would change the case of the ids.
    return text[:1].upper() + text[1:]


def _how_to_cancel(batch_ids: Sequence[str], siliconflow_conn_id: str) -> str:
    if len(batch_ids) > SHOWN_NAMES:
        return "a CancelBatchOperator without batch_id, in this DAG run"
    return command_line("cancel", batch_ids, siliconflow_conn_id)


def describe_job(
    manifest: Mapping[str, Any],
    unread: Sequence[Batch],
    resent_count: int | None,
    siliconflow_conn_id: str,
    *,
    cancelled: Collection[str] = (),
    elsewhere: Sequence[str] = (),
    attempt: Mapping[str, Any] | None = None,
) -> str:
    """Return sentences about a job: its results, the errors, what is billed or running, what clearing would resend.

    :param unread: batches of the job that had not ended, so that their answers are in no file yet
    :param resent_count: number of requests that clearing the task would resend; None if it would start another job
    :param cancelled: ids of the unread batches that were cancelled
    :param elsewhere: ids of running batches of the same task that do not belong to this job
    :param attempt: ids, tokens and cost of the batches that this attempt created; None if that is unknown
    """
    text = _describe_rows(manifest) + _describe_errors(manifest)
    text += f".\n{_describe_bill(manifest, unread, attempt)}"
    running = [batch.id for batch in unread if batch.id not in cancelled]
    if running:
        text += f".\n{describe_running(running, siliconflow_conn_id)}"
    if elsewhere:
        text += f".\n{_describe_elsewhere(elsewhere, siliconflow_conn_id)}"
    if not running and not elsewhere:
        text += ".\nNo batch is running any more"
    if resent_count is None:
        return text
    if resent_count:
        return f"{text}.\nClearing the task would resend {counted(resent_count, 'request')} without a good answer"
    return f"{text}.\nClearing the task would resend nothing{_why_nothing_is_resent(manifest)}"


def _describe_bill(manifest: Mapping[str, Any], unread: Sequence[Batch], attempt: Mapping[str, Any] | None) -> str:
    """Return sentences about the bill: of this attempt, unless it created all batches, and in total."""
    total = f"{_bill_text(manifest)}{_also_billed(unread)}"
    batch_ids = [report["id"] for report in manifest.get("batches", ())]
    if attempt is None and batch_ids:
        unknown = "The part of this attempt is unknown: some batches have no record of their attempt"
        return f"Billed in total: {total}.\n{unknown}"
    if attempt is None or attempt["batches"] == batch_ids:
        return f"Billed in total: {total}"
    own = _bill_text(attempt) if attempt["batches"] else "nothing"
    if any(batch.id in attempt["batches"] for batch in unread):
        own += " so far"
    return f"Billed by this attempt: {own}; in total: {total}"


def _bill_text(bill: Mapping[str, Any]) -> str:
    tokens = bill["tokens"]
    text = f"{tokens['prompt']:,} prompt and {tokens['completion']:,} completion tokens"
    if "cost" in bill:
        text += f", {_cost_text(bill['cost'])}"
    if tokens.get("unknown"):
        text += f", and {counted(tokens['unknown'], 'answer')} whose tokens the service does not report"
    return text


def _why_nothing_is_resent(manifest: Mapping[str, Any]) -> str:
    """Return the end of a sentence: why rows without a good answer are not resent, and what to do about them."""
    status = next((status for status in manifest["counts"] if status in ("failed", "invalid", "rejected")), None)
    if status is None:
        return ""
    return f', since these requests would fail again: change them (see read_results(status="{status}"))'


def _describe_rows(manifest: Mapping[str, Any]) -> str:
    counts, total = dict(manifest["counts"]), manifest["rows"]
    succeeded = counts.pop("succeeded", 0)
    text = f"{succeeded:,} of {counted(total, 'request')} succeeded in {counted(manifest['rounds'], 'round')}"
    if counts:
        text += f" ({', '.join(f'{count:,} {status}' for status, count in counts.items())})"
    if manifest.get("kept"):
        text += f"; {counted(manifest['kept'], 'answer')} of an earlier job kept"
    if manifest.get("reused"):
        text += f"; {counted(manifest['reused'], 'answer')} of earlier runs reused"
    if manifest.get("deduplicated"):
        text += f"; {counted(manifest['deduplicated'], 'request')} not sent, being equal to others"
    return text


def _describe_errors(manifest: Mapping[str, Any]) -> str:
    """Return sentences with the most frequent errors, and what to do about them."""
    text = ""
    reasons = [
        f"{error['count']:,} x {error['code'] or 'error'}: {error['message'].rstrip('.')}"
        for error in manifest["errors"][:3]
    ]
    if reasons:
        text += f".\nMost frequent errors: {'; '.join(reasons)}"
        hint = remedy_for_json_mode(" ".join(reasons))
        text += "" if hint is None else f".\n{hint}"
    if "errors" in manifest.get("paths", {}):
        text += f".\nFull texts of shortened errors: {manifest['paths']['errors']}"
    return text


def _cost_text(cost: Mapping[str, Any]) -> str:
    from decimal import Decimal

    from siliconflow_provider.pricing import format_amount

    return format_amount(Decimal(str(cost["total"])), cost["currency"])


def _describe_elsewhere(batch_ids: Sequence[str], siliconflow_conn_id: str) -> str:
    verb = "is" if len(batch_ids) == 1 else "are"
    return (
        f"{_capitalized(batches_text(batch_ids))} of an earlier job of this task {verb} still running, and answered "
        f"requests are billed.\nTo cancel: {_how_to_cancel(batch_ids, siliconflow_conn_id)}"
    )


def _also_billed(batches: Sequence[Batch]) -> str:
    """Return the part of a sentence about answers that are billed and not read yet."""
    if not batches:
        return ""
    counts = [batch.request_counts for batch in batches if batch.request_counts is not None]
    answered, total = sum(count.completed for count in counts), sum(count.total for count in counts)
    known = f"{answered:,} of {counted(total, 'request')}" if len(counts) == len(batches) else "number unknown"
    return f", plus the answered requests of {batches_text([batch.id for batch in batches])} ({known})"


def _errors_hint(batch: Batch, siliconflow_conn_id: str) -> str:
    """Return how to read all errors of a batch if the message does not show all of them."""
    if are_whole(batch.errors):
        return ""
    return f".\nAll errors: {command_line('show', [batch.id], siliconflow_conn_id)}"


_NOT_RETRIED = "Airflow does not retry this task; clearing it submits (and pays for) a new batch"


def _consequences(batch: Batch) -> str:
    """Return sentences about the answers of a batch that did not complete, and about retries."""
    counts = batch.request_counts
    answers = _answers_text(batch.id) if counts is None or counts.completed else "No request was answered"
    return f"{answers}.\n{_NOT_RETRIED}"


def _answers_text(batch_id: str) -> str:
    return (
        "Answered requests are billed, and their answers are kept for 30 days: to write them, use "
        f"DownloadResultsOperator(batch_id={batch_id!r})"
    )


def describe_deadline(end: WaitEnd) -> str:
    """Return a clause that says that a batch was still running at the deadline, with its status and progress."""
    message = f"batch {end.batch_id} was still running at the deadline, {end.deadline} UTC: {_describe_state(end)}"
    if end.error is not None:
        message += f" (last known status; {end.error})"
    return message


def describe_unfinished(ends: Sequence[WaitEnd]) -> str:
    """Return a clause that names the batches that have not ended; for a single batch with status and progress."""
    batches = batches_text([end.batch_id for end in ends])
    return f"{batches} ended: {_describe_state(ends[0])}" if len(ends) == 1 else f"{batches} ended"


def _describe_state(end: WaitEnd) -> str:
    if end.batch is None:
        return "status unknown"
    counts = end.batch.request_counts
    if counts is None:
        return end.batch.status
    return f"{end.batch.status}, {counts.completed + counts.failed:,} of {counted(counts.total, 'request')} done"


def _how_to_continue(end: WaitEnd) -> str:
    """Return a sentence that says why Airflow does not retry, and which timeout to set."""
    import pendulum

    from siliconflow_provider.api.durations import format_duration
    from siliconflow_provider.waiting import deadline_of

    remedy = "a larger timeout"
    deadline = pendulum.parse(end.deadline or "")
    if end.batch is not None and isinstance(deadline, pendulum.DateTime):
        default_deadline = deadline_of([end.batch], None, deadline)
        if end.batch.timing.created_at is not None:
            remedy = f"a timeout of more than {format_duration(deadline - end.batch.timing.created_at)}"
        if default_deadline > deadline:
            remedy += f", or none (waits until {default_deadline.to_datetime_string()} UTC)"
    return (
        "Airflow does not retry this task, since the timeout counts from the batch's creation.\nTo continue waiting, "
        f"set {remedy}, and clear the task"
    )
