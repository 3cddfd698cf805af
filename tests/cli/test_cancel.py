"""`cancel`."""

from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient


def test_cancel_asks_and_cancels(run: Any, create: Any, types: Any, client: SiliconFlowClient) -> None:
    batch = create()
    types("y\n")
    printed = run("cancel", batch.id)
    assert printed[:2] == (0, f"batch {batch.id} is cancelling; its answered requests are billed\n")
    assert f"{batch.id}  in_queue    nightly/create/manual__1\n" in printed.err
    assert printed.err.endswith("Cancel 1 batch? Answered requests are billed. [y/N] ")
    assert client.get_batch(batch.id).status == "cancelling"


@pytest.mark.parametrize("answer", ["\n", "n\n", "yess\n", ""])
def test_everything_but_yes_cancels_nothing(
    run: Any, create: Any, types: Any, client: SiliconFlowClient, answer: str
) -> None:
    batch = create()
    types(answer)
    printed = run("cancel", batch.id)
    assert (printed.code, printed.out) == (1, "")
    assert printed.err.endswith("nothing was cancelled\n")
    assert client.get_batch(batch.id).status == "in_queue"


def test_without_a_terminal_yes_is_needed(run: Any, create: Any, client: SiliconFlowClient) -> None:
    batch = create()
    printed = run("cancel", batch.id)
    assert printed.code == 2
    assert "give --yes" in printed.err
    assert client.get_batch(batch.id).status == "in_queue"
    assert run("cancel", "--yes", batch.id, batch.id, "--json").json[0]["status"] == "cancelling"


def test_an_unknown_id_cancels_nothing(run: Any, create: Any, client: SiliconFlowClient) -> None:
    batch = create()
    printed = run("cancel", "--yes", batch.id, "batch_x")
    assert printed.code == 1
    assert "GET /batches/batch_x" in printed.err
    assert client.get_batch(batch.id).status == "in_queue"


def test_ended_batches_need_no_question(run: Any, create: Any, clock: Any) -> None:
    batch = create()
    clock.advance(200)
    assert run("cancel", batch.id) == (0, f"batch {batch.id} has ended: completed\n", "")


def test_a_failed_cancel_stops_no_other(run: Any, create: Any, control: Any, client: SiliconFlowClient) -> None:
    first, second = create(), create()
    control.fault("POST /batches/{id}/cancel", status=400, times=1)
    printed = run("cancel", "--yes", first.id, second.id)
    assert (printed.code, printed.out.split()[1]) == (1, second.id)
    assert printed.err.startswith(f"could not cancel batch {first.id}: POST /batches/{first.id}/cancel at ")
    assert [client.get_batch(batch.id).status for batch in (first, second)] == ["in_queue", "cancelling"]
