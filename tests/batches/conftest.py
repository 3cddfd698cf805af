from __future__ import annotations

import io

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from tests.submissions import Sums


@pytest.fixture
def file_id(client: SiliconFlowClient, sums: Sums) -> str:
    return client.upload_file(io.BytesIO(sums(2))).id
