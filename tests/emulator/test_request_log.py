from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import requests

from siliconflow_provider.emulator.request_log import RequestLog
from siliconflow_provider.emulator.server import Emulator


def entries(emulator: Emulator) -> list[dict[str, Any]]:
    """Stop the emulator and return its log, which then has the last response."""
    emulator.stop()
    return [json.loads(line) for line in (emulator.data_dir / "requests.log").read_text().splitlines()]


def test_request_and_response_are_logged(api: Any, emulator: Emulator) -> None:
    trace_id = api.call("GET", "/batches/batch_no").headers["x-siliconcloud-trace-id"]
    received, answered = entries(emulator)
    assert received == {
        "time": "2027-01-15T08:00:00.250+00:00",
        "event": "received",
        "id": trace_id,
        "method": "GET",
        "path": "/v1/batches/batch_no",
    }
    assert answered.pop("milliseconds") >= 0
    assert answered == received | {"event": "answered", "status": 404}


def test_queries_headers_and_bodies_are_never_logged(
    api: Any, emulator: Emulator, clock: Any, sums: Callable[[int], bytes]
) -> None:
    batch_id = api.create(sums(1), metadata={"secret": "hidden"})
    clock.advance(200)
    requests.get(api.batch(batch_id)["output_file_id"], timeout=10)
    api.call("GET", "/batches?limit=12345")
    assert len(entries(emulator)) == 10
    text = (emulator.data_dir / "requests.log").read_text()
    for secret in ("Signature", "Expires", "sk-emulator", "hidden", "12345", "What is", "?"):
        assert secret not in text


def test_line_break_in_a_path_stays_encoded(api: Any, emulator: Emulator) -> None:
    api.call("GET", "/files/a%0A%0Db/content")
    assert [entry["path"] for entry in entries(emulator)] == ["/v1/files/a%0A%0Db/content"] * 2


def test_response_is_printed_on_one_line(tmp_path: Any, clock: Any, capsys: Any) -> None:
    log = RequestLog(tmp_path / "requests.log", clock, printing=True)
    log.received("id", "GET", "/v1/files")
    log.answered("id", "GET", "/v1/files", 200, 3.2)
    log.close()
    assert capsys.readouterr().out == "08:00:00 GET /v1/files 200 3 ms\n"


def test_log_continues_after_a_restart(tmp_path: Any, clock: Any) -> None:
    for _ in range(2):
        log = RequestLog(tmp_path / "requests.log", clock, printing=False)
        log.received("id", "GET", "/v1/files")
        log.close()
        log.received("id", "GET", "/too-late")
    assert (tmp_path / "requests.log").read_text().count("\n") == 2
