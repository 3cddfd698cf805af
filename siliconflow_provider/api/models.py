"""The service's objects, read leniently: fields may be missing, null or new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

import pendulum

from siliconflow_provider.api.hidden import SignedUrl
from siliconflow_provider.api.lenient_json import text_of
from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.api.service_texts import is_printable, printable, word

# Beyond these nothing can be added to a moment, and a number fits into no XCom.
LATEST = pendulum.datetime(9000, 1, 1).timestamp()
LARGEST_NUMBER = 2**53
LONGEST_ID = 1_000
TERMINAL_STATUSES = ("completed", "failed", "expired", "cancelled")
RUNNING_STATUSES = ("validating", "in_queue", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True)
class RequestCounts:
    """How many requests a batch has, and how many of them are over."""

    total: int
    completed: int
    failed: int

    @classmethod
    def from_json(cls, data: Any) -> RequestCounts | None:
        """Read the service's `request_counts`; null and `{}` mean that nothing is known yet."""
        if not isinstance(data, Mapping) or not data:
            return None
        return cls(*(_integer(data.get(name)) or 0 for name in ("total", "completed", "failed")))


@dataclass(frozen=True)
class Account:
    """The account that a key belongs to; batches are paid from its charged balance.

    Amounts are the service's own texts, in the account's currency.
    """

    status: str | None = None
    balance: str | None = None
    charge_balance: str | None = None
    total_balance: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Account:
        """Read an account.

        :raises KeyError: when it has none of the fields
        """
        account = cls(
            status=_word(data.get("status")),
            balance=_amount(data.get("balance")),
            charge_balance=_amount(data.get("chargeBalance")),
            total_balance=_amount(data.get("totalBalance")),
        )
        if account == cls() and "id" not in data:
            raise KeyError("id")
        return account


@dataclass(frozen=True)
class File:
    """A file that the service keeps."""

    id: str
    filename: str | None = None
    bytes: int | None = None
    purpose: str | None = None
    created_at: pendulum.DateTime | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> File:
        """Read a file object; the service writes `createdAt`, OpenAI `created_at`.

        :raises KeyError: when there is no id
        """
        return cls(
            id=_id(data),
            filename=_word(data.get("filename")),
            bytes=_integer(data.get("bytes")),
            purpose=_word(data.get("purpose")),
            created_at=_moment(data.get("createdAt") or data.get("created_at")),
        )


@dataclass(frozen=True)
class BatchTiming:
    """When what happened to a batch, in UTC; None until it has."""

    created_at: pendulum.DateTime | None = None
    in_progress_at: pendulum.DateTime | None = None
    expires_at: pendulum.DateTime | None = None
    finalizing_at: pendulum.DateTime | None = None
    completed_at: pendulum.DateTime | None = None
    failed_at: pendulum.DateTime | None = None
    expired_at: pendulum.DateTime | None = None
    cancelling_at: pendulum.DateTime | None = None
    cancelled_at: pendulum.DateTime | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BatchTiming:
        """Read the nine time fields of a batch object, which are Unix seconds."""
        return cls(**{each.name: _moment(data.get(each.name)) for each in fields(cls)})

    @property
    def ended_at(self) -> pendulum.DateTime | None:
        """The moment at which the batch was over, however it ended."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at

    @property
    def queued(self) -> pendulum.Duration | None:
        """From the creation until the first request was run."""
        return _between(self.created_at, self.in_progress_at)

    @property
    def running(self) -> pendulum.Duration | None:
        """From the first request until the results were being written."""
        return _between(self.in_progress_at, self.finalizing_at or self.ended_at)

    @property
    def finalizing(self) -> pendulum.Duration | None:
        """From there until the end."""
        return _between(self.finalizing_at, self.ended_at)

    @property
    def total(self) -> pendulum.Duration | None:
        """From the creation until the end."""
        return _between(self.created_at, self.ended_at)

    def to_report(self) -> dict[str, Any]:
        """Return the times as ISO 8601 and the lengths in seconds, for XCom and manifests."""
        moments = {each.name: getattr(self, each.name) for each in fields(self)}
        lengths = {name: getattr(self, name) for name in ("queued", "running", "finalizing", "total")}
        return {
            **{name: moment and moment.to_iso8601_string() for name, moment in moments.items()},
            **{
                f"{name}_seconds": None if length is None else length.total_seconds()
                for name, length in lengths.items()
            },
        }


@dataclass(frozen=True)
class Batch:
    """A batch as the service shows it.

    The result references may be signed URLs and are therefore in no repr and in no `to_json()`.
    """

    id: str
    status: str
    endpoint: str | None = None
    input_file_id: str | None = None
    completion_window: str | None = None
    output_file_id: str | None = field(default=None, repr=False)
    error_file_id: str | None = field(default=None, repr=False)
    errors: list[str] = field(default_factory=list)
    request_counts: RequestCounts | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    timing: BatchTiming = field(default_factory=BatchTiming)
    file_name: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Batch:
        """Read a batch object.

        :raises KeyError: when there is no id
        """
        return cls(
            id=_id(data),
            status=_word(data.get("status")) or "unknown",
            endpoint=_word(data.get("endpoint")),
            input_file_id=_usable_id(data.get("input_file_id")),
            completion_window=_word(data.get("completion_window")),
            output_file_id=_reference(data.get("output_file_id")),
            error_file_id=_reference(data.get("error_file_id")),
            errors=_error_texts(data.get("errors")),
            request_counts=RequestCounts.from_json(data.get("request_counts")),
            metadata=_pairs(data.get("metadata")),
            timing=BatchTiming.from_json(data),
            file_name=_word(data.get("file_name")),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, without the result references."""
        counts, timing = self.request_counts, self.timing
        moments = {each.name: getattr(timing, each.name) for each in fields(timing)}
        return {
            "id": self.id,
            "status": self.status,
            "endpoint": self.endpoint,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "errors": list(self.errors),
            "request_counts": counts
            and {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
            "metadata": dict(self.metadata),
            **{name: moment and moment.int_timestamp for name, moment in moments.items()},
        }

    @property
    def final_status(self) -> str | None:
        """`completed`, `failed`, `expired` or `cancelled`; None while the batch is not over.

        A status that is known is believed: the service may estimate `completed_at` while the batch runs. With any
        other, a time that only an ended batch has decides, so that a new status cannot hide the end.
        """
        if self.status in TERMINAL_STATUSES:
            return self.status
        if self.status in RUNNING_STATUSES:
            return None
        return next((each for each in TERMINAL_STATUSES if getattr(self.timing, f"{each}_at")), None)

    @property
    def is_terminal(self) -> bool:
        """Whether the batch is over."""
        return self.final_status is not None


def _id(data: Mapping[str, Any]) -> str:
    found = _usable_id(data["id"])
    if found is None:
        raise KeyError("id")
    return found


def _usable_id(value: Any) -> str | None:
    """Return an id as it is: it is compared, and put into paths, XComs and messages. What fits into none is none."""
    text = _text(value)
    is_usable = text is not None and text.strip() and len(text) <= LONGEST_ID and is_printable(text)
    return text if is_usable else None


def _word(value: Any) -> str | None:
    text = _text(value)
    return None if text is None else word(text)


def _text(value: Any) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number or isinstance(value, str) else None


def _amount(value: Any) -> str | None:
    return str(value) if isinstance(value, float) else _word(value)


def _reference(value: Any) -> Any:
    # What is neither text nor nothing is kept: to fetch it is an error, and no empty result.
    text = _text(value)
    return SignedUrl(text) if text else value or None


def _pairs(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    texts = {name: _text(each) for name, each in value.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _integer(value: Any) -> int | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= LARGEST_NUMBER else None


def _moment(seconds: Any) -> pendulum.DateTime | None:
    number = _integer(seconds)
    # Zero is how some servers write "not yet".
    return pendulum.from_timestamp(number) if number and number < LATEST else None


def _between(start: pendulum.DateTime | None, end: pendulum.DateTime | None) -> pendulum.Duration | None:
    if start is None or end is None:
        return None
    return pendulum.duration(seconds=max(timedelta(0), end - start).total_seconds())


def _error_texts(errors: Any) -> list[str]:
    """Read the reasons of a batch's failure: strings, or OpenAI's objects."""
    if isinstance(errors, Mapping) and "data" in errors:
        errors = errors["data"]
    if not isinstance(errors, (list, tuple)):
        errors = [errors] if errors else []
    return [printable(without_queries(_error_text(each))) for each in errors]


def _error_text(error: Any) -> str:
    if not isinstance(error, Mapping):
        return text_of(error)
    text = ": ".join(text_of(error[name]) for name in ("code", "message") if error.get(name))
    return f"line {text_of(error['line'])}: {text}" if error.get("line") is not None else text or text_of(error)
