"""The control interface over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from siliconflow_provider.emulator.server import Emulator

Call = Callable[..., requests.Response]


@pytest.fixture
def ask(emulator: Emulator) -> Call:
    """Return a function that calls the interface without a key."""

    def call(method: str, path: str, body: Any = None) -> requests.Response:
        headers = {"Content-Type": "application/json"}
        return requests.request(method, emulator.control_url + path, json=body, headers=headers, timeout=10)

    return call


def test_clock_is_held_advanced_and_released(ask: Call, clock: Any) -> None:
    now = 1_800_000_000.25
    assert ask("GET", "/clock").json() == {"now": now, "held": False}
    assert ask("POST", "/clock/hold").json() == {"now": now, "held": True}
    assert ask("POST", "/clock/hold", {"at": 1000}).json() == {"now": 1000, "held": True}
    assert ask("POST", "/clock/advance", {"seconds": 1.5}).json() == {"now": 1001.5, "held": True}
    assert ask("POST", "/clock/release").json() == {"now": now, "held": False}


def test_plans_and_faults_are_added_listed_and_deleted(
    ask: Call, api: Any, clock: Any, sums: Callable[[int], bytes]
) -> None:
    plan = {"metadata": {"team": "a"}, "failing": {"positions": [1]}}
    ask("POST", "/plans", plan).raise_for_status()
    ask("POST", "/faults", {"endpoint": "GET /files", "kind": "status", "status": 502}).raise_for_status()
    assert api.call("GET", "/files?purpose=batch").status_code == 502
    batch_id = api.create(sums(2), metadata={"team": "a"})
    clock.advance(200)
    assert api.batch(batch_id)["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    rules = ask("GET", "/rules").json()
    assert rules == {
        "plans": [plan | {"seen": 1, "used": 1}],
        "faults": [{"kind": "status", "endpoint": "GET /files", "status": 502, "seen": 1, "used": 1}],
    }
    assert ask("POST", "/reset").json() == {"plans": [], "faults": []}


def test_answers_are_planned_by_a_mapping(ask: Call, api: Any, clock: Any, sums: Callable[[int], bytes]) -> None:
    ask("POST", "/plans", {"answers": {"r0": "planned", "1 + 1": {"content": [1]}}}).raise_for_status()
    batch_id = api.create(sums(3))
    clock.advance(200)
    rows = api.rows(api.batch(batch_id)["output_file_id"])
    contents = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}
    assert contents == {"r0": "planned", "r1": "[1]", "r2": "3"}


def test_counts_are_returned(ask: Call, api: Any, emulator: Emulator, clock: Any, sums: Callable[[int], bytes]) -> None:
    emulator.control.fault("POST /files", "reset")
    with pytest.raises(requests.ConnectionError):
        api.upload(sums(1))
    api.create(sums(2))
    clock.advance(200)
    counts = ask("GET", "/counts").json()
    assert counts["batches"] == 1
    assert counts["answers"]["POST /files"] == {"null": 1, "200": 1}
    totals = {"total": 2, "distinct": 2, "most": 1}
    assert ask("GET", "/executions").json() == totals
    assert ask("GET", "/executions?counts").json() == totals | {"counts": emulator.control.executions().counts}
    by_id = ask("GET", "/executions?by=custom_id&counts").json()["counts"]
    assert by_id == emulator.control.executions("custom_id").counts


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/plans", {"end": "x"}, "plan: end: must be one of completed,"),
        ("/plans", {"self": 1}, "plan: Object contains unknown field `self`"),
        ("/plans", [], "body: must be a JSON object"),
        ("/plans", {"answers": {"q": 1}}, "plan: answers: 'q': must be a text or an object such as"),
        ("/plans", {"answers": [{"text": "x"}]}, "plan: answers: 1: Object contains unknown field `text`; there are"),
        ("/faults", {}, "fault: endpoint: must be one of POST /files,"),
        ("/faults", {"endpoint": "GET /files", "kind": "x"}, "fault: kind: must be one of status,"),
        ("/faults", {"endpoint": "GET /files", "kind": ["x"]}, "fault: kind: must be one of status,"),
        ("/clock/hold", {"at": "noon"}, "hold: at: Expected `float | null`, got `str`"),
        ("/clock/hold", {"until": 1}, "hold: Object contains unknown field `until`; there are at"),
        ("/clock/advance", {}, "advance: Object missing required field `seconds`"),
        ("/clock/advance", {"seconds": -1}, "seconds: must be 0 or more"),
    ],
)
def test_invalid_field_is_named_in_a_400(ask: Call, path: str, body: Any, message: str) -> None:
    answer = ask("POST", path, body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "127.9.9.9", "localhost:8900", "LOCALHOST", "[::1]:80"])
def test_any_loopback_host_is_accepted(emulator: Emulator, host: str) -> None:
    assert requests.get(emulator.control_url + "/rules", headers={"Host": host}, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8900",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/rules"), ("GET", "/executions"), ("POST", "/faults")])
def test_other_host_names_are_refused(emulator: Emulator, method: str, path: str, host: str) -> None:
    fault = {"endpoint": "GET /files", "kind": "reset"}
    answer = requests.request(method, emulator.control_url + path, json=fault, headers={"Host": host}, timeout=10)
    assert answer.status_code == 403
    assert answer.json()["message"].endswith("only answers 127.0.0.1, localhost and [::1]")
    assert emulator.control.faults() == []


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain; application/json",
    ],
)
@pytest.mark.parametrize("body", [b'{"endpoint": "GET /files", "kind": "reset"}', b""])
def test_simple_web_page_requests_are_refused(emulator: Emulator, content_type: str | None, body: bytes) -> None:
    emulator.control.fault("GET /batches", status=502)
    headers = {} if content_type is None else {"Content-Type": content_type}
    for path in ("/faults", "/reset", "/clock/hold"):
        answer = requests.post(emulator.control_url + path, data=body, headers=headers, timeout=10)
        assert answer.status_code == 415
        assert answer.json()["message"].endswith(": send application/json, even without a body")
    assert [fault["endpoint"] for fault in emulator.control.faults()] == ["GET /batches"]
    assert not emulator.control.clock.is_held


def test_json_content_type_may_have_a_charset(emulator: Emulator) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert requests.post(emulator.control_url + "/reset", data=b"{}", headers=headers, timeout=10).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("GET", "/plans"), ("POST", "/counts")])
def test_unknown_control_path_is_404(ask: Call, method: str, path: str) -> None:
    assert ask(method, path).status_code == 404


def test_unknown_identity_is_400(ask: Call) -> None:
    assert ask("GET", "/executions?by=x").status_code == 400


def test_control_paths_are_404_without_control(idle_emulator: Emulator) -> None:
    for method, path in (("GET", "/rules"), ("POST", "/reset"), ("GET", "/clock")):
        answer = requests.request(method, idle_emulator.control_url + path, timeout=10)
        assert (answer.status_code, answer.json()) == (404, "404 page not found")
