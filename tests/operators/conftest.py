from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from siliconflow_provider.api.client import SiliconFlowClient


@pytest.fixture
def upload(client: SiliconFlowClient) -> Callable[[bytes], str]:
    """Brings a request file to the emulator; gives its id."""
    return lambda content: client.upload_file(io.BytesIO(content)).id


@pytest.fixture
def file_id(upload: Callable[[bytes], str], sums: Callable[[int], bytes]) -> str:
    """An uploaded file of twelve requests."""
    return upload(sums(12))
