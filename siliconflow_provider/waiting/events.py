"""Convert the outcomes of waits to the JSON payload of a trigger's event, and back. Its size is limited."""

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

# Airflow stores events in its database, and the error texts of batches may have any size.
MOST_ERROR_CHARACTERS = 20_000
SHORTEST_ERROR = 200


def to_event(ends: Sequence[WaitEnd]) -> dict[str, Any]:
    """Return the payload of a trigger's event: ids, states, counts, times and error texts, but no secrets.

    Only the first error texts are included, shortened; a last text gives the number of the others.
    """
    characters = max(MOST_ERROR_CHARACTERS // max(len(ends), 1), SHORTEST_ERROR)
    return {"waits": [_end_to_json(end, characters) for end in ends]}


def _end_to_json(end: WaitEnd, characters: int) -> dict[str, Any]:
    error = None if end.error is None else cut(end.error, min(characters, LONGEST_ERROR))
    return {**vars(end), "error": error, "batch": end.batch and _abridged(end.batch, characters).to_json()}


def _abridged(batch: Batch, characters: int) -> Batch:
    # The user's own pairs can take 9 KB, and nothing reads them after the wait.
    metadata = {name: value for name, value in batch.metadata.items() if name.startswith(RESERVED_PREFIX)}
    bounded = {name: value for name, value in metadata.items() if len(value) <= MAXIMUM_METADATA_VALUE}
    return replace(batch, errors=first_errors(batch.errors, characters), metadata=bounded)


def from_event(event: Any) -> list[WaitEnd]:
    """Return the outcomes of the waits from the payload of a trigger's event.

    :raises ValueError: if the payload was not made by `to_event`
    """
    try:
        ends = [
            WaitEnd(**{**fields, "batch": None if fields["batch"] is None else Batch.from_json(fields["batch"])})
            for fields in event["waits"]
        ]
    except (AttributeError, KeyError, TypeError):
        ends = []
    # Without this check, an empty or invalid payload would count as success.
    if not ends or not all(map(_is_end, ends)):
        raise ValueError(f"unexpected trigger event: {reprlib.repr(event)}")
    return ends


def _is_end(end: WaitEnd) -> bool:
    if not (isinstance(end.batch_id, str) and all(isinstance(text, str | None) for text in (end.error, end.deadline))):
        return False
    if end.state == "over":
        return end.batch is not None and end.batch.is_terminal
    return end.state in ("timeout", "execution_timeout", "error")
