"""The event of a trigger: how its waits ended, as JSON of a bounded size."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from siliconflow_provider.api.limits import MAXIMUM_METADATA_VALUE
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import LONGEST_ERROR, cut, first_errors
from siliconflow_provider.batches import RESERVED_PREFIX
from siliconflow_provider.waiting.batch_wait import WaitEnd

# Airflow keeps events in its database. What batches say of their errors has no bound, so theirs together get one.
MOST_ERROR_CHARACTERS = 20_000
SHORTEST_ERROR = 200
# A batch's own pairs can take 9 KB; what is read after the wait are those by which it is recognized.


def to_event(ends: Sequence[WaitEnd]) -> dict[str, Any]:
    """Return the payload of a trigger's event: ids, states, counts, times and error texts, nothing secret.

    Error texts are cut, and only the first ones are in it; what is left out is told by their number.
    """
    characters = max(MOST_ERROR_CHARACTERS // max(len(ends), 1), SHORTEST_ERROR)
    return {"waits": [_end_to_json(each, characters) for each in ends]}


def _end_to_json(end: WaitEnd, characters: int) -> dict[str, Any]:
    error = None if end.error is None else cut(end.error, min(characters, LONGEST_ERROR))
    return {**vars(end), "error": error, "batch": end.batch and _abridged(end.batch, characters).to_json()}


def _abridged(batch: Batch, characters: int) -> Batch:
    metadata = {name: value for name, value in batch.metadata.items() if name.startswith(RESERVED_PREFIX)}
    bounded = {name: value for name, value in metadata.items() if len(value) <= MAXIMUM_METADATA_VALUE}
    return replace(batch, errors=first_errors(batch.errors, characters), metadata=bounded)


def from_event(event: Any) -> list[WaitEnd]:
    """Read the payload of a trigger's event.

    :raises ValueError: when it is not one of `to_event`
    """
    try:
        ends = [
            WaitEnd(**{**each, "batch": None if each["batch"] is None else Batch.from_json(each["batch"])})
            for each in event["waits"]
        ]
    except (AttributeError, KeyError, TypeError):
        ends = []
    # No end, or one that is none, would pass for a success.
    if not ends or not all(map(_is_end, ends)):
        raise ValueError(f"the trigger reported {reprlib.repr(event)}, which says nothing of batches")
    return ends


def _is_end(end: WaitEnd) -> bool:
    if not (isinstance(end.batch_id, str) and all(isinstance(each, str | None) for each in (end.error, end.deadline))):
        return False
    if end.state == "over":
        return end.batch is not None and end.batch.is_terminal
    return end.state in ("timeout", "execution_timeout", "error")
