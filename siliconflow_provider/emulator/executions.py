"""Which request bodies a batch has executed, and how often all of them were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from siliconflow_provider.emulator.request_lines import decode, numbered_lines
from siliconflow_provider.emulator.state import Batch, State

Identity = Literal["body", "custom_id"]


@dataclass(frozen=True)
class Executions:
    """How often each request was executed, by `request_digest`."""

    counts: dict[str, int]

    @property
    def total(self) -> int:
        """Executions in all."""
        return sum(self.counts.values())

    @property
    def distinct(self) -> int:
        """Requests that were executed at least once."""
        return len(self.counts)

    @property
    def most(self) -> int:
        """How often the one was executed that was executed most: 1 when nothing was paid for twice."""
        return max(self.counts.values(), default=0)


@dataclass(frozen=True)
class BatchExecutions:
    """What one batch has executed by now, by `request_digest`.

    :param created_at: Unix seconds, as is `over_at`, which is None while the batch is not over
    :param answered: those of the executed requests that went well
    """

    batch_id: str
    metadata: dict[str, str]
    created_at: float
    over_at: float | None
    executed: frozenset[str]
    answered: frozenset[str]


def request_digest(body: Any, custom_id: str | None = None) -> str:
    """SHA-256 (hex) of a body as JSON with sorted keys and no blanks; with a custom_id of [custom_id, body]."""
    identity = body if custom_id is None else [custom_id, body]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def executed_requests(batch: Batch, state: State, source: Path, by: Identity) -> Iterator[str]:
    """Digests of the requests that the batch has run, well or not; a replaced model is in the body."""
    with source.open("rb") as lines:
        for _, (_, line) in zip(range(state.finished or 0), numbered_lines(lines), strict=False):
            request = decode(line)
            yield request_digest(executed_body(batch, request), request["custom_id"] if by == "custom_id" else None)


def executions_of(batch: Batch, state: State, source: Path, by: Identity) -> BatchExecutions:
    """What a batch has executed, and what of it went well."""
    executed = list(executed_requests(batch, state, source, by))
    unanswered = set() if batch.check is None else {*batch.check.bad, *batch.check.missing}
    return BatchExecutions(
        batch_id=batch.id,
        metadata=batch.metadata or {},
        created_at=batch.created_at,
        over_at=state.over_at,
        executed=frozenset(executed),
        answered=frozenset(each for index, each in enumerate(executed) if index not in unanswered),
    )


def executed_body(batch: Batch, request: dict[str, Any]) -> Any:
    """The body that the model gets to see."""
    body = request.get("body")
    return body | {"model": batch.model} if batch.model and isinstance(body, dict) else body
