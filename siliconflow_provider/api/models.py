"""The service's objects, parsed leniently: fields may be missing, null or new."""

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

# A later time cannot be added to, and a larger number does not fit into an XCom.
LATEST = pendulum.datetime(9000, 1, 1).timestamp()
LARGEST_NUMBER = 2**53
LONGEST_ID = 1_000
TERMINAL_STATUSES = ("completed", "failed", "expired", "cancelled")
RUNNING_STATUSES = ("validating", "in_queue", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True)
class RequestCounts:
    """The numbers of a batch's requests: all, completed and failed ones."""

    total: int
    completed: int
    failed: int

    @classmethod
    def from_json(cls, data: Any) -> RequestCounts | None:
        """Parse the service's `request_counts`. Return None for null and `{}`: nothing is known yet."""
        if not isinstance(data, Mapping) or not data:
            return None
        return cls(*(_integer(data.get(name)) or 0 for name in ("total", "completed", "failed")))


@dataclass(frozen=True)
class Account:
    """The account of an API key. Its charged balance pays for batches.

    Amounts are the service's texts, in the account's currency.
    """

    status: str | None = None
    balance: str | None = None
    charge_balance: str | None = None
    total_balance: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Account:
        """Parse an account.

        :raises KeyError: if it has none of the fields
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
    """A file at the service."""

    id: str
    filename: str | None = None
    bytes: int | None = None
    purpose: str | None = None
    created_at: pendulum.DateTime | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> File:
        """Parse a file object. The service has `createdAt`, OpenAI `created_at`.

        :raises KeyError: if there is no id
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
    """The times of a batch's phases in UTC, None for those that it has not reached."""

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
        """Parse the nine time fields of a batch object, which are Unix seconds."""
        return cls(**{time.name: _moment(data.get(time.name)) for time in fields(cls)})

    @property
    def ended_at(self) -> pendulum.DateTime | None:
        """The time at which the batch ended, with any status."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at

    @property
    def queued(self) -> pendulum.Duration | None:
        """The duration from the creation to the first request."""
        return _between(self.created_at, self.in_progress_at)

    @property
    def running(self) -> pendulum.Duration | None:
        """The duration from the first request to the writing of results."""
        return _between(self.in_progress_at, self.finalizing_at or self.ended_at)

    @property
    def finalizing(self) -> pendulum.Duration | None:
        """The duration from the writing of results to the end."""
        return _between(self.finalizing_at, self.ended_at)

    @property
    def total(self) -> pendulum.Duration | None:
        """The duration from the creation to the end."""
        return _between(self.created_at, self.ended_at)

    def to_report(self) -> dict[str, Any]:
        """Return the times as ISO 8601 and the durations in seconds, for XCom and manifests."""
        moments = {time.name: getattr(self, time.name) for time in fields(self)}
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
    """A batch at the service.

    The references to its files may be signed URLs, so neither the repr nor `to_json()` shows them.
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
        """Parse a batch object.

        :raises KeyError: if there is no id
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
        """Return an object for `from_json`, without the references to result files."""
        counts, timing = self.request_counts, self.timing
        moments = {time.name: getattr(timing, time.name) for time in fields(timing)}
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
        """`completed`, `failed`, `expired` or `cancelled`; None until the batch has ended.

        A known status decides, because the service may estimate `completed_at` while the batch runs. With an unknown
        status, the times of an ended batch decide.
        """
        if self.status in TERMINAL_STATUSES:
            return self.status
        if self.status in RUNNING_STATUSES:
            return None
        return next((status for status in TERMINAL_STATUSES if getattr(self.timing, f"{status}_at")), None)

    @property
    def is_terminal(self) -> bool:
        """True if the batch has ended."""
        return self.final_status is not None


def _id(data: Mapping[str, Any]) -> str:
    found = _usable_id(data["id"])
    if found is None:
        raise KeyError("id")
    return found


def _usable_id(value: Any) -> str | None:
    """Return an id unchanged, because it is compared. Return None if it does not fit into paths, XComs and messages."""
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
    # A reference of another type is kept: its download fails, whereas None would mean an empty result.
    text = _text(value)
    return SignedUrl(text) if text else value or None


def _pairs(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    texts = {name: _text(item) for name, item in value.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _integer(value: Any) -> int | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= LARGEST_NUMBER else None


def _moment(seconds: Any) -> pendulum.DateTime | None:
    number = _integer(seconds)
    # Some servers write 0 for "not yet".
    return pendulum.from_timestamp(number) if number and number < LATEST else None


def _between(start: pendulum.DateTime | None, end: pendulum.DateTime | None) -> pendulum.Duration | None:
    if start is None or end is None:
        return None
    return pendulum.duration(seconds=max(timedelta(0), end - start).total_seconds())


def _error_texts(errors: Any) -> list[str]:
    """Return the texts of a batch's errors, which are strings or OpenAI's objects."""
    if isinstance(errors, Mapping) and "data" in errors:
        errors = errors["data"]
    if not isinstance(errors, (list, tuple)):
        errors = [errors] if errors else []
    return [printable(without_queries(_error_text(error))) for error in errors]


def _error_text(error: Any) -> str:
    if not isinstance(error, Mapping):
        return text_of(error)
    text = ": ".join(text_of(error[name]) for name in ("code", "message") if error.get(name))
    return f"line {text_of(error['line'])}: {text}" if error.get("line") is not None else text or text_of(error)
