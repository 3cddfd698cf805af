"""Planned outcomes of batches. A plan is made before a batch is created, and stored with the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import msgspec

from siliconflow_provider.emulator.answer_rules import Answer
from siliconflow_provider.emulator.rules import Rule
from siliconflow_provider.emulator.statuses import Status

ENDS = ("completed", "failed", "expired", "cancelled")
STOPS = ("in_queue", "in_progress", "finalizing", "cancelling")

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Position = Annotated[int, msgspec.Meta(ge=0)]


class Requests(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Some requests of a batch.

    `share`: this share of all, spread evenly and rounded up. `positions`: those at these positions (the first is 0).
    `custom_ids`: those with these custom_ids.
    """

    share: Share = 0.0
    positions: frozenset[Position] = frozenset()
    custom_ids: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not (self.share or self.positions or self.custom_ids):
            raise ValueError("choose requests by share, positions or custom_ids")

    def choose(self, index: int, custom_id: str) -> bool:
        """Return True if the request is one of them."""
        in_share = _rounded_up(self.share * (index + 1)) > _rounded_up(self.share * index)
        return in_share or index in self.positions or custom_id in self.custom_ids


class Failing(Requests, frozen=True, kw_only=True):
    """Requests that fail, and their errors in the error file.

    `error`: replaces the object with code and message. `once`: only requests whose body no batch has run before.
    """

    code: str = "server_error"
    message: str = "The request failed, as planned."
    error: Any = None
    once: bool = False


class Plan(Rule, frozen=True, kw_only=True):
    """The outcome of the batches that the rule applies to.

    `metadata`: pairs that a matching batch must have. `end`: the final status. `errors`: the errors of a failed batch,
    in any form. `run_share`: the share of requests that a batch runs if it is stuck in progress, expired or cancelled.
    `stuck`: a status that the batch leaves only if a caller cancels it. `shown_as`: other words for statuses.

    `answers`: in place of the model's own, for the requests that they match.

    Lines of the result files: `missing` requests have none and are not counted, `unwritten` ones have none and are
    counted. `unknown_ids`: number of additional lines with unknown custom_ids. `stripped_ids`, `lowered_ids` and
    `ids_cut_to` change every custom_id, in this order: strip spaces, lower case, cut to a number of characters.

    Seconds after the end of the batch: `counts_late_seconds` until it has its counts, `files_late_seconds` until it
    has its result files, `lines_late_seconds` until these have lines, `gone_seconds` until these exist (404 before).
    1e9 means never.
    """

    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    end: str = "completed"
    errors: tuple[Any, ...] = ()
    run_share: Share = 0.5
    answers: tuple[Answer, ...] = ()
    failing: Failing | None = None
    missing: Requests | None = None
    duplicated: Requests | None = None
    cut: Requests | None = None
    garbled: Requests | None = None
    unwritten: Requests | None = None
    unknown_ids: Annotated[int, msgspec.Meta(ge=0)] = 0
    stripped_ids: bool = False
    lowered_ids: bool = False
    ids_cut_to: Annotated[int, msgspec.Meta(ge=1)] | None = None
    counts_late_seconds: Seconds = 0.0
    files_late_seconds: Seconds = 0.0
    lines_late_seconds: Seconds = 0.0
    gone_seconds: Seconds = 0.0
    stuck: str | None = None
    shown_as: dict[str, str] = msgspec.field(default_factory=dict)
    queue_seconds: Seconds | None = None
    run_seconds: Seconds | None = None
    finalize_seconds: Seconds | None = None
    cancel_seconds: Seconds | None = None

    def __post_init__(self) -> None:
        _require("end", self.end, ENDS)
        if self.stuck is not None:
            _require("stuck", self.stuck, STOPS)
        for status in self.shown_as:
            _require("shown_as", status, get_args(Status))
        if self.errors and self.end != "failed":
            raise ValueError(f"errors: only a batch with end 'failed' has errors, not {self.end!r}")

    def is_for(self, metadata: Mapping[str, str]) -> bool:
        """Return True if the plan matches a batch with this metadata."""
        return self.metadata.items() <= metadata.items()

    @property
    def failure(self) -> tuple[Any, ...]:
        """The errors of a batch that fails; empty for others."""
        return (self.errors or ("The batch failed, as planned.",)) if self.end == "failed" else ()

    def written_id(self, custom_id: str) -> str:
        """Return the custom_id in the form of the result files."""
        custom_id = custom_id.strip() if self.stripped_ids else custom_id
        custom_id = custom_id.lower() if self.lowered_ids else custom_id
        return custom_id[: self.ids_cut_to]

    def run_of(self, total: int) -> int:
        """Return the number of requests that an undisturbed batch runs."""
        partial = self.end in ("expired", "cancelled") or self.stuck == "in_progress"
        return int(total * self.run_share) if partial else total

    def timings(self) -> dict[str, float]:
        """Return the planned seconds of phases."""
        planned = {
            "queue": self.queue_seconds,
            "run": self.run_seconds,
            "finalize": self.finalize_seconds,
            "cancel": self.cancel_seconds,
        }
        return {phase: seconds for phase, seconds in planned.items() if seconds is not None}


def _rounded_up(number: float) -> int:
    """Return the number rounded up, but ignore rounding errors."""
    return math.ceil(number - 1e-9)


def _require(field: str, word: str, allowed: tuple[Any, ...]) -> None:
    if word not in allowed:
        raise ValueError(f"{field}: must be one of {', '.join(allowed)}, not {word!r}")
