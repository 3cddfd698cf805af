"""Draw the parts of a report that come from the manifest. Each shows a limited number of entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from siliconflow_provider.api.durations import format_duration
from siliconflow_provider.drawing.bars import SHOWN_BARS, describe_progress, progress_bar, timing_chart
from siliconflow_provider.drawing.markup import Child, Markup, element
from siliconflow_provider.drawing.numbers import number, seconds_of, share
from siliconflow_provider.drawing.phases import BatchBar
from siliconflow_provider.drawing.tables import facts, table
from siliconflow_provider.drawing.texts import shortened
from siliconflow_provider.pricing import format_amount
from siliconflow_provider.wording import counted

SHOWN_ROUNDS, SHOWN_REASONS, SHOWN_BATCH_ERRORS, SHOWN_FINISH_REASONS = 20, 3, 10, 10
_ID, _ERROR, _REASON, _LABEL = 80, 300, 120, 50
_ENDS = ("completed_at", "failed_at", "expired_at", "cancelled_at")

Short = Callable[[str, int], str]
Manifest = Mapping[str, Any]


def figures(manifest: Manifest) -> Markup:
    """Return the main numbers of the job. Those that a job does not have are left out."""
    tokens, rows = manifest["tokens"], manifest["rows"]
    cost = manifest.get("cost")
    return facts(
        {
            "requests": number(rows),
            "success rate": share(manifest["counts"].get("succeeded", 0), rows),
            "cost": cost and _amount(cost["total"], cost["currency"]),
            **_estimate(manifest.get("estimate")),
            "prompt tokens": number(tokens["prompt"]),
            "of these cached": _unless_zero(tokens["cached"]),
            "completion tokens": number(tokens["completion"]),
            "answers without token counts": _unless_zero(tokens.get("unknown", 0)),
            "batches": number(len(manifest["batches"])),
            "rounds": number(manifest["rounds"]),
            "from creation to end": _length(manifest["batches"]),
            "reused from earlier runs": _unless_zero(manifest["reused"]),
            "kept from replaced jobs": _unless_zero(manifest["kept"]),
            "equal requests, not sent": _unless_zero(manifest["deduplicated"]),
            "ignored duplicate lines": _unless_zero(manifest["duplicates"]),
            "ignored lines of unknown requests": _unless_zero(manifest["unknown_requests"]),
            "unreadable lines": _unless_zero(manifest["unreadable_lines"]),
        }
    )


def _estimate(estimate: Mapping[str, Any] | None) -> dict[str, str | None]:
    if not estimate:
        return {}
    most, currency = estimate["most_cost"], estimate["currency"] or ""
    most_tokens = estimate["most_completion_tokens"]
    return {
        "estimated cost, at most": most and _amount(most, currency, round_up=True),
        "estimated prompt tokens": number(estimate["prompt_tokens"]),
        "estimated completion tokens, at most": None if most_tokens is None else number(most_tokens),
    }


def statuses(manifest: Manifest) -> Markup | None:
    """Return the number of rows of each status."""
    rows = manifest["rows"]
    return _table_unless_empty(
        ["status", "rows", "share", ""],
        (
            [status, number(count), share(count, rows), progress_bar(*_good_and_bad(status, count, rows))]
            for status, count in manifest["counts"].items()
        ),
    )


def _good_and_bad(status: str, count: int, rows: int) -> tuple[int, int, int]:
    return (count, rows, 0) if status == "succeeded" else (0, rows, count)


def batches_chart(manifest: Manifest, now: datetime | None) -> Markup | None:
    """Return the times of the batches, by round.

    :param now: the current time; None if all batches are over
    """
    reports = sorted(manifest["batches"], key=lambda report: report["round"])
    if not reports:
        return None
    currency = manifest.get("cost", {}).get("currency", "")
    shown = [_bar(report, currency) for report in reports[:SHOWN_BARS]]
    left = [BatchBar("")] * (len(reports) - len(shown))
    return timing_chart([*shown, *left], now, title="Times of the batches")


def _bar(report: Mapping[str, Any], currency: str) -> BatchBar:
    counts = report["request_counts"] or {}
    done, total, failed = (counts.get(name) for name in ("completed", "total", "failed"))
    timing = report["timing"]
    status = shortened(report["status"], _LABEL)
    notes = [status, describe_progress(done, total, failed) if total else ""]
    notes += [_amount(report["cost"], currency)] if "cost" in report else []
    return BatchBar(
        label=shortened(report["id"], _LABEL),
        created_at=_moment(timing["created_at"]),
        in_progress_at=_moment(timing["in_progress_at"]),
        finalizing_at=_moment(timing["finalizing_at"]),
        ended_at=_ended_at(report),
        expires_at=_moment(timing["expires_at"]),
        status=status,
        done=done,
        total=total,
        failed=failed,
        group=f"Round {number(report['round'])}",
        note=", ".join(filter(None, notes)),
    )


def rounds_table(manifest: Manifest, short: Short) -> Markup | None:
    """Return the rounds with their batches and costs, and why requests were resent; nothing for a single round."""
    resent = {report["round"]: report for report in manifest["resent"]}
    costs = {report["round"]: report["cost"] for report in manifest.get("cost", {}).get("rounds", ())}
    batches: dict[int, list[Mapping[str, Any]]] = {}
    for report in manifest["batches"]:
        batches.setdefault(report["round"], []).append(report)
    numbers = sorted({*batches, *resent})
    if len(numbers) < 2:
        return None
    currency = manifest.get("cost", {}).get("currency", "")
    rows: list[list[Child]] = [
        [
            number(round_),
            number(resent[round_]["requests"]) if round_ in resent else "",
            number(len(batches.get(round_, ()))),
            _length(batches.get(round_, ())),
            _amount(costs[round_], currency) if round_ in costs else "",
            _reasons(resent.get(round_, {}).get("reasons", ()), short),
        ]
        for round_ in numbers[:SHOWN_ROUNDS]
    ]
    headings = ["round", "resent requests", "batches", "from creation to end", "cost", "resent because"]
    return _limited(table(headings, rows), len(numbers) - len(rows), "more round")


def _reasons(reasons: Sequence[Mapping[str, Any]], short: Short) -> Markup | None:
    if not reasons:
        return None
    shown = [
        element("li", f"{number(reason['count'])} {reason['status']}: ", short(reason["message"], _REASON))
        for reason in reasons[:SHOWN_REASONS]
    ]
    left = len(reasons) - len(shown)
    return element("ul", *shown, element("li", f"and {counted(left, 'more reason')}") if left else None)


def commonest_errors(manifest: Manifest, short: Short) -> Markup | None:
    """Return the most frequent errors of rows."""
    return _table_unless_empty(
        ["rows", "code", "message", "first custom_id"],
        (
            [
                number(error["count"]),
                short(error["code"] or "", _ID),
                short(error["message"], _ERROR),
                short(error["first_custom_id"], _ID),
            ]
            for error in manifest["errors"]
        ),
    )


def batch_errors(manifest: Manifest, short: Short) -> Markup | None:
    """Return the first error of each batch that has some."""
    failed = [report for report in manifest["batches"] if report["errors"]]
    shown = failed[:SHOWN_BATCH_ERRORS]
    content = _table_unless_empty(
        ["batch", "round", "first error"],
        (
            [
                short(report["id"], _ID),
                number(report["round"]),
                short(report["errors"][0], _ERROR),
            ]
            for report in shown
        ),
    )
    return content and _limited(content, len(failed) - len(shown), "more batch")


def finish_reasons(manifest: Manifest, short: Short) -> Markup | None:
    """Return the number of answers of each finish reason."""
    reasons = list(manifest["finish_reasons"].items())
    shown = reasons[:SHOWN_FINISH_REASONS]
    content = _table_unless_empty(
        ["finish reason", "answers"], ([short(name, _ID), number(count)] for name, count in shown)
    )
    return content and _limited(content, len(reasons) - len(shown), "more reason")


def _table_unless_empty(headings: Sequence[str], rows: Iterable[Sequence[Child]]) -> Markup | None:
    found = list(rows)
    return table(headings, found) if found else None


def _limited(content: Markup, left: int, noun: str) -> Markup:
    """Return a list, with a line that says how many entries are left out."""
    more = element("p", f"and {counted(left, noun)}", class_="sf-muted") if left else None
    return element("div", content, more)


def _length(reports: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the time from the first creation to the last end of batches."""
    starts = [start for report in reports if (start := _moment(report["timing"]["created_at"]))]
    ends = [end for report in reports if (end := _ended_at(report))]
    if not starts or not ends:
        return None
    return format_duration(max(map(seconds_of, ends)) - min(map(seconds_of, starts)))


def _ended_at(report: Mapping[str, Any]) -> datetime | None:
    return next((end for name in _ENDS if (end := _moment(report["timing"][name]))), None)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _amount(amount: float | str, currency: str, *, round_up: bool = False) -> str:
    return format_amount(Decimal(str(amount)), currency, round_up=round_up).strip()


def _unless_zero(value: int) -> str | None:
    return number(value) if value else None
