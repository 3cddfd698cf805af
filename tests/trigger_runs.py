"""Run triggers as a triggerer does, and read their outcomes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from siliconflow_provider.triggers.batches import BatchTrigger
from siliconflow_provider.waiting.batch_wait import WaitEnd
from siliconflow_provider.waiting.events import from_event

LIST, SINGLE = "GET /batches", "GET /batches/{id}"


async def end_of(trigger: BatchTrigger) -> list[WaitEnd]:
    (event,) = [end.payload async for end in trigger.run()]
    return from_event(json.loads(json.dumps(event)))


def ends(*triggers: BatchTrigger) -> list[WaitEnd]:
    """Run triggers side by side, as a triggerer does, and return how all their waits ended."""

    async def run() -> list[list[WaitEnd]]:
        return await asyncio.gather(*map(end_of, triggers))

    return [end for item in asyncio.run(run()) for end in item]


def states(found: list[WaitEnd]) -> set[Any]:
    return {(end.state, end.batch and end.batch.status) for end in found}
