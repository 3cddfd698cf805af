"""Take the pictures in `docs/images` of a running `make ui`.

Needs Chromium and, in any Python environment, Playwright:

    apt install chromium
    pip install playwright
    python scripts/screenshots.py [http://127.0.0.1:8080]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
# Chromium asks nobody but the page: a closed network stalls it else.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, TALL = {"width": 1280, "height": 640}, {"width": 1280, "height": 960}


def main() -> None:
    """Take all of them; a picture of the same name is replaced."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=FLAGS, viewport=WIDE, color_scheme="light"
        )
        take_all(browser, url)
        browser.close()


def take_all(browser: BrowserContext, url: str) -> None:
    """Show the last successful run of the nightly eval, and the connection's form."""
    page = browser.pages[0]
    page.set_default_timeout(60_000)
    page.goto(url)
    page.get_by_role("link", name="Dags").first.wait_for()  # the session's cookie is there from now on
    dag = "dags/example_siliconflow_nightly_eval"
    runs = page.request.get(f"{url}/api/v2/{dag}/dagRuns?state=success&order_by=-end_date&limit=1")
    run = f"{url}/{dag}/runs/{runs.json()['dag_runs'][0]['dag_run_id']}"

    page.goto(f"{run}/tasks/create")
    page.get_by_text("requests answered").first.wait_for()
    save(page, "task-log")

    page.goto(f"{run}/tasks/download/details")
    page.get_by_role("link", name="Report", exact=True).click()
    page.get_by_role("heading", name="Batch inference report").wait_for()
    save(page, "report")

    page.goto(run)
    page.get_by_label("Show Graph").click()
    page.get_by_label("Collapse Details Panel").dispatch_event("click")  # no mouse: it would stay on a task
    page.locator(".react-flow__controls-fitview").click()
    save(page, "dag-graph")

    page.goto(f"{url}/connections")
    page.get_by_role("row", name="siliconflow_default").get_by_label("Edit Connection").click()
    page.get_by_role("dialog").get_by_label("Connection ID").wait_for()
    page.get_by_role("button", name="Extra Fields", exact=True).click()
    page.set_viewport_size(TALL)
    save(page, "connection-form")
    take_pages(page, url)


def take_pages(page: Page, url: str) -> None:
    """Show the package's own pages, with two jobs that are over and one that runs."""
    dag = f"{url}/api/v2/dags/example_siliconflow_nightly_eval_one_task"
    token = page.request.get(f"{url}/auth/token").json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    page.request.patch(dag, data={"is_paused": False}, headers=headers)
    runs = []
    for _ in range(3):
        answer = page.request.post(f"{dag}/dagRuns", data={"logical_date": None}, headers=headers)
        runs.append(answer.json()["dag_run_id"])
        page.wait_for_timeout(15_000)

    page.set_viewport_size(WIDE)
    page.goto(f"{url}/plugin/siliconflow-batches")
    page.frame_locator("iframe").get_by_text("in_progress").first.wait_for()
    save(page, "batches-page", is_live=True)

    page.set_viewport_size(TALL)
    page.goto(f"{dag.replace('/api/v2', '')}/runs/{runs[0]}/tasks/answers/plugin/siliconflow-task-batches")
    page.frame_locator("iframe").get_by_text("Success rate").wait_for()
    save(page, "batches-tab", is_live=True)


def save(page: Page, name: str, *, is_live: bool = False) -> None:
    """Take a picture once nothing is loaded any more.

    :param is_live: whether the page asks for news all the time
    """
    if not is_live:
        page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # what fades in
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
