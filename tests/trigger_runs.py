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
    (event,) = [each.payload async for each in trigger.run()]
    return from_event(json.loads(json.dumps(event)))


def ends(*triggers: BatchTrigger) -> list[WaitEnd]:
    """Run triggers side by side, as a triggerer does, and return how all their waits ended."""

    async def run() -> list[list[WaitEnd]]:
        return await asyncio.gather(*map(end_of, triggers))

    return [end for each in asyncio.run(run()) for end in each]


def states(found: list[WaitEnd]) -> set[Any]:
    return {(each.state, each.batch and each.batch.status) for each in found}
