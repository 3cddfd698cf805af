"""The pages in Airflow's UI, seen in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from tests.documents import HOSTILE
from tests.system.browser import Browser
from tests.system.components import API_KEY, Components
from tests.system.dag_runs import DagRun

FRAME = "iframe"
TAB = "Batches"


@pytest.mark.slow
def test_a_person_looks_around_and_cancels(
    components: Components, run_of_one_batch: Callable[..., DagRun], sums: Callable[[int], bytes], tmp_path: Path
) -> None:
    run = run_of_one_batch(3_600, metadata={"team": "research"})
    client = SiliconFlowClient(API_KEY, components.emulator_url)
    path = tmp_path / "other.jsonl"
    path.write_bytes(sums(3))
    other = client.create_batch(client.upload_file(path).id, metadata={"note": HOSTILE.replace("\x00", "")})
    run.task_instance("create").wait_for("deferred")
    (own,) = [batch for batch in client.list_batches() if batch.id != other.id]
    url = components.api.url

    with Browser() as browser:
        browser.open(url)
        browser.click("Browse")
        browser.click("SiliconFlow batches")
        browser.enter_frame(FRAME)
        browser.wait_for(other.id)
        browser.wait_for(own.id)
        browser.run("document.querySelectorAll('details').forEach(item => { item.open = true; })")
        assert browser.run("return document.querySelectorAll('img').length + document.scripts.length") == 1
        assert "<script>alert(1)" in browser.text

        browser.type("text", "research\ue007")
        browser.wait_until(lambda: other.id not in browser.text)
        browser.wait_for(own.id)

        browser.click("Cancel…")
        browser.wait_for("Cancel this batch?")
        browser.click("Let it run")
        browser.wait_for(other.id)
        browser.open(f"{url}/siliconflow/batches?text={other.id}")
        browser.click("Cancel…")
        browser.click("Cancel the batch")
        browser.wait_for("The batch is being cancelled.")
        assert client.get_batch(other.id).status in ("cancelling", "cancelled")

        # Out of the frame, to the task instance, and its tab.
        browser.open(f"{url}/plugin/siliconflow-batches")
        browser.enter_frame(FRAME)
        browser.click(run.dag_id)
        browser.leave_frame()
        browser.wait_until(lambda: f"/dags/{run.dag_id}/runs/" in browser.url, lambda: browser.url)
        browser.click(TAB)
        browser.enter_frame(FRAME)
        browser.wait_for(own.id)
        assert other.id not in browser.text
        browser.run("window.stays = true")
        client.cancel_batch(own.id)
        # The page is read again by itself, not loaded.
        browser.wait_until(lambda: "cancelled" in browser.text, lambda: browser.text)
        assert browser.run("return window.stays") is True
    run.wait_for("failed")
