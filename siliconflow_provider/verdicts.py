"""What the end of a wait and a kill mean for the task and for the bill, in sentences and as errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from siliconflow_provider.api.service_texts import SHOWN_NAMES, are_whole, first_names
from siliconflow_provider.exceptions import VERDICTS, BatchCancelledError, BatchTimeoutError, BatchWaitError

if TYPE_CHECKING:
    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.waiting import WaitEnd


def raise_for_ends(ends: Sequence[WaitEnd], siliconflow_conn_id: str) -> None:
    """Raise unless every batch has completed.

    :raises BatchVerdictError: when one failed, expired or was cancelled, also by us at the deadline
    :raises BatchTimeoutError: when one was not over at the deadline
    :raises BatchWaitError: when one could no longer be asked for, or cancelled at the deadline: a retry may
    """
    from siliconflow_provider.waiting import describe_end

    for end in ends:
        if end.batch is not None and end.batch.final_status in VERDICTS:
            raise VERDICTS[end.batch.final_status](
                f"{describe_end(end.batch)}{_errors_hint(end.batch, siliconflow_conn_id)}. {_consequences(end.batch)}"
            )
        if end.state == "cancelled":
            raise BatchCancelledError(
                f"{describe_deadline(end)}, so cancel_on_timeout has cancelled it. {_delivered(end.batch_id)}. "
                f"{_NOT_RETRIED}"
            )
    for end in ends:
        if end.state == "timeout" and end.error is not None:
            raise BatchWaitError(f"{describe_deadline(end)}. {describe_running([end.batch_id], siliconflow_conn_id)}")
        if end.state == "timeout":
            raise BatchTimeoutError(
                f"{describe_deadline(end)}. It runs on, and what is answered is billed. {_how_to_go_on(end)}. "
                f"To cancel: {_how_to_cancel([end.batch_id], siliconflow_conn_id)}"
            )
        if end.state == "error":
            raise BatchWaitError(
                f"gave up asking for batch {end.batch_id}: {end.error}. Whether it still runs and costs is not known"
            )


def describe_running(batch_ids: Sequence[str], siliconflow_conn_id: str) -> str:
    """Say what goes on, what that costs, and how to end it."""
    return (
        f"The {batches_text(batch_ids)} {'runs' if len(batch_ids) == 1 else 'run'} on, and what is answered is billed; "
        "the next attempt of this task takes over what runs or has completed. "
        f"To cancel: {_how_to_cancel(batch_ids, siliconflow_conn_id)}"
    )


def describe_kill(outcomes: Mapping[str, Batch | Exception], siliconflow_conn_id: str, *, cancel: bool) -> list[str]:
    """Say what became of a killed task's batches, in a line for each outcome.

    :param outcomes: by batch id, the batch as it is now, or the error for which that is not known
    :param cancel: whether those that ran were to be cancelled
    """
    groups: dict[str, dict[str, Batch | Exception]] = {}
    for batch_id, outcome in outcomes.items():
        # Errors name their own batch each: those of a kind make one line.
        kind = type(outcome).__name__ if isinstance(outcome, Exception) else outcome.status
        groups.setdefault(kind, {})[batch_id] = outcome
    return [f"killed: {_describe_outcome(each, siliconflow_conn_id, cancel=cancel)}" for each in groups.values()]


def _describe_outcome(group: Mapping[str, Batch | Exception], siliconflow_conn_id: str, *, cancel: bool) -> str:
    batch_ids, first = list(group), next(iter(group.values()))
    if isinstance(first, Exception):
        return (
            f"could not {'cancel' if cancel else 'ask for'} {batches_text(batch_ids)}: {first}. What still runs is "
            f"billed. To cancel: {_how_to_cancel(batch_ids, siliconflow_conn_id)}"
        )
    if cancel or first.is_terminal:
        verb = "is" if len(batch_ids) == 1 else "are"
        return f"{batches_text(batch_ids)} {verb} {first.status}; what has been answered is billed"
    return describe_running(batch_ids, siliconflow_conn_id)


def batches_text(batch_ids: Sequence[str]) -> str:
    """Return ids for a sentence, many of them in short."""
    if len(batch_ids) <= SHOWN_NAMES:
        return f"batch{'' if len(batch_ids) == 1 else 'es'} {first_names(batch_ids)}"
    return f"{len(batch_ids):,} batches {first_names(batch_ids)}"


def _how_to_cancel(batch_ids: Sequence[str], siliconflow_conn_id: str) -> str:
    if len(batch_ids) > SHOWN_NAMES:
        return "a CancelBatchOperator without batch_id, in this DAG run"
    calls = "; ".join(f"client.cancel_batch({each!r})" for each in batch_ids)
    return f"client = SiliconFlowHook({siliconflow_conn_id!r}).get_conn(); {calls}"


def describe_job(
    manifest: Mapping[str, Any],
    unread: Sequence[Batch],
    repeated: int | None,
    siliconflow_conn_id: str,
    *,
    cancelled: Collection[str] = (),
    elsewhere: Sequence[str] = (),
) -> str:
    """Say of a job how many requests came to what and why, what still costs, and what clearing the task does.

    :param unread: its batches that were not over, whose answers are therefore in no file yet
    :param repeated: how many requests are sent again when the task is cleared; None where it would begin another job
    :param cancelled: ids of those of them that were cancelled
    :param elsewhere: ids of batches of the same task that still run, and are no part of this job
    """
    counts, total = dict(manifest["counts"]), manifest["rows"]
    succeeded = counts.pop("succeeded", 0)
    rounds = manifest["rounds"]
    said = f"{succeeded:,} of {total:,} requests succeeded in {rounds} round{'' if rounds == 1 else 's'}"
    if counts:
        said += f" ({', '.join(f'{count:,} {status}' for status, count in counts.items())})"
    if manifest.get("kept"):
        said += f"; {manifest['kept']:,} answers were kept from the job before"
    reasons = [
        f"{each['count']:,} x {each['code'] or 'error'}: {each['message'].rstrip('.')}"
        for each in manifest["errors"][:3]
    ]
    if reasons:
        said += f"; most often: {'; '.join(reasons)}"
    if "errors" in manifest.get("paths", {}):
        said += f". Errors that are cut are whole in {manifest['paths']['errors']}"
    tokens = manifest["tokens"]
    said += f". Billed in all: {tokens['prompt']:,} prompt and {tokens['completion']:,} completion tokens"
    said += _also_billed(unread)
    running = [each.id for each in unread if each.id not in cancelled]
    if running:
        said += f". {describe_running(running, siliconflow_conn_id)}"
    if elsewhere:
        said += f". {_describe_elsewhere(elsewhere, siliconflow_conn_id)}"
    if not running and not elsewhere:
        said += ". Nothing runs any more"
    if repeated is None:
        return said
    if repeated:
        return f"{said}. Clearing the task sends again what has no good answer ({repeated:,}) and keeps the rest"
    return f"{said}. Clearing the task buys nothing"


def _describe_elsewhere(batch_ids: Sequence[str], siliconflow_conn_id: str) -> str:
    verb = "runs" if len(batch_ids) == 1 else "run"
    return (
        f"Beside this job, {batches_text(batch_ids)} {verb} on for an earlier one of this task, and what is answered "
        f"is billed. To cancel: {_how_to_cancel(batch_ids, siliconflow_conn_id)}"
    )


def _also_billed(batches: Sequence[Batch]) -> str:
    """Say what else is billed: what is answered in batches whose answers nobody has read."""
    if not batches:
        return ""
    counts = [each.request_counts for each in batches if each.request_counts is not None]
    answered, total = sum(each.completed for each in counts), sum(each.total for each in counts)
    known = f"{answered:,} of {total:,} requests" if len(counts) == len(batches) else "how many is unknown"
    return f", and what is answered in {batches_text([each.id for each in batches])} ({known})"


def _errors_hint(batch: Batch, siliconflow_conn_id: str) -> str:
    """Say where errors can be read of which not all are shown whole."""
    if are_whole(batch.errors):
        return ""
    return f". All errors: SiliconFlowHook({siliconflow_conn_id!r}).get_conn().get_batch({batch.id!r}).errors"


_NOT_RETRIED = "Airflow does not retry this; clearing the task submits and buys a new batch"


def _consequences(batch: Batch) -> str:
    """Say what a verdict leaves to do."""
    counts = batch.request_counts
    if counts is None or counts.completed:
        delivered = _delivered(batch.id, f"The {counts.completed:,} answers are" if counts else "What was answered is")
    else:
        delivered = "Nothing was answered"
    return f"{delivered}. {_NOT_RETRIED}"


def _delivered(batch_id: str, answers: str = "What it has answered is") -> str:
    return f"{answers} billed and kept for 30 days: DownloadResultsOperator with batch_id={batch_id!r} writes it"


def describe_deadline(end: WaitEnd) -> str:
    """Say that a batch was not over at the deadline, and how far it was."""
    message = f"batch {end.batch_id} was not over at the deadline, {end.deadline} UTC: it {_describe_state(end)}"
    if end.error is not None:
        message += f" as far as is known ({end.error})"
    return message


def describe_unfinished(ends: Sequence[WaitEnd]) -> str:
    """Say which batches are not over, and of a single one how far it is."""
    which = batches_text([each.batch_id for each in ends])
    return f"{which} was over: it {_describe_state(ends[0])}" if len(ends) == 1 else f"{which} were over"


def _describe_state(end: WaitEnd) -> str:
    if end.batch is None:
        return "was never seen"
    counts = end.batch.request_counts
    done = f", {counts.completed + counts.failed:,} of {counts.total:,} requests done" if counts is not None else ""
    return f"is {end.batch.status}{done}"


def _how_to_go_on(end: WaitEnd) -> str:
    """Say why a retry could not wait longer, and which timeout would."""
    import pendulum

    from siliconflow_provider.api.durations import format_duration
    from siliconflow_provider.waiting import deadline_of

    longer, last = "a larger timeout", None
    deadline = pendulum.parse(end.deadline or "")
    if end.batch is not None and isinstance(deadline, pendulum.DateTime):
        last = deadline_of([end.batch], None, deadline)
        if end.batch.timing.created_at is not None:
            longer = f"a timeout of more than {format_duration(deadline - end.batch.timing.created_at)}"
        if last > deadline:
            longer += f", or none, which lasts until {last.to_datetime_string()} UTC"
    return (
        "Airflow does not retry this, since timeout counts from the batch's creation. To go on with it, set "
        f"{longer}, and clear the task"
    )
