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
    """Calls the interface, without a key."""

    def call(method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(method, emulator.control_url + path, json=body, timeout=10)

    return call


def test_the_clock_is_held_advanced_and_released(ask: Call, clock: Any) -> None:
    now = 1_800_000_000.25
    assert ask("GET", "/clock").json() == {"now": now, "held": False}
    assert ask("POST", "/clock/hold").json() == {"now": now, "held": True}
    assert ask("POST", "/clock/hold", {"at": 1000}).json() == {"now": 1000, "held": True}
    assert ask("POST", "/clock/advance", {"seconds": 1.5}).json() == {"now": 1001.5, "held": True}
    assert ask("POST", "/clock/release").json() == {"now": now, "held": False}


def test_plans_and_faults_are_given_listed_and_forgotten(
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


def test_counts_are_told(ask: Call, api: Any, emulator: Emulator, clock: Any, sums: Callable[[int], bytes]) -> None:
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
        ("/faults", {}, "fault: endpoint: must be one of POST /files,"),
        ("/faults", {"endpoint": "GET /files", "kind": "x"}, "fault: kind: must be one of status,"),
        ("/faults", {"endpoint": "GET /files", "kind": ["x"]}, "fault: kind: must be one of status,"),
        ("/clock/hold", {"at": "noon"}, "hold: at: Expected `float | null`, got `str`"),
        ("/clock/hold", {"until": 1}, "hold: Object contains unknown field `until`; there are at"),
        ("/clock/advance", {}, "advance: Object missing required field `seconds`"),
        ("/clock/advance", {"seconds": -1}, "seconds: must be 0 or more"),
    ],
)
def test_a_bad_request_is_a_400_that_names_the_field(ask: Call, path: str, body: Any, message: str) -> None:
    answer = ask("POST", path, body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("GET", "/plans"), ("POST", "/counts")])
def test_what_there_is_not_is_a_404(ask: Call, method: str, path: str) -> None:
    assert ask(method, path).status_code == 404


def test_another_identity_is_a_400(ask: Call) -> None:
    assert ask("GET", "/executions?by=x").status_code == 400


def test_there_is_nothing_when_it_is_off(idle_emulator: Emulator) -> None:
    for method, path in (("GET", "/rules"), ("POST", "/reset"), ("GET", "/clock")):
        answer = requests.request(method, idle_emulator.control_url + path, timeout=10)
        assert (answer.status_code, answer.json()) == (404, "404 page not found")
