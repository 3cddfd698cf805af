from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.server import Emulator
from tests.trigger_runs import LIST, SINGLE

# Airflow 2 has no asset watchers.
collect_ignore = [] if AIRFLOW_V_3_0_PLUS else ["test_events.py"]


@pytest.fixture
def batches(client: SiliconFlowClient, sums: Callable[[int], bytes]) -> Callable[[int], list[str]]:
    """Create a number of batches of twelve requests each."""

    def create(number: int) -> list[str]:
        file_id = client.upload_file(io.BytesIO(sums(12))).id
        return [client.create_batch(file_id, metadata={"part": str(item)}).id for item in range(number)]

    return create


@pytest.fixture
def requests(emulator: Emulator) -> Callable[[], dict[str, int]]:
    """Count the requests for the list and for single batches."""
    return lambda: {value: sum(emulator.control.answers()[value].values()) for value in (LIST, SINGLE)}
