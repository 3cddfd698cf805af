"""What shall become of a batch: planned before it is created, then kept in its record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import msgspec

from siliconflow_provider.emulator.rules import Rule
from siliconflow_provider.emulator.statuses import Status

ENDS = ("completed", "failed", "expired", "cancelled")
STOPS = ("in_queue", "in_progress", "finalizing", "cancelling")

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Position = Annotated[int, msgspec.Meta(ge=0)]


class Requests(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Some requests of a batch: a share, spread evenly and begun ones counted; those at positions (the first
    is 0); those with custom_ids.
    """

    share: Share = 0.0
    positions: frozenset[Position] = frozenset()
    custom_ids: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not (self.share or self.positions or self.custom_ids):
            raise ValueError("say which requests, by share, positions or custom_ids")

    def choose(self, index: int, custom_id: str) -> bool:
        """Whether the request is one of them."""
        in_share = _begun(self.share * (index + 1)) > _begun(self.share * index)
        return in_share or index in self.positions or custom_id in self.custom_ids


class Failing(Requests, frozen=True, kw_only=True):
    """Requests that fail, with what the error file says of them.

    `error`: what stands there in place of an object with code and message. `once`: only those whose body no batch has
    run before.
    """

    code: str = "server_error"
    message: str = "The request failed, as planned."
    error: Any = None
    once: bool = False


class Plan(Rule, frozen=True, kw_only=True):
    """The outcome of the batches that the rule applies to.

    `metadata`: pairs that a batch must have to be one of them. `end`: how it ends; `errors` are those of one that
    failed, in any form. `run_share` of the requests is run by one that is stuck in progress, or at the end of whose run
    the service declares it expired or cancels it. `stuck`: a status that it does not leave unless a caller cancels
    it. `shown_as`: other words for statuses.

    Lines of the result files: `missing` requests have none and are not counted, `unwritten` ones have none and are
    counted. `unknown_ids`: so many more with a custom_id that nobody sent. `stripped_ids`, `lowered_ids` and
    `ids_cut_to` change every custom_id, in this order: no blanks around it, lower case, so many characters.

    Seconds after its end: `counts_late_seconds` until it shows its counts, `files_late_seconds` until it shows its
    result files, `lines_late_seconds` until they have lines, `gone_seconds` until they are found (404 before). With
    1e9 that is never.
    """

    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    end: str = "completed"
    errors: tuple[Any, ...] = ()
    run_share: Share = 0.5
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
        """Whether a batch with this metadata is one of those meant."""
        return self.metadata.items() <= metadata.items()

    @property
    def failure(self) -> tuple[Any, ...]:
        """The errors of a batch that is to fail; empty for any other."""
        return (self.errors or ("The batch failed, as planned.",)) if self.end == "failed" else ()

    def written_id(self, custom_id: str) -> str:
        """The custom_id as the result files have it."""
        custom_id = custom_id.strip() if self.stripped_ids else custom_id
        custom_id = custom_id.lower() if self.lowered_ids else custom_id
        return custom_id[: self.ids_cut_to]

    def run_of(self, total: int) -> int:
        """How many of the requests are run when nothing else comes in between."""
        partial = self.end in ("expired", "cancelled") or self.stuck == "in_progress"
        return int(total * self.run_share) if partial else total

    def timings(self) -> dict[str, float]:
        """The phases whose length is planned."""
        planned = {
            "queue": self.queue_seconds,
            "run": self.run_seconds,
            "finalize": self.finalize_seconds,
            "cancel": self.cancel_seconds,
        }
        return {phase: seconds for phase, seconds in planned.items() if seconds is not None}


def _begun(number: float) -> int:
    """Rounded up, but not for what is only a rounding error above."""
    return math.ceil(number - 1e-9)


def _require(field: str, word: str, allowed: tuple[Any, ...]) -> None:
    if word not in allowed:
        raise ValueError(f"{field}: must be one of {', '.join(allowed)}, not {word!r}")
