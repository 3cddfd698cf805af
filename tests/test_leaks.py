"""Run every flow and failure with a key and signed URLs, then search for them everywhere.

The search is shown to look: what the test plants in a database row, in a log file and in an XCom is found.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import pickle
import sqlite3
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.emulator.signing import Signer
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.sensors.batches import BatchSensor
from siliconflow_provider.triggers import batches as trigger_module
from siliconflow_provider.triggers.batches import BatchTrigger
from tests.servers import LocalServer, QuietHandler

KEY = "sk-canary/Zm9v+7Qx9"
SIGNATURE = "canary-signature-51f0"
SIGNED = f"https://bucket.example/out?Expires=1899999999&Signature={SIGNATURE}"
PLANTED = "canary-planted"
# Not a time of a batch, so that it can be recognized as a signature's.
URL_SECONDS = 777_777
MASKERS = (
    "airflow._shared.secrets_masker.secrets_masker",
    "airflow.sdk._shared.secrets_masker.secrets_masker",
    "airflow.utils.log.secrets_masker",
)

# Tasks that run a whole job, the final status of their batches, and their connection.
JOBS = (
    ("job", "", "by_uri"),
    ("failed_job", "failed", "siliconflow_default"),
    ("echoing_job", "echoing", "siliconflow_default"),
    ("odd_job", "odd", "siliconflow_default"),
    ("refused_job", "", "refused"),
    ("broken_job", "", "broken"),
    ("unreadable_job", "", "unreadable"),
)
FAILURES = ("refused", "broken", "redirected", "expired", "cut", "unreadable")

DAG = """
import pendulum
from airflow.providers.common.compat.sdk import dag, task

from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.sensors.batches import BatchSensor

DIRECTORY = {directory!r}


@task(trigger_rule="all_done")
def planted():
    return {planted!r}


@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1), default_args={{"trigger_rule": "all_done"}})
def leaks():
    uri = {{"siliconflow_conn_id": "by_uri"}}
    here = {{"deferrable": False}}
    upload = UploadFileOperator(task_id="upload", file_path=DIRECTORY + "/requests.jsonl")
    file = {{"input_file_id": upload.output}}
    deferred = CreateBatchOperator(task_id="deferred", metadata={{"run": "{{{{ run_id }}}}"}}, **file)
    worker = CreateBatchOperator(task_id="worker", **file, **here, **uri)
    started = CreateBatchOperator(task_id="started", wait_for_completion=False, metadata={{"end": "stuck"}}, **file)
    tasks = [
        planted(),
        DownloadResultsOperator(task_id="download", batch_id=deferred.output, output_path=DIRECTORY + "/results"),
        BatchSensor(task_id="look", batch_id=worker.output, **uri),
        CancelBatchOperator(task_id="cancel", batch_id=started.output),
        BatchSensor(task_id="sense", batch_id=started.output),
        BatchSensor(task_id="poke", batch_id=worker.output, **here, **uri),
        BatchSensor(task_id="reschedule", batch_id=worker.output, mode="reschedule", **here, **uri),
        CreateBatchOperator(task_id="verdict", metadata={{"end": "failed"}}, **file),
        CreateBatchOperator(task_id="overdue", submission_key="slow", timeout=20, cancel_on_timeout=True, **file),
        *[
            DownloadResultsOperator(
                task_id=name, batch_id="batch_1", output_path=DIRECTORY + "/" + name, siliconflow_conn_id=name
            )
            for name in {failures!r}
        ],
        *[
            BatchInferenceOperator(
                task_id=name,
                input_path=DIRECTORY + "/requests.jsonl",
                output_path=DIRECTORY + "/results/" + name,
                metadata={{"end": end}},
                siliconflow_conn_id=conn_id,
            )
            for name, end, conn_id in {jobs!r}
        ],
    ]
    for before, after in zip(tasks, tasks[1:]):
        before >> after
    [deferred, worker, started] >> tasks[0]


leaks()
"""


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the query values of all URLs that the emulator signs."""
    values = {SIGNATURE}
    sign = Signer.url

    def recorded(self: Signer, origin: str, file_id: str) -> str:
        url = sign(self, origin, file_id)
        values.update(value for _, value in parse_qsl(urlsplit(url).query))
        return url

    monkeypatch.setattr(Signer, "url", recorded)
    return values


@pytest.fixture
def forms() -> Forms:
    return Forms()


@pytest.fixture
def options(tmp_path: Path, signatures: set[str], forms: Forms) -> EmulatorOptions:
    return EmulatorOptions(
        data_dir=tmp_path / "data",
        api_key=KEY,
        url_seconds=URL_SECONDS,
        queue_seconds=10,
        run_seconds=100,
        forms=forms,
        control=True,
    )


class HostileService(LocalServer):
    """An API that fails as its path says, and repeats secrets in its responses."""

    def __init__(self) -> None:
        class Handler(QuietHandler):
            def do_GET(self) -> None:
                body = f"{self.headers['Authorization']} {SIGNED} {self.path}"
                kind = self.path.split("/")[1].partition("?")[0]
                page = f"<html><head><title>{body}</title></head><body>{body}</body></html>"
                signed = f"{origin}/{kind}-result?Expires=1899999999&Signature={SIGNATURE}"
                batch = {"id": "batch_1", "status": "completed", "output_file_id": signed}
                status, location, text = {
                    "refused": (401, None, json.dumps(body)),
                    "broken": (500, None, page),
                    "redirected": (302, signed, ""),
                    "redirected-result": (500, None, page),
                    "expired-result": (403, None, f"<Error><Message>{body}</Message></Error>"),
                    "cut-result": (200, None, "{}"),
                    "unreadable": (200, None, page),
                }.get(kind, (200, None, json.dumps(batch)))
                self.send_response(status, body if kind == "broken" else None)
                if location is not None:
                    self.send_header("Location", location)
                self.send_header("x-request-id", body)
                self.send_header("Content-Length", str(len(text) + 100 * (kind == "cut-result")))
                self.end_headers()
                self.wfile.write(text.encode())

        super().__init__(Handler)
        origin = self.origin


@pytest.fixture
def connections(emulator: Emulator, connection: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileService]:
    """Set the emulator's connection as JSON and as a URI, and one for each kind of failure."""
    hostile = HostileService()
    address = emulator.base_url.removeprefix("http://").removesuffix("/v1")
    uri = f"siliconflow://:{quote(KEY, safe='')}@{address}/http?deployment=emulator"
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", uri)
    for kind in FAILURES:
        value = {"conn_type": "siliconflow", "host": f"{hostile.origin}/{kind}/v1", "password": KEY}
        monkeypatch.setenv(f"AIRFLOW_CONN_{kind.upper()}", json.dumps(value))
    yield hostile
    hostile.stop()


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Log everything, and turn off Airflow's masking, so that the test does not rely on it."""
    caplog.set_level(logging.DEBUG)
    for name in ("airflow", "airflow.task", "requests", "siliconflow_provider", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    for name in MASKERS:
        with suppress(ModuleNotFoundError):
            monkeypatch.setattr(import_module(name).SecretsMasker, "add_mask", lambda *arguments: None)


class Search:
    """Collect all output of the flows, and search it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    def add(self, where: str, what: Any) -> None:
        self.seen.append((where, what if isinstance(what, bytes) else str(what).encode("utf-8", "surrogateescape")))

    def add_files(self, directory: Path) -> None:
        for path in directory.rglob("*"):
            if path.is_file():
                self.add(str(path), path.read_bytes())

    def add_database(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                cursor = database.execute(f'SELECT * FROM "{table}"')
                columns = [column[0] for column in cursor.description]
                for row in cursor:
                    for column, value in zip(columns, row, strict=True):
                        self.add(f"table {table}, column {column}", value)

    def add_error(self, where: str, error: BaseException) -> None:
        self.add(f"traceback of {where}", "".join(traceback.format_exception(error)))
        self.add(f"pickle of {where}", pickle.dumps(error))
        while error is not None:
            self.add(f"error of {where}", f"{error} {error!r} {error.args} {vars(error)}")
            error = error.__cause__ or error.__context__

    def found(self, secrets: Iterable[str]) -> set[str]:
        """Return the places of these secrets, in any readable form."""
        forms = [form for secret in secrets for form in forms_of(secret)]
        return {where for where, what in self.seen if any(form in what for form in forms)}


def forms_of(secret: str) -> set[bytes]:
    """Return a secret as plain text, in a URL, in JSON, in hexadecimal, and in base64 at any offset."""
    texts = {secret, quote(secret, safe=""), quote(secret), secret.replace("/", "\\/"), secret.encode().hex()}
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            texts.add(encode(b" " * offset + secret.encode()).decode()[4 if offset else 0 : -4])
    return {text.encode() for text in texts}


def watch(monkeypatch: pytest.MonkeyPatch, search: Search, owner: Any, name: str) -> None:
    """Also search the values that a function returns."""
    function = getattr(owner, name)

    def watched(*arguments: Any) -> Any:
        result = function(*arguments)
        search.add(name, result)
        return result

    monkeypatch.setattr(owner, name, watched)


def states_of(database: Path, dag_id: str) -> dict[str, str]:
    with closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT task_id, state FROM task_instance WHERE dag_id = ?", [dag_id]))


@pytest.fixture
def request_file(emulator: Emulator, sums: Callable[[int], bytes], tmp_path: Path) -> Path:
    """Run three requests; batches end as their metadata says."""
    said = f"{KEY} cannot read {SIGNED}"
    errors = (
        said,
        {"code": KEY, "message": said},
        [said, {"deep": [said]}],
        {"deep": {"deeper": said}},
        7,
        "x" * 3_000 + said,
    )
    emulator.control.plan(metadata={"end": "failed"}, end="failed", errors=errors, every=1)
    everything = {"share": 1.0}
    emulator.control.plan(
        metadata={"end": "echoing"}, failing={"code": KEY, "message": errors[-1], **everything}, every=1
    )
    emulator.control.plan(metadata={"end": "odd"}, failing={"error": errors[:-1], **everything}, every=1)
    emulator.control.plan(metadata={"end": "stuck"}, stuck="in_progress", every=1)
    path = tmp_path / "requests.jsonl"
    path.write_bytes(sums(3))
    return path


def test_a_dag_run_leaves_no_secret(
    connections: HostileService,
    talkative: None,
    signatures: set[str],
    request_file: Path,
    dags_folder: Path,
    load_dag_file: Callable[[str], ModuleType],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Search the database, all files below Airflow's home, and all logged, printed and serialized texts."""
    search, home, directory = Search(), dags_folder.parent, request_file.parent
    watch(monkeypatch, search, trigger_module, "to_event")
    source = DAG.format(directory=str(directory), planted=f"{PLANTED}-xcom", failures=FAILURES, jobs=JOBS)
    (dags_folder / "leaks.py").write_text(source)
    load_dag_file("leaks.py").leaks().test()
    states = states_of(home / "airflow.db", "leaks")
    failed = {task for task, state in states.items() if state != "success"}
    assert failed == {"verdict", "overdue", "sense", *FAILURES, *(name for name, *_ in JOBS if name != "job")}
    assert len(signatures) > 2

    plant(home)
    search.add_database(home / "airflow.db")
    search.add_files(home)
    search.add_files(directory / "results")
    search.add("log", caplog.text)
    search.add("terminal", "".join(capfd.readouterr()))
    planted = {"table xcom, column value", "table variable, column val", str(home / "logs" / "planted.log")}
    assert planted <= search.found([PLANTED])
    assert {"to_event", "log"} <= search.found(["batch_"])
    assert str(directory / "results" / "manifest.json") in search.found(["batch_"])
    assert search.found(["DEBUG"]), "nothing is logged at DEBUG"
    assert search.found({KEY, *signatures, "uthorization: Bearer"}) == set()


def plant(home: Path) -> None:
    """Leave secrets to be found; a task has left an XCom."""
    (home / "logs").mkdir(exist_ok=True)
    (home / "logs" / "planted.log").write_text(f"{PLANTED}-log")
    with closing(sqlite3.connect(home / "airflow.db")) as database, database:
        database.execute("INSERT INTO variable (key, val, is_encrypted) VALUES (?, ?, 0)", [PLANTED, f"{PLANTED}-row"])


class TestWithFileIds:
    """Run operators alone: they raise the errors that Airflow would log."""

    @pytest.fixture
    def forms(self) -> Forms:
        return Forms(result_ids=True)

    def test_errors_and_representations_show_no_secret(
        self,
        connections: HostileService,
        talkative: None,
        clock: Any,
        signatures: set[str],
        request_file: Path,
        context: dict[str, Any],
        run: Callable[..., Any],
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        search, directory = Search(), request_file.parent
        watch(monkeypatch, search, BatchTrigger, "serialize")
        file_id = UploadFileOperator(task_id="upload", file_path=str(request_file)).execute(context)

        def create(**arguments: Any) -> CreateBatchOperator:
            metadata = {"end": arguments.pop("end", "")}
            return CreateBatchOperator(
                **{"task_id": "create", "input_file_id": file_id, "metadata": metadata, "deferrable": False} | arguments
            )

        def download(siliconflow_conn_id: str, batch_id: str = "batch_1") -> DownloadResultsOperator:
            return DownloadResultsOperator(
                task_id="download",
                batch_id=batch_id,
                output_path=str(directory / siliconflow_conn_id),
                siliconflow_conn_id=siliconflow_conn_id,
            )

        def killed() -> CreateBatchOperator:
            operator = create(end="stuck", submission_key="killed", cancel_on_kill=True)
            clock.after(20, operator.on_kill)
            return operator

        batch_id = create().execute(context)
        assert run(lambda: create(deferrable=True, siliconflow_conn_id="by_uri")) == batch_id
        for end in ("", "echoing", "odd"):
            batch_id = create(end=end, submission_key=end or None).execute(context)
            download("siliconflow_default", batch_id).execute(context)
            search.add_files(directory / "siliconflow_default")
        failures: dict[str, Callable[[], Any]] = {
            "verdict": lambda: create(end="failed", submission_key="verdict"),
            "overdue": lambda: create(submission_key="overdue", timeout=20),
            "killed": killed,
            "uncertain": lambda: create(siliconflow_conn_id="broken"),
            "sensor": lambda: BatchSensor(
                task_id="sense", batch_id="batch_1", siliconflow_conn_id="broken", timeout=50, deferrable=True
            ),
            "cancel": lambda: CancelBatchOperator(task_id="cancel", batch_id="batch_1", siliconflow_conn_id="refused"),
            **{kind: lambda kind=kind: download(kind) for kind in FAILURES},
        }
        for kind, make in failures.items():
            with pytest.raises(Exception) as caught:  # noqa: PT011
                run(make)
            search.add_error(kind, caught.value)
            search.add("XCom", context["ti"].xcoms)
        for kind in ("siliconflow_default", *FAILURES):
            hook = SiliconFlowHook(kind)
            client = hook.get_conn()
            session = client._transport._session
            shown = [hook, client, client._transport, session, session.auth, download(kind), create()]
            search.add("representation", [*shown, *map(str, shown), hook.test_connection()])
        done = SiliconFlowClient(KEY, f"{connections.origin}/expired/v1").get_batch("batch_1")
        search.add("representation", [done, done.to_json(), BatchTrigger(["batch_1"])])

        search.add_files(directory / "siliconflow_default")
        search.add("log", caplog.text)
        search.add("terminal", "".join(capfd.readouterr()))
        search.add("planted", f"{base64.b64encode(b'Bearer ' + PLANTED.encode())!r}")
        assert search.found([PLANTED]) == {"planted"}
        assert {"serialize", *(f"pickle of {kind}" for kind in failures)} <= search.found(["batch", "a signed URL"])
        assert search.found({KEY, *signatures, "uthorization: Bearer"}) == set()
