from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions


def contents(api: Any, batch_id: str) -> dict[str, str]:
    rows = api.rows(api.batch(batch_id)["output_file_id"])
    return {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}


def test_function_gives_answers_to_request_lines(
    api: Any, emulator: Emulator, clock: Any, jsonl: Any, line: Any
) -> None:
    seen = []

    def answers(request: dict[str, Any]) -> Any:
        seen.append(request)
        return {"r0": "text", "r1": {"content": {"score": 1}}}.get(request["custom_id"])

    emulator.control.plan(answers=answers)
    requests = [line(f"r{index}", f"{index} + 1") for index in range(3)]
    batch_id = api.create(jsonl(requests), replace={"model": "judge"})
    clock.advance(200)
    assert contents(api, batch_id) == {"r0": "text", "r1": '{"score":1}', "r2": "3"}
    assert seen == [request | {"body": request["body"] | {"model": "judge"}} for request in requests]
    (plan,) = emulator.control.plans()
    assert (plan["used"], plan["function"].rpartition(".")[2]) == (1, "answers")


def test_answers_of_a_function_survive_a_restart(options: EmulatorOptions, clock: Any, new_api: Any, sums: Any) -> None:
    with Emulator(options, clock=clock) as emulator:
        emulator.control.plan(answers=lambda request: "planned")
        batch_id = new_api(emulator).create(sums(1))
    clock.advance(200)
    with Emulator(options, clock=clock) as emulator:
        assert contents(new_api(emulator), batch_id) == {"r0": "planned"}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda request: request["prompt"], "KeyError: 'prompt'"),
        (lambda request: 7, "ControlError: answers: must be a text or an object such as {'content': ...}, not 7"),
    ],
)
def test_error_of_a_function_fails_the_batch(
    api: Any, emulator: Emulator, clock: Any, sums: Any, answers: Any, message: str, capfd: Any
) -> None:
    emulator.control.plan(answers=answers)
    batch_id = api.create(sums(1))
    clock.advance(200)
    batch = api.batch(batch_id)
    assert batch["status"] == "failed"
    assert batch["errors"] == [f"answers: the function failed for request 'r0': {message}"]
    assert "Traceback" in capfd.readouterr().err


def test_invalid_lines_do_not_reach_the_function(api: Any, emulator: Emulator, clock: Any) -> None:
    emulator.control.plan(answers=lambda request: request["nothing"])
    batch_id = api.create(b'{"custom_id": 7}\nno JSON\n[]\n')
    clock.advance(200)
    assert api.batch(batch_id)["errors"][0] == "line 1: custom_id is missing or not a string"
