from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import literal_column, select, update

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import Submission, digest
from siliconflow_provider.dag_testing import let_any_dag_be_tested
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.plugins.summaries import summaries_of
from siliconflow_provider.plugins.tasks import TaskInstance
from tests.documents import HOSTILE, Parsed
from tests.plugins.auth import PartialAuthManager

DAG_ID = "job_for_the_tab"
DAG = """
import pendulum
from airflow.providers.common.compat.sdk import dag, task

from siliconflow_provider.operators.inference import BatchInferenceOperator

PRICES = {{"currency": "CNY", "models": {{"deepseek-ai/DeepSeek-V3": {{"input": 1, "output": 4}}}}}}


@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1, tz="UTC"))
def {dag_id}():
    @task
    def other():
        return 1

    BatchInferenceOperator(
        task_id="ask",
        requests=[{{"question": text}} for text in ("a", "b", "c", "d")],
        prompt="{{question}}",
        model="deepseek-ai/DeepSeek-V3",
        output_path={path!r},
        prices=PRICES,
        min_success_rate=0.5,
        max_rounds=2,
    )
    other()


{dag_id}()
"""
BrowserOf = Callable[..., TestClient]
Submit = Callable[[TaskInstance | None], Batch]
HOSTILE_TEXT = HOSTILE.replace("\x00", "")


class Job:
    """A run of a DAG with one job, which is over, and another task."""

    def __init__(self, emulator: Emulator, run_id: str, output: Path) -> None:
        self.emulator, self.run_id, self.output = emulator, run_id, output
        self.manifest = json.loads((output / "manifest.json").read_text())

    def address(self, kind: str = "task", task_id: str = "ask", index: str = "{MAP_INDEX}") -> str:
        return f"/siliconflow/{kind}/{DAG_ID}/{task_id}/{index}/{self.run_id}"

    @property
    def lists(self) -> int:
        """The number of times that the account's list was read."""
        log = map(json.loads, (self.emulator.data_dir / "requests.log").read_text().splitlines())
        received = [entry for entry in log if entry["event"] == "received"]
        return [(entry["method"], entry["path"].partition("?")[0]) for entry in received].count(("GET", "/v1/batches"))


@pytest.fixture(scope="module")
def job(dags_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A job of two rounds, with an error that two requests have; its batches take no time."""
    home = tmp_path_factory.mktemp("job")
    phases = {f"{phase}_seconds": 0.0 for phase in ("queue", "run", "finalize")}
    options = EmulatorOptions(data_dir=home / "emulator", control=True, **phases)
    with Emulator(options) as emulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(emulator.airflow_connection))
        patch.setattr("siliconflow_provider.batches.creation.LIST_LAG_SECONDS", 0)
        let_any_dag_be_tested(patch)
        # In the first round two of the four fail, in the second one both again.
        for positions in ([1, 2], [0, 1]):
            failing = {"positions": positions, "code": "content_filter", "message": HOSTILE_TEXT}
            emulator.control.plan(failing=failing)
        names: dict[str, Any] = {}
        exec(DAG.format(dag_id=DAG_ID, path=str(home / "out")), names)
        run = names[DAG_ID]().test()
        yield Job(emulator, run.run_id, home / "out")


@contextmanager
def xcom(key: str, task_id: str = "ask") -> Iterator[Callable[[Any], None]]:
    """Give a function that changes an XCom of a task of the job. It is as before afterwards."""
    mine = XComModel.dag_id == DAG_ID, XComModel.task_id == task_id, XComModel.key == key

    def write(value: Any) -> None:
        with create_session() as session:
            session.execute(update(XComModel).where(*mine).values(value=value))

    with create_session() as session:
        stored = session.scalar(select(XComModel.value).where(*mine))
    yield lambda value: write(json.dumps(value) if isinstance(stored, str) else value)
    write(stored)


@pytest.fixture
def returned(job: Job) -> Iterator[Callable[..., None]]:
    """Changes what the task has returned, as a task may do by itself. It is as before after the test."""
    task = TaskInstance(DAG_ID, "ask", job.run_id, -1)
    value = summaries_of([task])[task].value
    with xcom("return_value") as write:
        yield lambda **changes: write({**value, **changes})


@pytest.fixture
def submit_to_job(job: Job, sums: Callable[[int], bytes], tmp_path: Path) -> Submit:
    """Creates a batch on the account of the job, for a task instance or for none."""
    client = SiliconFlowClient(job.emulator.api_key, job.emulator.base_url)

    def create(task: TaskInstance | None) -> Batch:
        path = tmp_path / "requests.jsonl"
        path.write_bytes(sums(1))
        metadata: dict[str, str] = {}
        if task is not None:
            run_key = digest("emulator", task.dag_id, task.run_id)
            metadata = Submission("key", "file", run_key=run_key, label=task.label).batch_metadata()
        return client.create_batch(client.upload_file(path).id, metadata=metadata)

    return create


def test_tab_shows_what_has_become_of_the_job(job: Job, browser_of: BrowserOf) -> None:
    html = browser_of("viewer").get(job.address()).text
    page = Parsed(html)
    for text in (*(batch["id"] for batch in job.manifest["batches"]), "Round 2", "content_filter", "CNY 0.00"):
        assert text in page.text
    assert str(job.output / "results.jsonl") in page.text
    assert "alert(1)" in page.text
    assert [name for name, _ in page.elements].count("script") == 1


def test_a_job_that_is_over_costs_the_service_nothing(job: Job, browser_of: BrowserOf) -> None:
    before = job.lists
    assert "data-refresh" not in browser_of("viewer").get(job.address()).text
    assert job.lists == before


def test_tab_without_a_readable_manifest_lists_batches(
    job: Job, browser_of: BrowserOf, returned: Callable[..., None]
) -> None:
    for path, problem in (("/none/manifest.json", "cannot read manifest.json"), ("s3://a@b/manifest.json", "storage")):
        returned(manifest_path=path)
        text = Parsed(browser_of("viewer").get(job.address()).text).text
        assert problem in text
        for batch in job.manifest["batches"]:
            assert batch["id"] in text


def test_batches_that_the_task_names_are_its_own(
    job: Job, browser_of: BrowserOf, returned: Callable[..., None], submit_to_job: Submit
) -> None:
    """A list may show no metadata; but a batch of another task instance is not taken from it."""
    unmarked = submit_to_job(None)
    others = [TaskInstance("nightly", "ask", "run", -1), TaskInstance("secret", "t" * 600, "run", -1)]
    marked = list(map(submit_to_job, others))
    returned(manifest_path=None)
    with xcom("batch_ids") as write:
        write([unmarked.id, *(batch.id for batch in marked), 7])
        text = browser_of("viewer").get(job.address()).text
    assert unmarked.id in text
    assert not [batch.id for batch in marked if batch.id in text]


def test_only_readers_of_the_connection_see_its_problem(
    job: Job, browser_of: BrowserOf, returned: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    returned(manifest_path=None)
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps({"conn_type": "postgres", "host": "db"}))
    texts = [browser_of(role).get(job.address()).text for role in ("viewer", "op")]
    assert ["postgres" in text for text in texts] == [False, True]
    assert "could not be read" in texts[0]


def test_tokens_need_permission_for_xcoms(job: Job, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch) -> None:
    assert " tokens" in Parsed(browser_of("op").get("/siliconflow/batches").text).text
    monkeypatch.setattr(PartialAuthManager, "dags_without_xcoms", {DAG_ID})
    text = Parsed(browser_of("op").get("/siliconflow/batches").text).text
    assert f"{DAG_ID} / ask" in text
    assert " tokens" not in text
    assert browser_of("op").get(job.address()).status_code == 403


def test_an_editor_of_the_dag_cancels_from_the_tab(
    job: Job, browser_of: BrowserOf, returned: Callable[..., None], submit_to_job: Submit
) -> None:
    """Users of the simple auth manager may edit DAGs, but not read connections."""
    job.emulator.control.plan(stuck="in_progress")
    batch = submit_to_job(TaskInstance(DAG_ID, "ask", job.run_id, -1))
    returned(manifest_path=None)
    assert f"Cancel {batch.id}" not in browser_of("viewer").get(job.address()).text
    user = browser_of("user")
    links = [str(found.get("href")) for _, found in Parsed(user.get(job.address()).text).elements]
    (question,) = [link for link in links if batch.id in link]
    token = re.search('name="token" value="([^"]+)"', user.get(question).text)
    assert token is not None
    answer = user.post(question, data={"token": token[1]}, headers={"Sec-Fetch-Site": "same-origin"})
    assert user.get(answer.headers["Location"]).status_code == 200
    assert f"Cancel {batch.id}" not in user.get(answer.headers["Location"]).text


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": {"prompt": 10**4299, "completion": 10**4299 * 9}},
        {"rows": 10**4299 * 9, "counts": {"succeeded": 10**4299 * 9}},
        {"cost": {"total": "1e-999990", "currency": "CNY"}},
        {"cost": {"total": "0e-999990", "currency": "CNY"}},
        {"cost": {"total": 10**4299 * 9, "currency": 10**4299 * 9}},
        {"counts": {str(number): 1 for number in range(200_000)}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_an_odd_xcom_breaks_no_page(
    job: Job, browser_of: BrowserOf, returned: Callable[..., None], changes: dict[str, Any]
) -> None:
    returned(manifest_path=None, **changes)
    pages = [browser_of("op").get(address) for address in (job.address(), "/siliconflow/batches")]
    assert [page.status_code for page in pages] == [200, 200]
    assert all(batch["id"] in page.text for page in pages for batch in job.manifest["batches"])
    assert sum(len(page.text) for page in pages) < 100_000


def test_an_unreadable_xcom_hides_no_other(job: Job, browser_of: BrowserOf) -> None:
    """Databases accept longer numbers than Python reads."""
    task = TaskInstance(DAG_ID, "ask", job.run_id, -1)
    other = TaskInstance(DAG_ID, "other", job.run_id, -1)
    odd = literal_column('\'{"rows": 1' + "0" * 5_000 + "}'")
    with xcom("return_value", "other"):
        with create_session() as session:
            session.execute(update(XComModel).where(XComModel.task_id == "other").values(value=odd))
        assert list(summaries_of([other, task])) == [task]
    with xcom("batch_ids"):
        with create_session() as session:
            session.execute(update(XComModel).where(XComModel.key == "batch_ids").values(value=odd))
        assert browser_of("viewer").get(job.address()).status_code == 200


def test_other_tasks_have_no_batches(job: Job, browser_of: BrowserOf) -> None:
    viewer = browser_of("viewer")
    assert "has no SiliconFlow batches" in viewer.get(job.address(task_id="other")).text
    assert viewer.get(job.address(task_id="none")).status_code == 404
    for index in ("5", "9" * 30, "9" * 5_000):
        assert viewer.get(job.address(index=index)).status_code == 404
    assert viewer.get(job.address(task_id="%00")).status_code == 404
    assert viewer.get("/siliconflow/task/secret/ask/-1/run").status_code == 403


def test_report_and_manifest_are_served_in_a_sandbox(job: Job, browser_of: BrowserOf) -> None:
    viewer = browser_of("viewer")
    links = [str(found.get("href")) for _, found in Parsed(viewer.get(job.address()).text).elements]
    manifest, report = (next(link for link in links if kind in link) for kind in ("task-manifest", "task-report"))
    assert viewer.get(manifest).json() == job.manifest
    served = viewer.get(report)
    assert served.text == (job.output / "report.html").read_text()
    policy = served.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert policy.endswith("sandbox")
    assert "script-src" not in policy


def test_no_other_file_is_served(job: Job, browser_of: BrowserOf, returned: Callable[..., None]) -> None:
    secret = job.output / "secret.txt"
    secret.write_text("secret")
    for value, status in ((str(secret), 502), (str(job.output / "none" / "report.html"), 502), (None, 404), (7, 404)):
        returned(report_path=value, manifest_path=value)
        for kind in ("task-report", "task-manifest"):
            response = browser_of("viewer").get(job.address(kind))
            assert response.status_code == status
            assert "secret" not in response.text.partition("</script>")[2].replace("secret.txt", "")


def test_no_file_of_another_task_is_served(
    job: Job, browser_of: BrowserOf, returned: Callable[..., None], tmp_path: Path
) -> None:
    """Who may write XComs of one DAG names a directory of another one."""
    (tmp_path / "_siliconflow").mkdir()
    (tmp_path / "_siliconflow" / "owner.json").write_text('{"task": "secret/ask/run/-1"}')
    for kind, name in (("task-report", "report.html"), ("task-manifest", "manifest.json")):
        (tmp_path / name).write_text('{"rows": 31415}')
        returned(report_path=f"{tmp_path}/{name}", manifest_path=f"{tmp_path}/{name}")
        for address in (job.address(kind), job.address()):
            text = browser_of("viewer").get(address).text
            assert "31415" not in text.replace(",", "")
        assert browser_of("viewer").get(job.address(kind)).status_code == 502
