from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.server import Emulator
from tests.trigger_runs import LIST, SINGLE


@pytest.fixture
def batches(client: SiliconFlowClient, sums: Callable[[int], bytes]) -> Callable[[int], list[str]]:
    """Creates so many batches of twelve requests."""

    def create(number: int) -> list[str]:
        file_id = client.upload_file(io.BytesIO(sums(12))).id
        return [client.create_batch(file_id, metadata={"part": str(each)}).id for each in range(number)]

    return create


@pytest.fixture
def requests(emulator: Emulator) -> Callable[[], dict[str, int]]:
    """Counts the requests for the list and for single batches."""
    return lambda: {each: sum(emulator.control.answers()[each].values()) for each in (LIST, SINGLE)}
