"""Texts of the service can neither forge log lines, nor control a terminal, nor fill a database."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Account, Batch, File
from siliconflow_provider.api.service_texts import is_printable
from siliconflow_provider.batches.submission import digest
from siliconflow_provider.exceptions import BatchFailedError
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
from siliconflow_provider.operators.batches import CancelBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.operators.identity import run_parts
from siliconflow_provider.sensors.batches import BatchSensor
from siliconflow_provider.triggers.batches import BatchTrigger
from siliconflow_provider.verdicts import raise_for_ends
from siliconflow_provider.waiting.batch_wait import WaitEnd
from siliconflow_provider.waiting.events import from_event, to_event
from siliconflow_provider.wording import command_line
from tests.servers import LocalServer, QuietHandler

# A forged line, a cleared screen, a window title, a reversed text, and a NUL byte.
NASTY = "ok\n[2027-01-15] ERROR forged\r\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.exe\u2066\x00\x08\u2028"
# A header cannot contain line ends.
NASTY_HEADER = "ok\x1b[2J\x9b31m\tforged"
ERRORS = [NASTY, {"code": NASTY, "message": NASTY, "line": NASTY}, [NASTY], {"deep": NASTY}, 7, "x" * 50_000]
LINES = [
    {"custom_id": NASTY, "response": None, "error": {"code": NASTY, "message": NASTY}},
    {"custom_id": "b", "response": None, "error": [NASTY]},
    {"custom_id": "c", "response": {"body": NASTY}, "error": None},
    {"custom_id": "d", "response": {"status_code": NASTY, "body": {}}, "error": None},
    {
        "custom_id": "e",
        "response": {
            "body": {"model": NASTY, "choices": [{"message": {"content": NASTY}, "finish_reason": NASTY}]},
        },
        "error": None,
    },
    {"custom_id": NASTY, "response": None, "error": NASTY},
]


class NastyService(LocalServer):
    """A service whose texts are all malicious."""

    def __init__(self) -> None:
        self.status = 200
        self.location = ""
        self.batch: dict[str, Any] = {}
        outer = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0].removeprefix("/v1")
                if outer.status != 200:
                    return self._send(outer.status, {"code": NASTY, "message": NASTY})
                found = {
                    "/user/info": {"code": 20000, "data": dict.fromkeys(("status", "balance", "chargeBalance"), NASTY)},
                    "/batches": {"data": [outer.batch]},
                    "/files": {"data": [{"id": "file-1", "filename": NASTY, "purpose": NASTY}]},
                    "/files/file-1/content": None,
                }
                return self._send(200, found.get(path, outer.batch))

            def do_POST(self) -> None:
                self.do_GET()

            def _send(self, status: int, body: Any) -> None:
                text = json.dumps(body) if body is not None else "\n".join([NASTY, *map(json.dumps, LINES), ""])
                content = text.encode()
                self.send_response(status, NASTY_HEADER)
                for name in ("x-request-id", "Retry-After", "ETag", "Content-Type"):
                    self.send_header(name, NASTY_HEADER)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        super().__init__(Handler)
        self.base_url = f"{self.origin}/v1"


def batch_with(**fields: Any) -> dict[str, Any]:
    usual = dict.fromkeys(("endpoint", "completion_window", "input_file_id", "file_name"), NASTY)
    return {"id": "batch_1", "status": NASTY, "created_at": 1_800_000_000, "metadata": {NASTY: NASTY}} | usual | fields


@pytest.fixture
def service(
    monkeypatch: pytest.MonkeyPatch, held_time: Any, caplog: pytest.LogCaptureFixture
) -> Iterator[NastyService]:
    caplog.set_level(logging.INFO)
    running = NastyService()
    connection = {"conn_type": "siliconflow", "host": running.base_url, "password": "sk-Zm9v7Qx9Zm9v"}
    extra = {"max_retries": 1, "deployment": "tests"}
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps({**connection, "extra": extra}))
    yield running
    running.stop()


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Return a function that collects all logged and printed lines, and checks that they are harmless."""

    def collect(*said: object) -> list[str]:
        records = [record for record in caplog.records if not record.name.startswith("urllib3")]
        printed = "".join(capsys.readouterr()).splitlines()
        texts = [*(record.getMessage() for record in records), *map(str, said)]
        # Our own messages have several lines; a text of the service must not begin one.
        lines = [line for text in texts for line in text.split("\n")]
        assert [line for line in lines if not is_printable(line)] == []
        assert [line for line in [*printed, *lines] if line.startswith("[2027-01-15] ERROR")] == []
        # Airflow 3 adds its own colours around the text.
        assert [line for line in printed if "\x1b[2J" in line or "\x9b" in line] == []
        assert all(len(text) < 25_000 for text in texts)
        return [*printed, *texts]

    return collect


def fails(kind: type[Exception], action: Callable[[], Any]) -> Exception:
    with pytest.raises(kind) as caught:
        action()
    return caught.value


def test_texts_of_a_batch_are_escaped(service: NastyService, shown: Any, context: Any) -> None:
    service.batch = batch_with(failed_at=1_800_000_100, errors=ERRORS)
    error = fails(
        BatchFailedError, lambda: BatchSensor(task_id="t", batch_id="batch_1", deferrable=False).poke(context)
    )
    texts = shown(error)
    assert any("ERROR forged" in text for text in texts)
    assert r"ok\n[2027-01-15] ERROR forged\r\x1b[2J" in str(error)
    assert "x... (48,000 more characters)" in str(error)
    assert str(error).count(command_line("show", ["batch_1"], "siliconflow_default")) == 1


def test_texts_of_a_running_batch_are_escaped(service: NastyService, shown: Any, context: Any) -> None:
    service.batch = batch_with()
    BatchSensor(task_id="t", batch_id="batch_1", deferrable=False).poke(context)
    error = fails(
        Exception, lambda: DownloadResultsOperator(task_id="t", batch_id="batch_1", output_path="x").execute(context)
    )
    assert any("batch_1 is ok\\n[2027-01-15] ERROR forged" in line for line in shown())
    assert any("still ok\\n[2027-01-15] ERROR forged" in line for line in shown(error))


@pytest.mark.parametrize("status", [400, 401, 404, 429, 503, 302, 307])
def test_an_error_response_is_escaped(service: NastyService, shown: Any, status: int) -> None:
    service.status, service.location = (
        status,
        f"{service.base_url}/\x1b[2J\x9b" if status == 302 else "http://ev\x1b[2Jil\x9b/",
    )
    client = SiliconFlowHook().get_conn()
    for action in (lambda: client.get_batch("batch_1"), lambda: client.cancel_batch("batch_1"), client.get_account):
        error = fails(SiliconFlowError, action)
        assert isinstance(error, SiliconFlowError)
        texts = shown(error, error.message, error.code, error.request_id, *error.args)
        assert any("ok\\x1b[2J" in text or "ERROR forged" in text for text in texts)


def test_the_connection_test_is_escaped(service: NastyService, shown: Any) -> None:
    is_accepted, said = SiliconFlowHook().test_connection()
    assert is_accepted
    assert said.count(r"ok\n[2027-01-15] ERROR forged") == 2
    shown(said)


@pytest.mark.parametrize("batch_id", [NASTY, "batch_\x9b", "batch_\u202e1", "b" * 1_001])
def test_unprintable_ids_are_rejected(service: NastyService, shown: Any, batch_id: str) -> None:
    service.batch = batch_with(id=batch_id)
    client = SiliconFlowHook().get_conn()
    for action in (lambda: client.get_batch("batch_1"), lambda: list(client.list_batches())):
        shown(fails(SiliconFlowError, action))


def test_rows_escape_errors_but_not_answers(service: NastyService, shown: Any, context: Any, tmp_path: Path) -> None:
    counts = {"total": 5, "completed": 1, "failed": 4}
    service.batch = batch_with(status="completed", output_file_id="file-1", request_counts=counts)
    operator = DownloadResultsOperator(task_id="t", batch_id="batch_1", output_path=str(tmp_path / "out"))
    operator.execute(context)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    texts = shown(
        *manifest["finish_reasons"], *(error[name] for error in manifest["errors"] for name in ("code", "message"))
    )
    assert any("line 1 of the output file" in text for text in texts)
    rows = {
        row["custom_id"]: row
        for row in map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().split("\n")[:-1])
    }
    assert set(rows) == {NASTY, "b", "c", "d", "e"}
    assert rows["e"]["content"] == rows["e"]["model"] == rows["e"]["finish_reason"] == NASTY
    errors = [row["error"] for row in rows.values() if row["error"] is not None]
    assert len(errors) == 4
    assert [error for error in errors if not is_printable(error["message"] + (error["code"] or ""))] == []


def test_a_file_path_cannot_forge_log_lines(
    connection: str, shown: Any, context: Any, tmp_path: Path, sums: Callable[[int], bytes], caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "a\u2028[2027] ERROR forged\x1b[2J.jsonl"
    path.write_bytes(sums(1))
    UploadFileOperator(task_id="t", file_path=str(path)).execute(context)
    assert any("uploaded" in line and r"a\u2028[2027] ERROR forged\x1b[2J.jsonl" in line for line in shown())


class TestSizes:
    """Texts and lists of any size."""

    def test_texts_of_the_service_are_cut(self) -> None:
        long = "w" * 1_000_000
        batch = Batch.from_json(
            {"id": "b", **dict.fromkeys(("status", "endpoint", "completion_window", "file_name"), long)}
        )
        file = File.from_json({"id": "f", "filename": long, "purpose": long})
        account = Account.from_json(dict.fromkeys(("status", "balance", "chargeBalance", "totalBalance"), long))
        assert max(len(str(value)) for found in (batch, file, account) for value in vars(found).values()) < 1_000

    def test_a_long_error_is_cut(self) -> None:
        for make in (SiliconFlowError, lambda text: SiliconFlowError("x").reworded(text)):
            error = make("begins " + "and goes on " * 100_000)
            assert len(str(error)) < 4_050
            assert str(error).startswith("begins and goes on ")
            assert str(error).endswith(" more characters)")

    def test_two_hundred_parts_need_little_database_space(self) -> None:
        """A deferral stores the trigger's arguments, then its event."""
        ids = [f"batch_{number:010}" for number in range(200)]
        errors = [f"line {number}: {'e' * 500}" for number in range(5_000)]
        data = {
            "status": "failed",
            "errors": errors,
            "completion_window": "w" * 10**6,
            "metadata": {"airflow_key": "k" * 10**6},
        }
        failed = Batch.from_json({"id": "batch_", **data})
        ends = [WaitEnd(batch_id, "over", replace(failed, id=batch_id), None, None) for batch_id in ids]
        assert len(json.dumps(BatchTrigger(ids).serialize())) < 6_000
        event = to_event(ends)
        assert len(json.dumps(event)) < 400_000
        with pytest.raises(BatchFailedError) as caught:
            raise_for_ends(from_event(event), "my_conn")
        assert len(str(caught.value)) < 2_000
        assert "and 4,999 more" in str(caught.value)

    def test_many_batches_make_a_short_log_line(
        self, service: NastyService, shown: Any, context: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        metadata = {"airflow_key": "k", "airflow_run": digest(*run_parts(context, SiliconFlowHook().deployment))}
        fields = {"status": "in_progress", "metadata": metadata}
        running = [Batch.from_json(batch_with(id=f"batch_{number}", **fields)) for number in range(12)]
        monkeypatch.setattr(SiliconFlowClient, "list_batches", lambda self, **options: iter(running))
        service.batch = batch_with(status="completed")
        assert CancelBatchOperator(task_id="t").execute(context) == []
        assert any("batch_8, batch_9, and 2 more" in line for line in shown())
