"""Count the requests that batches have executed."""

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
    """The count of executions of each request, by `request_digest`."""

    counts: dict[str, int]

    @property
    def total(self) -> int:
        """The number of all executions."""
        return sum(self.counts.values())

    @property
    def distinct(self) -> int:
        """The number of requests that were executed at least once."""
        return len(self.counts)

    @property
    def most(self) -> int:
        """The highest count of a request: 1 if no request was paid for twice."""
        return max(self.counts.values(), default=0)


@dataclass(frozen=True)
class BatchExecutions:
    """The requests that one batch has executed, by `request_digest`.

    :param created_at: Unix seconds
    :param over_at: Unix seconds; None until the batch has ended
    :param answered: the executed requests that succeeded
    """

    batch_id: str
    metadata: dict[str, str]
    created_at: float
    over_at: float | None
    executed: frozenset[str]
    answered: frozenset[str]


def request_digest(body: Any, custom_id: str | None = None) -> str:
    """Return the SHA-256 (hex) of a body, or of [custom_id, body], as JSON with sorted keys and no spaces."""
    identity = body if custom_id is None else [custom_id, body]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def executed_requests(batch: Batch, state: State, source: Path, by: Identity) -> Iterator[str]:
    """Yield the digests of the requests that the batch has run. The bodies have the replaced model."""
    with source.open("rb") as lines:
        for _, (_, line) in zip(range(state.finished or 0), numbered_lines(lines), strict=False):
            request = decode(line)
            yield request_digest(executed_body(batch, request), request["custom_id"] if by == "custom_id" else None)


def executions_of(batch: Batch, state: State, source: Path, by: Identity) -> BatchExecutions:
    """Return the executed requests of a batch, and those that succeeded."""
    executed = list(executed_requests(batch, state, source, by))
    unanswered = set() if batch.check is None else {*batch.check.bad, *batch.check.missing}
    return BatchExecutions(
        batch_id=batch.id,
        metadata=batch.metadata or {},
        created_at=batch.created_at,
        over_at=state.over_at,
        executed=frozenset(executed),
        answered=frozenset(digest for index, digest in enumerate(executed) if index not in unanswered),
    )


def executed_body(batch: Batch, request: dict[str, Any]) -> Any:
    """Return the body that the model receives."""
    body = request.get("body")
    return body | {"model": batch.model} if batch.model and isinstance(body, dict) else body
