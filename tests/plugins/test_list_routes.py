from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.connection import Connection
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import delete

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.emulator.server import Emulator
from siliconflow_provider.plugins.tasks import TaskInstance
from tests.documents import HOSTILE, Parsed

LIST = "/siliconflow/batches"
TASK = TaskInstance("nightly", "ask", "manual__2026-05-01T00:00:00+00:00", 2)
SECRET = TaskInstance("secret", "ask", "manual__1", -1)
Submit = Callable[..., Batch]
BrowserOf = Callable[..., TestClient]

pytestmark = pytest.mark.usefixtures("connection")


def cancel_address(batch: Batch) -> str:
    return f"/siliconflow/cancel?conn_id=siliconflow_default&batch_id={batch.id}"


def token_in(html: str) -> str:
    (token,) = [found["value"] for name, found in Parsed(html).elements if name == "input" and found["name"] == "token"]
    assert token is not None
    return token


class TestPermissions:
    """Permissions on pages and connections."""

    @pytest.mark.parametrize("path", ["batches", "cancel?conn_id=a&batch_id=b", "task/a/b/-1/c", "task-report/a/b/0/c"])
    def test_an_anonymous_request_is_refused(self, stranger: TestClient, path: str) -> None:
        assert stranger.get(f"/siliconflow/{path}").status_code == 401
        assert stranger.post("/siliconflow/cancel?conn_id=a&batch_id=b").status_code == 401

    def test_an_invalid_token_is_refused(self, stranger: TestClient) -> None:
        stranger.cookies["_token"] = "x.y.z"
        assert stranger.get(LIST).status_code == 403

    @pytest.mark.parametrize("role", ["viewer", "user"])
    def test_only_readers_of_connections_see_batches(self, browser_of: BrowserOf, submit: Submit, role: str) -> None:
        batch = submit()
        for address in (LIST, f"{LIST}?conn_id=siliconflow_default"):
            response = browser_of(role).get(address)
            assert response.status_code == 403
            assert batch.id not in response.text

    def test_an_unreadable_connection_is_neither_offered_nor_shown(
        self, browser_of: BrowserOf, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_SECRET", json.dumps(emulator.airflow_connection))
        assert "secret" in browser_of("admin").get(LIST).text
        assert "secret" not in browser_of("op").get(LIST).text
        assert browser_of("op").get(f"{LIST}?conn_id=secret").status_code == 403

    @pytest.mark.parametrize("name", ["SECRET", "Secret", "\u017fecret", " secret", "secret/", "s" * 5_000, "\x00"])
    def test_other_spellings_lead_to_no_connection(
        self, browser_of: BrowserOf, emulator: Emulator, submit: Submit, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """Airflow reads environment variables in upper case; the auth manager is asked about the id as it is given."""
        monkeypatch.setenv("AIRFLOW_CONN_SECRET", json.dumps(emulator.airflow_connection))
        batch = submit()
        browser = browser_of("op")
        shown = browser.get(LIST, params={"conn_id": name})
        assert shown.status_code == 404
        assert batch.id not in shown.text
        assert browser.get("/siliconflow/cancel", params={"conn_id": name, "batch_id": batch.id}).status_code == 403

    def test_ids_of_the_database_keep_their_case(
        self, browser_of: BrowserOf, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = Connection("SiliconFlow.Test", **emulator.airflow_connection)
        with create_session() as session:
            session.add(stored)
        try:
            addresses = [f"{LIST}?conn_id={name}" for name in ("SiliconFlow.Test", "siliconflow.test")]
            assert [browser_of("op").get(address).status_code for address in addresses] == [200, 404]
            # The variable comes first, with permissions of its own.
            monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW.TEST", json.dumps(emulator.airflow_connection))
            assert [browser_of("op").get(address).status_code for address in addresses] == [404, 200]
        finally:
            with create_session() as session:
                session.execute(delete(Connection).where(Connection.conn_id == "SiliconFlow.Test"))

    def test_an_unreadable_dag_is_hidden(self, browser_of: BrowserOf, submit: Submit) -> None:
        batch = submit(SECRET, customer="acme")
        hidden = browser_of("op").get(LIST).text
        assert batch.id in hidden
        assert "of a DAG that you may not read" in hidden
        assert "acme" not in hidden
        assert "secret" not in hidden
        assert batch.id not in browser_of("op").get(f"{LIST}?text=acme").text
        assert "acme" in browser_of("admin").get(LIST).text

    def test_the_app_describes_itself_to_nobody(self, browser_of: BrowserOf) -> None:
        for path in ("docs", "redoc", "openapi.json"):
            assert browser_of("admin").get(f"/siliconflow/{path}").status_code == 404


class TestList:
    """The page of batches."""

    def test_batch_links_to_its_task_instance(self, browser_of: BrowserOf, submit: Submit) -> None:
        submit(TASK)
        links = [found["href"] for name, found in Parsed(browser_of().get(LIST).text).elements if name == "a"]
        assert "/dags/nightly/runs/manual__2026-05-01T00%3A00%3A00%2B00%3A00/tasks/ask/mapped/2" in links

    def test_batch_of_another_airflow_has_no_run(self, browser_of: BrowserOf, submit: Submit) -> None:
        submit(TASK, deployment="other")
        page = Parsed(browser_of().get(LIST).text)
        assert "the run is not known here" in page.text
        assert not [found for name, found in page.elements if name == "a" and "/runs/" in str(found.get("href"))]

    def test_batch_of_other_origin_is_shown(self, browser_of: BrowserOf, submit: Submit) -> None:
        batch = submit(team="research")
        text = Parsed(browser_of().get(LIST).text).text
        assert batch.id in text
        assert "not from this provider" in text
        assert "research" in text

    def test_filters_reach_only_matching_batches(
        self, browser_of: BrowserOf, submit: Submit, client: SiliconFlowClient
    ) -> None:
        own, other = submit(TASK), submit(team="research")
        client.cancel_batch(other.id)
        for query, shown in (
            ("state=running&dag_id=nightly", own),
            ("text=RESEARCH", other),
            (f"text={own.id}", own),
            ("dag_id=nightly", own),
        ):
            text = browser_of().get(f"{LIST}?{query}").text
            assert [batch.id in text for batch in (own, other)] == [batch is shown for batch in (own, other)], query

    def test_hostile_texts_stay_texts(self, browser_of: BrowserOf, submit: Submit) -> None:
        submit(note=HOSTILE.replace("\x00", ""))
        response = browser_of().get(LIST, params={"text": "<script>alert(1)</script>"})
        assert "<script>alert" not in response.text
        page = Parsed(browser_of().get(LIST).text)
        assert [name for name, _ in page.elements].count("script") == 1
        assert "img" not in dict(page.elements)
        assert "alert(1)" in page.text

    def test_page_forbids_other_scripts_and_frames(self, browser_of: BrowserOf) -> None:
        headers = browser_of().get(LIST).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe-inline" not in policy
        assert "frame-ancestors 'self'" in policy
        assert headers["Cache-Control"] == "no-store"

    def test_no_key_and_no_signed_url_is_shown(
        self, browser_of: BrowserOf, submit: Submit, client: SiliconFlowClient, clock: Any, emulator: Emulator
    ) -> None:
        signed = "https://bucket.test/in.jsonl?X-Amz-Signature=0123456789abcdef"
        batch = submit(TASK, source=signed, other="token=supersecret", owner=f"Bearer {emulator.api_key}")
        clock.advance(1_000)
        reference = client.get_batch(batch.id).output_file_id
        text = browser_of().get(LIST).text
        assert "completed" in text
        assert reference
        assert emulator.api_key not in text
        assert str(reference) not in text
        assert "https://bucket.test/in.jsonl?..." in text
        assert "0123456789abcdef" not in text
        assert "supersecret" not in text

    def test_an_error_of_the_service_is_a_sentence(
        self, browser_of: BrowserOf, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = {**emulator.airflow_connection, "password": "sk-wrong-0123456789"}
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(wrong))
        response = browser_of().get(LIST)
        assert response.status_code == 200
        assert "connection 'siliconflow_default'" in Parsed(response.text).text
        assert "sk-wrong" not in response.text

    def test_password_of_another_type_is_never_sent(
        self, browser_of: BrowserOf, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = {**emulator.airflow_connection, "conn_type": "http"}
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(other))
        text = Parsed(browser_of().get(LIST).text).text
        assert "connection 'siliconflow_default' is of type 'http'" in text
        assert not (emulator.data_dir / "requests.log").read_text()


class TestCancel:
    """Cancelling a batch."""

    def test_an_editor_of_the_dag_cancels(
        self, browser_of: BrowserOf, submit: Submit, client: SiliconFlowClient
    ) -> None:
        batch = submit(TASK)
        browser = browser_of("op")
        address = cancel_address(batch)
        assert address in {found.get("href") for _, found in Parsed(browser.get(LIST).text).elements}
        question = browser.get(address).text
        assert client.get_batch(batch.id).status == "in_queue"
        answer = browser.post(address, data={"token": token_in(question)}, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 303
        assert client.get_batch(batch.id).status in ("cancelling", "cancelled")
        assert "being cancelled" in Parsed(browser.get(answer.headers["Location"]).text).text

    @pytest.mark.parametrize(
        ("token", "headers"),
        [
            ("", {"Sec-Fetch-Site": "same-origin"}),
            ("right", {"Sec-Fetch-Site": "cross-site"}),
            ("right", {"Sec-Fetch-Site": "same-site"}),
            ("right", {"Origin": "http://evil.test"}),
            ("right", {"Origin": "null"}),
            ("right", {}),
            ("of another user", {"Sec-Fetch-Site": "same-origin"}),
            ("of another batch", {"Sec-Fetch-Site": "same-origin"}),
            ("9999999999.00", {"Sec-Fetch-Site": "same-origin"}),
        ],
    )
    def test_a_form_of_another_site_is_refused(
        self, browser_of: BrowserOf, submit: Submit, client: SiliconFlowClient, token: str, headers: dict[str, str]
    ) -> None:
        batch, other = submit(TASK), submit(TASK, other="yes")
        browser = browser_of("admin")
        tokens = {
            "right": lambda: browser.get(cancel_address(batch)).text,
            "of another user": lambda: browser_of("admin", "bob").get(cancel_address(batch)).text,
            "of another batch": lambda: browser.get(cancel_address(other)).text,
        }
        sent = token_in(tokens[token]()) if token in tokens else token
        assert browser.post(cancel_address(batch), data={"token": sent}, headers=headers).status_code == 403
        assert client.get_batch(batch.id).status == "in_queue"

    def test_a_form_of_the_same_origin_is_accepted(self, browser_of: BrowserOf, submit: Submit) -> None:
        batch = submit(TASK)
        browser = browser_of("op")
        token = token_in(browser.get(cancel_address(batch)).text)
        answer = browser.post(cancel_address(batch), data={"token": token}, headers={"Origin": "http://airflow.test"})
        assert answer.status_code == 303

    @pytest.mark.parametrize(("role", "task"), [("viewer", TASK), ("user", None), ("user", SECRET), ("op", SECRET)])
    def test_others_may_not_cancel(
        self, browser_of: BrowserOf, submit: Submit, client: SiliconFlowClient, role: str, task: TaskInstance | None
    ) -> None:
        batch = submit(task)
        browser = browser_of(role)
        assert browser.get(cancel_address(batch)).status_code == 403
        assert browser.post(cancel_address(batch), data={"token": "x"}).status_code == 403
        assert client.get_batch(batch.id).status == "in_queue"

    def test_errors_tell_nothing_of_an_unreadable_connection(
        self, browser_of: BrowserOf, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({**emulator.airflow_connection, "conn_type": "http"}))
        answers = [browser_of("user").get(f"/siliconflow/cancel?conn_id={name}&batch_id=b") for name in ("other", "no")]
        assert [answer.status_code for answer in answers] == [403, 403]
        assert answers[0].text == answers[1].text

    def test_another_airflows_batch_needs_its_connection(self, browser_of: BrowserOf, submit: Submit) -> None:
        batch = submit(TASK, deployment="other")
        assert browser_of("user").get(cancel_address(batch)).status_code == 403
        assert browser_of("op").get(cancel_address(batch)).status_code == 200

    def test_a_batch_without_deployment_needs_its_connection(
        self, browser_of: BrowserOf, submit: Submit, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another Airflow without a deployment may have the same DAG and run."""
        named = {**emulator.airflow_connection, "extra": {"deployment": "production"}}
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(named))
        unnamed, own = submit(TASK), submit(TASK, deployment="production")
        assert browser_of("user").get(cancel_address(unnamed)).status_code == 403
        assert browser_of("user").get(cancel_address(own)).status_code == 200
        assert browser_of("op").get(cancel_address(unnamed)).status_code == 200

    def test_a_batch_that_has_ended_is_left_alone(self, browser_of: BrowserOf, submit: Submit, clock: Any) -> None:
        batch = submit(TASK)
        clock.advance(1_000)
        response = browser_of().get(cancel_address(batch))
        assert response.status_code == 409
        assert "completed: there is nothing to cancel" in response.text
        assert "Cancel…" not in browser_of().get(LIST).text
