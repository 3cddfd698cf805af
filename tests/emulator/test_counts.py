from __future__ import annotations

from typing import Any

import requests

from siliconflow_provider.emulator.server import Emulator


def test_responses_are_counted_by_endpoint_and_status(api: Any, emulator: Emulator) -> None:
    api.upload(b"{}\n")
    for path in ("/files?purpose=batch", "/batches/batch_a", "/batches/batch_b", "/nothing"):
        api.call("GET", path)
    requests.get(emulator.base_url + "/files?purpose=batch", timeout=10)
    requests.get(emulator.storage_url + "/results/file-x", timeout=10)
    answers = emulator.control.answers()
    assert {endpoint: counts for endpoint, counts in answers.items() if counts} == {
        "POST /files": {200: 1},
        "GET /files": {200: 1, 401: 1},
        "GET /batches/{id}": {404: 2},
        "GET /results/{id}": {403: 1},
    }
    assert answers["POST /batches"][503] == 0


def test_counts_survive_stop_and_reset(api: Any, emulator: Emulator, new_api: Any) -> None:
    api.call("GET", "/files?purpose=batch")
    emulator.control.reset()
    emulator.stop()
    emulator.start()
    new_api(emulator).call("GET", "/files?purpose=batch")
    assert emulator.control.answers()["GET /files"] == {200: 2}
